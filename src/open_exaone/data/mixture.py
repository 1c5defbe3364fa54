"""In what order examples are learned, so that the tokens of sources and modes stand in the shares that are wanted.

    mixture = Mixture(prepared, data, seed)              `data` holds the shares, reasoning_ratio and max_repeats
    mixture.num_examples                                 in an epoch
    mixture.indices(start, count) -> list[int]           so many examples from a place on
    mixture.step_indices(step, per_step) -> list[int]    a step of so many examples
    steps = mixture.by_tokens(batch_tokens, num_epochs)  a step of about so many tokens
    len(steps); steps[step] -> list[int]                 which examples it learns
    mixture.report() -> list[dict]                       for each group: share wanted and got, tokens, repeats

Everything is a pure function of the seed and the step: a run is taken up from its step alone.

An epoch takes a fixed number of examples of each group (a source in a mode), from a row of shuffles of that group that
goes on from epoch to epoch: what one epoch left out, the next ones take, so all are seen equally often. Within an epoch
each group is spread evenly.
"""

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem
from open_exaone.data.config import DataConfig
from open_exaone.data.store import Group, Prepared

_MAX_EPOCHS_KEPT = 2
_SPREAD, _SHUFFLE = 0, 1  # what a random stream is for
_LEAST_SHARE = 1e-15  # of tokens; what is less is lost among rounding errors


def token_shares(groups: Sequence[Group], data: DataConfig) -> list[float]:
    """The share of an epoch's tokens that each group is to have; they add up to 1.

    A source's share is divided over its modes as its tokens are; `reasoning_ratio` then sets the modes against each
    other and leaves each mode's inner shares as they were.

    Raises:
        DataError: a source with a share has no example left, a mode that the ratio asks for has none, or a share is
            next to nothing.
    """
    shares = [_natural_share(group, groups, data) for group in groups]
    _check_shares(shares, groups)
    given = [index for index, source in enumerate(data.sources) if source.share is not None]
    for index in given:
        if not any(group.source == index for group in groups):
            raise DataError(f"{data.sources[index].path}: has a share, but none of its examples is left")
    if data.reasoning_ratio is not None:
        wanted = {"reasoning": data.reasoning_ratio, "non_reasoning": 1.0}
        for mode, weight in wanted.items():
            total = sum(share for share, group in zip(shares, groups, strict=True) if group.mode == mode)
            if not total:
                raise DataError(f"reasoning_ratio = {data.reasoning_ratio}: there is no example in mode {mode!r}")
            scale = weight / sum(wanted.values()) / total
            shares = [s * scale if g.mode == mode else s for s, g in zip(shares, groups, strict=True)]
    _check_shares(shares, groups)
    return [share / sum(shares) for share in shares]


def _check_shares(shares: Sequence[float], groups: Sequence[Group]) -> None:
    for share, group in zip(shares, groups, strict=True):
        if share < _LEAST_SHARE * sum(shares):
            raise DataError(
                f"{group.name}: its {group.mode} examples are to have {share / sum(shares):g} of the tokens, which is "
                "next to nothing: set its share and reasoning_ratio nearer to the others', or leave it out"
            )


def _natural_share(group: Group, groups: Sequence[Group], data: DataConfig) -> float:
    share = data.sources[group.source].share
    if share is None:
        return float(group.tokens)
    return share * group.tokens / sum(other.tokens for other in groups if other.source == group.source)


def examples_per_epoch(groups: Sequence[Group], shares: Sequence[float], max_repeats: float) -> list[int]:
    """How many examples of each group an epoch takes.

    As many as make every group seen once or more, but none more often than `max_repeats`; large groups are then
    sampled.
    """
    whole = max(group.tokens / share for group, share in zip(groups, shares, strict=True))
    capped = min(max_repeats * group.tokens / share for group, share in zip(groups, shares, strict=True))
    total = min(whole, capped)
    return [
        max(1, round(group.examples * share * total / group.tokens))
        for group, share in zip(groups, shares, strict=True)
    ]


def by_pass_rate(problems: Sequence[Problem], *, hardest_first: bool = False) -> NDArray[np.int64]:
    """The place of each problem in an order by pass rate, the easiest first; equal rates share a place [N].

    Raises:
        DataError: a problem has no pass rate in its metadata; names it.
    """
    rates = []
    for problem in problems:
        rate = problem.metadata.get("pass_rate")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise DataError(
                f"problem {problem.id}: has no pass_rate between 0 and 1 in its metadata, by which a curriculum "
                "orders: let a stage of kind 'filter' come before, or read the kept.jsonl of `exaone data filter`"
            )
        rates.append(rate if hardest_first else -rate)
    return np.unique(np.array(rates, float), return_inverse=True)[1].reshape(-1).astype(np.int64)


class Mixture:
    """The order in which prepared examples are learned.

    Args:
        data: what `prepared` was prepared from.
        seed: with the epoch, it fixes the order.
        places_N: put each epoch in the order of these, such as a curriculum's; ties stay as they were drawn.

    Raises:
        DataError: there is no example, or shares ask for what is not there.
    """

    def __init__(
        self, prepared: Prepared, data: DataConfig, seed: int, places_N: NDArray[np.int64] | None = None
    ) -> None:
        if not len(prepared):
            raise DataError(f"{prepared.folder}: holds no example; see its manifest.json for what was dropped and why")
        self._groups, self._seed, self._places_N = prepared.groups, seed, places_N
        self._tokens_N, self._group_N = prepared.tokens_N, prepared.group_N
        self.shares = token_shares(self._groups, data)
        self._counts = examples_per_epoch(self._groups, self.shares, data.max_repeats)
        self._epochs: dict[int, NDArray[np.int64]] = {}

    @property
    def num_examples(self) -> int:
        """In an epoch."""
        return sum(self._counts)

    @property
    def num_tokens(self) -> int:
        """In an epoch, about: examples differ in length, and which ones an epoch takes differs."""
        return round(sum(g.tokens / g.examples * count for g, count in zip(self._groups, self._counts, strict=True)))

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Which examples epoch `epoch` learns, in order."""
        if epoch not in self._epochs:
            while len(self._epochs) >= _MAX_EPOCHS_KEPT:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[epoch] = self._order(epoch)
        return self._epochs[epoch]

    def step_indices(self, step: int, per_step: int) -> list[int]:
        """Which examples step `step` learns; epochs follow each other without a seam."""
        return self.indices(step * per_step, per_step)

    def indices(self, start: int, number: int) -> list[int]:
        """So many examples from place `start` on in the endless row of epochs."""
        indices: list[int] = []
        while len(indices) < number:
            epoch, offset = divmod(start + len(indices), self.num_examples)
            indices += self.epoch(epoch)[offset : offset + number - len(indices)].tolist()
        return indices

    def by_tokens(self, batch_tokens: int, num_epochs: float = 1.0) -> "TokenSteps":
        """Steps of about `batch_tokens` tokens each."""
        return TokenSteps(self, batch_tokens, num_epochs)

    def steps_per_epoch(self, num_epochs: int, batch_tokens: int) -> list[int]:
        """How many steps `cuts` makes of each epoch. Only epochs of examples longer than a step need be put in order:
        any other has a step for each cut."""
        longest = int(self._tokens_N.max())
        numbers = []
        for epoch, tokens in enumerate(self._epoch_tokens(num_epochs)):
            steps = max(1, round(tokens / batch_tokens))
            is_even = steps == 1 or (longest + 1) * steps <= tokens
            numbers.append(steps if is_even else len(self.cuts(epoch, batch_tokens)) - 1)
        return numbers

    def cuts(self, epoch: int, batch_tokens: int) -> NDArray[np.int64]:
        """Where the steps of an epoch begin and end: it is cut into equal parts by tokens, near `batch_tokens` each."""
        ends = np.cumsum(self._tokens_N[self.epoch(epoch)], dtype=np.int64)
        num_steps = max(1, round(int(ends[-1]) / batch_tokens))
        targets = np.arange(1, num_steps) * (int(ends[-1]) / num_steps)
        inner = np.searchsorted(ends, targets, side="left") + 1  # a step takes examples until it has its tokens
        return np.unique(np.concatenate([[0], np.minimum(inner, len(ends)), [len(ends)]]))

    def report(self) -> list[dict[str, Any]]:
        """For each group: what an epoch takes of it (measured on the first one), and the share wanted."""
        order = self.epoch(0)
        tokens_G = np.bincount(self._group_N[order], self._tokens_N[order], minlength=len(self._groups))
        return [
            {
                "source": group.name,
                "mode": group.mode,
                "examples": group.examples,
                "tokens": group.tokens,
                "epoch_examples": count,
                "epoch_tokens": int(tokens),
                "share": share,
                "share_got": float(tokens / tokens_G.sum()),
                "repeats": count / group.examples,
            }
            for group, count, share, tokens in zip(self._groups, self._counts, self.shares, tokens_G, strict=True)
        ]

    @cached_property
    def _members(self) -> list[NDArray[np.int64]]:
        """The examples of each group."""
        by_group = np.argsort(self._group_N, kind="stable")
        starts = np.searchsorted(self._group_N[by_group], np.arange(len(self._groups) + 1))
        return [by_group[start:end] for start, end in itertools.pairwise(starts)]

    def _epoch_tokens(self, num_epochs: int) -> list[int]:
        """The tokens of each of the first epochs: a shuffle is only made where an epoch ends within it."""
        totals = np.zeros(num_epochs, np.int64)
        for group, (members, count) in enumerate(zip(self._members, self._counts, strict=True)):
            whole, made = int(self._tokens_N[members].sum(dtype=np.int64)), -1
            taken = []  # of this group's tokens, up to the end of each epoch
            for end in range(0, (num_epochs + 1) * count, count):
                shuffle, offset = divmod(end, len(members))
                if offset and shuffle != made:
                    order = self._take(group, members, shuffle * len(members), len(members))
                    so_far, made = np.cumsum(self._tokens_N[order], dtype=np.int64), shuffle
                taken.append(shuffle * whole + (int(so_far[offset - 1]) if offset else 0))
            totals += np.diff(taken)
        return [int(total) for total in totals]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        taken, places = [], []
        for group, (members, count) in enumerate(zip(self._members, self._counts, strict=True)):
            spread = np.random.default_rng((self._seed, _SPREAD, group, epoch)).random(count)
            taken.append(self._take(group, members, epoch * count, count))
            places.append((np.arange(count) + spread) / count)
        order = np.concatenate(taken)[np.argsort(np.concatenate(places), kind="stable")]
        return order if self._places_N is None else order[np.argsort(self._places_N[order], kind="stable")]

    def _take(self, group: int, members: NDArray[np.int64], start: int, count: int) -> NDArray[np.int64]:
        """`count` examples from place `start` of a group's shuffles, one behind another."""
        parts = []
        while count > 0:
            shuffle, offset = divmod(start, len(members))
            stream = np.random.default_rng((self._seed, _SHUFFLE, group, shuffle))
            part = members[stream.permutation(len(members))[offset : offset + count]]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)


class TokenSteps(Sequence[list[int]]):
    """The steps of a training run by tokens; a step never reaches over the end of an epoch.

    Args:
        num_epochs: of the last, unfinished one, the nearest whole number of steps is taken.
    """

    def __init__(self, mixture: Mixture, batch_tokens: int, num_epochs: float) -> None:
        if batch_tokens < 1:
            raise ValueError(f"batch_tokens = {batch_tokens}: must be at least 1")
        if not 0 < num_epochs < math.inf:
            raise ValueError(f"num_epochs = {num_epochs}: must be above 0 and finite")
        self._mixture, self._batch_tokens = mixture, batch_tokens
        self._cuts: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))  # of the epoch that was asked for last
        sizes = mixture.steps_per_epoch(math.ceil(num_epochs), batch_tokens)
        rest = num_epochs - (len(sizes) - 1)  # of the last epoch
        sizes[-1] = max(1, round(sizes[-1] * rest))
        self._starts = np.concatenate([[0], np.cumsum(sizes)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, step: Any) -> Any:
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of {len(self)}")
        epoch = int(np.searchsorted(self._starts, step, side="right")) - 1
        if self._cuts[0] != epoch:
            self._cuts = (epoch, self._mixture.cuts(epoch, self._batch_tokens))
        start, end = self._cuts[1][step - self._starts[epoch] :][:2]
        return self._mixture.epoch(epoch)[start:end].tolist()
