"""A run while it goes: what a look at its folder found, as a page that refreshes itself and as a screen of text."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from open_exaone.base.printable import printable
from open_exaone.present import formatting, formulas
from open_exaone.present.curves import Plot, stage_plots
from open_exaone.present.evaluation_tables import bounds
from open_exaone.present.page_parts import policy, read_templates, template
from open_exaone.present.rollouts import Shown
from open_exaone.present.stages import is_number, mode_name
from open_exaone.present.terminal import bar, rich_table

if TYPE_CHECKING:
    from open_exaone.base.terminal import Console

MAX_PAGE_BYTES = 300_000
SIZES = ((90_000, 40_000, 2), (90_000, 0, 1), (60_000, 0, 0))  # bytes of plots, of further plots, groups of samples
MAX_TEXT_CHARS = 400  # of a message of the log
MAX_ROWS = 80  # of the table of scores
SHOWN = ("loss", "reward_mean", "pass_rate", "accuracy", "mean_reply_tokens", "validation_loss")  # in the terminal


class State(StrEnum):
    """How far a run or a stage is; the value is what people read."""

    WAITING = "waiting"
    PREPARING = "preparing"
    SAMPLING = "sampling"
    TRAINING = "training"
    MEASURING = "measuring"
    DONE = "done"
    RUNNING = "running"
    STOPPED = "not running"
    FAILED = "failed"
    UNREADABLE = "unreadable"


class StageSeen(NamedTuple):
    """A stage."""

    name: str
    kind: str
    state: State
    row: Mapping[str, Any]  # its newest of metrics.jsonl; empty before the first step
    memory: float | None = None  # bytes, the largest resident size
    scores: Sequence[Mapping[str, Any]] = ()  # its evaluation: one for each set of problems
    notes: Sequence[str] = ()

    def number(self, name: str) -> float | None:
        """A number of the newest row."""
        value = self.row.get(name)
        return value if is_number(value) else None

    @property
    def share(self) -> float:
        """The share of its steps that are done."""
        step, num_steps = self.number("step"), self.number("num_steps")
        return 1.0 if self.state == State.DONE else min(1.0, step / num_steps) if step and num_steps else 0.0


class Line(NamedTuple):
    """A line of the run's log."""

    time: str  # ISO
    level: str  # "info", "warning" or "error"
    text: str


class Watched(NamedTuple):
    """A run's folder at one look."""

    folder: str
    state: State
    recipe: str = ""
    stages: Sequence[StageSeen] = ()
    at_hand: int = 0  # place of the stage that is worked on; of the last one where all are done
    shown: int = 0  # place of the stage whose curves and rollouts these are
    rows: Sequence[Mapping[str, float]] = ()  # of that stage's metrics, thinned
    rollouts: Sequence[Shown] = ()
    lines: Sequence[Line] = ()
    progress: Mapping[str, Any] = {}  # of sampling or measuring: stage, step, num_steps, tokens_per_second
    seconds_left: float | None = None  # of the whole run
    has_report: bool = False
    age_s: float | None = None  # since the run last wrote something
    problem: str = ""  # why the folder cannot be read


def page(seen: Watched) -> bytes:
    """The page in UTF-8, of at most 300 KB whatever the run's length: what has no room is left out, samples last."""
    known, others = stage_plots(seen.rows)
    for known_bytes, other_bytes, num_groups in SIZES:
        text = _render(seen, limited(known, known_bytes), limited(others, other_bytes), num_groups)
        if len(text) <= MAX_PAGE_BYTES:
            break
    return text


def _render(seen: Watched, known: Sequence[Plot], others: Sequence[Plot], num_groups: int) -> bytes:
    style = read_templates("report.css", "watch.css") + formulas.style()
    script = read_templates("formulas.js", "watch.js")
    html: str = template("watch.html.jinja").render(
        seen=seen,
        stages=[(stage, facts(stage, seen)) for stage in seen.stages],
        shown=seen.stages[seen.shown] if seen.stages else None,
        sentence=sentence(seen),
        scores=(SCORES, score_rows(seen.stages)),
        known=known,
        others=others,
        rollouts=seen.rollouts[:num_groups],
        lines=[line._replace(text=line.text[:MAX_TEXT_CHARS]) for line in reversed(seen.lines)],
        num_warnings=sum(line.level != "info" for line in seen.lines),
        is_halted=seen.state in (State.STOPPED, State.FAILED),
        style=style,
        script=script,
        policy=policy(style, (script, formulas.converter()), others="connect-src 'self'; img-src data:"),
    )
    return html.encode("utf-8", "replace")


def limited(plots: Sequence[Plot], max_bytes: int) -> list[Plot]:
    """The first plots that together are no larger than that."""
    sizes = accumulate(len(plot.svg.encode()) for plot in plots)
    return [plot for plot, size in zip(plots, sizes, strict=True) if size <= max_bytes]


def sentence(seen: Watched) -> str:
    """What the run does now."""
    age = "" if seen.age_s is None else f" Last update {formatting.duration(seen.age_s)} ago."
    match seen.state:
        case State.WAITING:
            return f"There is no run in {seen.folder} yet; it is shown here once it has started."
        case State.UNREADABLE:
            return f"The run cannot be read: {seen.problem}"
        case State.DONE:
            return "All stages are done."
        case State.STOPPED:
            return f"No process on this machine runs it. The same command resumes it.{age}"
        case State.FAILED:
            return f"It ended with an error, which the log has below. The same command resumes it.{age}"
    stage = seen.stages[seen.at_hand]
    left = "" if seen.seconds_left is None else f" About {formatting.duration(seen.seconds_left)} left in all."
    return f"{stage.name}: {stage.state}.{left}{age}"


def facts(stage: StageSeen, seen: Watched) -> list[tuple[str, str]]:
    """A stage's numbers, each with what it is."""
    step, num_steps, speed = (stage.number(name) for name in ("step", "num_steps", "tokens_per_second"))
    found = []
    if step is not None:
        found.append(("steps", f"{step:,.0f}" + (f" of {num_steps:,.0f}" if num_steps is not None else "")))
    if stage.state in (State.SAMPLING, State.MEASURING):
        found += _progress(stage, seen.progress)
    if speed is not None:
        found.append(("tokens a second", formatting.number(speed)))
    left, seconds = stage.number("seconds_left"), stage.number("seconds")
    if stage.state == State.TRAINING and seen.state == State.RUNNING and left is not None:
        found.append(("time left", f"about {formatting.duration(left)}"))
    elif seconds is not None:
        found.append(("training time", formatting.duration(seconds)))
    if stage.memory:
        found.append(("memory", formatting.size(stage.memory)))
    return found


def _progress(stage: StageSeen, progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How far sampling or measuring is, where the log's newest progress is of this stage."""
    step, num_steps, label = progress.get("step"), progress.get("num_steps"), str(progress.get("stage", ""))
    if label.partition(":")[0] != stage.name or not (is_number(step) and is_number(num_steps)):
        return []
    return [("samples", f"{step:,.0f} of {num_steps:,.0f}")]


SCORES = ["stage", "measured on", "mode", "pass@1", "95% interval", "problems", "samples each"]


def score_rows(stages: Sequence[StageSeen]) -> list[list[str]]:
    """The evaluation of the stages that have one, a row for each set of problems."""
    rows = [
        [
            stage.name,
            str(part.get("measured_on") or formatting.NONE),
            mode_name(part),
            formatting.percent(part["pass_at_1"]),
            formatting.interval(bounds(part.get("ci95"))),
            *(formatting.number(part[name] if is_number(part.get(name)) else None) for name in ("num_problems", "k")),
        ]
        for stage in stages
        for part in stage.scores
    ]
    return rows[-MAX_ROWS:]


def show(seen: Watched, console: "Console") -> None:
    """Prints the run on one screen."""
    from rich.text import Text

    def line(text: str, style: str = "") -> None:
        console.print(Text(printable(text), style=style), soft_wrap=True)

    line(f"{seen.recipe or 'run'} in {seen.folder}: {seen.state}", "bold")
    line(sentence(seen))
    if not seen.stages:
        return
    cells = max(len(stage.name) for stage in seen.stages)
    for stage in seen.stages:
        about = ", ".join(text if name != "steps" else f"step {text}" for name, text in facts_in_words(stage, seen))
        line(f"{stage.name:<{cells}}  {bar(stage.share, 12)}  {stage.state:<9}  {about}".rstrip())
    shown = seen.stages[seen.shown]
    newest = {name: shown.number(name) for name in SHOWN}
    values = [
        f"{formatting.words(name)} {formatting.number(value)}" for name, value in newest.items() if value is not None
    ]
    if values:
        line(f"{shown.name}: {', '.join(values)}")
    if rows := score_rows(seen.stages):
        console.print(rich_table(SCORES, rows[-8:], console.width, ("samples each", "problems", "mode")))
    for entry in seen.lines[-4:]:
        if entry.level != "info":
            line(f"{entry.level}: {entry.text[:MAX_TEXT_CHARS]}", "yellow")
    if seen.has_report:
        line(f"Report: {seen.folder}/report.html")


def facts_in_words(stage: StageSeen, seen: Watched) -> list[tuple[str, str]]:
    """The same as short texts for a line."""
    units = {
        "tokens a second": "{} tokens/s",
        "time left": "{} left",
        "training time": "in {}",
        "samples": "{} samples",
    }
    return [(name, units.get(name, "{}").format(text)) for name, text in facts(stage, seen)]
