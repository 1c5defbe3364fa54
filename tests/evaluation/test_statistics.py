"""Intervals: closed forms, symmetries, and by simulation what they promise."""

import math
import random
from collections.abc import Callable
from statistics import NormalDist, fmean, variance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.errors import DataError
from open_exaone.base.records import Reply, Verdict, VerdictStatus
from open_exaone.evaluation import statistics

shares = st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=1, max_size=80)
levels = st.sampled_from([0.8, 0.95, 0.99])

T_975 = {1: 12.706205, 2: 4.302653, 3: 3.182446, 5: 2.570582, 10: 2.228139, 29: 2.045230, 100: 1.983972, 200: 1.971896}


@pytest.mark.parametrize("degrees", T_975)
def test_students_quantile_is_that_of_the_tables(degrees: int) -> None:
    assert statistics.t_quantile(0.975, degrees) == pytest.approx(T_975[degrees], abs=2e-6)
    assert statistics.t_quantile(0.025, degrees) == pytest.approx(-T_975[degrees], abs=2e-6)


@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.995])
def test_students_quantile_has_its_closed_forms_and_joins_its_expansion(probability: float) -> None:
    one, two = (statistics.t_quantile(probability, degrees) for degrees in (1, 2))
    assert one == pytest.approx(math.tan(math.pi * (probability - 0.5)))
    assert two == pytest.approx((2 * probability - 1) / math.sqrt(2 * probability * (1 - probability)))
    steps = [statistics.t_quantile(probability, degrees) for degrees in (199, 200, 201, 202)]
    assert steps == sorted(steps, reverse=True)
    assert steps[1] - steps[2] == pytest.approx(steps[0] - steps[1], rel=0.05)
    assert statistics.t_quantile(probability, 10**9) == pytest.approx(NormalDist().inv_cdf(probability))


@given(shares, levels)
def test_an_interval_holds_the_mean_lies_in_the_unit_and_is_never_a_point(values: list[float], level: float) -> None:
    for interval in (statistics.question_interval(values, level), statistics.wilson_interval(fmean(values), 7.5)):
        assert 0 <= interval[0] <= fmean(values) + 1e-12 and fmean(values) - 1e-12 <= interval[1] <= 1
        assert interval[0] < interval[1]


@given(shares, st.randoms(use_true_random=False))
def test_order_plays_no_part_a_mirror_mirrors_and_a_higher_level_widens(
    values: list[float], shuffler: random.Random
) -> None:
    low, high = statistics.question_interval(values)
    assert statistics.question_interval(shuffler.sample(values, len(values))) == pytest.approx((low, high))
    assert statistics.question_interval([1 - value for value in values]) == pytest.approx((1 - high, 1 - low))
    wide = statistics.question_interval(values, 0.99)
    assert wide[0] <= low and high <= wide[1]


@given(shares, st.floats(0.1, 100))
def test_equal_weights_are_no_weights(values: list[float], weight: float) -> None:
    plain = statistics.estimate(values)
    same = statistics.estimate(values, weights=[weight] * len(values))
    assert (same.value, same.low, same.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_weights_are_those_of_the_mean() -> None:
    points = statistics.estimate([1.0, 0.0, 0.5], weights=[2, 3, 4])
    assert points.value == pytest.approx(4 / 9)
    assert points.half_width > statistics.estimate([1.0, 0.0, 0.5] * 10, weights=[2, 3, 4] * 10).half_width


def test_with_uneven_weights_the_interval_is_that_of_a_weighted_mean() -> None:
    draw = random.Random(4)
    values, weights = [draw.betavariate(4, 4) for _ in range(600)], [draw.random() ** 3 for _ in range(600)]
    found, total = statistics.estimate(values, weights=weights), sum(weights)
    pairs = zip(values, weights, strict=True)
    error = math.sqrt(math.fsum((weight / total * (value - found.value)) ** 2 for value, weight in pairs))
    assert found.half_width == pytest.approx(statistics.t_quantile(0.975, 599) * error, rel=0.03)


def test_one_sample_of_each_question_gives_wilsons_interval_with_students_quantile() -> None:
    values = [1.0] * 60 + [0.0] * 40
    spread = (100 * 0.24 + 4 * 0.24) / (99 + 4)
    z, n = statistics.t_quantile(0.975, 99), max(100.0, 100 * 0.24 / spread)
    middle, half = (0.6 + z * z / 2 / n) / (1 + z * z / n), z / (1 + z * z / n) * math.sqrt(0.24 / n + (z / 2 / n) ** 2)
    assert statistics.question_interval(values) == pytest.approx((middle - half, middle + half))


def test_more_samples_of_a_question_narrow_the_interval_only_as_far_as_questions_are_alike() -> None:
    sure, split = [[1.0, 0.0][i % 2] for i in range(100)], [0.5] * 100
    tiny = [0.45, 0.55] * 50
    widths = [statistics.estimate(values).half_width for values in (sure, tiny, split)]
    assert widths[0] > 0.09 and widths[1] < 0.03 and 0 < widths[2] <= widths[1]


def test_near_the_edge_the_spread_that_was_seen_is_not_believed() -> None:
    values = [1 / 64] * 2 + [0.0] * 98
    expected = statistics.wilson_interval(fmean(values), 100, statistics.t_quantile(0.975, 99))
    assert statistics.question_interval(values) == pytest.approx(expected)


def test_the_simple_intervals_are_their_formulas() -> None:
    values = [0.0, 0.5, 1.0, 0.5, 0.25]
    error = math.sqrt(variance(values) / 5)
    for found, quantile in (
        (statistics.normal_interval(values), NormalDist().inv_cdf(0.975)),
        (statistics.t_interval(values), 2.776445),
    ):
        assert found == pytest.approx((0.45 - quantile * error, 0.45 + quantile * error), abs=1e-6)
    assert statistics.t_interval([0.5]) == (-math.inf, math.inf)
    z2 = NormalDist().inv_cdf(0.975) ** 2
    assert statistics.wilson_interval(0.0, 50) == pytest.approx((0.0, z2 / (50 + z2)))


def test_the_bootstrap_is_seeded_and_near_the_normal_law_for_many_questions() -> None:
    values = [0.0, 0.25, 1.0, 0.5] * 60
    drawn = statistics.bootstrap_interval(values, seed=3)
    assert drawn == statistics.bootstrap_interval(values, seed=3) != statistics.bootstrap_interval(values, seed=4)
    assert drawn == pytest.approx(statistics.t_interval(values), abs=0.003)
    assert statistics.bootstrap_interval([0.0] * 9) == statistics.wilson_interval(0.0, 9)


Method = Callable[[list[float]], tuple[float, float]]


def coverage(method: Method, num: int, k: int, accuracy: float, c: float | None, runs: int = 1500) -> float:
    """How often the interval holds the truth; `c` is the beta law's concentration, None for all or nothing."""
    draw, hits = random.Random(f"{num} {k} {accuracy} {c}"), 0
    for _ in range(runs):
        values = []
        for _ in range(num):
            flat = c is None
            rate = float(draw.random() < accuracy) if flat else draw.betavariate(accuracy * c, (1 - accuracy) * c)
            values.append(rate if flat else sum(draw.random() < rate for _ in range(k)) / k)
        low, high = method(values)
        hits += low <= accuracy <= high
    return hits / runs


@pytest.mark.parametrize("num", [30, 40, 55, 100, 198])
def test_with_one_sample_of_each_question_the_coverage_is_exact(num: int) -> None:
    bounds = [statistics.question_interval([1.0] * count + [0.0] * (num - count)) for count in range(num + 1)]
    for accuracy in (x / 40 for x in range(4, 37)):
        law = [math.comb(num, x) * accuracy**x * (1 - accuracy) ** (num - x) for x in range(num + 1)]
        held = sum(chance for chance, (low, high) in zip(law, bounds, strict=True) if low <= accuracy <= high)
        assert held >= 0.93, accuracy


@pytest.mark.parametrize(
    ("num", "k", "accuracy", "c"),
    [(30, 16, 0.1, 0.5), (30, 1, 0.9, 3.0), (40, 1, 0.5, 3.0), (60, 4, 0.2, 20.0), (100, 1, 0.1, None)],
)
def test_the_interval_covers_the_truth(num: int, k: int, accuracy: float, c: float | None) -> None:
    assert coverage(statistics.question_interval, num, k, accuracy, c) >= 0.93


def test_the_simulation_catches_intervals_that_are_too_narrow() -> None:
    assert coverage(statistics.normal_interval, 30, 16, 0.1, 0.5) < 0.92
    assert coverage(statistics.normal_interval, 40, 1, 0.5, None) < 0.93


@pytest.mark.parametrize(("c", "expected"), [(1.0, 0.5), (9.0, 0.1)])
def test_the_correlation_is_that_of_the_beta_law(c: float, expected: float) -> None:
    draw = random.Random(1)
    rates = [draw.betavariate(c / 2, c / 2) for _ in range(4000)]
    grid = [[draw.random() < rate for _ in range(5)] for rate in rates]
    assert statistics.question_correlation(grid) == pytest.approx(expected, abs=0.03)


def test_the_correlation_at_its_ends() -> None:
    assert statistics.question_correlation([[True, True], [False, False]]) == 1.0
    assert statistics.question_correlation([[True, False]] * 9) == 0.0
    assert statistics.question_correlation([[True], [False], [True, False]]) == 1.0  # cannot be known
    assert statistics.question_correlation([[True, True]] * 3) == 1.0


@given(st.floats(0.005, 0.2), st.floats(0, 1), st.integers(1, 64), st.floats(0, 1))
def test_the_questions_needed_are_enough_and_one_less_is_not(
    half_width: float, value: float, k: int, correlation: float
) -> None:
    def reached(num: int) -> float:
        effective = statistics.effective_questions(num, k, correlation)
        return NormalDist().inv_cdf(0.975) * math.sqrt(value * (1 - value) / effective)

    num = statistics.questions_needed(half_width, value, k, correlation)
    assert reached(num) <= half_width * (1 + 1e-6)
    assert num == 1 or reached(num - 1) > half_width * (1 - 1e-6)


@given(st.floats(0.005, 0.2), st.integers(1, 2000), st.floats(0, 1), st.floats(0, 1))
def test_the_samples_needed_agree_with_the_questions_needed(
    half_width: float, num: int, value: float, correlation: float
) -> None:
    k = statistics.samples_needed(half_width * 1.0001, num, value, correlation)
    if k is None:
        assert statistics.questions_needed(half_width, value, 10**9, correlation) > num
    else:
        assert statistics.questions_needed(half_width * 1.001, value, k, correlation) <= num


def test_thirty_questions_cannot_be_bought_with_samples() -> None:
    assert statistics.samples_needed(0.02, 30, 0.5, 0.6) is None
    assert statistics.questions_needed(0.02) == 2401


def test_measuring_stops_when_the_interval_is_narrow_and_not_too_early() -> None:
    assert not statistics.is_narrow_enough([0.5] * 29, 0.5)
    assert statistics.is_narrow_enough([0.5] * 30, 0.2)
    assert not statistics.is_narrow_enough([0.0, 1.0] * 50, 0.05)
    assert statistics.is_narrow_enough([0.0, 1.0] * 500, 0.05)


def test_rates_are_means_over_questions_by_status() -> None:
    status = VerdictStatus
    rows = [
        [status.CORRECT, status.TRUNCATED],
        [status.UNPARSED, status.WRONG],
        [status.ERROR, status.TIMEOUT],
    ]
    rates = statistics.verdict_rates([[Verdict(s, None, "") for s in row] for row in rows])
    assert {name: rate.value for name, rate in rates.items()} == pytest.approx(
        {"no_answer": 1 / 6, "truncated": 1 / 6, "error": 1 / 6}
    )
    assert all(rate.low < rate.value < rate.high and rate.num_questions == 3 for rate in rates.values())


def test_replies_in_another_language_are_counted() -> None:
    korean, english = Reply("", "따라서 정답은 세 번째 보기입니다."), Reply("", "So the answer is the third of them.")
    found = statistics.language_mismatch([[korean, english], [english, english]], ["ko", "en"])
    assert found.value == 0.25
    with pytest.raises(ValueError, match="shorter"):
        statistics.language_mismatch([[korean], [korean]], ["ko"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.estimate([]), "no questions"),
        (lambda: statistics.estimate([1.5]), "outside 0 to 1"),
        (lambda: statistics.estimate([math.nan]), "outside 0 to 1"),
        (lambda: statistics.estimate([0.5], 95), "level = 95"),
        (lambda: statistics.estimate([0.5, 1], weights=[1]), "give 2 numbers"),
        (lambda: statistics.estimate([0.5, 1], weights=[0, 0]), "give 2 numbers"),
        (lambda: statistics.bootstrap_interval([]), "no questions"),
        (lambda: statistics.rate([[True], []]), "no samples"),
        (lambda: statistics.problem_means([]), "no questions"),
        (lambda: statistics.t_quantile(1.0, 3), "inside 0 to 1"),
        (lambda: statistics.questions_needed(2), "half-width 2"),
        (lambda: statistics.effective_questions(0, 1, 0.5), "0 questions"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises((ValueError, DataError), match=message):
        call()
