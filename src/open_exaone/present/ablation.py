"""What an ablation found: sentences, tables, and ablation.html, one page that loads nothing and runs nothing."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_json, write_text
from open_exaone.base.text import count
from open_exaone.present import formatting
from open_exaone.present.evaluation_plots import scores
from open_exaone.present.formatting import points
from open_exaone.present.page_parts import TEMPLATES, template
from open_exaone.present.plots import Point

Found = Mapping[str, Any]  # what ablation.json holds
Table = tuple[list[str], list[list[str]]]
DROPPED_FIRST = (
    *("useful groups", "samples", "most frequent answer", "truncated", "other language", "passes", "sampled tokens"),
    *("train tokens", "train time", "reply tokens", "sd over seeds"),
)
HOW = (
    "pass@1: the mean over problems of the share of correct samples. Minus the baseline: each problem's difference is "
    "averaged over the seeds, and the interval is over problems: it says how far other problems would move the "
    "difference between these very models. How far other seeds would move it is its standard deviation (sd) over "
    "seeds. Reply tokens: thought and answer. Most frequent answer: the share of samples that give their family's "
    "commonest answer, a mean over families; it rises where a model guesses. Train time includes sampling; it depends "
    "on the machine and on what else ran on it. FLOPs: of the tokens that were trained and sampled, as "
    "`exaone run --dry-run` counts them; passes: over the data of the last stage."
)
STYLE = "figure { max-width: 36rem; }"


def write_ablation_page(folder: Path) -> Path:
    """Writes `ablation.html` from `ablation.json`; returns its path.

    Raises:
        DataError: ablation.json is missing or broken.
    """
    found = read_json(folder / "ablation.json")
    if not isinstance(found, dict) or not isinstance(found.get("arms"), list):
        raise DataError(f"{folder / 'ablation.json'}: has no arms: run the ablation again")
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8") + STYLE
    page: str = template("ablation.html.jinja").render(
        found=found,
        sentences=sentences(found),
        arms=arms_table(found),
        others=others_table(found),
        families=families_table(found),
        runs=runs_table(found),
        plot=_plot(found),
        failures=[(f"{arm['name']}-{run['seed']}", run["error"]) for arm, run in _runs(found) if "error" in run],
        how=HOW,
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    path = folder / "ablation.html"
    write_text(path, page)
    return path


def sentences(found: Found) -> list[str]:
    """What was changed, what was shared, which seeds, how it was measured; then how each arm differs from the first."""
    seeds = f"seed{'' if len(found['seeds']) == 1 else 's'} {_listed([str(seed) for seed in found['seeds']])}"
    lines = [*([] if _is_of_run(found) else [_changes(found)]), *_shared(found)]
    if not _is_of_run(found):
        ran = f"Every arm ran {_listed(found['stages'])} with {seeds}"
        lines.append(f"{ran}: a seed draws other samples and another order of the data.")
    if about := found["measured"]:
        asked = f"{count(about['num_problems'], 'problem')} of {about['name']}, {count(about['k'], 'sample')} each"
        lines.append(f"Scores are pass@1 on {asked}.")
    if (constant := found.get("constant_answer")) is not None:
        always = "Always giving the commonest answer of each problem's family would score"
        lines.append(f"{always} {formatting.percent(constant)}.")
    differs = [_differs(arm, found["baseline"]) for arm in found["arms"] if arm.get("difference")]
    lines += differs
    if differs and len(found["seeds"]) == 1:
        lines.append(f"Every arm was trained once, with {seeds}: nothing is known of the spread over seeds.")
    tokens = {arm["name"]: arm["train_tokens"] for arm in found["arms"] if arm.get("train_tokens") is not None}
    if len(set(tokens.values())) > 1 and not found.get("match"):
        each = "; ".join(f"{name} {formatting.number(number)}" for name, number in tokens.items())
        lines.append(f"The arms were not trained on equally many tokens (means over seeds): {each}.")
    if missing := sum("error" in run for _, run in _runs(found)):
        lines.append(f"{count(missing, 'run')} failed and {'is' if missing == 1 else 'are'} left out of all numbers.")
    return lines


def _is_of_run(found: Found) -> bool:
    """Whether the arms begin from a finished run, which is the first of them."""
    return "taken" in (found["shared"] or {})


def _changes(found: Found) -> str:
    parts = []
    for arm in found["arms"]:
        baseline = " (the baseline)" if arm["name"] == found["baseline"] else ""
        parts.append(f"{arm['name']}{baseline}: {_settings(arm['changes']) or 'the recipe as it is'}")
    return f"{count(len(parts), 'arm')}. {'; '.join(parts)}."


def _settings(changes: Found) -> str:
    return ", ".join(f"{key} = {_value(value)}" for key, value in changes.items())


def _value(value: object) -> str:
    """A value as a recipe has it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _shared(found: Found) -> list[str]:
    """What arms have in common, and how long they train where that was matched."""
    shared = found["shared"]
    if shared is None:
        return [f"Nothing was shared: {found['stage']} is the recipe's first stage."]
    if _is_of_run(found):
        return _of_run(found)
    were = "was" if len(shared["stages"]) == 1 else "were"
    text = f"{_listed(shared['stages'])} {were} trained once, in {shared['folder']}, for all arms and seeds"
    if "score" not in shared:
        return [f"{text}."]
    score = formatting.percent(shared["score"])
    return [f"{text}; every arm began from the model of {shared['begins_from']}, which scores {score}."]


def _of_run(found: Found) -> list[str]:
    """Which run it is that arms begin from, what each of them trains, and how long."""
    taken, baseline = found["shared"]["taken"], found["baseline"]
    lines = [f"{baseline} is the finished run in {found['shared']['folder']}; nothing of it was trained again."]
    for arm in found["arms"]:
        if arm["name"] == baseline:
            continue
        stages = taken[arm["name"]]
        own = [name for name in arm["stages"] if name not in stages]
        start = f"the run's model of {stages[-1]}" if stages else "the recipe's own model"
        text = f"{arm['name']}: {_listed(own)}, from {start}"
        if settings := _settings({key: value for key, value in arm["changes"].items() if key != "stages"}):
            text += f", with {settings}"
        if match := found["match"].get(arm["name"]):
            what, of = ("FLOPs", "flops_of") if "flops_of" in match else ("trained tokens", "tokens_of")
            text += f", for as many {what} as the run's {_listed(match[of])} took"
            if arm.get("passes") is not None:
                text += f" ({arm['passes']:.3g} passes over its data)"
        lines.append(f"{text}.")
    shared = found["shared"]["stages"]
    counted = f"all stages after {_listed(shared)}" if shared else "all stages"
    return [*lines, f"Tokens, FLOPs and time are those of {counted}."]


def _differs(arm: Found, baseline: str) -> str:
    """How an arm differs from the baseline, in words."""
    found = arm["difference"]
    value, bounds = found["value"], (found["low"], found["high"])
    how = (
        f"{abs(100 * value):.1f} points {'more' if value > 0 else 'less'} than"
        if points(value) != "0.0"
        else "the same as"
    )
    text = (
        f"{arm['name']} scores {how} {baseline} (95% interval over problems {points(bounds[0])} to {points(bounds[1])})"
    )
    by_seed = ", ".join(map(points, found["by_seed"]))
    text += f"; by seed: {by_seed}." if len(found["by_seed"]) > 1 else "."
    if bounds[0] <= 0 <= bounds[1]:
        text += " The interval over problems holds 0: no difference was shown for other problems."
    if found["seeds_ci95"] is None:
        return text
    low, high = found["seeds_ci95"]
    over = f"Over seeds the standard deviation of the difference is {100 * found['sd']:.1f} points"
    mean = f"which gives {points(low)} to {points(high)} for its mean (Student, {len(found['by_seed'])} seeds)"
    holds = ": this interval over seeds holds 0: no difference was shown for other seeds." if low <= 0 <= high else "."
    return f"{text} {over}, {mean}{holds}"


def arms_table(found: Found) -> Table:
    """A row for each arm: the means over its seeds; beside arms that begin from a run, one for the constant answer."""
    columns: list[tuple[str, Callable[[Found], str]]] = [
        ("arm", lambda arm: arm["name"]),
        ("pass@1", lambda arm: formatting.percent(arm.get("mean"))),
        ("sd over seeds", lambda arm: _spread(arm.get("sd"))),
        ("by seed", lambda arm: _by_seed([run.get("score") for run in arm["runs"]])),
        (f"minus {found['baseline']}", lambda arm: _signed(arm.get("difference"))),
        ("95% interval", lambda arm: _bounds(arm.get("difference"))),
        ("its sd over seeds", lambda arm: _spread((arm.get("difference") or {}).get("sd"))),
        ("minus start", lambda arm: _signed(arm.get("gain"))),
        ("reply tokens", lambda arm: formatting.number(arm.get("mean_reply_tokens"))),
        ("truncated", lambda arm: formatting.percent(arm.get("truncated_share"))),
        ("other language", lambda arm: formatting.percent(arm.get("language_mismatch"))),
        ("most frequent answer", lambda arm: formatting.percent(arm.get("commonest_answer_share"))),
        ("train time", lambda arm: formatting.duration(arm.get("train_seconds"))),
        ("train tokens", lambda arm: formatting.number(arm.get("train_tokens"))),
        ("sampled tokens", lambda arm: formatting.number(arm.get("sampled_tokens") or None)),
        ("FLOPs", lambda arm: _flops(arm.get("flops"))),
        ("passes", lambda arm: formatting.number(arm.get("passes"))),
        ("samples", lambda arm: formatting.number(arm.get("samples"))),
        ("useful groups", lambda arm: formatting.percent(arm.get("useful_groups_share"))),
    ]
    arms = [*found["arms"], *_constant_arm(found)]
    return _filled([(title, [read(arm) for arm in arms]) for title, read in columns])


def _constant_arm(found: Found) -> list[Found]:
    """A row for the constant answer, beside arms that begin from a run."""
    score = found.get("constant_answer")
    is_shown = score is not None and _is_of_run(found)
    return [{"name": "constant answer", "mean": score, "runs": []}] if is_shown else []


def families_table(found: Found) -> Table | None:
    """A row for each family: what a constant answer would score, and each arm; None where there is one family alone."""
    rows = found.get("families") or []
    if len(rows) < 2:
        return None
    columns: list[tuple[str, Callable[[Found], str]]] = [
        ("problems", lambda row: formatting.number(row["num_problems"])),
        ("constant answer", lambda row: formatting.percent(row["constant_answer"])),
        *((arm["name"], partial(_of_arm, arm["name"])) for arm in found["arms"]),
    ]
    names = ("family", [formatting.words(row["name"]) for row in rows])
    return _filled([names, *((title, [read(row) for row in rows]) for title, read in columns)])


def _of_arm(arm: str, row: Found) -> str:
    return formatting.percent(row["arms"].get(arm))


def others_table(found: Found) -> Table | None:
    """A row for each arm and each task besides the one that is compared first; None where there is no other."""
    rows = [(task, arm) for task in found.get("others", []) for arm in task["arms"]]
    if not rows:
        return None
    columns: list[tuple[str, Callable[[Found], str]]] = [
        ("arm", lambda arm: arm["name"]),
        ("pass@1", lambda arm: formatting.percent(arm["mean"])),
        ("sd over seeds", lambda arm: _spread(arm["sd"])),
        ("by seed", lambda arm: _by_seed(arm["by_seed"])),
        (f"minus {found['baseline']}", lambda arm: _signed(arm["difference"])),
        ("95% interval", lambda arm: _bounds(arm["difference"])),
        ("its sd over seeds", lambda arm: _spread((arm["difference"] or {}).get("sd"))),
        ("minus start", lambda arm: _signed(arm["gain"])),
    ]
    first = ("measured on", [task["name"] for task, _ in rows])
    return _filled([first, *((title, [read(arm) for _, arm in rows]) for title, read in columns)])


def runs_table(found: Found) -> Table:
    """A row for each run: an arm with a seed."""
    columns: list[tuple[str, Callable[[Found], str]]] = [
        ("pass@1", lambda run: formatting.percent(run.get("score"))),
        ("95% interval", lambda run: formatting.interval(run.get("ci95"))),
        (f"minus {found['baseline']}", lambda run: _signed(run.get("difference"))),
        ("its 95% interval", lambda run: _bounds(run.get("difference"))),
        ("reply tokens", lambda run: formatting.number(run.get("mean_reply_tokens"))),
        ("most frequent answer", lambda run: formatting.percent(run.get("commonest_answer_share"))),
        ("train time", lambda run: formatting.duration(run.get("train_seconds"))),
        ("train tokens", lambda run: formatting.number(run.get("train_tokens"))),
        ("sampled tokens", lambda run: formatting.number(run.get("sampled_tokens") or None)),
        ("FLOPs", lambda run: _flops(run.get("flops"))),
        ("samples", lambda run: formatting.number(run.get("samples"))),
        ("folder", lambda run: run["folder"]),
    ]
    runs = list(_runs(found))
    names = ("run", [f"{arm['name']}-{run['seed']}" for arm, run in runs])
    return _filled([names, *((title, [read(run) for _, run in runs]) for title, read in columns)])


def _plot(found: Found) -> str | None:
    """The score of every run with its interval."""
    drawn = [
        Point(f"{arm['name']}-{run['seed']}", run["score"], *run["ci95"]) for arm, run in _runs(found) if "score" in run
    ]
    return scores(drawn) if drawn else None


def _runs(found: Found) -> list[tuple[Found, Found]]:
    return [(arm, run) for arm in found["arms"] for run in arm["runs"]]


def _filled(columns: Sequence[tuple[str, list[str]]]) -> Table:
    """The columns as a table, without those that have nothing but dashes."""
    kept = [(title, cells) for title, cells in columns if set(cells) != {formatting.NONE}]
    return [title for title, _ in kept], [list(row) for row in zip(*(cells for _, cells in kept), strict=True)]


def _by_seed(scores: Sequence[float | None]) -> str:
    """Every seed's score; nothing where there is one seed, whose score is the mean."""
    return ", ".join(map(formatting.percent, scores)) if len(scores) > 1 else formatting.NONE


def _flops(value: float | None) -> str:
    return formatting.NONE if value is None else f"{value:.2e}"


def _spread(value: float | None) -> str:
    return formatting.NONE if value is None else f"{100 * value:.1f}"


def _signed(difference: Found | None) -> str:
    return points(difference["value"]) if difference else formatting.NONE


def _bounds(difference: Found | None) -> str:
    return f"{points(difference['low'])} to {points(difference['high'])}" if difference else formatting.NONE


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
