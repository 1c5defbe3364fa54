"""Results of a run's stages and of evaluations, beside the published numbers of the same benchmark."""

from collections.abc import Iterator
from pathlib import Path

from open_exaone.base.errors import DataError
from open_exaone.base.records import MODES
from open_exaone.evaluation import published
from open_exaone.evaluation.paired import published_estimate
from open_exaone.evaluation.published import Published
from open_exaone.pipeline.card_run import File
from open_exaone.present.card_facts import Beside, Figure, Part, Result
from open_exaone.present.stages import is_number
from open_exaone.tasks.benchmarks.registry import BENCHMARKS

EXAM = "CSAT 2025 Math"  # its published numbers are points of the examination, not shares of problems


def of_stage(run: Path, stage: str, folder: str, date: str, *, has_parts: bool) -> list[Result]:
    """What a stage's own evaluation found, one for each set of problems.

    Args:
        has_parts: also by family of problems, as for the model that the card is of.
    """
    file, about = File(run, f"{folder}/eval/report.json"), File(run, f"{folder}/eval/evaluation.json")
    parts = file.get("tasks")
    fields = [f"tasks.{place}." for place in range(len(parts))] if isinstance(parts, list) and parts else [""]
    found = [_of_entry(file, about, field, stage=stage, date=date) for field in fields if _has_score(file, field)]
    return found if has_parts else [result.model_copy(update={"per_task": ()}) for result in found]


def of_evaluation(folder: Path, name: str = "") -> list[Result]:
    """What an `exaone eval` found, one for each task.

    Args:
        name: what the folder is called in the sources of its numbers.

    Raises:
        DataError: report.json holds no measured task.
    """
    prefix = f"{name}/" if name else ""
    file = File(folder, "report.json")
    file.name = f"{prefix}report.json"
    tasks = file.get("tasks")
    if not isinstance(tasks, list) or not tasks:
        raise DataError(f"{folder / 'report.json'}: tasks: holds no measured task; run `exaone eval` to measure one")
    date, nothing = file.text("started"), File(folder, "")
    found = [f"tasks.{place}." for place in range(len(tasks)) if _has_score(file, f"tasks.{place}.")]
    if not found:
        raise DataError(f"{folder / 'report.json'}: tasks: none has a pass_at_1 from 0 to 1")
    return [_of_entry(file, nothing, field, stage=None, date=date) for field in found]


def of_scores(file: File, field: str) -> Iterator[Result]:
    """The shipped model's results, which stand by the name of their problems."""
    for name in file.get(field) or ():
        result = _of_entry(file, File(Path(), ""), f"{field}.{name}.", stage=None, date="")
        yield result.model_copy(update={"benchmark": name, "mode": "reasoning"})


def _has_score(file: File, field: str) -> bool:
    value = file.get(f"{field}pass_at_1")
    return is_number(value) and 0 <= value <= 1


def _of_entry(file: File, about: File, field: str, *, stage: str | None, date: str) -> Result:
    """One result; how it was sampled stands in the entry itself, or in the evaluation's own record."""
    benchmark = file.text(f"{field}benchmark") or file.text(f"{field}measured_on") or "not stated"
    at = _task_at(about, benchmark)
    mode = file.text(f"{field}mode")
    whole, budget = file.get(f"{field}is_whole"), file.get(f"{field}thinking_budget")
    known = BENCHMARKS.get(benchmark)
    hub = known.hub if known else None
    languages = file.get(f"{field}per_language")
    value = file.figure(f"{field}pass_at_1")
    assert value is not None  # `_has_score` has looked
    low, high = _bounds(file, value, field)
    result = Result(
        benchmark=benchmark,
        stage=stage,
        mode=mode if mode in MODES else "not stated",
        setting=f"budget {budget:,}" if is_number(budget) else "",
        value=value,
        low=low,
        high=high,
        num_problems=_count(file.figure(f"{field}num_problems")),
        k=_count(file.figure(f"{field}k")),
        greedy=file.figure(f"{field}greedy"),
        cons_at_k=file.figure(f"{field}cons_at_k"),
        thought_tokens=file.figure(f"{field}mean_thought_tokens") or file.figure(f"{field}tokens.thought"),
        truncated=file.figure(f"{field}truncated_share") or file.figure(f"{field}rates.truncated.value"),
        temperature=file.figure(f"{field}temperature") or about.figure(f"{at}temperature"),
        top_p=file.figure(f"{field}top_p") or about.figure(f"{at}top_p"),
        max_new_tokens=_count(file.figure(f"{field}max_new_tokens") or about.figure(f"{at}max_new_tokens")),
        is_whole=whole is not False,
        rows=file.text(f"{field}sha256"),
        hub=hub.repo if hub else None,
        hub_split=hub.split if hub else None,
        date=date,
        code_version=file.text("code_version") or about.text("code_version"),
        per_task=tuple(_parts(file, f"{field}per_task")),
        languages=tuple(sorted(map(str, languages))) if isinstance(languages, dict) else (),
    )
    return result.model_copy(update={"published": tuple(_beside(result))})


def _task_at(about: File, benchmark: str) -> str:
    tasks = about.get("tasks")
    for place, task in enumerate(tasks if isinstance(tasks, list) else ()):
        if isinstance(task, dict) and task.get("name") == benchmark:
            return f"tasks.{place}.sampling."
    return "sampling."


def _bounds(file: File, value: Figure, field: str, *keys: str) -> tuple[Figure | None, Figure | None]:
    """The ends of an interval; None and None where they are no pair of fractions around the value."""
    low, high = file.figure(field, *keys, "ci95", "0"), file.figure(field, *keys, "ci95", "1")
    if low and high and 0 <= low.value <= value.value <= high.value <= 1:
        return low, high
    return None, None


def _parts(file: File, field: str) -> Iterator[Part]:
    parts = file.get(field)
    for name in sorted(parts) if isinstance(parts, dict) else ():
        if (value := file.figure(field, name, "pass_at_1")) is not None and 0 <= value.value <= 1:
            problems = _count(file.figure(field, name, "num_problems"))
            low, high = _bounds(file, value, field, name)
            yield Part(name=name, value=value, low=low, high=high, num_problems=problems)


def _count(figure: Figure | None) -> Figure | None:
    """A number of things, at least one; None for anything else."""
    return figure if figure is not None and figure.value >= 1 and figure.value == int(figure.value) else None


def _beside(result: Result) -> Iterator[Beside]:
    """Published numbers of the same benchmark, mode and setting, best first; none beside a part of a benchmark."""
    name = published.benchmark_name(result.benchmark)
    if name is None or name == EXAM or not result.is_whole:
        return
    rows = [row for row in published.rows_for(name) if (row.metric, row.setting) == ("pass@1", "")]
    for row in sorted(rows, key=lambda row: -row.value):
        if result.mode in (row.mode, "not stated"):
            yield beside(row)


def beside(row: Published) -> Beside:
    """A published number, with the interval that its number of questions leaves, samples taken as alike."""
    low, high = published_interval(row)
    return Beside(model=row.model, percent=100 * row.value, low=low, high=high, source=row.source, tag=row.tag)


def published_interval(row: Published) -> tuple[float | None, float | None]:
    """In percent; (None, None) where the number of questions is not known or the number is no share of them."""
    if row.num_questions is None or row.metric == "score":
        return None, None
    estimate = published_estimate(row.value, row.num_questions, row.k or 1)
    return round(100 * estimate.low, 1), round(100 * estimate.high, 1)
