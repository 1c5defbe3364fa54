"""Documents packed into batches: one behind the other in one row of tokens, none padded, none seeing another.

What is packed are units: documents that a loss compares, such as the two replies of a pair, stay in one batch.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from open_exaone.data.document import Document, Unit


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: D documents, T tokens in all, M of them learned."""

    ids_T: NDArray[np.int64]
    loss_mask_T: NDArray[np.bool_]  # never on a document's first token, which nothing predicts
    starts_E: NDArray[np.int32]  # E = D + 1: where each document begins, and the end
    advantages_D: NDArray[np.float32]
    old_logprobs_M: NDArray[np.float32]  # zeros where the documents bring none
    units_D: NDArray[np.int64]  # the place of each document's unit among those that were packed
    reference_D: NDArray[np.float32] | None  # reference log-probabilities; None unless all documents bring one

    @property
    def num_tokens(self) -> int:
        return len(self.ids_T)

    @property
    def learned_documents_M(self) -> NDArray[np.int64]:
        """Which document each learned token belongs to."""
        lengths = np.diff(self.starts_E)
        return np.repeat(np.arange(len(lengths)), lengths)[self.loss_mask_T]


def singles(documents: Iterable[Document]) -> list[Unit]:
    """Each document as a unit of its own."""
    return [(document,) for document in documents]


def pack(units: Sequence[Unit], max_tokens: int, min_batches: int = 1) -> Iterator[Batch]:
    """Packs units into as few batches of at most `max_tokens` as best fit finds; the longest ones go first.

    No token is padding: attention goes document by document, so that a batch need not be a rectangle. No unit is
    split: one of more than `max_tokens` is a batch of its own.

    Args:
        min_batches: where fewer would do, so many of like size, as far as there are units and none gets too long.
    """
    lengths = [sum(len(document.ids) for document in unit) for unit in units]
    bins = _best_fit(lengths, max_tokens)
    if len(bins) < min_batches:
        balanced = _balanced(lengths, min_batches)
        fits = all(len(places) == 1 or sum(lengths[unit] for unit in places) <= max_tokens for places in balanced)
        bins = balanced if fits else bins
    return (join([units[unit] for unit in places], places) for places in bins)


def _balanced(lengths: Sequence[int], num_bins: int) -> list[list[int]]:
    """Each into the bin that has least, the longest first."""
    bins: list[list[int]] = [[] for _ in range(min(num_bins, len(lengths)))]
    filled = [(0, index) for index in range(len(bins))]
    for unit in sorted(range(len(lengths)), key=lambda unit: -lengths[unit]):
        num_tokens, index = filled[0]
        bins[index].append(unit)
        heapq.heapreplace(filled, (num_tokens + lengths[unit], index))
    return bins


def _best_fit(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    bins: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, bin), sorted
    for unit in sorted(range(len(lengths)), key=lambda unit: -lengths[unit]):
        length = lengths[unit]
        place = bisect_left(rooms, (length, -1))
        if place < len(rooms):
            room, index = rooms.pop(place)
        else:
            room, index = max(max_tokens, length), len(bins)
            bins.append([])
        bins[index].append(unit)
        insort(rooms, (room - length, index))
    return bins


def join(units: Sequence[Unit], places: Sequence[int] | None = None) -> Batch:
    """Makes one batch of units, in their order.

    Args:
        places: what `Batch.units_D` calls them; 0, 1, … where None.
    """
    documents = [document for unit in units for document in unit]
    units_D = np.repeat(np.arange(len(units)) if places is None else places, [len(unit) for unit in units])
    lengths = [len(document.ids) for document in documents]
    starts_E = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    ids_T = np.concatenate([np.asarray(document.ids, np.int64) for document in documents])
    loss_mask_T = np.concatenate([np.asarray(document.loss_mask, np.bool_) for document in documents])
    loss_mask_T[starts_E[:-1]] = False
    logprobs = [_old_logprobs(document) for document in documents]
    advantages_D = np.array([document.advantage for document in documents], np.float32)
    references = [document.reference_logprob for document in documents]
    reference_D = None if None in references else np.array(references, np.float32)
    return Batch(ids_T, loss_mask_T, starts_E, advantages_D, np.concatenate(logprobs), units_D, reference_D)


def _old_logprobs(document: Document) -> NDArray[np.float32]:
    """[learned tokens] the first token left out, which nothing predicts."""
    loss_mask = np.asarray(document.loss_mask, np.bool_)
    if not len(document.old_logprobs):
        return np.zeros(int(loss_mask[1:].sum()), np.float32)
    return np.asarray(document.old_logprobs, np.float32)[int(loss_mask[0]) :]
