"""What a recipe's stages scored over several seeds: tables, and seeds.html, one page that loads and runs nothing."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_json, write_text
from open_exaone.base.text import count
from open_exaone.present import formatting
from open_exaone.present.formatting import points
from open_exaone.present.page_parts import TEMPLATES, template

Found = Mapping[str, Any]  # what seeds.json holds
Table = tuple[list[str], list[list[str]]]
DROPPED_FIRST = ("train time", "most frequent answer", "sd", "p", "sd over seeds")
HOW = (
    "pass@1: the mean over problems of the share of correct samples, or of correct greedy replies. sd: the standard "
    "deviation over seeds. A gain is paired by problem. Of one seed, the 95% interval and p are over problems, for its "
    "two models. Over all seeds each problem's gain is averaged first; how far other seeds would move the mean "
    "is another matter: its sd, and Student's interval over seeds. Most frequent answer: the share of samples that "
    "give their family's commonest answer, a mean over families; it rises where a model guesses."
)


def write_seeds_page(folder: Path) -> Path:
    """Writes `seeds.html` from `seeds.json`; returns its path.

    Raises:
        DataError: seeds.json is missing or broken.
    """
    found = read_json(folder / "seeds.json")
    if not isinstance(found, dict) or not isinstance(found.get("ways"), dict):
        raise DataError(f"{folder / 'seeds.json'}: has no scores: run the seeds again")
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    page: str = template("seeds.html.jinja").render(
        found=found,
        sentences=sentences(found),
        stages=stages_table(found),
        gains=gains_table(found),
        every=gains_table(found, by_seed=True),
        how=HOW,
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    path = folder / "seeds.html"
    write_text(path, page)
    return path


def sentences(found: Found) -> list[str]:
    """Which seeds, how they were measured, and what each stage gained over all of them."""
    lines = [f"{found['recipe']}, trained once with each of {count(len(found['seeds']), 'seed')}: {_listed(found)}."]
    if about := found["measured"]:
        asked = f"{count(about['num_problems'], 'problem')} of {about['name']}, {count(about['k'], 'sample')} each"
        lines.append(f"Scores are pass@1 on {asked}, and greedily.")
    for change in found["ways"].get("samples", {}).get("changes", []):
        gains = [one["value"] for one in change["by_seed"].values()]
        more, pooled = sum(value > 0 for value in gains), change["pooled"]
        lines.append(
            f"From {change['start']} to {change['stage']} the score changes by {points(pooled['value'])} points"
            f"{_over_seeds(pooled)}; it rises with {more} of {count(len(gains), 'seed')}."
        )
    lines += [f"The run with seed {seed} failed and is left out: {why}" for seed, why in found["errors"].items()]
    return lines


def _listed(found: Found) -> str:
    return ", ".join(map(str, found["seeds"]))


def _over_seeds(pooled: Found) -> str:
    """Student's interval over seeds, in words."""
    if pooled["seeds_ci95"] is None:
        return ""
    low, high = map(points, pooled["seeds_ci95"])
    return f" (95% interval over seeds {low} to {high})"


def stages_table(found: Found) -> Table:
    """A row for each stage and way of replying: each seed's score, mean and standard deviation."""
    seeds = [str(seed) for seed in found["seeds"]]
    by_seed, means = [f"seed {seed}" for seed in seeds], ["mean", "sd", "most frequent answer", "train time"]
    rows = [
        [
            stage["name"],
            way,
            *(formatting.percent(stage["by_seed"].get(seed)) for seed in seeds),
            formatting.percent(stage["mean"]),
            _spread(stage["sd"]),
            formatting.percent(stage["commonest_answer_share"]),
            formatting.duration(stage["train_seconds"]),
        ]
        for way, of_way in found["ways"].items()
        for stage in of_way["stages"]
    ]
    return ["stage", "replies", *by_seed, *means], rows


def gains_table(found: Found, *, by_seed: bool = False) -> Table:
    """A row for each stage and way of replying: what it gained over all seeds; or with each seed by itself."""
    titles = ["stage", "replies", *(["seed"] if by_seed else []), "gain", "95% interval", "p"]
    titles += [] if by_seed else ["sd over seeds", "95% over seeds"]
    rows = []
    for way, of_way in found["ways"].items():
        for change in of_way["changes"]:
            name = f"{change['start']} → {change['stage']}"
            if by_seed:
                rows += [[name, way, seed, *_gain(gain)] for seed, gain in change["by_seed"].items()]
                continue
            pooled = change["pooled"]
            over = formatting.NONE if pooled["seeds_ci95"] is None else _bounds(*pooled["seeds_ci95"])
            rows.append([name, way, *_gain(pooled), _spread(pooled["sd"]), over])
    return titles, rows


def _gain(gain: Found) -> list[str]:
    """A gain, its interval over problems, and p."""
    p_value = formatting.NONE if gain["p_value"] is None else f"{gain['p_value']:.2g}"
    return [points(gain["value"]), _bounds(gain["low"], gain["high"]), p_value]


def _spread(value: float | None) -> str:
    return formatting.NONE if value is None else f"{100 * value:.1f}"


def _bounds(low: float, high: float) -> str:
    return f"{points(low)} to {points(high)}"
