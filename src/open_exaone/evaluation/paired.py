"""Differences: two runs on the same questions, and a run beside a number that somebody published."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from open_exaone.base.errors import DataError
from open_exaone.evaluation.statistics import Estimate, effective_questions, t_quantile, wilson_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NUM_DRAWS = 50_000
WORST = 0.35  # questions more, at the worst possible difference


@dataclass(frozen=True, slots=True)
class Difference:
    """Ours minus theirs."""

    value: float
    low: float
    high: float
    num_questions: int
    p_value: float | None = None  # two-sided, of no difference; None where there are no pairs

    @property
    def is_zero_inside(self) -> bool:
        return self.low <= 0 <= self.high


def paired_difference(
    ours: Mapping[str, float], theirs: Mapping[str, float], level: float = 0.95, seed: int = 0
) -> Difference:
    """The mean difference of two runs on the same questions, clustered by question.

    Differences are taken question by question, so what makes a question hard for both plays no part (Miller 2024,
    arXiv 2411.00640, section 4). Interval and p-value come from the same draws (`mean_below`): p < 0.05 exactly where
    0 lies outside the interval of 95 %. Student's interval and a sign-flip test reject too often where a few questions
    are lost by a lot and the others won by a little.

    Args:
        ours, theirs: a question's id -> what it yields, in [0, 1], such as its share of correct samples.

    Raises:
        DataError: there are no questions, or the runs are of different ones.
    """
    if not ours or ours.keys() != theirs.keys():
        odd = sorted(ours.keys() ^ theirs.keys())
        named = f"{len(odd)} are in one run only, such as {odd[0]!r}" if odd else "there are none"
        raise DataError(f"paired runs need the same questions, and {named}: measure both on one set")
    import numpy as np

    differences = [ours[name] - theirs[name] for name in sorted(ours)]
    below, above = (np.sort(mean_below([sign * one for one in differences], seed)) for sign in (1, -1))
    place = max(int((1 - level) / 2 * (NUM_DRAWS + 1) + 1e-9) - 1, 0)
    tail = 1 + min(np.searchsorted(draws, 0.0, side="right") for draws in (below, above))
    p_value = min(1.0, float(2 * tail / (NUM_DRAWS + 1)))
    return Difference(fmean(differences), float(below[place]), -float(above[place]), len(differences), p_value)


def mean_below(values: Sequence[float], seed: int = 0) -> "NDArray[np.float64]":
    """[NUM_DRAWS]: what the mean may be, from below.

    Each value gets a random weight, uniform over all weights that add up to 1, and `WORST` as much goes to the lowest
    possible value, -1, which a few questions may not have shown. With a whole weight there, quantiles are lower bounds
    for any law on [-1, 1] (Gaffke 2005; Learned-Miller and Thomas 2020, arXiv 1905.06208), for values of two kinds
    those of Clopper and Pearson; with half of it, nearly Jeffreys's. 0.35 is the least that was measured to hold 0.05.
    """
    import numpy as np

    draw = np.random.default_rng(seed)
    different, counts = np.unique(np.round(values, 12), return_counts=True)
    weights = draw.standard_gamma(WORST, NUM_DRAWS)
    total = -weights
    for value, count in zip(different, counts, strict=True):
        weight = draw.standard_gamma(float(count), NUM_DRAWS)
        total, weights = total + value * weight, weights + weight
    means: NDArray[np.float64] = total / weights
    return means


def published_estimate(
    value: float, num_questions: int | None = None, k: int = 1, correlation: float = 1.0, level: float = 0.95
) -> Estimate:
    """A published number as an estimate, with the uncertainty that so many questions and samples leave it.

    Args:
        value: a fraction.
        num_questions: None takes the number as exact.
        k: samples of each question.
        correlation: how alike samples of a question are, as measured on a run of the same benchmark
            (`question_correlation`); 1, the safe side, lets k play no part.

    Raises:
        ValueError: the value lies outside [0, 1], or the rest makes no sense.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"value = {value}: must be a fraction, 0 to 1")
    if num_questions is None:
        return Estimate(value, value, value, 0)
    z = t_quantile((1 + level) / 2, max(num_questions - 1, 1))
    low, high = wilson_interval(value, effective_questions(num_questions, k, correlation), z)
    return Estimate(value, low, high, num_questions)


def unpaired_difference(ours: Estimate, theirs: Estimate) -> Difference:
    """The difference of two numbers measured apart, from their intervals (Newcombe 1998, Stat. Med. 17, method 10).

    Against an exact number it is our interval, moved. On the same questions it is wider than `paired_difference`.
    """
    value = ours.value - theirs.value
    below = math.hypot(ours.value - ours.low, theirs.high - theirs.value)
    above = math.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Difference(value, value - below, value + above, ours.num_questions)
