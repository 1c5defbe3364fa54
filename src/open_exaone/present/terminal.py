"""What the terminal shows: live progress, the closing table, replies."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from open_exaone.base.printable import printable
from open_exaone.base.terminal import Console
from open_exaone.base.text import some
from open_exaone.present import formatting
from open_exaone.present.evaluation_tables import results
from open_exaone.present.stages import change_groups, closing_rows, is_number, mode_name

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

MESH = "data x shard x tensor x context"
TEXT_COLUMNS = frozenset(  # these stand left, numbers right
    {
        *("stage", "mode", "task", "benchmark", "model", "thought", "training of", MESH),
        *("part", "part, GB", "part, MB"),
    }
)
GAP = 2  # cells between columns
DROPPED_FIRST = ("train tokens", "greedy", "mode", "train time", "thought tokens", "cons", "truncated", "95 %", "ours")
FAULTS = ("other language", "not judged", "no answer", "truncated")  # of an evaluation; those that there are stay
DROPPED_OF_MEASURED = (
    *("FLOPs", "tokens written", "answer tokens", "mode", "thought tokens", "cons@k", "pass@k", "k"),
    *("problems", "exam points", "95% interval"),
)
SHOWN_FIELDS = (
    *("loss", "validation_loss", "reward_mean", "reward", "tokens_per_second", "mfu", "peak_memory_bytes"),
    *("truncated_share", "error_share", "skipped_steps", "pass_at_1", "plan_seconds_left"),
)
SHOWN_UNLESS_0 = frozenset({"tokens_per_second", "error_share", "skipped_steps"})
LEFT_OUT_FIRST = ("peak_memory_bytes", "mfu", "tokens_per_second", "plan_seconds_left")  # where there is no room
MIN_STEPS = 3  # that an estimate of the time left needs
MARKS = {"correct": ("✓", "green"), "wrong": ("✗", "red"), "truncated": ("…", "yellow"), "unparsed": ("?", "yellow")}


def closing_table(report: Mapping[str, Any]) -> str:
    """The closing table as plain, aligned text, every column whatever its width."""
    from rich.cells import cell_len

    titles, rows = closing_rows(report)
    widths = [max(cell_len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = []
        for title, cell, width in zip(titles, cells, widths, strict=True):
            gap = " " * (width - cell_len(cell))
            aligned.append(cell + gap if title in TEXT_COLUMNS else gap + cell)
        return "  ".join(aligned).rstrip()

    return "\n".join([line(titles), line(["─" * width for width in widths]), *map(line, rows)])


def closing_table_rich(report: Mapping[str, Any], width: int | None = None) -> "Table":
    """The closing table for a rich console of `width` cells: the columns that fit; all of them where None."""
    return rich_table(*closing_rows(report), width)


def change_tables(report: Mapping[str, Any], width: int | None = None) -> "Iterator[Text | Table]":
    """What each stage changed on the first benchmark: a heading and a table for each mode, and what else was measured.

    Nothing where nothing is compared.
    """
    from rich.cells import cell_len
    from rich.text import Text

    names = list(dict.fromkeys(str(row["measured_on"]) for row in report.get("changes") or []))
    for measured_on, group, titles, rows in change_groups(report):
        if measured_on != names[0]:
            continue
        yield Text(f"\nWhat each stage changed: {group}", "bold")
        table = rich_table(titles, rows, width, ("wrong language", "thought tokens"))
        whole = sum(max(map(cell_len, cells)) + GAP for cells in zip(titles, *rows, strict=True)) - GAP
        if width is None or whole <= width:  # no heading needs two lines
            for column in table.columns:
                column.width = None
        yield table
    if names[1:]:
        yield Text(f"\nThe report has these tables for {printable(some(names[1:]))} too.\n")


def measured_table(report: Mapping[str, Any], width: int | None = None) -> "Table":
    """The same of an evaluation's report: a line for each task; of the faults, those that there are stay."""
    titles, rows = results(report["tasks"])
    columns = dict(zip(titles, zip(*rows, strict=True), strict=True))
    no_faults = [title for title in FAULTS if set(columns.get(title, ())) <= {formatting.NONE, formatting.percent(0.0)}]
    return rich_table(titles, rows, width, (*no_faults, *DROPPED_OF_MEASURED))


def rich_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    dropped_first: Sequence[str] = DROPPED_FIRST,
) -> "Table":
    """Texts as a table for a rich console of `width` cells, without the least important columns where they don't fit.

    Args:
        dropped_first: which are left out, in this order: headings, or what stands before their "@".
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    columns = _fitting(titles, rows, width, dropped_first)
    table = Table(box=SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for title, cells in columns.items():
        side: Literal["left", "right"] = "left" if title in TEXT_COLUMNS else "right"
        table.add_column(title, justify=side, width=_least_width(title, cells))
    for row in zip(*columns.values(), strict=True):
        styles = ["bold" if title == "pass@1" else "" for title in columns]
        table.add_row(*(Text(cell, style=style, no_wrap=True) for cell, style in zip(row, styles, strict=True)))
    return table


def _fitting(
    titles: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, dropped_first: Sequence[str]
) -> dict[str, list[str]]:
    """The table by columns, without the least important ones until a line has room; headings break between words."""
    columns = {title: list(cells) for title, *cells in zip(titles, *rows, strict=True)}
    for start in dropped_first:
        needed = sum(_least_width(title, cells) + GAP for title, cells in columns.items())
        if width is None or needed - GAP <= width:
            break
        columns = {title: cells for title, cells in columns.items() if start not in (title, title.partition("@")[0])}
    return columns


def _least_width(title: str, cells: Sequence[str]) -> int:
    """The cells that a column needs with its heading broken between words."""
    from rich.cells import cell_len

    return max(map(cell_len, (*title.split(), *cells)))


def show_replies(
    problem: Mapping[str, Any], replies: Sequence[Mapping[str, Any]], console: Console | None = None
) -> None:
    """Prints a showcase problem and, for each reply, its stage, the thought dimmed, the answer, the verdict.

    Args:
        problem: `question` and `answer`.
        replies: `stage`, `thought`, `answer`, `verdict` (a status) and `why`, as in report.json's `showcase`.
    """
    from rich.text import Text

    console = console or Console()
    console.print(Text.assemble((problem["question"], "bold"), (f"   [{problem['answer']}]", "dim")))
    for reply in replies:
        console.print(Text(f"{reply['stage']} {mode_name(reply)}", style="cyan"))
        for text, style in ((reply["thought"], "dim"), (reply["answer"], "")):
            if text.strip():
                console.print(Text(text.strip(), style=style))
        console.print(verdict_line(reply["verdict"], reply.get("why", "")))
    console.print()


def verdict_line(status: str, why: str) -> "Text":
    """`✓ correct: …`, coloured."""
    from rich.text import Text

    mark, color = MARKS.get(status, ("!", "magenta"))
    return Text(f"{mark} {status}" + (f": {why}" if why else ""), style=color)


class Plan:
    """The stages that will run, in order, to estimate the time of the whole run.

    Args:
        stages: for each its name, `stage`, its `num_steps`, and, where known, `cost`: what one step costs beside the
            steps of other stages, in any unit; without it, every step counts the same.
    """

    def __init__(self, stages: Sequence[Mapping[str, Any]] = ()) -> None:
        self._work = {str(stage["stage"]): stage["num_steps"] * stage.get("cost", 1.0) for stage in stages}

    def place(self, stage: str) -> str | None:
        """`stage 2 of 4`; None where the plan does not have it."""
        names = list(self._work)
        return f"stage {names.index(stage) + 1} of {len(names)}" if stage in names else None

    def seconds_left(self, stage: str, share_left: float, seconds_left: float) -> float | None:
        """The time until the last stage's end, the later stages at the speed of this one.

        Args:
            share_left: the share of this stage's steps that are left, above 0.
            seconds_left: the time that they will take.
        """
        names = list(self._work)
        if stage not in names or not self._work[stage]:
            return None
        later = sum(self._work[name] for name in names[names.index(stage) + 1 :])
        return seconds_left * (1 + later / (self._work[stage] * share_left)) if later else None


class Progress:
    """Live progress of a run: one moving line on a terminal, a plain line every few seconds elsewhere.

    Use as a context manager. Calling it with an event is the hook that training takes:
    `progress({"stage": "sft", "step": 10, "num_steps": 400, "loss": 1.23, "tokens_per_second": 9800.0})`.
    Unknown fields are ignored; `seconds`, where given, is the time since the stage began, and `seconds_left` the time
    until its end, None while it is not known. Three events have no step: `{"message": "..."}` is printed as a line,
    `{"stage": "sft", "resumed_at": 120, "num_steps": 400}` says that a stage continues, and `{"plan": [...]}` has the
    stages that will run, see `Plan`.
    """

    def __init__(
        self,
        console: Console | None = None,
        plain_every_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:

        self._console = console or Console()
        self._plain_every_s = plain_every_s
        self._clock = clock
        self._live: Any = None  # rich.live.Live, while a step line moves
        self._stage: str | None = None
        self._first = (0, 0.0)  # the step and the time of this stage's first event
        self._plan = Plan()
        self._last_line_s = float("-inf")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._rest()

    def __call__(self, event: Mapping[str, Any]) -> None:
        if "message" in event:
            self.message(str(event["message"]))
        if "plan" in event:
            self._plan = Plan(event["plan"])
        if "resumed_at" in event:
            self.message(f"{event['stage']}: continuing at step {event['resumed_at']:,} of {event['num_steps']:,}")
        if {"stage", "step", "num_steps"} <= event.keys():
            self.update(**event)

    def message(self, text: str) -> None:
        """Prints a line that stays."""
        from rich.text import Text

        self._console.print(Text(text), soft_wrap=True)

    def update(self, stage: str, step: int, num_steps: int, **fields: Any) -> None:
        """Shows that `step` of `num_steps` is done. `fields`: loss, tokens_per_second, …; `note`, a text."""
        if stage != self._stage:
            self._rest()
            self._stage, self._first, self._last_line_s = stage, (step, self._clock()), float("-inf")
            if place := self._plan.place(stage):
                self.message(f"{stage}: {place}")
        left = self._seconds_left(step, num_steps, fields)
        if left is not None and step < num_steps:
            in_all = self._plan.seconds_left(stage, (num_steps - step) / num_steps, left)
            fields = {**fields, "plan_seconds_left": in_all}
        line = self._line(step, num_steps, {**fields, "seconds_left": left})
        if self._console.is_terminal:
            self._show(line)
        elif step >= num_steps or self._clock() - self._last_line_s >= self._plain_every_s:
            self._last_line_s = self._clock()
            self._console.print(line, soft_wrap=True)
        if step >= num_steps:
            self._rest()

    def _line(self, step: int, num_steps: int, fields: Mapping[str, Any]) -> "Text":
        """The line; on a terminal without the least important fields, and then the bar, until it fits."""
        shown = [
            name
            for name in SHOWN_FIELDS
            if isinstance(fields.get(name), int | float) and (fields[name] or name not in SHOWN_UNLESS_0)
        ]
        line = self._drawn(step, num_steps, fields, shown)
        for name in (*LEFT_OUT_FIRST, None):
            if not self._console.is_terminal or line.cell_len <= self._console.width:
                break
            shown = [other for other in shown if other != name]
            line = self._drawn(step, num_steps, fields, shown, has_bar=name is not None)
        return line

    def _drawn(
        self, step: int, num_steps: int, fields: Mapping[str, Any], shown: Sequence[str], *, has_bar: bool = True
    ) -> "Text":
        from rich.text import Text

        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{self._stage or '':<10} ", "bold")
        if self._console.is_terminal and has_bar:
            line.append(bar(step / max(num_steps, 1)) + " ", "cyan")
        line.append(f"{step:>{len(str(num_steps))}}/{num_steps}")
        for name in shown:
            line.append(f"  {FIELD_FORMATS.get(name, _named)(name, fields[name])}")
        if fields.get("note"):
            line.append(f"  {fields['note']}")
        line.append(f"  {self._time(step, num_steps, fields)}", "dim")
        return line

    def _time(self, step: int, num_steps: int, fields: Mapping[str, Any]) -> str:
        """The time left; at the end, the time that the stage took, unless its only event is its end."""
        first_step, first_time = self._first
        seconds, left = fields.get("seconds"), fields["seconds_left"]
        if step < num_steps:
            return "estimating …" if left is None else f"about {formatting.duration(left)} left"
        if seconds is None and first_step >= num_steps:
            return "done"
        return f"done in {formatting.duration(self._clock() - first_time if seconds is None else seconds)}"

    def _seconds_left(self, step: int, num_steps: int, fields: Mapping[str, Any]) -> float | None:
        """As the event reports it, or from the steps since this stage's first event; None before there are enough.

        Steps such as judged samples end in bursts, so their mean is taken and no median.
        """
        if "seconds_left" in fields:
            return fields["seconds_left"] if is_number(fields["seconds_left"]) else None
        first_step, first_time = self._first
        if step - first_step < MIN_STEPS:
            return None
        return (self._clock() - first_time) / (step - first_step) * (num_steps - step)

    def _show(self, line: "Text") -> None:
        from rich.live import Live

        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(line, refresh=True)

    def _rest(self) -> None:
        """Leaves the moving line where it stands."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def bar(share: float, num_cells: int = 24) -> str:
    """A bar of `num_cells` cells, `share` of it heavy."""
    filled = round(max(0.0, min(1.0, share)) * num_cells)
    return "━" * filled + "╌" * (num_cells - filled)


def _named(name: str, value: float) -> str:
    return f"{formatting.words(name)} {value:.3f}"


FIELD_FORMATS: dict[str, Callable[[str, float], str]] = {
    "tokens_per_second": lambda _, value: f"{formatting.number(value)} tok/s",
    "mfu": lambda _, value: f"MFU {formatting.percent(value)}",
    "peak_memory_bytes": lambda _, value: formatting.size(value),
    "skipped_steps": lambda _, value: f"skipped {value:.0f}",
    "error_share": lambda _, value: f"not judged {formatting.percent(value)}",
    "truncated_share": lambda _, value: f"truncated {formatting.percent(value)}",
    "pass_at_1": lambda _, value: f"pass@1 {formatting.percent(value)}",
    "reward_mean": lambda _, value: f"reward {value:.3f}",
    "plan_seconds_left": lambda _, value: f"{formatting.duration(value)} left in all",
}
