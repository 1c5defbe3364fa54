"""report.html: a run on one page that stands alone: no scripts, no external loads, safe for any model text."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from open_exaone.base.files import read_jsonl, write_text
from open_exaone.base.printable import printable
from open_exaone.base.text import count
from open_exaone.present import formatting, plots
from open_exaone.present.cells import Grid, grids
from open_exaone.present.curves import stage_plots
from open_exaone.present.faithfulness import stage_sections
from open_exaone.present.filtered import section
from open_exaone.present.rollouts import Shown, sample_rollouts
from open_exaone.present.stages import Entry, by_benchmark, change_rows, closing_rows, read_report, training_rows

TEMPLATES = Path(__file__).parent / "templates"

HEATMAPS = (("By family of problems", "family", "per_task"), ("By language", "language", "per_language"))
Rows = Callable[[str], list[dict[str, Any]]]  # of a stage's folder
MARKS = {"correct": "✓", "wrong": "✗", "truncated": "…", "unparsed": "?"}


def read_templates(*names: str) -> str:
    """The texts of styles or scripts, one after another."""
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def write_report(run_folder: Path) -> Path:
    """Writes `report.html` from `report.json` and each stage's `metrics.jsonl` and `rollouts/`; returns its path.

    Raises:
        DataError: report.json is missing, is not JSON, or has no stage.
    """
    path = run_folder / "report.html"
    report, metrics = read_report(run_folder), stage_metrics(run_folder)
    write_text(path, render(report, metrics, lambda folder: sample_rollouts(run_folder / folder)))
    return path


def stage_metrics(run_folder: Path) -> Rows:
    """A reader of a stage folder's metrics: its rows, none where the stage left no file."""

    def rows(folder: str) -> list[dict[str, Any]]:
        path = run_folder / folder / "metrics.jsonl"
        return read_jsonl(path, drop_cut_tail=True) if path.is_file() else []

    return rows


def render(report: dict[str, Any], metrics: Rows, rollouts: Callable[[str], list[Shown]] = lambda folder: []) -> str:
    """The page as text; the same report gives the same bytes."""
    benchmarks = by_benchmark(report)
    page: str = template("report.html.jinja").render(
        report=report,
        measured=next(iter(benchmarks.values()), []),
        climbs=[(name, _climb(entries)) for name, entries in benchmarks.items()],
        results=closing_rows(report) if benchmarks else None,
        changes=change_rows(report),
        trained=training_rows(report),
        totals=_totals(report),
        drawn=list(dict.fromkeys(name for row in (report.get("families") or {}).values() for name in row["problems"])),
        heatmaps=[
            (f"{title}: {name}" if len(benchmarks) > 1 else title, noun, entries, heatmap(entries, field))
            for name, entries in benchmarks.items()
            for title, noun, field in HEATMAPS
        ],
        cell_grids=_cell_grids(benchmarks),
        thought_uses=stage_sections(report["stages"]),
        filters=[
            (section(entry["name"], found), found["num_samples"])
            for entry in report["stages"]
            if (found := entry.get("filter"))
        ],
        curves=_curves(report["stages"], metrics, rollouts),
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
        language_code=language_code,
        mark=lambda status: MARKS.get(status, "!"),
        svg=Markup,
    )
    return environment.get_template(name)


def language_code(value: object) -> str:
    """A language of the data for an attribute `lang`; `und`, not determined, for what is no code."""
    return value if isinstance(value, str) and re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", value) else "und"


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


def _cell_grids(benchmarks: Mapping[str, Sequence[Entry]]) -> dict[str, list[tuple[str, Grid]]]:
    """Per benchmark and kind of question that has scores by cell: the stages that were measured on it, each's grid."""
    found: dict[str, list[tuple[str, Grid]]] = {}
    for name, entries in benchmarks.items():
        for entry in entries:
            for grid in grids(entry):
                found.setdefault(f"{name}, {grid.kind}", []).append((entry["name"], grid))
    return found


def _curves(entries: Sequence[Entry], metrics: Rows, rollouts: Callable[[str], list[Shown]]) -> list[dict[str, Any]]:
    """Per trained stage: its name, its plots, those that are folded away, and samples of its rollouts."""
    folders = {entry["folder"]: entry["name"] for entry in entries if entry.get("folder")}
    curves = []
    for folder, name in folders.items():
        known, others = stage_plots(metrics(folder))
        shown = rollouts(folder)
        if known or others or shown:
            steps = list(dict.fromkeys(group.step for group in shown))
            curves.append({"name": name, "known": known, "others": others, "rollouts": shown, "steps": steps})
    return curves


def settings(report: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The report's scalars, then its flat records (model, versions, …), as (title, [(name, value)])."""
    others = {key: value for key, value in report.items() if key not in {"stages", "showcase", "families"}}
    scalars = {key: value for key, value in others.items() if not isinstance(value, dict | list)}
    records = {key: value for key, value in others.items() if isinstance(value, dict)}
    return [
        (
            formatting.words(title),
            [(formatting.label(name), formatting.setting(name, value)) for name, value in pairs.items()],
        )
        for title, pairs in {"run": scalars, **records}.items()
    ]
