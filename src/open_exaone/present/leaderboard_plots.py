"""A benchmark's scores against parameters, training FLOPs and thought tokens, on a scale of tens."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from open_exaone.base.printable import printable
from open_exaone.present import formatting
from open_exaone.present.leaderboard_rows import Model, Score, best
from open_exaone.present.plots import Frame, caption, drawing, error_bar, grid, nice_ticks, shorten

MIN_POINTS = 2
MAX_NAME = 22
ROOM = 14  # pixels between two names that are written


class Dot(NamedTuple):
    """A model's score at a size."""

    name: str
    x: float
    score: Score


def dots(models: Sequence[Model], benchmark: str, read: Callable[[Model, Score], float | None]) -> list[Dot]:
    """The models that have a number and a size, each once: in reasoning mode where it has one."""
    found = []
    for model in models:
        for mode in ("reasoning", "non_reasoning", "not stated"):
            score = best(model, benchmark, mode)
            size = read(model, score) if score else None
            if score is not None and size is not None and size > 0:
                found.append(Dot(model.name, size, score))
                break
    return found


def scatter(title: str, points: Sequence[Dot]) -> str | None:
    """Scores in percent over a scale of tens; None for less than two points."""
    if len(points) < MIN_POINTS:
        return None
    exponents = [math.log10(point.x) for point in points]
    first, last = math.floor(min(exponents)), math.ceil(max(exponents))
    last += last == first
    ends = [bound for point in points for bound in _bounds(point.score)]
    ticks = [tick for tick in nice_ticks(min(ends), max(ends)) if 0 <= tick <= 100]
    y_range = (min(ticks[0], *ends), max(ticks[-1], *ends))
    frame = Frame(46, 12, 460, 226, (first - 0.05, last + 0.05), y_range)
    parts = [grid(frame, ticks, [f"{tick:.4g}%" for tick in ticks])]
    for power in range(first, last + 1, max(1, (last - first) // 6)):
        parts.append(caption(frame.x(power), 246, _power(power), "tick", "middle"))
    written: list[tuple[float, float]] = []
    for point, exponent in sorted(zip(points, exponents, strict=True), key=lambda pair: pair[0].score.is_measured):
        parts.append(_point(frame, point, exponent, written))
    label = "; ".join(f"{point.name} {formatting.number(point.x)}: {point.score.percent:.1f}" for point in points)
    return drawing(480, 256, f"{title}: {label}", parts)


def _power(power: int) -> str:
    """10 to a power, short: 1B, or 1e24 where there is no letter for it."""
    return formatting.billions(10.0**power).replace(".0", "") if 0 <= power <= 13 else f"1e{power}"


def _bounds(score: Score) -> tuple[float, float]:
    if not score.is_measured or score.low is None or score.high is None:
        return score.percent, score.percent
    return score.low, score.high


def _point(frame: Frame, point: Dot, exponent: float, written: list[tuple[float, float]]) -> str:
    """A dot with its name on hover, and beside it where there is room; what was measured here has its interval."""
    x, y = frame.x(exponent), frame.y(point.score.percent)
    style = "dot" if point.score.is_measured else "hollow"
    name = escape(printable(f"{point.name}: {point.score.percent:.1f}%"))
    parts = [f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{name}</title></circle>']
    if point.score.is_measured:
        low, high = _bounds(point.score)
        parts.insert(0, error_bar(x, frame.y(low), frame.y(high)))
    if all(abs(y - other) >= ROOM or abs(x - at) >= ROOM * 10 for at, other in written):
        written.append((x, y))
        side = "end" if x > (frame.left + frame.right) / 2 else "start"
        shift = -8 if side == "end" else 8
        parts.append(caption(x + shift, y + 4, shorten(point.name, MAX_NAME), "tick", side))
    return "".join(parts)
