"""Keys and values of what was read so far, in blocks of BLOCK positions; each layer's cache knows its own mask.

Rows are sequences, each with its own length: a token's position is an argument, and -1 marks padding, which is seen by
nobody. A row's table names the blocks that hold its positions; rows that begin alike may share blocks.
"""

from typing import Protocol

import torch
from torch import Tensor

from open_exaone.model.config import BLOCK, LayerKind, ModelConfig


class LayerCache(Protocol):
    """What attention asks of a layer's cache."""

    def update(self, k_BTKH: Tensor, v_BTKH: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Stores new keys and values; returns what the queries at `positions_BT` may see.

        Returns:
            k_BKSH, v_BKSH, and mask_BTS, True where a query sees a slot.
        """
        ...


class PagedLayer:
    """One layer's part of a `Cache`."""

    def __init__(self, cache: "Cache", kind: LayerKind, kv_XKSH: Tensor, window: int | None) -> None:
        self._cache, self._kind = cache, kind
        self._k_XKSH, self._v_XKSH = kv_XKSH
        self._window = window

    def update(self, k_BTKH: Tensor, v_BTKH: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `LayerCache`."""
        table_BN = self._cache.tables[self._kind]
        padding, nothing = len(self._k_XKSH) - 2, len(self._k_XKSH) - 1
        numbers_BT = positions_BT.clamp(min=0) // BLOCK
        blocks_BT = torch.where(positions_BT < 0, padding, table_BN.gather(1, numbers_BT))
        # What an earlier sequence left in a block that begins anew may be NaN, which no mask holds back.
        begun_BT = torch.where(positions_BT % BLOCK == 0, blocks_BT, padding)
        for kept_XKSH, new_BTKH in ((self._k_XKSH, k_BTKH), (self._v_XKSH, v_BTKH)):
            kept_XKSH[begun_BT] = 0
            kept_XKSH[blocks_BT, :, positions_BT % BLOCK] = new_BTKH
        last_B1 = positions_BT.amax(dim=1, keepdim=True)
        first, end = 0, int(last_B1.max()) // BLOCK + 1
        if self._window is not None:
            reached_BT = torch.where(positions_BT < 0, last_B1, positions_BT)
            first = max(0, int(reached_BT.min()) - self._window + 1) // BLOCK
        numbers_N = torch.arange(first, end, device=k_BTKH.device)
        seen_BN = table_BN[:, first:end]
        is_begun_BN = (seen_BN >= 0) & (numbers_N * BLOCK <= last_B1)
        seen_BN = torch.where(is_begun_BN, seen_BN, nothing)
        k_BKSH, v_BKSH = (kept[seen_BN].transpose(1, 2).flatten(2, 3) for kept in (self._k_XKSH, self._v_XKSH))
        slots_S = torch.arange(first * BLOCK, end * BLOCK, device=k_BTKH.device)
        ages_BTS = positions_BT[..., None] - slots_S
        mask_BTS = ages_BTS >= 0
        if self._window is not None:
            mask_BTS &= ages_BTS < self._window
        return k_BKSH, v_BKSH, mask_BTS


class Cache:
    """The blocks of all layers, X = blocks of a kind and two more: one that swallows padding, and one of zeros."""

    def __init__(
        self, config: ModelConfig, sizes: dict[LayerKind, int], dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        """Args:
        sizes: how many blocks the layers of each kind have.
        """
        kinds = config.layer_kinds
        shape = (config.num_kv_heads, BLOCK, config.head_width)
        # On a CPU memory is taken when a block is first written to.
        self._pools = {
            kind: torch.empty((kinds.count(kind), 2, sizes[kind] + 2, *shape), dtype=dtype, device=device)
            for kind in LayerKind
            if kind in kinds
        }
        for pool in self._pools.values():
            pool[:, :, -2:] = 0
        places = {kind: iter(range(kinds.count(kind))) for kind in LayerKind}
        self.layers = [
            PagedLayer(
                self, kind, self._pools[kind][next(places[kind])], config.window if kind is LayerKind.LOCAL else None
            )
            for kind in kinds
        ]
        self.tables: dict[LayerKind, Tensor] = {}
        """table_BN of each kind: the block of each row's positions, by position / BLOCK; -1 where there is none."""

    @classmethod
    def of_rows(
        cls, config: ModelConfig, *, rows: int, slots: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> "Cache":
        """Room for `rows` sequences of at most `slots` tokens, which share nothing."""
        num = -(-slots // BLOCK)
        cache = cls(config, dict.fromkeys(LayerKind, rows * num), dtype, device)
        cache.tables = dict.fromkeys(LayerKind, torch.arange(rows * num, device=device).view(rows, num))
        return cache

    def copy_block(self, kind: LayerKind, source: int, target: int) -> None:
        """Copies a block's keys and values."""
        pool = self._pools[kind]
        pool[:, :, target] = pool[:, :, source]
