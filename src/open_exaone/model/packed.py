"""Several documents in one row, none of which sees another."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from open_exaone.model.config import LayerKind

CUDA_STEP = 1024  # tokens: torch.compile makes a GPU's kernels for each length, in seconds


def rounded(num_tokens: int, device: torch.device) -> int:
    """The next length that is worth having: a matrix product of a new length has its code made first.

    On a CPU that takes 3 ms and half a megabyte for each of a model's dozen kinds of products, more than the product
    itself where tokens are few. Lengths of at most 1/64 more, or 15 tokens, are few enough to be met again.
    """
    step = CUDA_STEP if device.type == "cuda" else max(16, 1 << max(0, num_tokens.bit_length() - 7))
    return -(-num_tokens // step) * step


@dataclass(frozen=True)
class Packed:
    """Where the documents of a row begin; T tokens in all.

    Args:
        starts_E: int32 on the CPU, E = D + 1: each document's first token, and T.
        device: where the tokens are.
    """

    starts_E: Tensor
    device: torch.device

    @classmethod
    def rows(cls, num_rows: int, length: int, device: torch.device) -> "Packed":
        """Rows of one length, each a document."""
        return cls(torch.arange(num_rows + 1, dtype=torch.int32) * length, device)

    @cached_property
    def documents_T(self) -> Tensor:
        """Which document each token belongs to."""
        lengths_D = self.starts_E.diff().to(self.device, torch.long)
        return torch.repeat_interleave(torch.arange(len(lengths_D), device=self.device), lengths_D)

    @cached_property
    def positions_T(self) -> Tensor:
        """Each token's place in its document, from 0."""
        starts_D = self.starts_E[:-1].to(self.device, torch.long)
        return torch.arange(int(self.starts_E[-1]), device=self.device) - starts_D[self.documents_T]

    def block_mask(self, kind: LayerKind, window: int | None) -> Any:
        """What flex_attention may see: the same document, not later, within a local layer's window."""
        from torch.nn.attention.flex_attention import create_block_mask

        documents_T, T = self.documents_T, len(self.documents_T)
        reach = window if kind is LayerKind.LOCAL and window is not None else T

        def sees(batch: Tensor, head: Tensor, query: Tensor, seen: Tensor) -> Tensor:
            near = (query >= seen) & (query - seen < reach)
            return near & (documents_T[query] == documents_T[seen])

        is_compiled = self.device.type == "cuda"  # as it comes, it makes masks of T x T
        return create_block_mask(sees, None, None, T, T, device=self.device, _compile=is_compiled)
