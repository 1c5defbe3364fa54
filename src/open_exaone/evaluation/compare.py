"""A report beside the published tables, and two runs on the same questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.records import Flip, Sample, mode_label
from open_exaone.evaluation import published
from open_exaone.evaluation.flips import by_question, find_flips
from open_exaone.evaluation.paired import Difference, paired_difference
from open_exaone.evaluation.report import Beside, Entry, Report
from open_exaone.evaluation.store import Store, Stored
from open_exaone.evaluation.task import Task
from open_exaone.tasks.benchmarks.csat import CSAT_2025_MATH

CONS_K = 64  # the k of the published consensus
_KILO = 1024

Row = tuple[str, ...]  # of a table for the terminal; the first one is its head


@dataclass(frozen=True, slots=True)
class RunDifference:
    """Two runs' pass@1 on the questions of one task that both have; fractions."""

    task: str
    benchmark: str
    mode: str
    thinking_budget: int | None
    ours: float
    theirs: float
    difference: Difference  # ours minus theirs, with its p-value
    num_only_ours: int  # questions that the other run lacks, and that play no part
    num_only_theirs: int
    flips: tuple[Flip, ...] = ()  # questions whose share of correct samples rose or fell, in order


def with_published(report: Report, model: str | None = None) -> Report:
    """The report with the published numbers beside each task's: same benchmark, mode and metric, best first.

    A task with a thinking budget is set beside the numbers under that budget as well; CSAT's mean over electives beside
    CSAT's; cons@64 beside a consensus over 64 samples.

    Args:
        model: only this one's numbers, such as "EXAONE Deep 2.4B".

    Raises:
        ConfigError: no table has such a model.
    """
    if model is not None and not any(_same_name(row.model, model) for row in published.load_tables()):
        known = sorted({row.model for row in published.load_tables()})
        raise ConfigError(f"--compare {model!r}: no published table has it; the models are {', '.join(known)}")
    tasks = tuple(entry.model_copy(update={"published": tuple(_beside(entry, model))}) for entry in report.tasks)
    return report.model_copy(update={"tasks": tasks})


def compare_runs(ours: Path, theirs: Path, *, shared_only: bool = False) -> list[RunDifference]:
    """Compares two evaluations' folders, question by question, task by task.

    Args:
        shared_only: where a task's questions differ, compare the ones that both have.

    Raises:
        DataError: a folder holds no finished evaluation, the two share no task, or a task's questions differ.
    """
    first, second = _by_task(Store(ours).read()), _by_task(Store(theirs).read())
    shared = [key for key in first if key in second]
    if not shared:
        raise DataError(f"{ours} and {theirs} share no benchmark in one mode under one thinking budget")
    return [_difference(first[key], second[key], shared_only, f"{ours} and {theirs}") for key in shared]


def published_rows(report: Report) -> list[Row]:
    """A table for the terminal: ours beside the published numbers, in percent."""
    rows: list[Row] = [("benchmark", "mode", "ours", "95 %", "published", "model", "difference", "within")]
    for entry in report.tasks:
        for found in entry.published:
            value, interval = _measured(entry, found.metric)
            name = f"{entry.name} {found.metric}" + (f" ({found.setting})" if found.setting else "")
            difference = f"{100 * found.difference:+.1f}"
            within = {True: "yes", False: "no", None: "not whole"}[found.within]
            shown = (_percent(value), _interval(interval), f"{found.percent:.1f}")
            rows.append((name, mode_label(found.mode), *shown, found.model, difference, within))
    return rows


def run_rows(differences: Sequence[RunDifference]) -> list[Row]:
    """A table for the terminal: two runs, in percent."""
    rows: list[Row] = [("task", "mode", "questions", "ours", "theirs", "difference", "95 %", "p")]
    for item in differences:
        both = item.difference
        interval = f"{100 * both.low:+.1f} to {100 * both.high:+.1f}"
        values = (_percent(item.ours), _percent(item.theirs), f"{100 * both.value:+.1f}", interval)
        p_value = "" if both.p_value is None else f"{both.p_value:.3g}"
        rows.append((item.task, mode_label(item.mode), str(both.num_questions), *values, p_value))
    return rows


def _beside(entry: Entry, model: str | None) -> list[Beside]:
    budget = _budget_name(entry.thinking_budget)
    settings = ("",) if budget is None else (budget, "")
    return [
        _found(comparison, entry.is_whole)
        for metric in ("pass@1", f"cons@{CONS_K}")
        if metric == "pass@1" or entry.k == CONS_K
        for setting in settings
        for comparison in _compared(entry, metric, setting)
        if model is None or _same_name(comparison.published.model, model)
    ]


def _compared(entry: Entry, metric: str, setting: str) -> list[published.Comparison]:
    if (
        entry.benchmark == CSAT_2025_MATH.name and entry.csat is None
    ):  # the published number is the mean over whole papers
        return []
    value, interval = _measured(entry, metric)
    mode = None if entry.mode == "not stated" else entry.mode
    if not interval[0] <= value <= interval[1]:  # rounding of a sum
        value = min(max(value, interval[0]), interval[1])
    return published.compare(
        entry.benchmark, value, interval, mode=mode, metric=metric, setting=setting, correlation=entry.correlation
    )


def _measured(entry: Entry, metric: str) -> tuple[float, tuple[float, float]]:
    """What stands beside a published number of that metric."""
    if metric != "pass@1":
        return entry.cons_at_k, entry.cons_ci95
    if entry.csat is not None:
        return entry.csat.mean_points / 100, entry.csat.points_ci95
    return entry.pass_at_1, entry.ci95


def _found(comparison: published.Comparison, is_whole: bool) -> Beside:
    row, both = comparison.published, comparison.both
    assert row.percent is not None  # a row without a number is compared with nothing
    return Beside(
        model=row.model,
        table=row.table,
        mode=row.mode,
        metric=row.metric,
        setting=row.setting,
        percent=row.percent,
        difference=comparison.difference,
        within=comparison.within if is_whole else None,
        difference_ci95=None if both is None else (both.low, both.high),
        source=row.source,
        tag=row.tag,
    )


def _budget_name(tokens: int | None) -> str | None:
    """As the tables call it: "budget 32K"."""
    return None if tokens is None or tokens % _KILO else f"budget {tokens // _KILO}K"


def _same_name(one: str, other: str) -> bool:
    return _letters(one) == _letters(other)


def _letters(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())


Measured = tuple[Task, Sequence[Sequence[Sample]]]
_Key = tuple[str, str, str, int | None]


def _by_task(stored: Stored) -> dict[_Key, Measured]:
    """(name, benchmark, mode, thinking budget) -> the task and its samples."""
    return {
        (task.name, task.benchmark, task.mode, task.sampling.thinking_budget): (task, samples)
        for task, samples in zip(stored.tasks, stored.samples, strict=True)
    }


def _difference(ours: Measured, theirs: Measured, shared_only: bool, where: str) -> RunDifference:
    first, second = _means(ours), _means(theirs)
    shared = [question for question in first if question in second]
    task = ours[0]
    num_only_ours, num_only_theirs = len(first) - len(shared), len(second) - len(shared)
    if not shared:
        raise DataError(f"{where}: {task.name}: the runs share no question; nothing can be compared")
    if (num_only_ours or num_only_theirs) and not shared_only:
        raise DataError(
            f"{where}: {task.name}: the runs share {len(shared)} questions, {num_only_ours} are in the first only and "
            f"{num_only_theirs} in the second only: measure both on one set, or compare the shared ones alone"
        )
    one, other = ({"\n".join(name): means[name] for name in shared} for means in (first, second))
    return RunDifference(
        task=task.name,
        benchmark=task.benchmark,
        mode=task.mode,
        thinking_budget=task.sampling.thinking_budget,
        ours=fmean(one.values()),
        theirs=fmean(other.values()),
        difference=paired_difference(one, other),
        num_only_ours=num_only_ours,
        num_only_theirs=num_only_theirs,
        flips=tuple(find_flips(task.name, by_question(*ours), by_question(*theirs))),
    )


def _means(measured: Measured) -> Mapping[tuple[str, ...], float]:
    """A question, with its text and gold answer -> the share of its samples that is correct."""
    return {
        question: fmean(sample.verdict.correct for sample in row)
        for question, (_, row) in by_question(*measured).items()
    }


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _interval(interval: tuple[float, float]) -> str:
    return f"{_percent(interval[0])} to {_percent(interval[1])}"
