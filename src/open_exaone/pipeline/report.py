"""report.json: what a run measured, in one file."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from open_exaone.base.files import iterate_jsonl, read_json, write_json
from open_exaone.base.records import Problem
from open_exaone.model.config import ModelConfig
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import GREEDY, thinks_after

LIBRARIES = ("open-exaone", "torch", "tokenizers", "safetensors", "reasoning-gym", "numpy")


def build_report(folder: RunFolder, recipe: Recipe) -> dict[str, Any]:
    """Gathers the stages' files and writes report.json; everything in it can be gathered again."""
    prepared = _read(folder.prepared_file)
    stages = [_stage_entry(folder, recipe, index) for index in range(len(recipe.stages))]
    seconds = prepared.get("seconds", 0.0)
    seconds += sum(e["train_seconds"] + e["sample_seconds"] + e["eval_seconds"] for e in stages)
    shape = _shape(folder, recipe)
    report = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "config_hash": recipe.config_hash,
        "versions": versions(),
        "machine": {key: stages[0].get(key) for key in ("device", "dtype", "threads")},
        "seconds": round(seconds, 1),
        "peak_rss_bytes": max(entry["peak_rss_bytes"] for entry in stages),
        "model": {
            "source": recipe.model if isinstance(recipe.model, str) else None,
            "num_parameters": shape.num_parameters,
            **shape.model_dump(mode="json"),
        },
        "num_examples": prepared.get("num_examples", {}),
        "shared_prompts": prepared.get("shared_prompts", []),
        "stages": stages,
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

    return recipe.shape or load_config(folder.stage(0, recipe.stages[0].name) / "model")


def _read(path: Path) -> dict[str, Any]:
    """A small JSON file's content; empty where there is none."""
    values: dict[str, Any] = read_json(path) if path.is_file() else {}
    return values


def _stage_entry(folder: RunFolder, recipe: Recipe, index: int) -> dict[str, Any]:
    stage = recipe.stages[index]
    path, before = folder.stage(index, stage.name), recipe.start_of(stage)
    trained, measured = _read(path / "outcome.json"), _read(path / "eval" / "outcome.json")
    sampled = _read(path / "sampling.json")
    notes = [note for outcome in (sampled, trained, measured) for note in outcome.get("notes", [])]
    return {
        "name": stage.name,
        "kind": stage.kind,
        "folder": path.name,
        "start": None if before is None else before.name,
        "data": stage.data,
        **_read(path / "eval" / "report.json"),
        **trained,
        **sampled,
        "notes": list(dict.fromkeys(notes)),
        "sample_seconds": sampled.get("sample_seconds", 0.0),
        "eval_seconds": measured.get("seconds", 0.0),
        "peak_rss_bytes": max(trained["peak_rss_bytes"], measured.get("peak_rss_bytes", 0)),
    }


def _showcase(folder: RunFolder, recipe: Recipe) -> list[dict[str, Any]]:
    """The same three problems after every stage; none where nothing is measured on the recipe's own data."""
    by_stage = [stage_showcase(folder, recipe, index) for index in range(len(recipe.stages))]
    return [
        {"problem": items[0]["problem"], "replies": [reply for item in items for reply in item["replies"]]}
        for items in zip(*by_stage, strict=True)
    ]


def stage_showcase(folder: RunFolder, recipe: Recipe, index: int) -> list[dict[str, Any]]:
    """What the model replies to the three showcase problems after one stage, greedily."""
    stage, evaluation = recipe.stages[index], recipe.evaluation
    if evaluation is None or evaluation.data is None:
        return []
    rows = greedy_rows(folder.stage(index, stage.name) / "eval")
    replies = {row["problem"]: {key: row[key] for key in ("thought", "answer", "verdict", "why")} for row in rows}
    spoken = {"stage": stage.name, "mode": "reasoning" if thinks_after(folder, recipe, stage) else "non_reasoning"}
    fields = ("id", "task", "language", "question", "answer")
    return [
        {
            "problem": {field: getattr(problem, field) for field in fields},
            "replies": [{**spoken, **replies[problem.id]}],
        }
        for problem in choose_showcase(folder.problems(evaluation.data, evaluation.limit))
    ]


def greedy_rows(folder: Path) -> list[dict[str, Any]]:
    """A stage's greedy replies, as lines of its samples.jsonl."""
    return [row for _, row in iterate_jsonl(folder / "samples.jsonl") if row["task"].endswith(GREEDY)]


def choose_showcase(problems: list[Problem]) -> list[Problem]:
    """Three problems to follow: the first English one, the first Korean one, the first without worked thoughts."""
    english = [problem for problem in problems if problem.language == "en" and problem.thought]
    korean = [problem for problem in problems if problem.language == "ko" and problem.thought]
    unworked = [problem for problem in problems if not problem.thought]
    return [kind[0] for kind in (english, korean, unworked) if kind]
