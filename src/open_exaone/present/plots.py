"""Plots as inline SVG, written by hand: no fonts, no scripts, the page's own colours, the same bytes each time.

Colours are the page's CSS classes (`line`, `faint`, `grid`, …), so that a plot follows light and dark by itself.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from open_exaone.base.printable import printable
from open_exaone.present import formatting

MAX_POINTS = 240  # a curve is thinned to about this many points
SMOOTH_SHARE = 0.05  # how far the moving mean reaches on either side, of the number of points
WANDERS = 4.0  # a curve that travels farther than this many times its range is smoothed
NUM_TICKS = 4
FLAT_SHARE = 1e-9  # a range narrower than this share of its largest value is flat
TINY = 1e-300  # values smaller than this count as 0


class Point(NamedTuple):
    """One stage's pass@1 with its interval."""

    name: str
    value: float
    low: float
    high: float


class Frame(NamedTuple):
    """A plot's drawing area, and the data range that fills it."""

    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        return self.left + (self.right - self.left) * _share(value, *self.x_range)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * _share(value, *self.y_range)

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
        return [(self.x(x), self.y(y)) for x, y in zip(xs, ys, strict=True)]


def climb(points: Sequence[Point]) -> str:
    """pass@1 by stage, with 95% intervals."""
    highest = max(point.high for point in points)
    ticks = nice_ticks(0.0, min(1.0, max(0.05, highest * 1.05)))
    frame = Frame(46, 26, 470, 250, (-0.45, len(points) - 0.55), (0.0, max(ticks[-1], highest)))
    parts = [grid(frame, ticks, [f"{100 * tick:.3g}%" for tick in ticks])]
    parts.append(line_path([(frame.x(i), frame.y(point.value)) for i, point in enumerate(points)], "line"))
    for i, point in enumerate(points):
        x = frame.x(i)
        parts.append(error_bar(x, frame.y(point.low), frame.y(point.high)))
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{frame.y(point.value):.1f}" r="5"/>')
        rises = i + 1 < len(points) and points[i + 1].value > point.value  # then the line leaves to the right
        side = (x + 3, "end") if rises else (x, "middle")
        parts.append(caption(side[0], frame.y(point.high) - 9, formatting.percent(point.value), "value", side[1]))
        parts.append(short_caption(x, 274, point.name, 64 // max(len(points), 4), "name", "middle"))
    label = "; ".join(
        f"{p.name} {formatting.percent(p.value)} ({formatting.interval((p.low, p.high))})" for p in points
    )
    return drawing(480, 284, f"pass@1 by stage, with 95% intervals: {label}", parts)


class Line(NamedTuple):
    """One of several series in a plot."""

    name: str
    colour: int  # of the page's, from 1
    xs: Sequence[float]
    ys: Sequence[float]


def curve(title: str, xs: Sequence[float], ys: Sequence[float], x_name: str = "step") -> str:
    """One training series: thinned, the raw values faint, their moving mean over them."""
    thin_xs, thin_ys = thin(xs), thin(ys)
    frame, parts = _axes(thin_xs, [thin_ys], (xs[0], xs[-1]), x_name)
    smooth = smoothed(thin_ys)
    if smooth != thin_ys:
        parts.append(line_path(frame.points(thin_xs, thin_ys), "faint"))
    line = frame.points(thin_xs, smooth)
    parts.append(line_path(line, "line"))
    parts.append(f'<circle class="dot" cx="{line[-1][0]:.1f}" cy="{line[-1][1]:.1f}" r="3"/>')
    return drawing(320, 156, f"{title}: {_ends(smooth)} by {x_name} {formatting.number(xs[-1])}", parts)


def curves(title: str, lines: Sequence[Line], *, is_stacked: bool = False, x_name: str = "step") -> str:
    """Several training series in one plot, each its moving mean.

    Args:
        is_stacked: drawn as areas on one another, from the first up; they must be of the same steps.
    """
    xs, ys = [thin(line.xs) for line in lines], [smoothed(thin(line.ys)) for line in lines]
    ends = [f"{line.name} {_ends(values)}" for line, values in zip(lines, ys, strict=True)]
    if is_stacked:
        ys = [list(map(sum, zip(*ys[: place + 1], strict=True))) for place in range(len(ys))]
    first_x, last_x = min(line.xs[0] for line in lines), max(line.xs[-1] for line in lines)
    frame, parts = _axes(
        sorted({x for some in xs for x in some}), [*ys, [0.0]] if is_stacked else ys, (first_x, last_x), x_name
    )
    for line, some_xs, values in reversed(list(zip(lines, xs, ys, strict=True))):
        points = frame.points(some_xs, values)
        if is_stacked:  # what is below is drawn over it
            points = [(points[0][0], frame.y(0.0)), *points, (points[-1][0], frame.y(0.0))]
        parts.append(line_path(points, f"{'area' if is_stacked else 'line'} of-{line.colour}"))
    return drawing(320, 156, f"{title}: {'; '.join(ends)} by {x_name} {formatting.number(last_x)}", parts)


def _axes(
    xs: Sequence[float], series: Sequence[Sequence[float]], ends: tuple[float, float], x_name: str
) -> tuple[Frame, list[str]]:
    """The frame that holds all the series, its grid, and the names of both ends."""
    low, high = min(map(min, series)), max(map(max, series))
    ticks = [tick for tick in nice_ticks(low, high) if tick >= 0 or low < 0]  # no negative share of a flat 0
    frame = Frame(54, 10, 310, 130, (xs[0], xs[-1]), (min(ticks[0], low), max(ticks[-1], high)))
    first, last = (formatting.number(int(end)) for end in ends)  # a mean of several steps lies between two
    names = caption(54, 148, first, "tick", "start") + caption(310, 148, f"{x_name} {last}", "tick", "end")
    return frame, [grid(frame, ticks, tick_labels(ticks)), names]


def _ends(values: Sequence[float]) -> str:
    return f"from {formatting.number(values[0])} to {formatting.number(values[-1])}"


def nice_ticks(low: float, high: float, num_ticks: int = NUM_TICKS) -> list[float]:
    """Round values (steps of 1, 2 or 5 times a power of ten) that span [low, high], at least two.

    A range so narrow beside its values that floats hardly hold steps in it is drawn as one flat value.
    """
    size = max(abs(low), abs(high), TINY)
    if high - low <= FLAT_SHARE * size:
        pad = size / 2 if size > TINY else 0.5
        low, high = low - pad, high + pad
    rough = (high - low) / num_ticks
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next((nice * magnitude for nice in (1, 2, 5) if nice * magnitude >= rough), 10 * magnitude)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def thin(values: Sequence[float], max_points: int = MAX_POINTS) -> list[float]:
    """At most `max_points` values: means of neighbours, the last ones included."""
    width = -(-len(values) // max_points)
    return [_mean(values[start : start + width]) for start in range(0, len(values), width)]


def moving_mean(values: Sequence[float], reach: int) -> list[float]:
    """Each value's mean with up to `reach - 1` neighbours on either side, those that there are."""
    reach = max(1, reach)
    return [_mean(values[max(0, i + 1 - reach) : i + reach]) for i in range(len(values))]


def smoothed(values: Sequence[float]) -> list[float]:
    """The moving mean of a curve that wanders; any other as it is."""
    return moving_mean(values, round(SMOOTH_SHARE * len(values)) if wanders(values) else 1)


def wanders(values: Sequence[float]) -> bool:
    """Whether a curve goes up and down so much that a moving mean is clearer."""
    return sum(abs(b - a) for a, b in pairwise(values)) > WANDERS * (max(values) - min(values))


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The ticks with as many digits as neighbours need to differ: 2.05e-5, 0.02, 12.5k."""
    size, step = max(map(abs, ticks)), ticks[1] - ticks[0]
    if size < 1e-3:
        digits = max(0, math.floor(math.log10(size)) - math.floor(math.log10(step) + 1e-9))
        return [f"{tick:.{digits}e}".replace("e-0", "e-") if tick else "0" for tick in ticks]
    unit, sign = next(((unit, sign) for least, unit, sign in formatting.UNITS if size >= least), (1.0, ""))
    digits = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return [f"{tick / unit:.{digits}f}{sign}" if tick else "0" for tick in ticks]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def grid(frame: Frame, ticks: Sequence[float], labels: Sequence[str]) -> str:
    lines = []
    for tick, label in zip(ticks, labels, strict=True):
        y = frame.y(tick)
        lines.append(f'<path class="grid" d="M{frame.left:.1f} {y:.1f}H{frame.right:.1f}"/>')
        lines.append(caption(frame.left - 7, y + 4, label, "tick", "end"))
    return "".join(lines)


def error_bar(x: float, low: float, high: float) -> str:
    caps = f"M{x - 5:.1f} {low:.1f}h10M{x - 5:.1f} {high:.1f}h10"
    return f'<path class="bar" d="M{x:.1f} {low:.1f}V{high:.1f}{caps}"/>'


def line_path(points: Iterable[tuple[float, float]], style: str) -> str:
    return f'<path class="{style}" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + '"/>'


def caption(x: float, y: float, text: str, style: str, anchor: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(printable(text))}</text>'


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, cut in the middle: names of one family differ at their ends."""
    if len(text) <= limit:
        return text
    tail = limit // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def short_caption(x: float, y: float, text: str, limit: int, style: str, anchor: str) -> str:
    """A caption that is shortened, with the whole text in its title."""
    short = shorten(text, limit)
    drawn = caption(x, y, short, style, anchor)
    return drawn if short == text else drawn.replace("</text>", f"<title>{escape(printable(text))}</title></text>")


def drawing(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    label = escape(printable(label))
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'
