"""report.json: what a run measured, in one file."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from open_exaone.base.files import iterate_jsonl, read_json, write_json
from open_exaone.base.records import Problem
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import GREEDY
from open_exaone.pipeline.recipe import Recipe

LIBRARIES = ("open-exaone", "torch", "tokenizers", "safetensors", "reasoning-gym", "numpy")


def write_outcome(path: Path, **values: Any) -> None:
    """Leaves a small JSON file that says that a piece of work is done, and what it took."""
    write_json(path, values)


def read_outcome(path: Path) -> dict[str, Any]:
    """What `write_outcome` left; empty where it left nothing."""
    values: dict[str, Any] = read_json(path) if path.is_file() else {}
    return values


def build_report(folder: RunFolder, recipe: Recipe) -> dict[str, Any]:
    """Gathers the stages' files and writes report.json; everything in it can be gathered again."""
    prepared = read_outcome(folder.prepared_file)
    stages = [_stage_entry(folder, recipe, index) for index in range(len(recipe.stages))]
    seconds = prepared.get("seconds", 0.0)
    seconds += sum(e["train_seconds"] + e["sample_seconds"] + e["eval_seconds"] for e in stages)
    report = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "config_hash": recipe.config_hash,
        "versions": versions(),
        "machine": {key: stages[0].get(key) for key in ("device", "dtype", "threads")},
        "seconds": round(seconds, 1),
        "peak_rss_bytes": max(entry["peak_rss_bytes"] for entry in stages),
        "model": {"num_parameters": recipe.model.num_parameters, **recipe.model.model_dump(mode="json")},
        "num_problems": prepared.get("num_problems", {}),
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


def _stage_entry(folder: RunFolder, recipe: Recipe, index: int) -> dict[str, Any]:
    stage = recipe.stages[index]
    path = folder.stage(index, stage.name)
    trained = read_outcome(path / "outcome.json")
    measured = read_outcome(path / "eval" / "outcome.json")
    tokens = trained["train_tokens"]
    return {
        "name": stage.name,
        "kind": stage.kind,
        "folder": path.name,
        **read_json(path / "eval" / "report.json"),
        **trained,
        "train_flops": 3 * recipe.model.flops_per_token(0) * tokens,
        "sample_seconds": read_outcome(path / "sampling.json").get("sample_seconds", 0.0),
        "eval_seconds": measured.get("seconds", 0.0),
        "peak_rss_bytes": max(trained["peak_rss_bytes"], measured.get("peak_rss_bytes", 0)),
    }


def _showcase(folder: RunFolder, recipe: Recipe) -> list[dict[str, Any]]:
    """The same three problems after every stage."""
    by_stage = [stage_showcase(folder, recipe, index) for index in range(len(recipe.stages))]
    return [
        {"problem": told[0]["problem"], "replies": [reply for stage in told for reply in stage["replies"]]}
        for told in zip(*by_stage, strict=True)
    ]


def stage_showcase(folder: RunFolder, recipe: Recipe, index: int) -> list[dict[str, Any]]:
    """What the model says to the three showcase problems after one stage, greedily."""
    stage = recipe.stages[index]
    rows = greedy_rows(folder.stage(index, stage.name) / "eval")
    replies = {row["problem"]: {key: row[key] for key in ("thought", "answer", "verdict", "why")} for row in rows}
    spoken = {"stage": stage.name, "mode": "reasoning" if stage.thinking else "non-reasoning"}
    fields = ("id", "task", "language", "question", "answer")
    return [
        {
            "problem": {field: getattr(problem, field) for field in fields},
            "replies": [{**spoken, **replies[problem.id]}],
        }
        for problem in choose_showcase(folder.problems(recipe.evaluation.split))
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
