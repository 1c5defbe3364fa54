"""Differences of two runs against closed forms and brute force."""

import math
import random
from statistics import fmean, variance

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from open_exaone.base.errors import DataError
from open_exaone.evaluation import paired
from open_exaone.evaluation.paired import (
    paired_difference,
    published_estimate,
    unpaired_difference,
)
from open_exaone.evaluation.statistics import Estimate, effective_questions, estimate, t_quantile, wilson_interval

values = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


def runs(pairs: list[tuple[int, int]]) -> tuple[dict[str, float], dict[str, float]]:
    return {f"q{i}": a / 4 for i, (a, _) in enumerate(pairs)}, {f"q{i}": b / 4 for i, (_, b) in enumerate(pairs)}


@settings(deadline=None, max_examples=30)
@given(values)
def test_swapping_the_runs_turns_the_difference_round(pairs: list[tuple[int, int]]) -> None:
    ours, theirs = runs(pairs)
    one, other = paired_difference(ours, theirs), paired_difference(theirs, dict(reversed(ours.items())))
    assert one.value == pytest.approx(fmean(ours.values()) - fmean(theirs.values()))
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert -1 <= one.low <= one.value <= one.high <= 1 and one.low < one.high
    assert one.p_value is not None and 0 < one.p_value <= 1


def test_with_many_questions_the_interval_is_students_on_the_differences() -> None:
    ours = {f"q{i}": (i % 5) / 4 for i in range(2000)}
    theirs = {name: value / 2 for name, value in ours.items()}
    gaps = [ours[name] - theirs[name] for name in ours]
    half = t_quantile(0.975, 1999) * math.sqrt(variance(gaps) / 2000)
    found = paired_difference(ours, theirs)
    assert (found.low, found.high) == pytest.approx((fmean(gaps) - half, fmean(gaps) + half), abs=0.1 * half)
    assert not found.is_zero_inside and found.p_value is not None and found.p_value < 0.001


@settings(deadline=None, max_examples=30)
@given(values)
def test_the_p_value_never_contradicts_the_interval(pairs: list[tuple[int, int]]) -> None:
    p = paired_difference(*runs(pairs)).p_value
    assert p is not None
    assume(0.001 < p < 0.99)  # a few draws' worth from the ends
    assert not paired_difference(*runs(pairs), level=1 - 1.005 * p).is_zero_inside
    assert paired_difference(*runs(pairs), level=1 - 0.995 * p).is_zero_inside


def test_pairs_tell_what_two_runs_apart_do_not() -> None:
    draw = random.Random(2)
    ours = {f"q{i}": float(draw.random() < 0.5) for i in range(200)}
    theirs = dict(ours) | dict.fromkeys(list(ours)[:60], 0.0)
    apart = unpaired_difference(estimate(list(ours.values())), estimate(list(theirs.values())))
    together = paired_difference(ours, theirs)
    assert together.high - together.low < 0.6 * (apart.high - apart.low)


def test_runs_without_a_difference_still_have_an_interval() -> None:
    same = {f"q{i}": 1.0 for i in range(50)}
    found = paired_difference(same, same)
    assert found.low == pytest.approx(-found.high) and 0.03 < found.high < 0.1 and found.p_value == 1.0


def test_a_few_great_losses_that_level_many_small_gains_are_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "NUM_DRAWS", 2_000)
    draw, small = random.Random(3), 0
    for _ in range(200):
        lost = [draw.random() < 0.06 for _ in range(30)]
        gaps = {
            f"q{i}": (-0.8 if is_lost else 0.8 * 0.06 / 0.94) + draw.gauss(0, 0.02) for i, is_lost in enumerate(lost)
        }
        found = paired_difference(gaps, dict.fromkeys(gaps, 0.0))
        small += found.p_value is not None and found.p_value < 0.05
    assert small / 200 <= 0.05


def test_against_an_exact_number_the_interval_is_ours_moved() -> None:
    ours = Estimate(0.6, 0.5, 0.68, 100)
    found = unpaired_difference(ours, published_estimate(0.7))
    assert (found.value, found.low, found.high) == pytest.approx((-0.1, -0.2, -0.02))
    assert found.p_value is None and not found.is_zero_inside


def test_a_published_numbers_own_doubt_widens_it() -> None:
    ours = estimate([1.0] * 60 + [0.0] * 40)
    doubts = [
        published_estimate(0.7),
        published_estimate(0.7, 30, k=64, correlation=0.3),
        published_estimate(0.7, 30, k=64),
    ]
    widths = [(d := unpaired_difference(ours, doubt)).high - d.low for doubt in doubts]
    assert widths == sorted(widths) and widths[0] < widths[2]
    assert (doubts[2].low, doubts[2].high) == wilson_interval(0.7, 30, t_quantile(0.975, 29))


def test_newcombes_worked_example() -> None:
    ours, theirs = (Estimate(x / n, *wilson_interval(x / n, n), n) for x, n in ((56, 70), (48, 80)))
    found = unpaired_difference(ours, theirs)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)  # Newcombe 1998, table II, example (a)


def test_samples_of_a_question_count_as_far_as_they_differ() -> None:
    assert effective_questions(30, 64, 1.0) == 30
    assert effective_questions(30, 64, 0.0) == 30 * 64


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [({}, {}, "there are none"), ({"a": 1.0}, {"a": 1.0, "b": 0.0}, "1 are in one run only, such as 'b'")],
)
def test_runs_on_different_questions_are_refused(
    ours: dict[str, float], theirs: dict[str, float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        paired_difference(ours, theirs)


def test_a_published_percentage_is_no_fraction() -> None:
    with pytest.raises(ValueError, match="value = 72.1"):
        published_estimate(72.1)
