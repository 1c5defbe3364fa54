"""Differences: two runs on the same questions, and a run beside a number that somebody published."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from statistics import fmean

from open_exaone.base.errors import DataError
from open_exaone.evaluation.statistics import Estimate, effective_questions, t_interval, t_quantile, wilson_interval

NUM_PERMUTATIONS = 100_000
MIN_DIFFERENT = 10  # fewest questions that differ for which Student's law is trusted
_MAX_EXACT = 12  # questions that differ; up to so many, every assignment of signs is tried


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
    arXiv 2411.00640, section 4). The interval is Student's on the P differences; where fewer than `MIN_DIFFERENT`
    questions differ, that of Bonett and Price 2012 (J. Educ. Behav. Stat. 37): one question more in favour of each.
    The p-value is a sign-flip permutation test's: exact up to 12 questions that differ, else from `NUM_PERMUTATIONS`
    seeded draws.

    Args:
        ours, theirs: a question's id -> what it yields, in [0, 1], such as its share of correct samples.

    Raises:
        DataError: there are no questions, or the runs are of different ones.
    """
    if not ours or ours.keys() != theirs.keys():
        odd = sorted(ours.keys() ^ theirs.keys())
        named = f"{len(odd)} are in one run only, such as {odd[0]!r}" if odd else "there are none"
        raise DataError(f"paired runs need the same questions, and {named}: measure both on one set")
    differences = [ours[name] - theirs[name] for name in sorted(ours)]
    low, high = _paired_interval(differences, level)
    p_value = sign_flip_p_value(differences, seed)
    return Difference(fmean(differences), low, high, len(differences), p_value)


def sign_flip_p_value(differences: Sequence[float], seed: int = 0, num_draws: int = NUM_PERMUTATIONS) -> float:
    """How often chance alone, flipping each difference's sign, gives a mean as far from 0 as was seen.

    With draws, (1 + hits) / (1 + draws), which is never 0 (Phipson and Smyth 2010).
    """
    sizes = [abs(difference) for difference in differences if difference]
    seen = abs(math.fsum(differences)) - 1e-9 * max(sizes, default=0)
    if len(sizes) <= _MAX_EXACT:
        flips = itertools.product((-1, 1), repeat=len(sizes))
        return fmean(abs(sum(map(mul, flip, sizes))) >= seen for flip in flips)
    import numpy as np

    draw = np.random.default_rng(seed)
    different, counts = np.unique(np.round(sizes, 12), return_counts=True)
    sums = np.zeros(num_draws)
    for size, count in zip(different, counts, strict=True):
        sums += size * (2.0 * draw.binomial(int(count), 0.5, size=num_draws) - count)
    hits = int((np.abs(sums) >= seen).sum())
    return (1 + hits) / (1 + num_draws)


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


def _paired_interval(differences: Sequence[float], level: float) -> tuple[float, float]:
    few = sum(difference != 0 for difference in differences) < MIN_DIFFERENT
    halved = [(1 + difference) / 2 for difference in ([*differences, 1.0, -1.0] if few else differences)]
    low, high = t_interval(halved, level)
    mean = fmean(differences)  # stays inside, also where the two further questions pull the middle towards 0
    return max(-1.0, min(mean, 2 * low - 1)), min(1.0, max(mean, 2 * high - 1))
