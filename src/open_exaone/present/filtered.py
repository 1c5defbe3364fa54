"""What an accuracy filter found, shown: how often problems are solved, by domain, as a table and as plots."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from open_exaone.base.printable import printable
from open_exaone.base.records import mode_label
from open_exaone.base.terminal import Console
from open_exaone.base.text import count
from open_exaone.present import formatting
from open_exaone.present.plots import Frame, caption, drawing, grid, nice_ticks, shorten, tick_labels
from open_exaone.present.terminal import rich_table

MAX_BINS = 17  # histograms of more samples are drawn in so many bins
MAX_PLOTS = 12  # of domains; the table has all
ALL = "all"
DROPPED_FIRST = ("not judged", "pass rate")  # where the terminal has no room
Found = Mapping[str, Any]  # what a filter's filter.json holds
Bin = tuple[int, int]  # the least and the most correct samples


class Section(NamedTuple):
    """What a page shows of one filter."""

    name: str
    sentence: str
    titles: list[str]
    rows: list[list[str]]
    plots: list[tuple[str, str]]  # each with its title
    num_left_out: int  # domains that are not drawn


def sentence(found: Found) -> str:
    """How many problems are kept, and why the others are not."""
    dropped = ", ".join(f"{number:,} {why}" for why, number in found["dropped"].items() if number)
    kept = f"{found['num_kept']:,} of {count(found['num_problems'], 'problem')} kept"
    return kept + (f" (dropped: {dropped})" if dropped else "")


def section(name: str, found: Found) -> Section:
    """What a page shows of a filter."""
    parts = {ALL: found, **found["per_task"]} if len(found["per_task"]) > 1 else {ALL: found}
    shown = dict(list(parts.items())[: MAX_PLOTS + 1])
    plots = [(printable(formatting.words(part)), _plot(part, values, found)) for part, values in shown.items()]
    return Section(name, sentence(found), *table(found), plots, len(parts) - len(shown))


def table(found: Found) -> tuple[list[str], list[list[str]]]:
    """By domain, and by mode where there are two: how many problems are solved so often, and how many are kept."""
    ranges = bins(found["num_samples"])
    titles = ["domain", "problems", "kept", "pass rate", *map(_named, ranges), "not judged"]
    parts = [(formatting.short_name(formatting.words(name)), part) for name, part in found["per_task"].items()]
    parts += [(mode_label(mode), part) for mode, part in found["per_mode"].items() if len(found["per_mode"]) > 1]
    return titles, [_row(printable(name), part, ranges) for name, part in [*parts, (ALL, found)]]


def _row(name: str, part: Found, ranges: Sequence[Bin]) -> list[str]:
    numbers = [*_counts(part, ranges), part["dropped"]["not judged"]]
    return [
        name,
        f"{part['num_problems']:,}",
        f"{part['num_kept']:,}",
        formatting.percent(part["mean_pass_rate"]),
        *(f"{number:,}" for number in numbers),
    ]


def print_filter(found: Found, console: Console) -> None:
    """Prints the table."""
    shown = rich_table(*table(found), console.width, DROPPED_FIRST)
    shown.columns[0].justify = "left"
    console.print(
        f"Problems by how many of {count(found['num_samples'], 'sample')} are correct; kept from "
        f"{found['min_correct']} to {found['max_correct']}:"
    )
    console.print(shown)


def bins(num_samples: int) -> list[Bin]:
    """0 to `num_samples` correct samples, each by itself; of many samples, ranges between none and all."""
    if num_samples < MAX_BINS:
        return [(number, number) for number in range(num_samples + 1)]
    inner = num_samples - 1
    edges = [1 + inner * place // (MAX_BINS - 2) for place in range(MAX_BINS - 1)]
    ranges = [(low, high - 1) for low, high in pairwise(edges)]
    return [(0, 0), *ranges, (num_samples, num_samples)]


def _counts(part: Found, ranges: Sequence[Bin]) -> list[int]:
    return [sum(part["histogram"][low : high + 1]) for low, high in ranges]


def _named(range_: Bin) -> str:
    low, high = range_
    return str(low) if low == high else f"{low}–{high}"


def _plot(name: str, part: Found, found: Found) -> str:
    """A bar for each number of correct samples; those of problems that are kept are filled."""
    ranges = bins(found["num_samples"])
    counts = _counts(part, ranges)
    ticks = [tick for tick in nice_ticks(0, max(1, *counts)) if tick == int(tick)]
    frame = Frame(54, 10, 310, 130, (-0.5, len(ranges) - 0.5), (0.0, ticks[-1]))
    parts = [grid(frame, ticks, tick_labels(ticks))]
    for place, ((low, high), number) in enumerate(zip(ranges, counts, strict=True)):
        is_kept = high >= found["min_correct"] and low <= found["max_correct"]
        left, right, top = frame.x(place - 0.38), frame.x(place + 0.38), frame.y(number)
        box = f"M{left:.1f} {frame.bottom:.1f}V{top:.1f}H{right:.1f}V{frame.bottom:.1f}Z"
        parts.append(f'<path class="{"dot" if is_kept else "bar"}" d="{box}"/>' if number else "")
        if len(ranges) < MAX_BINS or place in (0, len(ranges) - 1):
            parts.append(caption(frame.x(place), 146, _named((low, high)), "tick", "middle"))
    named = "; ".join(f"{_named(one)} correct: {number}" for one, number in zip(ranges, counts, strict=True))
    return drawing(
        320, 156, f"{shorten(name, 40)}: problems by correct samples of {found['num_samples']}: {named}", parts
    )
