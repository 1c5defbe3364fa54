"""A benchmark's scores against parameters, training FLOPs and thought tokens, on a scale of tens."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from open_exaone.base.printable import printable
from open_exaone.present import formatting
from open_exaone.present.leaderboard_rows import Model, Score, best
from open_exaone.present.plots import Frame, caption, drawing, grid, line_path, nice_ticks

MIN_POINTS = 2
MAX_NAME = 28
NUM_TICKS = 5
MAX_TICKS = 7
ROOM = 14  # pixels between the base lines of two names
LETTER = 7.2  # pixels of a letter, about
PAD = 0.08  # of the scale, on either side
MODES = ("reasoning", "non_reasoning", "not stated")
_BUDGET = re.compile(r"budget [\d,]*\d")  # the setting of a score under a thinking budget


class Dot(NamedTuple):
    """A model's score at a size."""

    name: str
    x: float
    score: Score


def dots(models: Sequence[Model], benchmark: str, read: Callable[[Model, Score], float | None]) -> list[Dot]:
    """The models that have a number and a size, each once: in reasoning mode where it has one."""
    found = []
    for model in models:
        for mode in MODES:
            score = best(model, benchmark, mode)
            size = read(model, score) if score else None
            if score is not None and size is not None and size > 0:
                found.append(Dot(model.name, size, score))
                break
    return found


def thought_dots(models: Sequence[Model], benchmark: str) -> list[Dot]:
    """Scores by thought tokens, in reasoning mode where a model has one; it has one for each thinking budget too."""
    found = []
    for model in models:
        for mode in MODES:
            scores = [score for score in model.scores if (score.benchmark, score.mode) == (benchmark, mode)]
            own = [Dot(model.name, score.thought_tokens or 0.0, score) for score in scores if _is_drawn(score)]
            if own := [dot for dot in own if dot.x > 0]:
                found += sorted(own, key=lambda dot: (dot.x, dot.score.percent))
                break
    return found


def _is_drawn(score: Score) -> bool:
    return score.metric == "pass@1" and (score.setting == "" or _BUDGET.fullmatch(score.setting) is not None)


def scatter(title: str, points: Sequence[Dot], x_name: str = "", *, as_powers: bool = False) -> str | None:
    """Scores in percent over a scale of tens; None for less than two points. Points of one name are joined by a line.

    Args:
        as_powers: writes the scale as 1e22 instead of 10B.
    """
    if len(points) < MIN_POINTS:
        return None
    low, high = _ends([math.log10(point.x) for point in points])
    bounds = [bound for point in points for bound in _bounds(point.score)]
    ticks = [tick for tick in nice_ticks(min(bounds), max(bounds), NUM_TICKS) if 0 <= tick <= 100]
    frame = Frame(46, 12, 468, 226, (low, high), (min(ticks[0], *bounds), max(ticks[-1], *bounds)))
    parts = [grid(frame, ticks, [f"{tick:.4g}%" for tick in ticks])]
    for value in scale(low, high):
        text = f"{value:.0e}".replace("e+", "e") if as_powers else _short(value)
        parts.append(caption(frame.x(math.log10(value)), 243, text, "tick", "middle"))
    parts.append(caption(468, 262, x_name, "tick", "end"))
    places = [(frame.x(math.log10(point.x)), frame.y(point.score.percent)) for point in points]
    parts += [
        *_lines(points, places),
        *_bars(frame, points, places),
        *_circles(points, places),
        *_names(points, places),
    ]
    worst, best_one = (choose(points, key=lambda point: point.score.percent) for choose in (min, max))
    ends = f"{worst.name} {worst.score.percent:.1f}% – {best_one.name} {best_one.score.percent:.1f}%"
    return drawing(480, 268, f"{title} ({len(points)}): {ends}", parts)


def _ends(exponents: Sequence[float]) -> tuple[float, float]:
    """The scale's ends, as powers of ten: around the points, and at least a factor of four apart."""
    low, high = min(exponents), max(exponents)
    room = max(0.0, 0.6 - (high - low)) / 2
    low, high = low - room, high + room
    return low - PAD * (high - low), high + PAD * (high - low)


def scale(low: float, high: float) -> list[float]:
    """Values to write below the scale between two powers of ten: tens, or fewer of them, or 1, 2 and 5 of each ten."""
    tens = range(math.floor(low), math.ceil(high) + 1)
    fine = [step * 10.0**power for power in tens for step in (1, 2, 5)]
    within = [value for value in fine if low <= math.log10(value) <= high]
    if len(within) <= MAX_TICKS:
        return within
    whole = [10.0**power for power in tens if low <= power <= high]
    return whole[:: -(-len(whole) // MAX_TICKS)]


def _short(value: float) -> str:
    """500, 20k or 1B: round values without a fraction that is none."""
    return formatting.billions(float(f"{value:.1g}")).replace(".0", "")


def _lines(points: Sequence[Dot], places: Sequence[tuple[float, float]]) -> Iterator[str]:
    for _, group in groupby(range(len(points)), key=lambda place: points[place].name):
        own = list(group)
        if len(own) > 1:
            yield line_path([places[place] for place in own], "joined")


def _bounds(score: Score) -> tuple[float, float]:
    if not score.is_measured or score.low is None or score.high is None:
        return score.percent, score.percent
    return score.low, score.high


def _bars(frame: Frame, points: Sequence[Dot], places: Sequence[tuple[float, float]]) -> Iterator[str]:
    """The intervals of what was measured here, as one path."""
    bars = []
    for point, (x, _) in zip(points, places, strict=True):
        low, high = (frame.y(bound) for bound in _bounds(point.score))
        if low != high:
            bars.append(f"M{x:.0f} {low:.1f}V{high:.1f}M{x - 4:.0f} {low:.1f}h8M{x - 4:.0f} {high:.1f}h8")
    if bars:
        yield f'<path class="bar" d="{"".join(bars)}"/>'


def _circles(points: Sequence[Dot], places: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Dots with their names on hover, what was measured here above the rest."""
    for style in ("hollow", "dot"):
        yield f'<g class="{style}">'
        for point, (x, y) in zip(points, places, strict=True):
            if point.score.is_measured == (style == "dot"):
                setting = f", {point.score.setting}" if point.score.setting else ""
                name = escape(printable(f"{point.name}{setting}: {point.score.percent:.1f}%"))
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{name}</title></circle>'
        yield "</g>"


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
        return self.ends[0] - 4 < spot[0] < self.ends[1] + 4 and -13 < spot[1] - self.y < 5

    def meets(self, other: "Box") -> bool:
        return self.ends[0] < other.ends[1] and other.ends[0] < self.ends[1] and abs(self.y - other.y) < ROOM

    @property
    def is_inside(self) -> bool:
        return 46 <= self.ends[0] and self.ends[1] <= 478 and 12 <= self.y <= 228


def _names(points: Sequence[Dot], places: Sequence[tuple[float, float]]) -> Iterator[str]:
    """A name beside each dot that has room for it; those measured here come first, and of joined dots the last one."""
    named = {point.name: place for place, point in enumerate(points)}
    written: list[Box] = []
    for place in sorted(named.values(), key=lambda place: not points[place].score.is_measured):
        others = [spot for index, spot in enumerate(places) if index != place]
        for box in _boxes(shorten_middle(points[place].name, MAX_NAME), places[place]):
            if box.is_inside and not any(map(box.holds, others)) and not any(map(box.meets, written)):
                written.append(box)
                yield caption(box.x, box.y, box.text, "tick label", box.side)
                break


def _boxes(text: str, spot: tuple[float, float]) -> Iterator[Box]:
    """Where a name may stand: beside its dot, or somewhat above or below that."""
    for up in (4, -8, 16):
        for side, right in (("start", 8), ("end", -8)):
            yield Box(spot[0] + right, spot[1] + up, side, text)


def shorten_middle(text: str, limit: int) -> str:
    """A name cut in its middle: names that differ at their ends, as those of revisions do, still differ."""
    text = " ".join(printable(text).split())
    half = (limit - 1) // 2
    return text if len(text) <= limit else f"{text[: limit - 1 - half]}…{text[-half:]}"
