"""Several segments in one row: each sees itself, and the prefix that it continues where it has one."""

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
    """Where the segments of a row begin; T tokens in all.

    Args:
        starts_E: int32 on the CPU, E = J + 1: each segment's first token, and T.
        device: where the tokens are.
        prefix_J: int32 on the CPU: the segment that each continues, or -1. None: no segment continues another.
    """

    starts_E: Tensor
    device: torch.device
    prefix_J: Tensor | None = None

    @classmethod
    def rows(cls, num_rows: int, length: int, device: torch.device) -> "Packed":
        """Rows of one length, each a segment."""
        return cls(torch.arange(num_rows + 1, dtype=torch.int32) * length, device)

    @cached_property
    def segments_T(self) -> Tensor:
        """Which segment each token belongs to."""
        lengths_J = self.starts_E.diff().long()
        return torch.repeat_interleave(torch.arange(len(lengths_J)), lengths_J).to(self.device)

    @cached_property
    def positions_T(self) -> Tensor:
        """Each token's place in its segment, from 0, or from the end of the segment's prefix."""
        origins_J = self.starts_E[:-1].long()
        if self.prefix_J is not None:
            origins_J = origins_J - self.starts_E.diff()[self.prefix_J.long()] * (self.prefix_J >= 0)
        return torch.arange(int(self.starts_E[-1]), device=self.device) - origins_J.to(self.device)[self.segments_T]

    def block_mask(self, kind: LayerKind, window: int | None) -> Any:
        """What flex_attention may see: the same segment or its prefix, not later, within a local layer's window."""
        from torch.nn.attention.flex_attention import create_block_mask

        segments_T, positions_T, T = self.segments_T, self.positions_T, len(self.segments_T)
        prefixes_T = segments_T if self.prefix_J is None else self.prefix_J.to(self.device)[segments_T]
        reach = window if kind is LayerKind.LOCAL and window is not None else T

        def sees(batch: Tensor, head: Tensor, query: Tensor, seen: Tensor) -> Tensor:
            age, segment = positions_T[query] - positions_T[seen], segments_T[seen]
            return (age >= 0) & (age < reach) & ((segments_T[query] == segment) | (prefixes_T[query] == segment))

        is_compiled = self.device.type == "cuda"  # as it comes, it makes masks of T x T
        return create_block_mask(sees, None, None, T, T, device=self.device, _compile=is_compiled)
