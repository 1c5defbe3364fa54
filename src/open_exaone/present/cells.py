"""A needle test's scores as grids: a column for each length, a row for each depth, and the lowest cell in words."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from open_exaone.base.text import count
from open_exaone.present import formatting
from open_exaone.present.evaluation_tables import bounds, record, rows_of

MAX_SIDE = 100  # lengths and depths that are drawn
MAX_COUNT = 1 << 40  # of tokens, problems, samples
NUM_STEPS = 10  # of colour; the last one is for cells without a fault alone
Entry = Mapping[str, Any]  # what was measured on one benchmark: a task of an evaluation, or a stage of a run


class Cell(NamedTuple):
    """The problems of one length and depth."""

    length: int  # tokens
    depth: float  # 0 is the text's beginning, 1 its end
    correct: int
    total: int
    interval: Sequence[float] | None

    @property
    def share(self) -> float:
        return self.correct / self.total

    @property
    def step(self) -> int:
        """Of the colours, from 0 to `NUM_STEPS`."""
        return NUM_STEPS * self.correct // self.total


class Grid(NamedTuple):
    """The cells of one kind of question."""

    kind: str
    lengths: Sequence[int]
    rows: Sequence[tuple[str, Sequence[Cell | None]]]  # a depth in percent, its cells by length
    lowest: str
    """A sentence that names the lowest cell."""


def grids(entry: Entry) -> list[Grid]:
    """One for each kind of question that was scored by cell; what is no such score is left out."""
    kinds: dict[str, dict[tuple[int, float], Cell]] = {}
    k = value if _is_count(value := entry.get("k")) else 1
    for part in map(record, rows_of(entry.get("per_cell"))):
        if isinstance(part.get("kind"), str) and (cell := _cell(part, k)):
            kinds.setdefault(part["kind"], {})[cell.length, cell.depth] = cell
    return [_grid(kind, cells) for kind, cells in kinds.items()]


def lowest_cells(entries: Sequence[Entry]) -> list[str]:
    """A line for each grid that these tasks have: the task, the kind of question, its lowest cell."""
    return [
        f"{entry['name']}, {grid.kind}: {grid.lowest[:1].lower()}{grid.lowest[1:]}"
        for entry in entries
        for grid in grids(entry)
    ]


def _cell(part: Mapping[str, Any], k: int) -> Cell | None:
    length, depth, num_problems, share = (part.get(name) for name in ("length", "depth", "num_problems", "pass_at_1"))
    if not (_is_count(length) and _is_count(num_problems) and _is_share(depth) and _is_share(share)):
        return None
    total = num_problems * k
    return Cell(length, float(depth), round(share * total), total, bounds(part.get("ci95")))


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_COUNT


def _is_share(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _grid(kind: str, cells: Mapping[tuple[int, float], Cell]) -> Grid:
    lengths = sorted({length for length, _ in cells})[:MAX_SIDE]
    depths = sorted({depth for _, depth in cells})[:MAX_SIDE]
    rows = [(_percent(depth), [cells.get((length, depth)) for length in lengths]) for depth in depths]
    name = formatting.short_name(formatting.words(kind))
    return Grid(name, lengths, rows, _lowest(sorted(cells.values())))


def _lowest(cells: Sequence[Cell]) -> str:
    """Of several that are equally low, the first by length and depth is named, and the others are counted."""
    lowest = min(cells, key=lambda cell: cell.share)
    num_as_low = sum(cell.share == lowest.share for cell in cells)
    if num_as_low == len(cells) > 1:
        return f"All {len(cells)} cells are equal: {formatting.percent(lowest.share)}."
    others = "" if num_as_low == 1 else f"; {count(num_as_low - 1, 'other cell')} equally low"
    where = f"{lowest.length:,} tokens, depth {_percent(lowest.depth)} %"
    return f"The lowest cell: {lowest.correct:,} of {lowest.total:,} at {where}{others}."


def _percent(depth: float) -> str:
    return f"{100 * depth:.3g}"
