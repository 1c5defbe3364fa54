"""Intervals for what is measured on P questions with k samples each: every one is clustered by question.

Whatever a question yields (its share of correct samples, its cons@k, its share of truncated replies) is one number
in [0, 1] for each question, [P]; an interval sees only those. Samples of one question are alike, so P counts, not
P * k (Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640, section 2). Every result is a fraction.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from statistics import NormalDist, fmean, variance

from open_exaone.base.errors import DataError
from open_exaone.base.records import NO_FINDING, Reply, Verdict, VerdictStatus
from open_exaone.evaluation.languages import mismatches

Correct = Sequence[Sequence[bool]]  # [P, k]: was this sample of this problem judged correct
Interval = tuple[float, float]

PRIOR_QUESTIONS = 4  # how many questions that vary like a coin stand beside those measured, in the variance alone
MIN_QUESTIONS_TO_STOP = 30  # fewer than that give no estimate of their spread
MIN_EXPECTED = 3  # fewest successes, and failures, for which the spread between questions is believed
_EXACT_DEGREES = 200  # of Student's law; above, its expansion errs by less than 1e-9


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over questions with its confidence interval."""

    value: float
    low: float
    high: float
    num_questions: int

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def problem_means(flags: Correct) -> list[float]:
    """[P]: the share of each problem's samples that is flagged, such as correct.

    Raises:
        DataError: there are no problems, or one has no samples.
    """
    if not flags:
        raise DataError("there are no questions to score")
    if not all(flags):
        raise DataError("a question has no samples: give every question at least one")
    return [sum(row) / len(row) for row in flags]


def estimate(values: Sequence[float], level: float = 0.95, weights: Sequence[float] | None = None) -> Estimate:
    """The mean over questions with the interval of `question_interval`.

    Args:
        values: [P], one number in [0, 1] for each question.
        weights: [P], such as a question's points; alike if left out.

    Raises:
        DataError: there are no questions.
        ValueError: a value lies outside [0, 1], or the weights do not fit.
    """
    shares = _shares(values, weights)
    low, high = question_interval(values, level, weights)
    return Estimate(_mean(values, shares), low, high, len(values))


def question_interval(values: Sequence[float], level: float = 0.95, weights: Sequence[float] | None = None) -> Interval:
    """The interval to use: Wilson's, for as many questions as the spread between questions is worth.

    With m the mean and v its variance, the effective number of questions is m (1 - m) / v, and at least P: that many
    tosses of a coin would be as sure. Wilson's score interval (1927) is taken for it, with Student's quantile for
    P - 1 degrees of freedom in place of the normal one. v = S / P, where S is the variance between questions, shrunk
    towards a coin's m (1 - m) by `PRIOR_QUESTIONS`: with few questions, or near 0 and 1, what was seen understates
    it. Where fewer than `MIN_EXPECTED` successes or failures were seen it is not believed at all, and the number is P.
    Sources: Dean and Pagano 2015 (J. Surv. Stat. Methodol. 3) for the effective number; the shrinking is ours.
    Measured coverage: docs/statistics.md.

    Raises:
        DataError: there are no questions.
        ValueError: a value lies outside [0, 1], or the weights do not fit.
    """
    shares = _shares(values, weights)
    mean, size = _mean(values, shares), 1 / math.fsum(share * share for share in shares)  # Kish's number of questions
    coin = mean * (1 - mean)
    degrees = max(len(values) - 1, 1)
    if size * min(mean, 1 - mean) < MIN_EXPECTED - 1e-9 or len(values) == 1:  # rounding plays no part
        return wilson_interval(mean, size, _quantile(level, degrees if len(values) > 1 else None))
    pairs = zip(values, shares, strict=True)
    spread = size * len(values) * math.fsum((share * (value - mean)) ** 2 for value, share in pairs)
    shrunk = (spread + PRIOR_QUESTIONS * coin) / (degrees + PRIOR_QUESTIONS)
    return wilson_interval(mean, size * max(1.0, coin / shrunk), _quantile(level, degrees))


def normal_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """mean +- z * sqrt(variance / P), not clipped; too narrow for few questions and near 0 and 1."""
    return _symmetric(values, _quantile(level, None))


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """As `normal_interval`, with Student's quantile for P - 1 degrees of freedom: for few questions."""
    return _symmetric(values, _quantile(level, max(len(values) - 1, 1)))


def wilson_interval(mean: float, num_questions: float, quantile: float | None = None) -> Interval:
    """Wilson's score interval (1927) for a share of so many questions: inside [0, 1], and never empty.

    Args:
        num_questions: may be a fraction, where it stands for an effective number.
        quantile: 1.96, for 95 %, if left out.
    """
    z = _quantile(0.95, None) if quantile is None else quantile
    scale = 1 + z * z / num_questions
    middle = (mean + z * z / (2 * num_questions)) / scale
    half = z / scale * math.sqrt(mean * (1 - mean) / num_questions + (z / (2 * num_questions)) ** 2)
    return max(0.0, min(mean, middle - half)), min(1.0, max(mean, middle + half))


def bootstrap_interval(
    values: Sequence[float], level: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentiles of the mean over questions drawn with replacement; the same for the same seed.

    The percentiles lie further out than (1 - level) / 2, as far as Student's quantile and P / (P - 1) ask, for the
    plain ones are too narrow for few questions. Source: Hesterberg 2015 (Am. Stat. 69), section 3.3. Values that do
    not differ at all leave nothing to draw; then it is Wilson's interval.

    Raises:
        DataError: there are no questions.
    """
    import numpy as np

    num = len(_shares(values, None))
    if len(set(values)) == 1:
        return wilson_interval(values[0], num, _quantile(level, None))
    tail = NormalDist().cdf(-_quantile(level, num - 1) * math.sqrt(num / (num - 1)))
    random = np.random.default_rng(seed)
    different, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    drawn = random.multinomial(num, counts / num, size=num_resamples)
    low, high = np.quantile(drawn @ different / num, [tail, 1 - tail])
    return float(low), float(high)


def question_correlation(correct: Correct) -> float:
    """How alike samples of one question are: 0 where they differ as coins do, 1 where they never differ.

    The variance between questions as a share of the whole (the intraclass correlation, analysis of variance).
    1, the safe side, where no question has two samples or nothing differs.

    Raises:
        DataError: there are no questions.
    """
    means = problem_means(correct)
    repeated = [(mean, len(row)) for mean, row in zip(means, correct, strict=True) if len(row) > 1]
    if len(repeated) < 2:
        return 1.0
    within = fmean(mean * (1 - mean) * k / (k - 1) for mean, k in repeated)
    noise = fmean(mean * (1 - mean) / (k - 1) for mean, k in repeated)
    between = max(0.0, variance([mean for mean, _ in repeated]) - noise)
    return between / (between + within) if between + within > 0 else 1.0


def effective_questions(num_questions: int, k: int, correlation: float) -> float:
    """How many questions with one sample each are as sure as so many with k samples (Kish's design effect).

    Raises:
        ValueError: a number is below 1, or the correlation outside [0, 1].
    """
    if num_questions < 1 or k < 1 or not 0 <= correlation <= 1:
        raise ValueError(f"{num_questions} questions, k = {k}, correlation {correlation}: 1 or more, and 0 to 1")
    return num_questions / (correlation + (1 - correlation) / k)


def questions_needed(half_width: float, value: float = 0.5, k: int = 1, correlation: float = 1.0) -> int:
    """The questions that make a 95 % interval for `value` at most that wide to each side, by the normal law.

    Raises:
        ValueError: the half-width lies outside 0 to 1, or the rest makes no sense.
    """
    z = _quantile(0.95, None)
    coin = _coin(half_width, value)
    return max(1, math.ceil(z * z * coin / half_width**2 / effective_questions(1, k, correlation) - 1e-9))


def samples_needed(half_width: float, num_questions: int, value: float, correlation: float) -> int | None:
    """The k that does so with so many questions; None where no k does, as more samples bring no more questions.

    Raises:
        ValueError: the half-width lies outside 0 to 1, or the rest makes no sense.
    """
    z = _quantile(0.95, None)
    effective_questions(num_questions, 1, correlation)
    allowed = num_questions * half_width**2 / (z * z) if (coin := _coin(half_width, value)) else 1.0
    if coin <= allowed:
        return 1
    room = allowed / coin - correlation
    return math.ceil((1 - correlation) / room - 1e-9) if room > 0 else None


def is_narrow_enough(values: Sequence[float], half_width: float, level: float = 0.95) -> bool:
    """Whether measuring may stop: the interval is at most `half_width` to each side, on questions in random order.

    It asks how wide the interval is, never where it lies, and not before `MIN_QUESTIONS_TO_STOP` questions, so that
    stopping costs little coverage (Chow and Robbins 1965; measured in docs/statistics.md).
    """
    if len(values) < MIN_QUESTIONS_TO_STOP:
        return False
    return estimate(values, level).half_width <= half_width


def rate(flags: Correct, level: float = 0.95) -> Estimate:
    """[P, k] -> the share of flagged samples, the mean over questions of each question's share.

    Raises:
        DataError: there are no questions, or one has no samples.
    """
    return estimate(problem_means(flags), level)


def verdict_rates(verdicts: Sequence[Sequence[Verdict]]) -> dict[str, Estimate]:
    """The shares of samples that gave no answer, were truncated, or could not be judged ("error"); [P, k]."""
    return {name: rate([[v.status in statuses for v in row] for row in verdicts]) for name, statuses in _RATES.items()}


def language_mismatch(replies: Sequence[Sequence[Reply]], languages: Sequence[str]) -> Estimate:
    """The share of replies whose thought or answer is not in the question's language; [P, k] replies, [P] languages.

    Raises:
        ValueError: there are not as many languages as questions, or one is unknown.
    """
    rows = list(zip(replies, languages, strict=True))
    flags = iter(mismatches((reply, language) for row, language in rows for reply in row))
    return rate([list(islice(flags, len(row))) for row, _ in rows])


@lru_cache(maxsize=4096)
def t_quantile(probability: float, degrees: int) -> float:
    """Student's quantile for a whole number of degrees of freedom.

    By bisection of the closed form up to 200 degrees (Abramowitz and Stegun 26.7.3, 26.7.4), by the expansion in
    1 / degrees above (26.7.5).

    Raises:
        ValueError: the probability lies outside 0 to 1, or there is no degree of freedom.
    """
    if not 0 < probability < 1 or degrees < 1:
        raise ValueError(f"probability {probability}, {degrees} degrees: must lie inside 0 to 1, and be at least 1")
    if degrees > _EXACT_DEGREES:
        x, n = NormalDist().inv_cdf(probability), degrees
        first = (x**3 + x) / 4
        second = (5 * x**5 + 16 * x**3 + 3 * x) / 96
        third = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
        return x + first / n + second / n**2 + third / n**3
    low, high = -math.pi / 2, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_share(middle, degrees) < 2 * probability - 1 else (low, middle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _t_share(angle: float, degrees: int) -> float:
    """P(-t < T < t) with t = sqrt(degrees) * tan(angle), signed as the angle is."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for power in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (power - 1) / power
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _quantile(level: float, degrees: int | None) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level = {level}: must lie between 0 and 1, such as 0.95")
    probability = (1 + level) / 2
    return NormalDist().inv_cdf(probability) if degrees is None else t_quantile(probability, degrees)


def _symmetric(values: Sequence[float], quantile: float) -> Interval:
    _shares(values, None)
    half = quantile * math.sqrt(variance(values) / len(values)) if len(values) > 1 else math.inf
    return fmean(values) - half, fmean(values) + half


def _shares(values: Sequence[float], weights: Sequence[float] | None) -> list[float]:
    """What each question counts; they sum to 1."""
    if not len(values):
        raise DataError("there are no questions to score")
    if not all(0 <= value <= 1 for value in values):
        raise ValueError("a question's value lies outside 0 to 1")
    if weights is None:
        return [1 / len(values)] * len(values)
    if len(weights) != len(values) or not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(f"weights: give {len(values)} numbers, none negative and not all 0")
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _mean(values: Sequence[float], shares: Sequence[float]) -> float:
    total = math.fsum(value * share for value, share in zip(values, shares, strict=True))
    return min(max(values), max(min(values), total))


def _coin(half_width: float, value: float) -> float:
    if not 0 < half_width < 1 or not 0 <= value <= 1:
        raise ValueError(f"half-width {half_width}, value {value}: fractions, such as 0.02 and 0.7")
    return value * (1 - value)


_RATES: Mapping[str, Collection[VerdictStatus]] = {
    "no_answer": {VerdictStatus.UNPARSED},
    "truncated": {VerdictStatus.TRUNCATED},
    "error": NO_FINDING,
}
