"""Is the thought used? The answers after changed thoughts, as a table, sentences and a plot."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from open_exaone.base.text import count
from open_exaone.present import formatting
from open_exaone.present.evaluation_tables import bounds, record, rows_of, value_of
from open_exaone.present.plots import Frame, caption, drawing, error_bar, grid, line_path, nice_ticks

if TYPE_CHECKING:
    from open_exaone.base.terminal import Console

TITLE = "Is the thought used?"
LABELS = {
    "unchanged": "its own",
    "none": "none",
    "first_25": "first 25%",
    "first_50": "first 50%",
    "first_75": "first 75%",
    "other_problem": "another problem's",
    "slip": "own with a slip",
    "slip_continued": "slip, then goes on",
}
KEPT = {"none": 0.0, "first_25": 0.25, "first_50": 0.5, "first_75": 0.75, "unchanged": 1.0}
HEADINGS = ["thought", "problems", "accuracy", "change", "95% interval", "same answer", "other answer", "no answer"]
Line = Mapping[str, Any]


class Section(NamedTuple):
    """What there is to show of one task."""

    name: str
    table: tuple[list[str], list[list[str]]]  # headings, rows
    sentences: list[str]
    plot: str | None  # SVG


def sections(uses: object, of: str = "") -> list[Section]:
    """What there is to show of each task; what is no such record is left out.

    Args:
        uses: the report's `faithfulness`.
        of: whose answers they are, such as a stage's name.
    """
    return [_section(use, of) for use in map(record, rows_of(uses)) if isinstance(use.get("task"), str)]


def stage_sections(stages: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The same of a run's stages."""
    return [found for entry in stages for found in sections(entry.get("faithfulness"), f"{entry['name']}, ")]


def show_thought_use(found: Sequence[Section], console: "Console") -> None:
    """Prints the tables, each with its sentences."""
    from open_exaone.present.terminal import rich_table

    for section in found:
        console.print(f"\n{TITLE} {section.name}", soft_wrap=True)
        console.print(rich_table(*section.table, console.width, ("no answer", "other answer", "problems")))
        for sentence in section.sentences:
            console.print(sentence, soft_wrap=True)


def _section(use: Mapping[str, Any], of: str) -> Section:
    lines = [line for line in map(record, rows_of(use.get("conditions"))) if line.get("condition") in LABELS]
    name = of + str(use["task"])
    return Section(name, (HEADINGS, [_row(line) for line in lines]), _sentences(use, lines), _plot(name, lines))


def _row(line: Line) -> list[str]:
    change, ends = value_of(line.get("difference")), bounds(line.get("difference_ci95"))
    return [
        LABELS[line["condition"]],
        formatting.number(value_of(line.get("num_problems"))),
        formatting.percent(value_of(line.get("accuracy"))),
        formatting.NONE if change is None else formatting.points(change),
        formatting.NONE if ends is None else f"{formatting.points(ends[0])} to {formatting.points(ends[1])}",
        *(formatting.percent(value_of(line.get(f"{kind}_answer"))) for kind in ("same", "other", "no")),
    ]


def _sentences(use: Mapping[str, Any], lines: Sequence[Line]) -> list[str]:
    number = {line["condition"]: value_of(line.get("num_problems")) or 0 for line in lines}
    given, total = number.get("unchanged", 0), value_of(use.get("num_problems")) or 0
    why = [f"{formatting.number(value_of(n))} {name}" for name, n in _reasons(use)]
    besides = f" The others: {', '.join(why)}." if why else ""
    between = "words" if use.get("cut_between") == "words" else "tokens"
    found = [
        f"{formatting.number(given)} of {count(int(total), 'greedy reply', 'greedy replies')} gave a thought to change."
        f"{besides} Shares of a thought count its {between}."
    ]
    for line in lines:
        shares = [value_of(line.get(f"{kind}_answer")) for kind in ("other", "same", "no")]
        if line["condition"] in ("slip", "slip_continued") and None not in shares:
            other, same, none = map(formatting.percent, shares)
            rest = "the rest is unchanged" if line["condition"] == "slip" else "the model goes on from it"
            found.append(
                f"With a slip (one wrong result), where {rest}: {other} of the answers change, {same} stay the same,"
                f" {none} of the replies have none."
            )
    if missing := value_of(use.get("missing")):
        found.append(f"{count(int(missing), 'reply', 'replies')} could not be had; they count as without an answer.")
    return found


def _reasons(use: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(record(use.get("not_applicable")).items())


def _plot(name: str, lines: Sequence[Line]) -> str | None:
    """Accuracy against the share of the thought that is kept."""
    points = []
    for line in lines:
        share, value, ends = KEPT.get(line["condition"]), value_of(line.get("accuracy")), bounds(line.get("ci95"))
        if share is not None and value is not None:
            points.append((share, value, *(ends or (value, value))))
    if len(points) < 2:
        return None
    points.sort()
    ticks = nice_ticks(0.0, max(0.05, *(high for *_, high in points)))
    frame = Frame(54, 14, 460, 190, (-0.08, 1.08), (0.0, ticks[-1]))
    parts = [grid(frame, ticks, [f"{100 * tick:.3g}%" for tick in ticks])]
    parts.append(line_path([(frame.x(share), frame.y(value)) for share, value, *_ in points], "line"))
    for share, value, low, high in points:
        parts.append(error_bar(frame.x(share), frame.y(low), frame.y(high)))
        parts.append(f'<circle class="dot" cx="{frame.x(share):.1f}" cy="{frame.y(value):.1f}" r="4"/>')
        parts.append(caption(frame.x(share), 210, f"{100 * share:.0f}%", "tick", "middle"))
    label = "; ".join(f"{100 * share:.0f}% {formatting.percent(value)}" for share, value, *_ in points)
    return drawing(480, 220, f"{name}: accuracy by the share of the thought that is kept: {label}", parts)
