"""What every measurement of a model needs: where it runs, which model it is, and a run's own way of measuring."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Problem, Sampling
from open_exaone.evaluation.config import GREEDY, NON_REASONING, OWN_SAMPLING, EvaluationConfig
from open_exaone.evaluation.report import Entry
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.source import is_run, resolve_model
from open_exaone.rollout.run import OnProgress
from open_exaone.train.config import AnyStage
from open_exaone.verify.settings import JudgeSettings

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Machine:
    """Where tensors are computed and programs run; not part of any recipe."""

    device: str = "auto"  # "auto", "cpu", "cuda"
    dtype: str = "auto"  # "auto", "float32", "bfloat16"
    unsafe_code_execution: bool = False  # run generated programs even where they cannot be isolated

    def judge(self, settings: JudgeSettings) -> JudgeSettings:
        """A recipe's settings on this machine."""
        return settings.model_copy(update={"unsafe_code_execution": self.unsafe_code_execution})


def own_tasks(
    problems: Sequence[Problem], config: EvaluationConfig, name: str, *, context: int, thinking: bool, source: str = ""
) -> list[Task]:
    """A run's own measurement: k samples of every problem, and one greedy reply; in both modes, where a model reasons
    and its evaluation has `both_modes`.

    Args:
        name: of the problems.
        context: in tokens; of several models that are compared, the shortest one's.
    """
    sampling = Sampling(**OWN_SAMPLING | config.sampling | {"max_new_tokens": config.reply_limit(context)})
    samples = Task(name, name, tuple(problems), sampling, thinking, source)
    asked = [samples]
    if thinking and name in config.in_both_modes:
        asked.append(replace(samples, name=name + NON_REASONING, thinking=False))
    greedy = replace(sampling, temperature=0.0, num_samples=1)
    return [each for one in asked for each in (one, replace(one, name=one.name + GREEDY, sampling=greedy))]


def thinks_after(folder: RunFolder, recipe: Recipe, stage: AnyStage) -> bool:
    """Whether the model that a stage leaves is measured in reasoning mode: by default as its data teaches."""
    mode = recipe.evaluation.mode if recipe.evaluation else None
    if mode is not None:
        return mode == "reasoning"
    prepared = folder.prepared()
    return stage.thinking if prepared is None else bool(prepared["thinking"][stage.name])


def stage_report(entries: Sequence[Entry], *, has_suite: bool) -> dict[str, Any]:
    """A stage's `eval/report.json`: of each data, the samples and the greedy replies; of a suite, each task."""
    greedy = {entry.name: entry for entry in entries if entry.name.endswith(GREEDY)}
    samples = [entry for entry in entries if entry.name not in greedy]
    rows = [stage_entry(entry, greedy.get(entry.name + GREEDY)) for entry in samples]
    return {**rows[0], "tasks": rows} if has_suite or len(rows) > 1 else rows[0]


def is_repeated(stored: dict[str, Any], entries: Sequence[Entry], *, has_suite: bool) -> bool:
    """Whether a new measurement equals what a stage's report stores of it, besides the stage's own suite."""
    again = stage_report(entries, has_suite=has_suite)
    known = {row["measured_on"]: row for row in stored.get("tasks", [stored])}
    return all(known.get(row["measured_on"]) == row for row in again.get("tasks", [again]))


def stage_entry(samples: Entry, greedy: Entry | None = None) -> dict[str, Any]:
    """The fields of a stage's entry in report.json that come from its measurement."""
    assert samples.rates.truncated is not None  # of generations, it is known
    mismatch = samples.rates.language_mismatch
    tokens = samples.tokens  # None where no sample has a reply
    return {
        "mode": samples.mode,
        "measured_on": samples.name,
        "num_problems": samples.num_problems,
        "pass_at_1": samples.pass_at_1,
        "ci95": list(samples.ci95),
        "k": samples.k,
        "greedy": greedy.pass_at_1 if greedy else None,
        "cons_at_k": samples.cons_at_k,
        "pass_at_k": samples.pass_at_k,
        "mean_thought_tokens": tokens.thought if tokens else None,
        "mean_reply_tokens": tokens.reply if tokens else None,
        "truncated_share": samples.rates.truncated.value,
        "unparsed_share": samples.rates.no_answer.value,
        "error_share": samples.rates.error.value,
        "language_mismatch_share": mismatch.value if mismatch else None,
        "per_task": {name: part.model_dump(mode="json") for name, part in samples.per_task.items()},
        "per_language": {name: part.model_dump(mode="json") for name, part in samples.per_language.items()},
        **({"per_cell": [cell.model_dump(mode="json") for cell in samples.per_cell]} if samples.per_cell else {}),
    }


def sampling_progress(on_event: OnEvent, label: str) -> OnProgress:
    """Reports how far sampling is under `label`."""
    started = time.perf_counter()

    def report(num_done: int, num_wanted: int, num_tokens: int) -> None:
        speed = num_tokens / (time.perf_counter() - started)
        on_event({"stage": label, "step": num_done, "num_steps": num_wanted, "tokens_per_second": speed})

    return report


def find_model(source: Path, stage: str | None = None) -> tuple[Path, bool]:
    """The model's folder, and whether it is to be asked in reasoning mode.

    Raises:
        ConfigError: there is no such model or stage.
    """
    if not is_run(source):
        if stage is not None:
            raise ConfigError(f"--stage {stage}: {source} is not a run's folder, and only a run has stages")
        return resolve_model(source), True
    run = RunFolder(source)
    recipe = run.recipe()
    folders = {one.name: run.stage(recipe.stages.index(one), one.name) / "model" for one in recipe.trained}
    if stage is not None and stage not in folders:
        raise ConfigError(f"--stage {stage}: must be one of {', '.join(folders) or 'none: a filter leaves no model'}")
    folder = folders[stage] if stage is not None else resolve_model(source)
    if not folder.is_dir():
        raise ConfigError(f"--stage {stage}: has not finished yet: run `{run.resume_command}`")
    thinking = {folders[one.name]: thinks_after(run, recipe, one) for one in recipe.trained}
    return folder, thinking[folder]
