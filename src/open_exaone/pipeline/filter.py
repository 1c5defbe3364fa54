"""The accuracy filter: samples replies to problems, judges them, and keeps the problems that are solved sometimes.

EXAONE 4.0 draws eight responses to each query from its SFT model and drops the queries of which all eight are correct
(arXiv 2507.11407). A filter's folder holds `samples/` (every judged sample), `pass_rates.jsonl` (every problem with its
pass rate), `kept.jsonl` (the kept ones, rows that training reads) and, once all is done, `filter.json`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from open_exaone.base.config import differences
from open_exaone.base.errors import DataError, RunFolderError
from open_exaone.base.files import iterate_jsonl, read_json, write_json, write_jsonl
from open_exaone.base.machine import peak_rss_bytes
from open_exaone.base.records import NO_FINDING, Problem
from open_exaone.base.text import count
from open_exaone.data.store import Prepared
from open_exaone.data.subset import Subset
from open_exaone.evaluation.run import Samples
from open_exaone.evaluation.task import Task, tasks_by_mode
from open_exaone.pipeline.folder import FILTER_FILE
from open_exaone.pipeline.measure import OnEvent
from open_exaone.pipeline.prepare import StageData
from open_exaone.pipeline.sampled import REPORT, draw
from open_exaone.pipeline.start import Run
from open_exaone.present.filtered import sentence
from open_exaone.remote.settings import WITHOUT_ADDRESS
from open_exaone.rollout.provider import Provider
from open_exaone.rollout.providers.local import weights_hash
from open_exaone.train.config import AnyStage, FilterConfig, FilterStage
from open_exaone.verify.settings import JudgeSettings

PASS_RATES, KEPT = "pass_rates.jsonl", "kept.jsonl"
KEEPS, TOO_HARD, TOO_EASY, NOT_JUDGED = "kept", "too hard", "too easy", "not judged"
Row = dict[str, Any]


def filter_stage(run: Run, stage: FilterStage, data: StageData) -> None:
    """Samples from the stage's starting model and leaves what is kept; a stage that was cut resumes at the sample.

    Args:
        data: see `prepare_stage`.

    Raises:
        DataError: nothing is kept, a sample has no reply, or none could be judged.
        RunFolderError: the samples that are there are another model's.
    """
    from open_exaone.pipeline.engine import load_fixed

    start = run.start_folder(stage)
    assert start is not None  # the recipe was checked
    prompts = kept_problems(run, stage, data.examples)
    filter_problems(
        tasks_by_mode(stage.data, prompts.problems, prompts.thinks_N.tolist(), stage.to_sampling(seed=run.seed(stage))),
        stage,
        run.path(stage),
        load_fixed(run, stage.name, start),
        run.judge,
        name=stage.name,
        follows_from={"prompts": prompts.fingerprint, **_follows_from(run, stage)},
        on_event=run.on_event,
        needs_all=True,
    )


def filter_problems(
    tasks: Sequence[Task],
    config: FilterConfig,
    folder: Path,
    provider: Provider,
    judge: JudgeSettings,
    *,
    name: str,
    on_event: OnEvent,
    follows_from: Mapping[str, Any] | None = None,
    needs_all: bool = False,
    has_flags: bool = False,
) -> Row:
    """Samples, judges and keeps; what the folder has is not sampled again.

    Args:
        tasks: the problems, a task for each mode; an id stands once in all of them.
        name: what events and errors call the filter.
        follows_from: what decides the outcome besides `config`, as JSON.
        needs_all: refuse samples without a reply; otherwise they count as those that could not be judged.
        has_flags: its ends are flags of a command, and errors name those.

    Returns:
        what filter.json holds.

    Raises:
        DataError: nothing is kept, or see `run_tasks`.
        RunFolderError: the folder is another filter's.
    """
    drawn = draw(tasks, provider, folder, judge, name=name, on_event=on_event, needs_all=needs_all)
    for outdated in (FILTER_FILE, KEPT, REPORT):  # of other ends
        (folder / outdated).unlink(missing_ok=True)
    rows = pass_rates(drawn.done, config)
    write_jsonl(folder / PASS_RATES, rows)
    kept = [row for row in rows if row["kept"]]
    found = summary(rows, config)
    if not kept:
        raise DataError(f"{folder}: {_why_nothing(found, config, None if has_flags else name)}")
    write_jsonl(folder / KEPT, map(_kept_row, kept))
    found |= {
        "num_missing": drawn.num_missing,
        "notes": drawn.notes,
        "sample_seconds": drawn.seconds,
        "sampled_tokens": sum(sample.generation.num_tokens for sample in drawn.samples),
        "peak_rss_bytes": peak_rss_bytes(),
        "follows_from": dict(follows_from or {}),
    }
    write_json(folder / FILTER_FILE, found)
    on_event({"message": f"{name}: {sentence(found)}"})
    return found


def pass_rates(done: Sequence[tuple[Task, Samples]], config: FilterConfig) -> list[Row]:
    """Every problem, with how many of its samples are correct, and whether it is kept; a row that can be read as data.

    A sample that could not be judged does not count. Where a problem has some, its ends are the same shares of those
    that could be: with 8 samples and `max_correct = 7`, 6 of 6 are as many as 8 of 8.
    """
    rows = []
    for task, samples in done:
        for problem, row in zip(task.problems, samples, strict=True):
            judged = [sample for sample in row if sample.verdict.status not in NO_FINDING]
            num_correct = sum(sample.verdict.correct for sample in judged)
            outcome = _outcome(num_correct, len(judged), config)
            rows.append(
                {
                    **asdict(problem),
                    "mode": task.mode,
                    "num_correct": num_correct,
                    "num_judged": len(judged),
                    "pass_rate": num_correct / len(judged) if judged else None,
                    "kept": outcome == KEEPS,
                    "outcome": outcome,
                }
            )
    return rows


def _outcome(num_correct: int, num_judged: int, config: FilterConfig) -> str:
    if not num_judged:
        return NOT_JUDGED
    if num_correct * config.num_samples < config.min_correct * num_judged:
        return TOO_HARD
    return TOO_EASY if num_correct * config.num_samples > config.most_correct * num_judged else KEEPS


def _kept_row(row: Row) -> Row:
    """A problem as training reads it, its pass rate in its metadata."""
    fields = {name: row[name] for name in Problem.__dataclass_fields__}
    return fields | {"metadata": {**row["metadata"], "pass_rate": row["pass_rate"]}}


def summary(rows: Sequence[Row], config: FilterConfig) -> Row:
    """Counts and histograms: of all problems, and of each task, mode and language."""
    return {
        "num_samples": config.num_samples,
        "min_correct": config.min_correct,
        "max_correct": config.most_correct,
        **_part(rows, config),
        **{f"per_{field}": _parts(rows, field, config) for field in ("task", "mode", "language")},
    }


def _parts(rows: Sequence[Row], field: str, config: FilterConfig) -> dict[str, Row]:
    names = dict.fromkeys(sorted(row[field] for row in rows))
    return {name: _part([row for row in rows if row[field] == name], config) for name in names}


def _part(rows: Sequence[Row], config: FilterConfig) -> Row:
    outcomes = Counter(row["outcome"] for row in rows)
    judged = [row for row in rows if row["num_judged"]]
    histogram = Counter(row["num_correct"] for row in judged)
    return {
        "num_problems": len(rows),
        "num_kept": outcomes[KEEPS],
        "dropped": {outcome: outcomes[outcome] for outcome in (TOO_EASY, TOO_HARD, NOT_JUDGED)},
        "mean_pass_rate": fmean(row["pass_rate"] for row in judged) if judged else None,
        "num_samples_not_judged": sum(config.num_samples - row["num_judged"] for row in rows),
        "histogram": [histogram[number] for number in range(config.num_samples + 1)],
    }


def _why_nothing(found: Row, config: FilterConfig, stage: str | None) -> str:
    """Args:
    stage: whose settings the ends are; None: they are flags.
    """
    easy, hard, unknown = (found["dropped"][outcome] for outcome in (TOO_EASY, TOO_HARD, NOT_JUDGED))
    least, most = ("--min-correct ", "--max-correct ") if stage is None else ("min_correct = ", "max_correct = ")
    low, high = (
        ("--min-correct", "--max-correct") if stage is None else (f"{stage}.min_correct", f"{stage}.max_correct")
    )
    advice = [f"raise {high}" if easy else "", f"lower {low}" if hard else ""]
    ends = f"with {least}{config.min_correct} and {most}{config.most_correct} of {config.num_samples}"
    advised = " or ".join(filter(None, advice))
    return (
        f"none of {count(found['num_problems'], 'problem')} is kept {ends}: {easy:,} are solved more often, {hard:,} "
        f"less often, {unknown:,} could not be judged: {advised + ', or ' if advised else ''}give it other problems"
    )


def kept_problems(run: Run, stage: AnyStage, prepared: Prepared) -> Prepared:
    """What a stage reads: behind a filter, the kept ones of its problems, each with its pass rate; otherwise all.

    Args:
        prepared: the stage's data, as if there were no filter.

    Raises:
        DataError: none of the kept problems fits into the stage.
        RunFolderError: what the filter's outcome follows from has changed since.
    """
    read = run.recipe.filter_of(stage)
    if read is None:
        return prepared
    folder = run.path(read)
    found = read_json(folder / FILTER_FILE)["follows_from"]
    if changed := ", ".join(
        sorted(differences({**found, "prompts": None}, {"prompts": None, **_follows_from(run, read)}))
    ):
        raise RunFolderError(
            f"{folder}: its problems were sampled and judged with other settings ({changed}): put them back, or choose "
            "another folder with --out"
        )
    rates = {row["id"]: row["pass_rate"] for _, row in iterate_jsonl(folder / PASS_RATES) if row["kept"]}
    ids = [problem.id for problem in prepared.problems]
    indices = [index for index, id in enumerate(ids) if id in rates]
    if not indices:
        raise DataError(
            f"{stage.name}.max_tokens: leaves none of the {len(rates):,} problems that {read.name} kept: raise it"
        )
    return Subset(prepared, indices, [{"pass_rate": rates[ids[index]]} for index in indices])


def _follows_from(run: Run, stage: FilterStage) -> dict[str, Any]:
    """What a filter's outcome follows from besides its own settings and problems."""
    start = run.start_folder(stage)
    assert start is not None  # the recipe was checked
    judge = run.recipe.judge.model_dump(mode="json", exclude=WITHOUT_ADDRESS)
    return {"seed": run.seed(stage), "model": weights_hash(start), "judge": judge}
