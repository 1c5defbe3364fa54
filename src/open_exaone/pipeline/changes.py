"""What a stage changed: its model beside the one that it began from, on the same problems."""

from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from open_exaone.base.files import iterate_jsonl, read_json
from open_exaone.evaluation.config import GREEDY
from open_exaone.evaluation.paired import paired_difference
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RunFolder

BESIDE = ("mean_thought_tokens", "mean_reply_tokens", "language_mismatch_share", "mode")  # before and after


def changes(folder: RunFolder, recipe: Recipe) -> list[dict[str, Any]]:
    """For each stage, and all that both its model and the one it began from were measured on, the difference of pass@1.

    Returns:
        rows of `stage`, `start`, `measured_on`, `value`, `low`, `high` and `p_value` of the difference paired by
        problem, and [before, after] of other means; none where a stage began from a model that was not measured.
    """
    starts = [(stage.name, start.name) for stage in recipe.trained if (start := recipe.start_of(stage)) is not None]
    compared = {name for pair in starts for name in pair}
    measured = {
        stage.name: _measured(folder.stage(index, stage.name))
        for index, stage in enumerate(recipe.stages)
        if stage.name in compared
    }
    return [
        {"stage": stage, "start": start, "measured_on": name, **_change(before, after)}
        for stage, start in starts
        for name, after in measured[stage].items()
        if (before := measured[start].get(name)) and before["means"].keys() == after["means"].keys()
    ]


def _change(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    found = paired_difference(after["means"], before["means"])
    beside = {name: [before["entry"].get(name), after["entry"].get(name)] for name in BESIDE}
    return {"value": found.value, "low": found.low, "high": found.high, "p_value": found.p_value, **beside}


def _measured(path: Path) -> dict[str, dict[str, Any]]:
    """By task, a stage's entry and the share of correct samples of each problem."""
    report, samples = path / "eval" / "report.json", path / "eval" / "samples.jsonl"
    if not report.is_file() or not samples.is_file():
        return {}
    correct: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for _, row in iterate_jsonl(samples):
        if not row["task"].endswith(GREEDY):
            correct[row["task"]][row["problem"]].append(row["verdict"] == "correct")
    entry = read_json(report)
    return {
        one["measured_on"]: {
            "entry": one,
            "means": {problem: fmean(found) for problem, found in correct[one["measured_on"]].items()},
        }
        for one in entry.get("tasks", [entry])
        if one["measured_on"] in correct
    }
