"""seeds.json: what a recipe's stages scored over several seeds, and how stages differ, paired by problem."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from open_exaone.base.errors import OpenExaoneError
from open_exaone.base.files import write_json
from open_exaone.evaluation.paired import paired_difference
from open_exaone.pipeline.ablation_report import Measured, mean, mean_difference, stage_scores
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.report import versions
from open_exaone.pipeline.spent import stage_spent

RESULTS = "seeds.json"
WAYS = {"samples": False, "greedy": True}  # how replies are drawn: whether they are greedy


@dataclass(frozen=True)
class Seed:
    """What one seed's run left."""

    folder: RunFolder
    scores: Mapping[str, Mapping[str, Measured]]  # by way, then by stage
    seconds: Mapping[str, float]  # of training, by stage


def write_seeds(
    recipe: Recipe, out: Path, folders: Mapping[int, RunFolder], failures: Mapping[int, str]
) -> dict[str, Any]:
    """Gathers what the runs measured and writes `seeds.json`; returns what it holds.

    Args:
        failures: why a run failed, of those that did.
    """
    done, errors = dict[int, Seed](), dict(failures)
    for seed, folder in folders.items():
        if seed in errors:
            continue
        try:
            done[seed] = _gathered(recipe, folder)
        except (OpenExaoneError, OSError, KeyError) as error:
            errors[seed] = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    found = {
        "recipe": recipe.name,
        "config_hash": recipe.config_hash,
        "seeds": list(folders),
        "folders": {str(seed): str(folder.path) for seed, folder in folders.items()},
        "errors": {str(seed): why for seed, why in errors.items()},
        "measured": _about(next(iter(done.values()))) if done else None,
        "ways": {way: _of_way(recipe, done, way) for way in WAYS if _is_measured(done, way)},
        "versions": versions(),
    }
    write_json(out / RESULTS, found)
    return found


def _gathered(recipe: Recipe, folder: RunFolder) -> Seed:
    """The scores of every stage's model on what is measured first, by sampling and greedily."""
    scores: dict[str, dict[str, Measured]] = {}
    for way, greedy in WAYS.items():
        for stage in recipe.trained:
            if tasks := stage_scores(recipe, stage.name, folder, greedy=greedy):
                scores.setdefault(way, {})[stage.name] = next(iter(tasks.values()))
    return Seed(folder, scores, {stage.name: stage_spent(recipe, stage, folder).seconds for stage in recipe.trained})


def _is_measured(done: Mapping[int, Seed], way: str) -> bool:
    return bool(done) and all(way in one.scores for one in done.values())


def _about(seed: Seed) -> dict[str, Any]:
    """What was measured."""
    entry = next(iter(seed.scores["samples"].values())).entry
    return {"name": entry.name, "num_problems": entry.num_problems, "k": entry.k}


def _of_way(recipe: Recipe, done: Mapping[int, Seed], way: str) -> dict[str, Any]:
    """The stages' scores, and what each stage changed beside the one that it began from."""
    stages = [_stage(stage.name, done, way) for stage in recipe.trained]
    starts = [(stage.name, start.name) for stage in recipe.trained if (start := recipe.start_of(stage)) is not None]
    return {"stages": stages, "changes": [_change(stage, start, done, way) for stage, start in starts]}


def _stage(stage: str, done: Mapping[int, Seed], way: str) -> dict[str, Any]:
    scores = {seed: one.scores[way][stage].entry.pass_at_1 for seed, one in done.items()}
    rows = [one.scores[way][stage].row() for one in done.values()]
    return {
        "name": stage,
        "by_seed": {str(seed): score for seed, score in scores.items()},
        "mean": fmean(scores.values()),
        "sd": stdev(scores.values()) if len(scores) > 1 else None,
        "commonest_answer_share": mean([row["commonest_answer_share"] for row in rows]),
        "train_seconds": fmean(one.seconds[stage] for one in done.values()),
    }


def _change(stage: str, start: str, done: Mapping[int, Seed], way: str) -> dict[str, Any]:
    """A stage's gain with each seed, and over all."""
    pairs = {seed: (one.scores[way][stage], one.scores[way][start]) for seed, one in done.items()}
    return {
        "stage": stage,
        "start": start,
        "by_seed": {
            str(seed): asdict(paired_difference(after.scores, before.scores)) for seed, (after, before) in pairs.items()
        },
        "pooled": mean_difference(list(pairs.values())),
    }
