"""What curve.py reads of finished runs: curve.json's points, and the tables of docs/findings.md."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, NamedTuple

from open_exaone.evaluation.paired import paired_difference
from open_exaone.model.config import ModelConfig
from open_exaone.pipeline.ablation_report import Measured, stage_scores
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.report import versions
from open_exaone.pipeline.spent import stages_spent
from open_exaone.present.formatting import percent, points

VALIDATION = "validation"
TITLES = {"base": "base", "sft": "SFT", "prefer": "SimPER", "rl": "RL"}  # of the recipe's stages
NONE = "–"

Found = Mapping[str, Any]  # what curve.json holds


class ReadRun(NamedTuple):
    """A finished run: what curve.json has of it, and its last model's score on each problem, for pairs."""

    found: dict[str, Any]
    scores: Mapping[str, float]


def read_run(folder: RunFolder) -> ReadRun:
    """Each stage's pass@1 with its interval, what it gained on the stage before, and its FLOPs.

    Raises:
        DataError: a file of it is missing or broken.
    """
    recipe = folder.recipe()
    spent, before, stages, flops = stages_spent(recipe, folder), None, [], 0.0
    for stage in recipe.trained:
        tasks = stage_scores(recipe, stage.name, folder)
        after = next(iter(tasks.values()))
        flops += spent[stage.name].flops or 0.0
        stages.append(
            {
                "stage": stage.name,
                "score": after.entry.pass_at_1,
                "ci95": list(after.entry.ci95),
                "validation": tasks[VALIDATION].entry.pass_at_1 if VALIDATION in tasks else None,
                "gain": None if before is None else asdict(paired_difference(after.scores, before.scores)),
                "flops": spent[stage.name].flops,
                "flops_so_far": flops,
                "trained_tokens": spent[stage.name].trained_tokens,
                "sampled_tokens": spent[stage.name].sampled_tokens,
            }
        )
        before = after
    assert before is not None and isinstance(recipe.model, ModelConfig)
    return ReadRun(
        {
            "parameters": recipe.model.num_parameters,
            "seed": recipe.seed,
            "measured": _about(before),
            "stages": stages,
        },
        before.scores,
    )


def _about(measured: Measured) -> dict[str, Any]:
    entry = measured.entry
    return {"name": entry.name, "num_problems": entry.num_problems, "k": entry.k}


def find_points(runs: Mapping[str, ReadRun], names: Sequence[str]) -> dict[str, Any]:
    """What curve.json holds.

    Args:
        runs: the finished ones by name, such as 0.3M-x0.25.
        names: of all runs of the table, sizes from the smallest.

    Raises:
        DataError: two runs were measured on other problems.
    """
    found = [{"name": name, **_size_and_share(name), **runs[name].found} for name in names if name in runs]
    shares = sorted({one["share"] for one in found})
    pairs = [pair for share in shares for pair in pairwise(one["name"] for one in found if one["share"] == share)]
    return {
        "runs": found,
        "table": list(names),
        "missing": [name for name in names if name not in runs],
        "sizes": [
            {"larger": large, "smaller": small, **asdict(paired_difference(runs[large].scores, runs[small].scores))}
            for small, large in pairs
        ],
        "versions": versions(),
    }


def sizes_of(found: Found) -> list[str]:
    """All sizes of the table, from the smallest."""
    return list(dict.fromkeys(_size_and_share(name)["size"] for name in found["table"]))


def _size_and_share(name: str) -> dict[str, Any]:
    size, _, share = name.rpartition("-x")
    return {"size": size, "share": float(share)}


def shared_share(found: Found) -> float:
    """The share of the data at which most sizes have a run; the largest of those."""
    shares = [run["share"] for run in found["runs"]]
    return max(shares, key=lambda share: (shares.count(share), share))


def tables(found: Found) -> str:
    """Markdown: every run's scores, its stages' gains, and sizes beside the next smaller one."""
    stages = [stage["stage"] for stage in found["runs"][0]["stages"]]
    titles = [TITLES.get(stage, stage) for stage in stages]
    runs, absent = {run["name"]: run for run in found["runs"]}, [*[NONE] * len(stages), "not run to its end"]
    rows = [_run_row(runs[name]) if name in runs else [*_of_name(name), *absent] for name in found["table"]]
    gains = [
        [*_of_name(run["name"]), *(_difference(stage["gain"]) for stage in run["stages"] if stage["gain"] is not None)]
        for run in found["runs"]
    ]
    sizes = [[one["larger"], one["smaller"], _difference(one)] for one in found["sizes"]]
    return "\n\n".join(
        (
            _markdown(["parameters", "data", *titles, "FLOPs"], rows),
            _markdown(["parameters", "data", *(f"gain of {title}" for title in titles[1:])], gains),
            _markdown(["larger", "smaller", "change of the last model"], sizes),
        )
    )


def _run_row(run: Found) -> list[str]:
    *others, last = run["stages"]
    low, high = last["ci95"]
    final = f"{percent(last['score'])} ({100 * low:.1f} to {100 * high:.1f})"
    scores = [*(percent(stage["score"]) for stage in others), final]
    return [*_of_name(run["name"]), *scores, f"{last['flops_so_far']:.2g}"]


def _of_name(name: str) -> list[str]:
    size, _, share = name.rpartition("-x")
    return [size, share]


def _difference(gain: Found) -> str:
    return f"{points(gain['value'])} ({points(gain['low'])} to {points(gain['high'])})"


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
