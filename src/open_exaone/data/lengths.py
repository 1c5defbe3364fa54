"""How long training examples are, by domain and mode: counted in one pass, in memory that rows do not fill.

What EXAONE Deep's report shows as its Figure 2 (arXiv 2503.12524), with the numbers that it does not print.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from open_exaone.base.records import NON_REASONING, REASONING


class ExampleLength(NamedTuple):
    """One training example, counted as it is trained on."""

    domain: str  # such as "math", "science", "code", "others"
    mode: str  # "reasoning", "non_reasoning", or another word where there is no reply, such as "text"
    tokens: int  # of the whole example, its prompt and its template's tokens included
    thought_tokens: int = 0  # of all thoughts in it; 0: it has none
    answer_tokens: int = 0  # of what the assistant says besides; 0: it says nothing


@dataclass(frozen=True, slots=True)
class Spread:
    """How one number of tokens is distributed over examples. Percentiles lie between neighbours, as numpy's do."""

    count: int  # examples
    total: int  # tokens of all of them
    mean: float
    median: float
    p90: float
    p99: float
    max: int


@dataclass(frozen=True, slots=True)
class LengthGroup:
    """The examples of one domain in one mode."""

    domain: str | None  # None: all domains
    mode: str | None  # None: all modes
    tokens: Spread  # of whole examples
    thought: Spread | None  # of the thoughts of those that have one
    answer: Spread | None  # of the answers of those that have one
    counts: Mapping[int, int] = field(repr=False)  # how many examples have a length, by that length in tokens


@dataclass(frozen=True, slots=True)
class LengthStatistics:
    """The groups: each domain, the longest on average first, as a whole and by mode; at last all domains together."""

    groups: tuple[LengthGroup, ...]

    @property
    def domains(self) -> tuple[LengthGroup, ...]:
        """Each domain in all its modes, the longest on average first."""
        return tuple(group for group in self.groups if group.domain is not None and group.mode is None)

    @property
    def modes(self) -> tuple[LengthGroup, ...]:
        """Each mode, of all domains together."""
        return tuple(group for group in self.groups if group.domain is None and group.mode is not None)

    @property
    def reasoning_ratio(self) -> float | None:
        """Tokens in reasoning mode for one in non-reasoning mode; None unless there are both.

        EXAONE 4.0's SFT set has 1.5 (arXiv 2507.11407, section 2.4.1).
        """
        totals = {group.mode: group.tokens.total for group in self.modes}
        reasoning, others = totals.get(REASONING), totals.get(NON_REASONING)
        return reasoning / others if reasoning and others else None

    def as_json(self) -> dict[str, Any]:
        """The numbers as plain JSON, a record for each group."""
        return {
            "reasoning_ratio": self.reasoning_ratio,
            "groups": [
                {
                    "domain": group.domain,
                    "mode": group.mode,
                    **{
                        name: asdict(spread) if spread else None
                        for name, spread in (
                            ("tokens", group.tokens),
                            ("thought_tokens", group.thought),
                            ("answer_tokens", group.answer),
                        )
                    },
                }
                for group in self.groups
            ],
        }


class _Counts:
    """The lengths of one group's examples: how many have each."""

    def __init__(self) -> None:
        self.tokens: Counter[int] = Counter()
        self.thought: Counter[int] = Counter()
        self.answer: Counter[int] = Counter()

    def merge(self, other: "_Counts") -> None:
        self.tokens.update(other.tokens)
        self.thought.update(other.thought)
        self.answer.update(other.answer)


def lengths(examples: Iterable[ExampleLength]) -> LengthStatistics:
    """Counts the examples by domain and mode.

    The examples go through one by one; what is kept is a number for each different length.

    Raises:
        ValueError: a number of tokens is negative.
    """
    found: dict[tuple[str, str], _Counts] = {}
    for example in examples:
        if min(example.tokens, example.thought_tokens, example.answer_tokens) < 0:
            raise ValueError(f"{example}: a number of tokens must be at least 0")
        key = (example.domain, example.mode)
        counts = found.get(key) or found.setdefault(key, _Counts())
        counts.tokens[example.tokens] += 1
        if example.thought_tokens:
            counts.thought[example.thought_tokens] += 1
        if example.answer_tokens:
            counts.answer[example.answer_tokens] += 1
    by_domain = [_in_modes(domain, found) for domain in sorted({domain for domain, _ in found})]
    by_domain.sort(key=lambda groups: -groups[0].tokens.mean)
    return LengthStatistics(tuple(group for groups in [*by_domain, _in_modes(None, found)] for group in groups))


def _in_modes(domain: str | None, found: Mapping[tuple[str, str], _Counts]) -> list[LengthGroup]:
    """A domain (or all) as a whole, then in each of its modes."""
    by_mode: dict[str, _Counts] = {}
    whole = _Counts()
    for (of, mode), counts in sorted(found.items()):
        if domain in (of, None):
            whole.merge(counts)
            by_mode.setdefault(mode, _Counts()).merge(counts)
    by_name = sorted(by_mode.items(), reverse=True)  # reasoning stands before non-reasoning
    return [_group(domain, mode, counts) for mode, counts in [(None, whole), *by_name]] if by_mode else []


def _group(domain: str | None, mode: str | None, counts: _Counts) -> LengthGroup:
    thought, answer = (spread_of(part) if part else None for part in (counts.thought, counts.answer))
    return LengthGroup(domain, mode, spread_of(counts.tokens), thought, answer, dict(sorted(counts.tokens.items())))


def spread_of(counts: Mapping[int, int]) -> Spread:
    """The numbers of a distribution, from how often each length is found; at least one must be."""
    values = sorted(counts)
    ends = list(accumulate(counts[value] for value in values))
    count, total = ends[-1], sum(value * number for value, number in counts.items())

    def percentile(share: float) -> float:
        place = share * (count - 1)
        low, high = (values[bisect_right(ends, index)] for index in (math.floor(place), math.ceil(place)))
        return low + (high - low) * (place - math.floor(place))

    return Spread(count, total, total / count, percentile(0.5), percentile(0.9), percentile(0.99), values[-1])
