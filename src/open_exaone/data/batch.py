"""Documents folded into batches: one document a row, rows of like length together, little padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from open_exaone.data.document import Document


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: B documents as rows, padded at the end to the longest, T tokens."""

    ids_BT: NDArray[np.int64]
    is_learned_BT: NDArray[np.bool_]  # never on a row's first token, which nothing predicts
    advantages_B: NDArray[np.float32]
    old_logprobs_BT: NDArray[np.float32]  # zero where nothing is learned
    num_tokens: int  # padding left out


def fold(documents: Sequence[Document], max_tokens: int) -> Iterator[Batch]:
    """Sorts documents by length and cuts the row into batches of at most `max_tokens`, padding counted.

    On a CPU this beats packing many documents into one masked row: attention stays causal and dense, and
    no pair of tokens of different documents is ever computed.
    """
    by_length = sorted(documents, key=lambda document: len(document.ids))
    rows: list[Document] = []
    for document in by_length:
        if rows and (len(rows) + 1) * len(document.ids) > max_tokens:
            yield stack(rows)
            rows = []
        rows.append(document)
    if rows:
        yield stack(rows)


def stack(documents: Sequence[Document]) -> Batch:
    """Makes one batch of documents, padded at the end with id 0."""
    shape = (len(documents), max(len(document.ids) for document in documents))
    ids_BT = np.zeros(shape, np.int64)
    is_learned_BT = np.zeros(shape, np.bool_)
    old_logprobs_BT = np.zeros(shape, np.float32)
    for row, document in enumerate(documents):
        length = len(document.ids)
        ids_BT[row, :length] = document.ids
        is_learned_BT[row, :length] = document.is_learned
        if len(document.old_logprobs):
            old_logprobs_BT[row, :length][is_learned_BT[row, :length]] = document.old_logprobs
    is_learned_BT[:, 0] = False
    advantages_B = np.array([document.advantage for document in documents], np.float32)
    num_tokens = sum(len(document.ids) for document in documents)
    return Batch(ids_BT, is_learned_BT, advantages_B, old_logprobs_BT, num_tokens)


def order(num_documents: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The shuffled order of one epoch: depends on its arguments alone, so a resumed run goes on in it."""
    return np.random.default_rng((seed, epoch)).permutation(num_documents)


def step_indices(num_documents: int, per_step: int, seed: int, step: int) -> list[int]:
    """Which documents step `step` trains on: epochs follow each other, each in its own order."""
    first = step * per_step
    indices = []
    for position in range(first, first + per_step):
        epoch, offset = divmod(position, num_documents)
        indices.append((epoch, offset))
    orders = {epoch: order(num_documents, seed, epoch) for epoch in {epoch for epoch, _ in indices}}
    return [int(orders[epoch][offset]) for epoch, offset in indices]
