"""Documents packed into batches: one behind the other in one row of tokens, none padded, none seeing another.

What is packed are units: documents that a loss compares, such as the two replies of a pair, stay in one batch. Where
several documents of a batch have the same prompt, as a group's samples do, it stands there once. The prompt is what
comes before the first learned token, less its last token: that one predicts the first learned token, so every document
has its own.
"""

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open_exaone.data.document import Document, Unit


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: D documents, T tokens in all, M of them learned.

    Its row has J segments: first the documents, each without a prompt that it shares, then the shared prompts.
    """

    ids_T: NDArray[np.int64]
    loss_mask_T: NDArray[np.bool_]  # never on a segment's first token, which nothing predicts
    starts_E: NDArray[np.int32]  # E = J + 1: where each segment begins, and the end
    prefix_J: NDArray[np.int32]  # of a document, the segment of its shared prompt; -1 where it has none
    advantages_D: NDArray[np.float32]
    units_D: NDArray[np.int64]  # the place of each document's unit among those that were packed
    reference_D: NDArray[np.float32] | None  # reference log-probabilities; None unless all documents bring one
    # Of each learned token; None unless all documents bring them
    sampler_logprobs_M: NDArray[np.float32] | None
    old_logprobs_M: NDArray[np.float32] | None
    reference_logprobs_M: NDArray[np.float32] | None

    @property
    def num_tokens(self) -> int:
        """How many are computed: a shared prompt counts once."""
        return len(self.ids_T)

    @property
    def learned_documents_M(self) -> NDArray[np.int64]:
        """Which document each learned token belongs to."""
        lengths = np.diff(self.starts_E)
        return np.repeat(np.arange(len(lengths)), lengths)[self.loss_mask_T]


def singles(documents: Iterable[Document]) -> list[Unit]:
    """Each document as a unit of its own."""
    return [(document,) for document in documents]


class _Group(NamedTuple):
    """Units whose documents all have the same prompt."""

    units: list[int]  # their places
    prompt_tokens: int  # 0 where only one document has the prompt
    own_tokens: list[int]  # of each unit, the prompt left out

    @property
    def num_tokens(self) -> int:
        return self.prompt_tokens + sum(self.own_tokens)


def _prompt(document: Document) -> tuple[int, ...]:
    num_tokens = int(np.argmax(document.loss_mask)) - 1
    return tuple(document.ids[: max(0, num_tokens)])


def _groups(units: Sequence[Unit]) -> list[_Group]:
    """The units by their prompts; one whose documents differ in theirs is alone."""
    places: dict[tuple[int, ...] | int, list[int]] = {}
    for place, unit in enumerate(units):
        prompts = {_prompt(document) for document in unit}
        places.setdefault((prompts.pop() if len(prompts) == 1 else ()) or place, []).append(place)
    groups = []
    for prompt, members in places.items():
        is_shared = isinstance(prompt, tuple) and sum(len(units[place]) for place in members) > 1
        prompt_tokens = len(prompt) if isinstance(prompt, tuple) and is_shared else 0
        own_tokens = [sum(len(document.ids) - prompt_tokens for document in units[place]) for place in members]
        groups.append(_Group(members, prompt_tokens, own_tokens))
    return groups


def num_computed(units: Sequence[Unit]) -> int:
    """The tokens of a batch of all units: a shared prompt counts once."""
    return sum(group.num_tokens for group in _groups(units))


def pack(units: Sequence[Unit], max_tokens: int, min_batches: int = 1) -> Iterator[Batch]:
    """Packs units into as few batches of at most `max_tokens` as best fit finds; the longest ones go first.

    No token is padding: attention goes segment by segment, so that a batch need not be a rectangle. No unit is split:
    one of more than `max_tokens` is a batch of its own. Units with the same prompt stay together, as far as they fit
    and batches of like size allow.

    Args:
        min_batches: where fewer would do, so many of like size, as far as there are units and none gets too long.
    """
    groups = _groups(units)
    like_size = max(1, sum(group.num_tokens for group in groups) // min_batches)
    pieces = [piece for group in groups for piece in _pieces(group, max_tokens, like_size)]
    bins = _bins([piece.num_tokens for piece in pieces], max_tokens, min_batches)
    batches = [[unit for piece in members for unit in pieces[piece].units] for members in bins]
    return (join([units[unit] for unit in places], places) for places in batches)


def shares(units: Sequence[Unit], number: int) -> list[list[int]]:
    """The places of the units that each of `number` ranks computes: each about as many tokens, some perhaps none.

    Units with the same prompt stay together, unless they are more than a rank's share.
    """
    groups = _groups(units)
    total = sum(group.num_tokens for group in groups)
    pieces = [piece for group in groups for piece in _pieces(group, total, max(1, total // number))]
    bins = _balanced([piece.num_tokens for piece in pieces], number)
    found = [sorted(place for piece in members for place in pieces[piece].units) for members in bins]
    return found + [[] for _ in range(number - len(found))]


def _pieces(group: _Group, max_tokens: int, like_size: int) -> Iterator[_Group]:
    """The group whole, where it fits into `max_tokens` and is of about `like_size`, or else in pieces that do."""
    num_pieces = round(group.num_tokens / like_size)
    for members in _bins(group.own_tokens, max_tokens - group.prompt_tokens, num_pieces):
        places, own_tokens = [group.units[i] for i in members], [group.own_tokens[i] for i in members]
        yield _Group(places, group.prompt_tokens, own_tokens)


def _bins(lengths: Sequence[int], max_tokens: int, min_bins: int) -> list[list[int]]:
    """By best fit; where that finds fewer than `min_bins`, so many of like size if none gets too long."""
    bins = _best_fit(lengths, max_tokens)
    if len(bins) < min_bins:
        balanced = _balanced(lengths, min_bins)
        fits = all(len(places) == 1 or sum(lengths[unit] for unit in places) <= max_tokens for places in balanced)
        bins = balanced if fits else bins
    return bins


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
    prompts_D = [_prompt(document) for document in documents]
    shared = [prompt for prompt, number in Counter(prompts_D).items() if prompt and number > 1]
    segments = {prompt: len(documents) + index for index, prompt in enumerate(shared)}
    cuts_D = [len(prompt) if prompt in segments else 0 for prompt in prompts_D]
    ids = [np.asarray(document.ids[cut:], np.int64) for document, cut in zip(documents, cuts_D, strict=True)]
    masks = [np.asarray(document.loss_mask[cut:], np.bool_) for document, cut in zip(documents, cuts_D, strict=True)]
    ids_T = np.concatenate([*ids, *(np.array(prompt, np.int64) for prompt in shared)])
    loss_mask_T = np.concatenate([*masks, *(np.zeros(len(prompt), np.bool_) for prompt in shared)])
    starts_E = np.cumsum([0, *map(len, ids), *map(len, shared)]).astype(np.int32)
    loss_mask_T[starts_E[:-1]] = False
    prefix_J = np.array([*(segments.get(prompt, -1) for prompt in prompts_D), *(-1 for _ in shared)], np.int32)
    advantages_D = np.array([document.advantage for document in documents], np.float32)
    references = [document.reference_logprob for document in documents]
    reference_D = None if None in references else np.array(references, np.float32)
    columns = [_column(documents, name) for name in ("sampler_logprobs", "old_logprobs", "reference_logprobs")]
    return Batch(ids_T, loss_mask_T, starts_E, prefix_J, advantages_D, units_D, reference_D, *columns)


def _column(documents: Sequence[Document], name: str) -> NDArray[np.float32] | None:
    """The values of all learned tokens; None unless all documents have some. Nothing predicts a first token."""
    values = [getattr(document, name) for document in documents]
    if not all(map(len, values)):
        return None
    parts = [np.asarray(part, np.float32)[int(d.loss_mask[0]) :] for d, part in zip(documents, values, strict=True)]
    return np.concatenate(parts)
