"""report.html: a run on one page that stands alone: no scripts, no external loads, safe for any model text."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from open_exaone.base.files import read_jsonl, write_text
from open_exaone.base.printable import printable
from open_exaone.base.text import count
from open_exaone.present import formatting, plots
from open_exaone.present.filtered import section
from open_exaone.present.stages import Entry, by_benchmark, closing_rows, is_number, read_report, training_rows

TEMPLATES = Path(__file__).parent / "templates"

AXES = frozenset(  # never plotted as a series
    {"step", "num_steps", "tokens", "epoch", "seconds", "seconds_left", "time", "policy_version"}
)
SERIES = {  # metrics.jsonl key: its plot's title; shown in this order, other series are folded away
    "loss": "loss",
    "validation_loss": "validation loss",
    "reward_mean": "mean reward",
    "reward_mean_reasoning": "mean reward, reasoning",
    "reward_mean_non_reasoning": "mean reward, non-reasoning",
    "margin": "margin, chosen over rejected",
    "accuracy": "pairs ranked right",
    "entropy": "entropy (nats per token)",
    "kl": "KL to the reference (nats per token)",
    "mean_reply_tokens": "reply length (tokens)",
    "mean_reply_tokens_reasoning": "reply length, reasoning (tokens)",
    "mean_reply_tokens_non_reasoning": "reply length, non-reasoning (tokens)",
    "truncated_share": "truncated share",
    "error_share": "share that could not be judged",
    "masked_rollouts": "samples that could not be rewarded",
    "max_logprob_gap": "log-probability gap to the engine",
    "gradient_norm": "gradient norm",
    "learning_rate": "learning rate",
    "tokens_per_second": "tokens per second",
    "skipped_steps": "skipped steps",
    "retries": "retries",
}
FAULTS = frozenset({"error_share", "masked_rollouts", "skipped_steps", "retries"})  # shown where there are any
HEATMAPS = (("By family of problems", "family", "per_task"), ("By language", "language", "per_language"))
Series = dict[str, tuple[list[float], list[float]]]  # per metric, its steps and its values
MARKS = {"correct": "✓", "wrong": "✗", "truncated": "…", "unparsed": "?"}


def write_report(run_folder: Path) -> Path:
    """Writes `report.html` from `report.json` and each stage's `metrics.jsonl`; returns its path.

    Raises:
        DataError: report.json is missing, is not JSON, or has no stage.
    """
    path = run_folder / "report.html"
    write_text(path, render(read_report(run_folder), stage_metrics(run_folder)))
    return path


def stage_metrics(run_folder: Path) -> Callable[[str], list[dict[str, Any]]]:
    """A reader of a stage folder's metrics: its rows, none where the stage left no file."""

    def rows(folder: str) -> list[dict[str, Any]]:
        path = run_folder / folder / "metrics.jsonl"
        return read_jsonl(path, drop_cut_tail=True) if path.is_file() else []

    return rows


def render(report: dict[str, Any], metrics: Callable[[str], list[dict[str, Any]]]) -> str:
    """The page as text; the same report gives the same bytes."""
    benchmarks = by_benchmark(report)
    page: str = template("report.html.jinja").render(
        report=report,
        measured=next(iter(benchmarks.values()), []),
        climbs=[(name, _climb(entries)) for name, entries in benchmarks.items()],
        results=closing_rows(report) if benchmarks else None,
        trained=training_rows(report),
        totals=_totals(report),
        drawn=list(dict.fromkeys(name for row in (report.get("families") or {}).values() for name in row["problems"])),
        heatmaps=[
            (f"{title}: {name}" if len(benchmarks) > 1 else title, noun, entries, heatmap(entries, field))
            for name, entries in benchmarks.items()
            for title, noun, field in HEATMAPS
        ],
        filters=[
            (section(entry["name"], found), found["num_samples"])
            for entry in report["stages"]
            if (found := entry.get("filter"))
        ],
        curves=_curves(report["stages"], metrics),
        settings=settings(report),
    )
    return page


def template(name: str) -> Any:
    """A page's template; text that is put in is escaped, and rid of what could steer or reorder."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    def clean(value: Any) -> Any:
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=formatting.percent,
        interval=formatting.interval,
        number=formatting.number,
        duration=formatting.duration,
        size=formatting.size,
        words=formatting.words,
        count=count,
        mark=lambda status: MARKS.get(status, "!"),
        svg=Markup,
    )
    return environment.get_template(name)


def _totals(report: Mapping[str, Any]) -> dict[str, int]:
    """What all stages together took, and how many there were."""
    stages = report["stages"]
    sums = {key: sum(entry.get(key) or 0 for entry in stages) for key in ("train_steps", "train_tokens")}
    return {"stages": len(stages), **sums}


def _climb(entries: Sequence[Entry]) -> str:
    return plots.climb(
        [plots.Point(e["name"], e["pass_at_1"], *(e.get("ci95") or [e["pass_at_1"]] * 2)) for e in entries]
    )


def heatmap(entries: Sequence[Entry], field: str) -> list[tuple[str, list[Entry | None]]]:
    """Per task or language, its score after each stage; None where the stage was not measured on it."""
    names = sorted({name for entry in entries for name in entry.get(field) or {}})
    return [(name, [(entry.get(field) or {}).get(name) for entry in entries]) for name in names]


def _curves(
    entries: Sequence[Entry], metrics: Callable[[str], list[dict[str, Any]]]
) -> list[tuple[str, list[tuple[str, str]], list[tuple[str, str]]]]:
    """Per trained stage: its name, and its plots as (title, SVG), the known series and then the others."""
    folders = {entry["folder"]: entry["name"] for entry in entries if entry.get("folder")}
    curves = []
    for folder, name in folders.items():
        series = numeric_series(metrics(folder))
        titles = _titles(series)
        known = [(title, plots.curve(title, *series[key])) for key, title in titles.items()]
        unknown = sorted(series.keys() - titles.keys())
        others = [(formatting.words(key), plots.curve(formatting.words(key), *series[key])) for key in unknown]
        if series:
            curves.append((name, known, others))
    return curves


def _titles(series: Series) -> dict[str, str]:
    """The series that are shown at once, with their titles: a reward's terms where there are several, faults if any."""
    terms = [key for key in series if key.startswith("reward_") and key not in SERIES]
    titles = {**SERIES, **{key: f"reward: {key.removeprefix('reward_')}" for key in terms if len(terms) > 1}}
    return {key: titles[key] for key in titles if key in series and (key not in FAULTS or any(series[key][1]))}


def numeric_series(rows: Sequence[Mapping[str, Any]]) -> Series:
    """Per metric, the steps and the values at which it is a finite number; at least two of them."""
    series: Series = {}
    for index, row in enumerate(rows, start=1):
        for key, value in row.items():
            if key not in AXES and is_number(value):
                steps, values = series.setdefault(key, ([], []))
                steps.append(row.get("step", index))
                values.append(value)
    return {key: pair for key, pair in series.items() if len(pair[0]) > 1}


def settings(report: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The report's scalars, then its flat records (model, versions, …), as (title, [(name, value)])."""
    others = {key: value for key, value in report.items() if key not in {"stages", "showcase", "families"}}
    scalars = {key: value for key, value in others.items() if not isinstance(value, dict | list)}
    records = {key: value for key, value in others.items() if isinstance(value, dict)}
    return [
        (
            formatting.words(title),
            [(formatting.words(name), formatting.setting(name, value)) for name, value in pairs.items()],
        )
        for title, pairs in {"run": scalars, **records}.items()
    ]
