"""Which of many keys were there before, at 16 bytes a key."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_NONE = -1


class Repeats:
    """Remembers keys, each with where it was first seen. Sorted runs, merged as they grow, hold them."""

    def __init__(self) -> None:
        self._runs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []  # each less than half of the one before

    def first(self, texts: Sequence[str], places: Sequence[int]) -> list[int | None]:
        """For each text the place where it was first given, or None if that is now."""
        keys = np.array([hash(text) for text in texts], np.int64)  # another hash in each process
        unique, at, inverse = np.unique(keys, return_index=True, return_inverse=True)
        given = np.asarray(places, np.int64)
        found = np.full(len(unique), _NONE, np.int64)
        for run_keys, run_places in self._runs:
            spot = np.minimum(np.searchsorted(run_keys, unique), len(run_keys) - 1)
            found = np.where(run_keys[spot] == unique, run_places[spot], found)
        new = found == _NONE
        self._remember(unique[new], given[at[new]])
        was_first = np.zeros(len(keys), bool)
        was_first[at[new]] = True
        first = np.where(new, given[at], found)[inverse]
        return [None if is_first else int(place) for place, is_first in zip(first, was_first, strict=True)]

    def _remember(self, keys: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        if not len(keys):
            return
        while self._runs and len(self._runs[-1][0]) < 2 * len(keys):
            old_keys, old_places = self._runs.pop()
            keys, places = np.concatenate([old_keys, keys]), np.concatenate([old_places, places])
            by_key = np.argsort(keys, kind="stable")
            keys, places = keys[by_key], places[by_key]
        self._runs.append((keys, places))
