"""Keys and values of what was read so far, in blocks of BLOCK positions; each layer's cache knows its own mask.

Rows are sequences, each with its own length: a token's position is an argument, and -1 marks padding, which is seen by
nobody. A row's table names the blocks that hold its positions; rows that begin alike may share blocks. No shape depends
on a position and nothing waits for a GPU, so that a step can be captured in a CUDA graph.
"""

import functools
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from open_exaone.model.config import BLOCK, LayerKind, ModelConfig


class LayerCache(Protocol):
    """What attention asks of a layer's cache."""

    def update(self, k_BTKH: Tensor, v_BTKH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Stores new keys and values; returns what the queries at the same positions may see.

        Returns:
            k_BKSH, v_BKSH, and mask_B1TS, True where a query sees a slot; padding sees all: to see nothing gives NaN.
        """
        ...


class BlockTable(NamedTuple):
    """The blocks of each row's positions, for the layers of one kind."""

    blocks_BN: Tensor  # N blocks one after the other; -1 where there is none
    first_B1: Tensor  # which of the row's blocks, by position / BLOCK, is the first of these


class _Places(NamedTuple):
    """Where the tokens of one forward are stored, and what they see; of X blocks."""

    blocks_BT: Tensor
    slots_BT: Tensor
    begun_M: Tensor  # blocks that begin anew
    seen_M: Tensor  # B N blocks, row by row
    mask_B1TS: Tensor


class PagedLayer:
    """One layer's part of a `Cache`."""

    def __init__(self, cache: "Cache", kind: LayerKind, kv_XSKH: Tensor) -> None:
        self._cache, self._kind = cache, kind
        self._kv_XSKH = tuple(kv_XSKH)

    def update(self, k_BTKH: Tensor, v_BTKH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `LayerCache`."""
        places = self._cache.places[self._kind]
        B, _, K, H = k_BTKH.shape
        seen = []
        for kept_XSKH, new_BTKH in zip(self._kv_XSKH, (k_BTKH, v_BTKH), strict=True):
            # What an earlier sequence left in a block that begins anew may be NaN, which no mask holds back.
            kept_XSKH.index_fill_(0, places.begun_M, 0)
            kept_XSKH[places.blocks_BT, places.slots_BT] = new_BTKH
            seen.append(kept_XSKH.index_select(0, places.seen_M).view(B, -1, K, H).transpose(1, 2))
        return seen[0], seen[1], places.mask_B1TS


@functools.cache
def keep_updates_eager() -> None:
    """Has torch.compile leave updates as they are: compiled, one might copy whole pools. Loads the compiler."""
    PagedLayer.update = torch.compiler.disable(PagedLayer.update)  # type: ignore[method-assign, no-untyped-call]


class Cache:
    """The blocks of all layers, X = blocks of a kind and two more: one that swallows padding, and one of zeros."""

    def __init__(
        self, config: ModelConfig, sizes: dict[LayerKind, int], dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        """Args:
        sizes: how many blocks the layers of each kind have.
        """
        kinds = config.layer_kinds
        shape = (BLOCK, config.num_kv_heads, config.head_width)
        # On a CPU memory is taken when a block is first written to.
        self._pools = {
            kind: torch.empty((kinds.count(kind), 2, sizes[kind] + 2, *shape), dtype=dtype, device=device)
            for kind in LayerKind
            if kind in kinds
        }
        for pool in self._pools.values():
            pool[:, :, -2:] = 0
        places = {kind: iter(range(kinds.count(kind))) for kind in LayerKind}
        self.layers = [PagedLayer(self, kind, self._pools[kind][next(places[kind])]) for kind in kinds]
        self.tables: dict[LayerKind, BlockTable] = {}
        self.places: dict[LayerKind, _Places] = {}
        self._window = config.window

    @classmethod
    def of_rows(
        cls, config: ModelConfig, *, rows: int, slots: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> "Cache":
        """Room for `rows` sequences of at most `slots` tokens, which share nothing."""
        num = -(-slots // BLOCK)
        cache = cls(config, dict.fromkeys(LayerKind, rows * num), dtype, device)
        blocks_BN = torch.arange(rows * num, device=device).view(rows, num)
        first_B1 = torch.zeros(rows, 1, dtype=torch.long, device=device)
        cache.tables = dict.fromkeys(LayerKind, BlockTable(blocks_BN, first_B1))
        return cache

    def begin(self, positions_BT: Tensor) -> None:
        """Finds for all layers where the tokens of a forward are stored and what they see, by `tables`."""
        self.places = {kind: self._places(kind, positions_BT) for kind in self._pools}

    def _places(self, kind: LayerKind, positions_BT: Tensor) -> _Places:
        blocks_BN, first_B1 = self.tables[kind]
        num_all = self._pools[kind].shape[2]
        padding, nothing = num_all - 2, num_all - 1
        is_padding_BT = positions_BT < 0
        places_BT = (positions_BT // BLOCK - first_B1).clamp(min=0)
        blocks_BT = torch.where(is_padding_BT, padding, blocks_BN.gather(1, places_BT))
        slots_BT = positions_BT % BLOCK
        begun_BT = torch.where(slots_BT == 0, blocks_BT, padding)
        numbers_BN = first_B1 + torch.arange(blocks_BN.shape[1], device=positions_BT.device)
        is_begun_BN = (blocks_BN >= 0) & (numbers_BN * BLOCK <= positions_BT.amax(dim=1, keepdim=True))
        seen_BN = torch.where(is_begun_BN, blocks_BN, nothing)
        slots_BS = first_B1 * BLOCK + torch.arange(blocks_BN.shape[1] * BLOCK, device=positions_BT.device)
        ages_BTS = positions_BT[..., None] - slots_BS[:, None]
        mask_BTS = ages_BTS >= 0
        if kind is LayerKind.LOCAL:
            assert self._window is not None
            mask_BTS &= ages_BTS < self._window
        mask_BTS |= is_padding_BT[..., None]
        return _Places(blocks_BT, slots_BT, begun_BT.flatten(), seen_BN.flatten(), mask_BTS[:, None])

    def copy_block(self, kind: LayerKind, source: int, target: int) -> None:
        """Copies a block's keys and values."""
        pool = self._pools[kind]
        pool[:, :, target] = pool[:, :, source]
