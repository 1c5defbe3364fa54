"""An evaluation's plots: scores with their intervals, accuracy against thinking budget, how long thoughts are."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from open_exaone.present import formatting
from open_exaone.present.plots import (
    Frame,
    Point,
    caption,
    drawing,
    error_bar,
    grid,
    line_path,
    nice_ticks,
    short_caption,
    tick_labels,
)

ROW = 28  # height of a score's row
MAX_BINS = 32
MAX_NAME = 24


class Budget(NamedTuple):
    """A score under a thinking budget."""

    budget: int | None  # tokens; None: no budget
    value: float
    low: float
    high: float


def scores(points: Sequence[Point], others: Sequence[Point] = (), title: str = "pass@1") -> str:
    """One row a score, its interval around it; `others`, which have none of ours, stand below, hollow."""
    shown = [*points, *others]
    ticks = nice_ticks(0.0, min(1.0, max(0.05, *(point.high for point in shown))), 5)
    bottom = ROW * len(shown) + 6
    frame = Frame(206, 6, 500, bottom, (0.0, ticks[-1]), (0, 1))
    parts = []
    for tick in ticks:
        x = frame.x(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} 6V{bottom}"/>')
        parts.append(caption(x, bottom + 17, f"{100 * tick:.3g}%", "tick", "middle"))
    for row, point in enumerate(shown):
        y, x = 6 + ROW * (row + 0.5), frame.x(point.value)
        parts.append(short_caption(196, y + 4.5, point.name, MAX_NAME, "name", "end"))
        if row < len(points):
            low, high = frame.x(point.low), frame.x(point.high)
            parts.append(
                f'<path class="bar" d="M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 5:.1f}v10'
                f'M{high:.1f} {y - 5:.1f}v10"/>'
            )
        style, radius = ("dot", 5) if row < len(points) else ("hollow", 4)
        parts.append(f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')
        parts.append(caption(508, y + 4.5, formatting.percent(point.value), "value", "start"))
    label = "; ".join(
        f"{p.name} {formatting.percent(p.value)} ({formatting.interval((p.low, p.high))})" for p in points
    )
    beside = "; ".join(f"{p.name} {formatting.percent(p.value)}" for p in others)
    return drawing(560, bottom + 24, f"{title}: {label}" + (f". Beside it: {beside}" if beside else ""), parts)


def budgets(title: str, points: Sequence[Budget]) -> str:
    """Accuracy by thinking budget, on a scale of doublings; the measurement without a budget stands to the right."""
    limited = sorted((point for point in points if point.budget), key=lambda point: point.budget or 0)
    free = [point for point in points if not point.budget]
    steps = [math.log2(point.budget or 1) for point in limited]
    first, last = (steps[0], steps[-1]) if steps else (0.0, 0.0)
    xs = [*steps, *(last + 1 for _ in free)]
    ticks = nice_ticks(min(point.low for point in points), max(point.high for point in points))
    y_range = (max(0.0, ticks[0]), max(min(1.0, ticks[-1]), *(point.high for point in points)))
    ticks = [tick for tick in ticks if y_range[0] <= tick <= y_range[1]]
    frame = Frame(54, 14, 460, 190, (first - 0.4, last + (1.4 if free else 0.4)), y_range)
    parts = [grid(frame, ticks, [f"{100 * tick:.3g}%" for tick in ticks])]
    if len(limited) > 1:
        line = [(frame.x(x), frame.y(point.value)) for x, point in zip(steps, limited, strict=True)]
        parts.append(line_path(line, "line"))
    for x, point in zip(xs, [*limited, *free], strict=True):
        parts.append(error_bar(frame.x(x), frame.y(point.low), frame.y(point.high)))
        parts.append(f'<circle class="dot" cx="{frame.x(x):.1f}" cy="{frame.y(point.value):.1f}" r="4"/>')
        parts.append(caption(frame.x(x), 210, budget_name(point.budget), "tick", "middle"))
    label = "; ".join(f"{budget_name(p.budget)} {formatting.percent(p.value)}" for p in [*limited, *free])
    return drawing(480, 220, f"{title}: pass@1 by thinking budget in tokens: {label}", parts)


def lengths(title: str, correct: Sequence[int], others: Sequence[int]) -> str:
    """How long thoughts are, in tokens: those of correct samples and of the others, each as counts."""
    x_ticks, num_bins, counts = _binned(correct, others)
    high = x_ticks[-1]
    ticks = [tick for tick in nice_ticks(0, max(1, *counts[0], *counts[1])) if tick == int(tick)]
    frame = Frame(54, 10, 460, 150, (0, high), (0, ticks[-1]))
    parts = [grid(frame, ticks, tick_labels(ticks))]
    for bins, style in zip(counts, ("right", "wrong"), strict=True):
        steps = [(edge * high / num_bins, count) for i, count in enumerate(bins) for edge in (i, i + 1)]
        outline = [(0.0, 0.0), *steps, (high, 0.0)]
        parts.append(line_path([(frame.x(x), frame.y(y)) for x, y in outline], f"outline {style}"))
    for tick, name in zip(x_ticks, tick_labels(x_ticks), strict=True):
        parts.append(caption(frame.x(tick), 168, name, "tick", "middle"))
    label = f"{_label(correct)} correct, {_label(others)} not"
    return drawing(480, 176, f"{title}: thought tokens of samples: {label}", parts)


def length_table(correct: Sequence[int], others: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    """The same as a table: headings, and a row for each bin."""
    x_ticks, num_bins, counts = _binned(correct, others)
    ends = [x_ticks[-1] * edge / num_bins for edge in range(num_bins + 1)]
    rows = [
        [f"{math.ceil(low):,} to {math.ceil(high) - (high < ends[-1]):,}", f"{right:,}", f"{wrong:,}"]
        for (low, high), right, wrong in zip(pairwise(ends), *counts, strict=True)
    ]
    return ["thought tokens", "correct", "not"], rows


def _binned(correct: Sequence[int], others: Sequence[int]) -> tuple[list[float], int, list[list[int]]]:
    """The ticks of the axis, the number of bins up to the last one, and how many of each are in them."""
    x_ticks = nice_ticks(0, max(1, *correct, *others))
    num_bins = bins_for(len(correct) + len(others))
    return x_ticks, num_bins, [_histogram(values, x_ticks[-1], num_bins) for values in (correct, others)]


def budget_name(budget: int | None) -> str:
    """1024 as `1K`, 500 as `500`; `no limit` for none."""
    if not budget:
        return "no limit"
    return f"{budget // 1024}K" if budget % 1024 == 0 else f"{budget:,}"


def bins_for(num_values: int) -> int:
    """How many bins a histogram of so many values has: twice their cube root (Rice's rule), from 1 to 32."""
    return max(1, min(MAX_BINS, math.ceil(round(2 * num_values ** (1 / 3), 9))))


def _histogram(values: Sequence[int], high: float, num_bins: int) -> list[int]:
    counts = [0] * num_bins
    for value in values:
        counts[min(num_bins - 1, int(value / high * num_bins))] += 1
    return counts


def _label(values: Sequence[int]) -> str:
    if not values:
        return "0"
    return f"{len(values):,} (median {formatting.number(sorted(values)[len(values) // 2])})"
