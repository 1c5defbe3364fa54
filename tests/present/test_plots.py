"""Plots: where the numbers land, not how they look."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from statistics import fmean

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from open_exaone.present import plots

values = st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_the_climb_draws_each_stage_at_its_height(scores: list[float]) -> None:
    points = [plots.Point(f"s{i}", y, max(0, y - 0.1), min(1, y + 0.1)) for i, y in enumerate(scores)]
    svg = ElementTree.fromstring(plots.climb(points))
    heights = [float(dot.attrib["cy"]) for dot in svg.iter("circle")]
    assert len(heights) == len(scores)
    for (a, height_a), (b, height_b) in pairwise(zip(scores, heights, strict=True)):
        assert (a - b) * (height_b - height_a) >= 0 or abs(height_b - height_a) <= 0.1  # y grows downwards
    assert all(0 <= height <= 284 for height in heights)


@given(st.lists(values, min_size=2, max_size=400))
def test_a_curve_stays_in_its_frame(ys: list[float]) -> None:
    svg = plots.curve("loss", list(range(len(ys))), ys)
    for path in re.findall(r'class="(?:line|faint)" d="M([^"]+)"', svg):
        for x, y in (pair.split() for pair in path.split("L")):
            assert 53.9 <= float(x) <= 310.1
            assert 9.9 <= float(y) <= 130.1


def test_a_title_cannot_open_a_tag() -> None:
    svg = plots.curve('"><script>', [1, 2], [1.0, 2.0]) + plots.climb([plots.Point("<b>", 0.5, 0.4, 0.6)])
    assert "<script" not in svg
    assert "<b>" not in svg


@given(values, values)
@example(-1e9, -999999999.9999999)  # neighbours among floats
@example(1e9, 1e9 + 1)
@example(0.0, 5e-324)
def test_ticks_are_round_evenly_spaced_and_span_the_range(a: float, b: float) -> None:
    low, high = sorted((a, b))
    ticks = plots.nice_ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1e-6)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 12


def test_ticks_of_a_known_range() -> None:
    assert plots.nice_ticks(0.0, 0.66) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert plots.nice_ticks(3.0, 3.0) == pytest.approx([1, 2, 3, 4, 5], abs=0.51)


@given(values, values)
def test_tick_labels_tell_ticks_apart(a: float, b: float) -> None:
    ticks = plots.nice_ticks(min(a, b), max(a, b))
    assume(ticks[1] - ticks[0] > 1e-3 * max(map(abs, ticks)))
    labels = plots.tick_labels(ticks)
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0, 0.05, 0.1], ["0", "0.05", "0.10"]),
        ([2e-5, 2.05e-5, 2.1e-5], ["2.00e-5", "2.05e-5", "2.10e-5"]),
        ([12_000, 12_500], ["12.0k", "12.5k"]),
        ([-2, 0, 2], ["-2", "0", "2"]),
    ],
)
def test_tick_labels_by_cases(ticks: list[float], labels: list[str]) -> None:
    assert plots.tick_labels(ticks) == labels


def test_only_a_curve_that_wanders_is_smoothed() -> None:
    assert not plots.wanders([0, 1, 2, 1, 0])
    assert plots.wanders([0, 1] * 5)
    assert 'class="faint"' not in plots.curve("learning rate", range(100), [100 - x for x in range(100)])
    assert 'class="faint"' in plots.curve("reward", range(100), [x % 2 for x in range(100)])


@given(st.lists(values, min_size=1, max_size=2000))
def test_thinning_bounds_the_number_and_keeps_the_range(ys: list[float]) -> None:
    thinned = plots.thin(ys)
    assert len(thinned) <= plots.MAX_POINTS
    assert min(ys) - 1 <= min(thinned)
    assert max(thinned) <= max(ys) + 1
    assert thinned[0] == pytest.approx(fmean(ys[: -(-len(ys) // plots.MAX_POINTS)]), abs=1e-5)


def test_the_moving_mean_by_hand() -> None:
    assert plots.moving_mean([1, 2, 6, 3], 1) == [1, 2, 6, 3]
    assert plots.moving_mean([1, 2, 6, 3], 2) == pytest.approx([1.5, 3, 11 / 3, 4.5])
