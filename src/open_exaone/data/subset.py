"""Some of the problems of prepared data, as if the others had never been there; nothing is written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_exaone.base.records import Problem
from open_exaone.data.store import Lazy, Prepared, hash_of


class Subset(Prepared):
    """Prepared problems, less those that are left out; shares and modes then hold among what is left.

    Args:
        indices: which examples stay, in the order of the whole.
        metadata: what each of their problems gets besides its own metadata, [len(indices)].
    """

    def __init__(self, whole: Prepared, indices: Sequence[int], metadata: Sequence[Mapping[str, Any]]) -> None:
        self.folder, self.manifest, self.kind = whole.folder, whole.manifest, whole.kind
        self._whole, self._indices, self._metadata = whole, list(indices), list(metadata)
        kept_N = whole.examples_N[self._indices].copy()
        counts_G = np.bincount(kept_N["group"], minlength=len(whole.groups))
        tokens_G = np.bincount(kept_N["group"], kept_N["tokens"], minlength=len(whole.groups))
        there = np.flatnonzero(counts_G)  # a group of which nothing is left is no group
        kept_N["group"] = np.searchsorted(there, kept_N["group"])
        self.groups = tuple(
            replace(whole.groups[group], examples=int(counts_G[group]), tokens=int(tokens_G[group])) for group in there
        )
        self._kept_N = kept_N

    @cached_property
    def examples_N(self) -> NDArray[Any]:
        return self._kept_N

    @cached_property
    def problems(self) -> Sequence[Problem]:
        def problem(place: int) -> Problem:
            found = self._whole.problems[self._indices[place]]
            return replace(found, metadata={**found.metadata, **self._metadata[place]})

        return Lazy(len(self._indices), problem)

    @property
    def fingerprint(self) -> str:
        return hash_of([self._whole.fingerprint, self._indices, self._metadata])
