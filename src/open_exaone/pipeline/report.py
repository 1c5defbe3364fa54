"""report.json: what a run measured, in one file."""

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from open_exaone.base.files import iterate_jsonl, read_json, write_json
from open_exaone.base.records import MODES, Problem
from open_exaone.evaluation.config import GREEDY
from open_exaone.model.config import ModelConfig
from open_exaone.pipeline.changes import changes
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.faithfulness import FOLDER
from open_exaone.pipeline.folder import FILTER_FILE, RunFolder
from open_exaone.pipeline.measure import thinks_after
from open_exaone.pipeline.problems import FAMILIES_FILE
from open_exaone.pipeline.source import resolve_model
from open_exaone.train.config import FilterStage

MACHINE = ("hardware", "device", "dtype", "threads", "ranks")
LIBRARIES = ("open-exaone", "torch", "tokenizers", "safetensors", "reasoning-gym", "numpy")


def build_report(folder: RunFolder, recipe: Recipe) -> dict[str, Any]:
    """Gathers the stages' files and writes report.json; everything in it can be gathered again."""
    prepared = _read(folder.prepared_file)
    stages = [_stage_entry(folder, recipe, index) for index in range(len(recipe.stages))]
    seconds = prepared.get("seconds", 0.0)
    seconds += sum(e.get("train_seconds", 0.0) + e["sample_seconds"] + e["eval_seconds"] for e in stages)
    shape = _shape(folder, recipe)
    report = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "config_hash": recipe.config_hash,
        "versions": versions(),
        "machine": {key: next((e[key] for e in stages if key in e), None) for key in MACHINE},
        "seconds": round(seconds, 1),
        "peak_rss_bytes": max(entry["peak_rss_bytes"] for entry in stages),
        "model": {
            "source": recipe.model if isinstance(recipe.model, str) else None,
            "is_on_hub": isinstance(recipe.model, str) and not Path(recipe.model).exists(),
            "num_parameters": shape.num_parameters,
            **shape.model_dump(mode="json"),
        },
        "num_examples": prepared.get("num_examples", {}),
        "shared_prompts": prepared.get("shared_prompts", []),
        "reuses": {name: data.reuses for name, data in recipe.data.items() if data.reuses is not None},
        "families": _read(folder.path / "problems" / FAMILIES_FILE),
        "stages": stages,
        "changes": changes(folder, recipe),
        "showcase": _showcase(folder, recipe),
    }
    write_json(folder.report_file, report)
    return report


def versions() -> dict[str, str]:
    """Python's, the libraries' and the system's versions."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _shape(folder: RunFolder, recipe: Recipe) -> ModelConfig:
    from open_exaone.checkpoint.folder import load_config

    if recipe.shape is not None:
        return recipe.shape_after(recipe.stages[-1], recipe.shape)
    models = folder.model_folders()
    return load_config(models[-1] if models else resolve_model(Path(str(recipe.model))))


def _read(path: Path) -> dict[str, Any]:
    """A small JSON file's content; empty where there is none."""
    values: dict[str, Any] = read_json(path) if path.is_file() else {}
    return values


def _stage_entry(folder: RunFolder, recipe: Recipe, index: int) -> dict[str, Any]:
    stage = recipe.stages[index]
    path, before = folder.stage(index, stage.name), recipe.start_of(stage)
    trained, measured = _read(path / "outcome.json"), _read(path / "eval" / "outcome.json")
    filtered = _read(path / FILTER_FILE) if isinstance(stage, FilterStage) else {}
    sampled = filtered or _read(path / "sampling.json")
    thoughts = _read(path / "eval" / FOLDER / "report.json").get("tasks")
    notes = [note for outcome in (sampled, trained, measured) for note in outcome.get("notes", [])]
    return {
        "name": stage.name,
        "kind": stage.kind,
        "folder": path.name,
        "start": None if before is None else before.name,
        "data": stage.data,
        **_read(path / "eval" / "report.json"),
        **trained,
        **({"filter": filtered} if filtered else sampled),
        **({"faithfulness": thoughts} if thoughts else {}),
        "notes": list(dict.fromkeys(notes)),
        "sample_seconds": sampled.get("sample_seconds", 0.0),
        "eval_seconds": measured.get("seconds", 0.0),
        "peak_rss_bytes": max(one.get("peak_rss_bytes", 0) for one in (trained, sampled, measured)),
    }


def _showcase(folder: RunFolder, recipe: Recipe) -> list[dict[str, Any]]:
    """The same few problems after every stage; none where nothing is measured on the recipe's own data."""
    stages = [recipe.stages.index(stage) for stage in recipe.trained]
    if not stages or not (problems := _shown_problems(folder, recipe)):
        return []
    replies = [_greedy_replies(folder, recipe, index) for index in stages]
    chosen = choose_showcase(problems, replies[0] if len(replies) > 1 else {}, replies[-1])
    return [_shown(problem, [reply[problem.id] for reply in replies]) for problem in chosen]


def stage_showcase(folder: RunFolder, recipe: Recipe, index: int) -> list[dict[str, Any]]:
    """What the model replies to a few problems after one stage, greedily: what it learned, and what it still fails."""
    if not (problems := _shown_problems(folder, recipe)):
        return []
    replies, start = _greedy_replies(folder, recipe, index), recipe.start_of(recipe.stages[index])
    before = _greedy_replies(folder, recipe, recipe.stages.index(start)) if start else {}
    return [_shown(problem, [replies[problem.id]]) for problem in choose_showcase(problems, before, replies)]


def choose_showcase(
    problems: list[Problem], before: Mapping[str, dict[str, Any]], after: Mapping[str, dict[str, Any]]
) -> list[Problem]:
    """The first problems that were learned (right after, not before), in English, in Korean and of a family without
    worked thoughts; and the first that still fails. Where none was learned, one that is right after.

    Args:
        before, after: greedy replies with their `verdict`, by the problem's id; of `before`, there may be none.
    """
    right = [problem for problem in problems if after[problem.id]["verdict"] == "correct"]
    learned = [problem for problem in right if before.get(problem.id, {}).get("verdict") != "correct"]
    kinds = (
        lambda problem: problem.thought and problem.language == "en",
        lambda problem: problem.thought and problem.language == "ko",
        lambda problem: not problem.thought,
    )
    found = [next(filter(kind, learned), None) or next(filter(kind, right), None) for kind in kinds]
    shown = [problem for problem in found if problem] or (learned or right)[:1]
    return shown + [problem for problem in problems if after[problem.id]["verdict"] != "correct"][:1]


def _shown_problems(folder: RunFolder, recipe: Recipe) -> list[Problem]:
    evaluation = recipe.evaluation
    if evaluation is None or not evaluation.names:
        return []
    return folder.problems(evaluation.shown or evaluation.names[0], evaluation.limit)


def _shown(problem: Problem, replies: list[dict[str, Any]]) -> dict[str, Any]:
    fields = ("id", "task", "language", "question", "answer")
    return {"problem": {field: getattr(problem, field) for field in fields}, "replies": replies}


def _greedy_replies(folder: RunFolder, recipe: Recipe, index: int) -> dict[str, dict[str, Any]]:
    """What the model that a stage left replied to the problems that are shown, by their ids."""
    stage, evaluation = recipe.stages[index], recipe.evaluation
    assert evaluation is not None  # the caller has looked
    spoken = {"stage": stage.name, "mode": MODES[thinks_after(folder, recipe, stage)]}
    rows = greedy_rows(folder.stage(index, stage.name) / "eval", evaluation.shown or evaluation.names[0])
    return {
        row["problem"]: {**spoken, **{key: row[key] for key in ("thought", "answer", "verdict", "why")}} for row in rows
    }


def greedy_rows(folder: Path, data: str) -> list[dict[str, Any]]:
    """A stage's greedy replies to the problems of one of the run's data, as lines of its samples.jsonl."""
    return [row for _, row in iterate_jsonl(folder / "samples.jsonl") if row["task"] == data + GREEDY]
