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
ROOM = 13  # pixels between the base lines of two names
LETTER = 6.6  # pixels of a letter, about


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
    places = [
        (frame.x(exponent), frame.y(point.score.percent)) for point, exponent in zip(points, exponents, strict=True)
    ]
    written: list[Box] = []
    order = sorted(range(len(points)), key=lambda place: not points[place].score.is_measured)
    for place in order:
        parts.append(_point(frame, points[place], places[place]))
        box = _name_box(frame, points[place], places[place])
        others = [spot for index, spot in enumerate(places) if index != place]
        if not any(map(box.holds, others)) and not any(map(box.meets, written)):
            written.append(box)
            parts.append(caption(box.x, box.y, box.text, "tick", box.side))
    label = "; ".join(f"{point.name} {formatting.number(point.x)}: {point.score.percent:.1f}" for point in points)
    return drawing(480, 256, f"{title}: {label}", parts)


def _power(power: int) -> str:
    """10 to a power, short: 1B, or 1e24 where there is no letter for it."""
    return formatting.billions(10.0**power).replace(".0", "") if 0 <= power <= 13 else f"1e{power}"


def _bounds(score: Score) -> tuple[float, float]:
    if not score.is_measured or score.low is None or score.high is None:
        return score.percent, score.percent
    return score.low, score.high


class Box(NamedTuple):
    """A name beside a dot, and the room that it takes."""

    x: float  # where it is anchored
    y: float  # of its base line
    side: str  # "start" or "end"
    text: str

    @property
    def ends(self) -> tuple[float, float]:
        width = LETTER * len(self.text)
        return (self.x - width, self.x) if self.side == "end" else (self.x, self.x + width)

    def holds(self, spot: tuple[float, float]) -> bool:
        """Whether a dot lies in it."""
        return self.ends[0] - 4 < spot[0] < self.ends[1] + 4 and -12 < spot[1] - self.y < 6

    def meets(self, other: "Box") -> bool:
        return self.ends[0] < other.ends[1] and other.ends[0] < self.ends[1] and abs(self.y - other.y) < ROOM


def _name_box(frame: Frame, point: Dot, spot: tuple[float, float]) -> Box:
    side = "end" if spot[0] > (frame.left + frame.right) / 2 else "start"
    return Box(spot[0] + (-8 if side == "end" else 8), spot[1] + 4, side, shorten(point.name, MAX_NAME))


def _point(frame: Frame, point: Dot, spot: tuple[float, float]) -> str:
    """A dot with its name on hover; what was measured here has its interval."""
    style = "dot" if point.score.is_measured else "hollow"
    name = escape(printable(f"{point.name}: {point.score.percent:.1f}%"))
    dot = f'<circle class="{style}" cx="{spot[0]:.1f}" cy="{spot[1]:.1f}" r="4.5"><title>{name}</title></circle>'
    if not point.score.is_measured:
        return dot
    low, high = _bounds(point.score)
    return error_bar(spot[0], frame.y(low), frame.y(high)) + dot
