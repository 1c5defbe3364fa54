"""Part 2 of `verify-real`: MATH-500 beside the published numbers."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_exaone.audit.part import Check, Found, Trial
from open_exaone.base.errors import DataError
from open_exaone.evaluation.published import Comparison, Published, compare, find

if TYPE_CHECKING:
    from open_exaone.model.config import ModelConfig

BENCHMARK = "MATH-500"
MODE = "reasoning"
MAX_ERRORS = 0.01  # of the replies, which a verifier could not judge
MAX_TRUNCATED = 0.05  # above, the token limit rather than the model decides the score
KEPT = (
    *("benchmark", "mode", "num_problems", "k", "seed", "temperature", "top_p", "presence_penalty", "max_new_tokens"),
    *("thinking_budget", "sha256", "is_pinned", "not_published", "pass_at_1", "ci95", "ci95_bootstrap", "correlation"),
    *("pass_at", "cons_at", "rates", "tokens", "stops"),
)

MeasureSuite = Callable[..., dict[str, Any]]


def measure_math(
    trial: Trial,
    source: Path,
    rows: Mapping[str, str],
    num_problems: int | None,
    num_samples: int,
    measure_suite: MeasureSuite,
) -> Found:
    """Measures MATH-500 with k samples of each question and looks the model up in the published tables.

    Args:
        rows: where benchmarks are read, by name; the hub where MATH-500 is not among them.
        num_problems: only so many, from the first on; then nothing is decided about the published number.

    Raises:
        DataError: the rows cannot be had, or the report has no result.
    """
    report = measure_suite(
        source,
        suite="math_500",
        num_samples=num_samples,
        limit=num_problems,
        rows=dict(rows),
        out=trial.out / f"math_500-{num_problems or 'all'}x{num_samples}",
        machine=trial.machine,
        on_event=trial.on_event,
    )
    if not report.get("tasks"):
        raise DataError("math_500: the evaluation's report has no result: look into its folder, and run this again")
    task = report["tasks"][0]
    low, high = task["ci95"]
    rows_beside = compare(
        BENCHMARK, task["pass_at_1"], (low, high), mode=MODE, correlation=task.get("correlation", 1.0)
    )
    published = find_published(trial.name, trial.config)
    figures = {key: task[key] for key in KEPT if key in task}
    figures["published"] = None if published is None else asdict(published)
    nearest = sorted(rows_beside, key=lambda row: abs(row.difference))
    figures["beside"] = [_beside(row, task.get("is_whole", True)) for row in nearest]
    own = next((row for row in rows_beside if row.published == published), None)
    return Found((_check_published(trial.name, own, task), *_check_rates(task)), figures)


def find_published(name: str, config: "ModelConfig") -> Published | None:
    """The model's published number: by its name, or by its shape where only one published model has that."""
    from open_exaone.model.registry import PUBLISHED

    if (found := find(name.rpartition("/")[2], BENCHMARK, MODE)) is not None:
        return found
    alike = [model for model, published in PUBLISHED.items() if published.config == config]
    return find(alike[0], BENCHMARK, MODE) if len(alike) == 1 else None


def _check_published(name: str, own: Comparison | None, task: Mapping[str, Any]) -> Check:
    title = "the published number"
    measured = f"{100 * task['pass_at_1']:.1f} % ({100 * task['ci95'][0]:.1f} to {100 * task['ci95'][1]:.1f})"
    if own is None:
        return Check(title, None, f"{measured}; {name} has none for {BENCHMARK}: the nearest ones are listed below.")
    row = own.published
    text = f"{measured} beside {row.percent} %"
    if row.num_questions is not None and task["num_problems"] != row.num_questions:
        return Check(title, None, f"{text}: not decided on {task['num_problems']} of {row.num_questions} problems.")
    if own.within:
        return Check(title, True, f"{text}, which lies within the interval.")
    is_close = own.both is not None and own.both.is_zero_inside
    if is_close:
        return Check(title, True, f"{text}: outside the interval, within it and the published number's own.")
    return Check(title, False, f"{text}, which lies outside the interval, and its own uncertainty does not explain it.")


def _check_rates(task: Mapping[str, Any]) -> list[Check]:
    """What would make the score one of something else than the model."""
    rates = task.get("rates") or {}
    checks = []
    for name, title, most in (
        ("error", "replies that could not be judged", MAX_ERRORS),
        ("truncated", "truncated replies", MAX_TRUNCATED),
    ):
        if (rate := rates.get(name)) is not None:
            value = rate["value"]
            checks.append(Check(title, value <= most, f"{100 * value:.1f} % (tolerated: {100 * most:.0f} %)."))
    return checks


def _beside(row: Comparison, is_whole: bool) -> dict[str, Any]:
    """One published number beside ours, all but `percent` as fractions; a part of the problems decides nothing."""
    return {
        "model": row.published.model,
        "percent": row.published.percent,
        "difference": round(row.difference, 6),
        "within": row.within if is_whole else None,
        "table": row.published.table,
        "source": row.published.source,
        "tag": row.published.tag,
    }
