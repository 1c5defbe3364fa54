"""Several segments in one row: each sees itself, and the prefix that it continues where it has one."""

from collections.abc import Callable
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

    def sees(self, kind: LayerKind, window: int | None) -> Any:
        """What attention takes: this itself on a CPU, and flex_attention's mask on a GPU."""
        return self.block_mask(kind, window) if self.device.type == "cuda" else self

    def block_mask(self, kind: LayerKind, window: int | None) -> Any:
        """What flex_attention may see: the same segment or its prefix, not later, within a local layer's window."""
        places_T = torch.arange(len(self.segments_T), device=self.device)
        return _block_mask(self.rule(kind, window, places_T, places_T), len(places_T), len(places_T), self.device)

    def rule(self, kind: LayerKind, window: int | None, queries_T: Tensor, keys_S: Tensor) -> Callable[..., Tensor]:
        """Whether a query sees a key, for flex_attention.

        Args:
            queries_T: the places of the queries in the row; `keys_S` those of the keys.
        """
        segments_T, positions_T = self.segments_T, self.positions_T
        prefixes_T = segments_T if self.prefix_J is None else self.prefix_J.to(self.device)[segments_T]
        reach = window if kind is LayerKind.LOCAL and window is not None else len(segments_T)
        query_places_T, query_segments_T = positions_T[queries_T], segments_T[queries_T]
        query_prefixes_T, key_places_S, key_segments_S = prefixes_T[queries_T], positions_T[keys_S], segments_T[keys_S]

        def sees(batch: Any, head: Any, query: Tensor, seen: Tensor) -> Tensor:
            age, segment = query_places_T[query] - key_places_S[seen], key_segments_S[seen]
            is_together = (query_segments_T[query] == segment) | (query_prefixes_T[query] == segment)
            return (age >= 0) & (age < reach) & is_together

        return sees


@dataclass(frozen=True)
class Spread:
    """What the queries of this rank see of all ranks' keys.

    Args:
        mask: mask_B1TS, or flex_attention's mask; the keys stand rank by rank.
        mesh: the ranks, a DeviceMesh of one axis.
    """

    mask: Any
    mesh: Any


@dataclass(frozen=True)
class PackedPart:
    """The tokens that this rank has of a row that several ranks compute together.

    The row is cut into twice as many pieces as there are ranks; each has one from its beginning and the one as far from
    its end, so that the queries of each see about as many keys.

    Args:
        row: all of it; its length is a multiple of twice the number of ranks.
        mesh: the ranks, a DeviceMesh of one axis.
    """

    row: Packed
    mesh: Any

    @cached_property
    def places_S(self) -> Tensor:
        """The places in the row of all ranks' tokens, rank by rank."""
        pieces = torch.arange(int(self.row.starts_E[-1]), device=self.row.device).chunk(2 * self.mesh.size())
        return torch.cat([piece for rank in range(self.mesh.size()) for piece in (pieces[rank], pieces[-1 - rank])])

    @cached_property
    def places_T(self) -> Tensor:
        """The places in the row of this rank's tokens."""
        return self.places_S.chunk(self.mesh.size())[self.mesh.get_local_rank()]

    @cached_property
    def positions_T(self) -> Tensor:
        """Each of these tokens' place in its segment; see `Packed.positions_T`."""
        return self.row.positions_T[self.places_T]

    def sees(self, kind: LayerKind, window: int | None) -> Spread:
        """What attention takes; on a CPU, a mask of all queries and keys."""
        T, S, device = len(self.places_T), len(self.places_S), self.row.device
        rule = self.row.rule(kind, window, self.places_T, self.places_S)
        if device.type == "cuda":
            return Spread(_block_mask(rule, T, S, device), self.mesh)
        queries_T, keys_S = torch.arange(T, device=device), torch.arange(S, device=device)
        return Spread(rule(0, 0, queries_T[:, None], keys_S)[None, None], self.mesh)


def _block_mask(rule: Callable[..., Tensor], num_queries: int, num_keys: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    is_compiled = device.type == "cuda"  # as it comes, it makes masks of T x T
    return create_block_mask(rule, None, None, num_queries, num_keys, device=device, _compile=is_compiled)
