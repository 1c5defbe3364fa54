"""Keys and values of what was read so far: one cache a layer, and each knows its own mask.

Rows are sequences, and each has its own length: a token's position is an argument, and -1 marks
padding, which is stored nowhere and seen by nobody.
"""

from typing import Protocol

import torch
from torch import Tensor

from open_exaone.model.config import LayerKind, ModelConfig


class LayerCache(Protocol):
    """What attention asks of a layer's cache."""

    def update(self, k_BTKH: Tensor, v_BTKH: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Stores new keys and values; returns what the queries at `positions_BT` may see.

        Returns:
            k_BKSH, v_BKSH, and mask_BTS, True where a query sees a slot.
        """
        ...


class FullCache:
    """Keeps every position: slot s holds position s. One slot more swallows padding."""

    def __init__(self, config: ModelConfig, rows: int, slots: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (rows, config.num_kv_heads, slots + 1, config.head_width)
        self.k_BKSH = torch.zeros(shape, dtype=dtype, device=device)
        self.v_BKSH = torch.zeros(shape, dtype=dtype, device=device)

    def update(self, k_BTKH: Tensor, v_BTKH: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        trash = self.k_BKSH.shape[2] - 1
        slots_BT = torch.where(positions_BT < 0, trash, positions_BT)
        rows_B1 = torch.arange(k_BTKH.shape[0], device=k_BTKH.device)[:, None]
        self.k_BKSH[rows_B1, :, slots_BT] = k_BTKH
        self.v_BKSH[rows_B1, :, slots_BT] = v_BTKH
        used = int(positions_BT.max()) + 1
        mask_BTS = torch.arange(used, device=k_BTKH.device) <= positions_BT[..., None]
        return self.k_BKSH[:, :, :used], self.v_BKSH[:, :, :used], mask_BTS

    def keep_rows(self, rows: Tensor) -> None:
        self.k_BKSH, self.v_BKSH = self.k_BKSH[rows], self.v_BKSH[rows]

    def copy_row(self, source: "FullCache", source_row: int, rows: Tensor) -> None:
        slots = min(source.k_BKSH.shape[2], self.k_BKSH.shape[2]) - 1
        self.k_BKSH[rows, :, :slots] = source.k_BKSH[source_row, :, :slots]
        self.v_BKSH[rows, :, :slots] = source.v_BKSH[source_row, :, :slots]


class RingCache:
    """Keeps the last W positions: position p lies in slot p mod W. One slot more swallows padding."""

    def __init__(self, config: ModelConfig, rows: int, dtype: torch.dtype, device: torch.device) -> None:
        assert config.window is not None
        self.window = config.window
        shape = (rows, config.num_kv_heads, self.window + 1, config.head_width)
        self.k_BKSH = torch.zeros(shape, dtype=dtype, device=device)
        self.v_BKSH = torch.zeros(shape, dtype=dtype, device=device)
        self.positions_BS = torch.full((rows, self.window + 1), -1, device=device)

    def update(self, k_BTKH: Tensor, v_BTKH: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # A row that starts anew at position 0 must not see what an earlier sequence left behind.
        self.positions_BS[(positions_BT == 0).any(dim=1)] = -1
        if positions_BT.shape[1] == 1:  # the slot that one new token overwrites has just left the window
            self._store(k_BTKH, v_BTKH, positions_BT)
            k_BKSH, v_BKSH, held_BS = self.k_BKSH, self.v_BKSH, self.positions_BS
        else:
            k_BKSH = torch.cat((self.k_BKSH, k_BTKH.transpose(1, 2)), dim=2)
            v_BKSH = torch.cat((self.v_BKSH, v_BTKH.transpose(1, 2)), dim=2)
            held_BS = torch.cat((self.positions_BS, positions_BT), dim=1)
            self._store(k_BTKH, v_BTKH, positions_BT)
        distance_BTS = positions_BT[:, :, None] - held_BS[:, None, :]
        mask_BTS = (held_BS[:, None, :] >= 0) & (distance_BTS >= 0) & (distance_BTS < self.window)
        return k_BKSH, v_BKSH, mask_BTS

    def _store(self, k_BTKH: Tensor, v_BTKH: Tensor, positions_BT: Tensor) -> None:
        last_B1 = positions_BT.amax(dim=1, keepdim=True)
        kept_BT = (positions_BT >= 0) & (positions_BT > last_B1 - self.window)
        slots_BT = torch.where(kept_BT, positions_BT % self.window, self.window)
        rows_B1 = torch.arange(k_BTKH.shape[0], device=k_BTKH.device)[:, None]
        self.k_BKSH[rows_B1, :, slots_BT] = k_BTKH
        self.v_BKSH[rows_B1, :, slots_BT] = v_BTKH
        self.positions_BS[rows_B1, slots_BT] = torch.where(kept_BT, positions_BT, -1)
        self.positions_BS[:, self.window] = -1

    def keep_rows(self, rows: Tensor) -> None:
        self.k_BKSH, self.v_BKSH = self.k_BKSH[rows], self.v_BKSH[rows]
        self.positions_BS = self.positions_BS[rows]

    def copy_row(self, source: "RingCache", source_row: int, rows: Tensor) -> None:
        self.k_BKSH[rows] = source.k_BKSH[source_row]
        self.v_BKSH[rows] = source.v_BKSH[source_row]
        self.positions_BS[rows] = source.positions_BS[source_row]


class Cache:
    """One cache a layer, and the sequences' rows in all of them."""

    def __init__(
        self, config: ModelConfig, *, rows: int, slots: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        """Args:
        rows: how many sequences.
        slots: the longest sequence in tokens.
        """
        device = torch.device(device)
        self.layers: list[FullCache | RingCache] = [
            RingCache(config, rows, dtype, device)
            if kind is LayerKind.LOCAL
            else FullCache(config, rows, slots, dtype, device)
            for kind in config.layer_kinds
        ]

    def copy_row(self, source: "Cache", source_row: int, rows: Tensor) -> None:
        """Copies sequence `source_row` of `source` into `rows`, in every layer."""
        for layer, source_layer in zip(self.layers, source.layers, strict=True):
            layer.copy_row(source_layer, source_row, rows)  # type: ignore[arg-type]

    def keep_rows(self, rows: Tensor) -> None:
        """Forgets all sequences but `rows`, which become rows 0, 1, … in this order."""
        for layer in self.layers:
            layer.keep_rows(rows)

    def clear_row(self, row: int) -> None:
        """Overwrites a sequence whose keys or values may be NaN: even what a mask hides would spread."""
        for layer in self.layers:
            layer.k_BKSH[row] = 0
            layer.v_BKSH[row] = 0

    @property
    def num_bytes(self) -> int:
        """Memory held by keys and values."""
        return sum(2 * layer.k_BKSH.numel() * layer.k_BKSH.element_size() for layer in self.layers)
