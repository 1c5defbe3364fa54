"""report.html: a run on one page that stands alone: no external loads, and one script of ours, which draws formulas."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from open_exaone.base.files import read_jsonl, write_text
from open_exaone.present import formatting, plots
from open_exaone.present.cells import Grid, grids
from open_exaone.present.curves import numbers, stage_plots
from open_exaone.present.faithfulness import stage_sections
from open_exaone.present.filtered import section
from open_exaone.present.formulas import drawing
from open_exaone.present.page_parts import policy, read_templates, template
from open_exaone.present.rollouts import Shown, sample_rollouts
from open_exaone.present.stages import Entry, by_benchmark, change_rows, closing_rows, read_report, training_rows

HEATMAPS = (("By family of problems", "family", "per_task"), ("By language", "language", "per_language"))
SHARES = "".join(f".share-{percent} {{ --share: {percent / 100:g}; }}\n" for percent in range(101))
Rows = Callable[[str], list[dict[str, Any]]]  # of a stage's folder


def write_report(run_folder: Path) -> Path:
    """Writes `report.html` from `report.json` and each stage's `metrics.jsonl` and `rollouts/`; returns its path.

    Raises:
        DataError: report.json is missing, is not JSON, or has no stage.
    """
    path = run_folder / "report.html"
    report, metrics = read_report(run_folder), stage_metrics(run_folder)

    def rollouts(folder: str) -> list[Shown]:
        return sample_rollouts(run_folder / folder)

    write_text(path, render(report, metrics, rollouts, links(run_folder, report)))
    return path


def links(run_folder: Path, report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The other pages of the run that there are: each page's address, and what it is called."""
    pages = {"report.html": "every sample of {}", "against.html": "questions gained and lost by {}"}
    found = [("card.html", "model card")]
    for entry in report["stages"]:
        folder = str(entry.get("folder") or "")
        if folder == Path(folder).name:
            found += [(f"{folder}/eval/{name}", title.format(entry["name"])) for name, title in pages.items()]
    return [(quote(place), title) for place, title in found if os.path.isfile(run_folder / place)]


def stage_metrics(run_folder: Path) -> Rows:
    """A reader of a stage folder's metrics: its rows, none where the stage left no file."""

    def rows(folder: str) -> list[dict[str, Any]]:
        path = run_folder / folder / "metrics.jsonl"
        return read_jsonl(path, drop_cut_tail=True) if path.is_file() else []

    return rows


def render(
    report: dict[str, Any],
    metrics: Rows,
    rollouts: Callable[[str], list[Shown]] = lambda folder: [],
    pages: Sequence[tuple[str, str]] = (),
) -> str:
    """The page as text; the same report gives the same bytes."""
    benchmarks, curves = by_benchmark(report), _curves(report["stages"], metrics, rollouts)
    formulas = drawing(_texts(report, curves))
    style = read_templates("report.css") + SHARES + formulas.style
    page: str = template("report.html.jinja").render(
        report=report,
        pages=pages,
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
        curves=curves,
        settings=settings(report),
        style=style,
        formulas=formulas,
        policy=policy(style, formulas.scripts),
    )
    return page


def _texts(report: Mapping[str, Any], curves: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """All questions, thoughts and answers of the page."""
    for item in report.get("showcase") or []:
        yield item["problem"]["question"]
        for reply in item["replies"]:
            yield from (reply["thought"], reply["answer"])
    for row in (row for stage in curves for group in stage["rollouts"] for row in group.rows):
        yield from (row["question"], row["thought"], row["answer"])


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
            parts = {"known": known, "others": others, "numbers": numbers(metrics(folder))}
            curves.append({"name": name, **parts, "rollouts": shown, "steps": steps})
    return curves


def settings(report: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The report's scalars, then its flat records (model, versions, …), as (title, [(name, value)])."""
    others = {key: value for key, value in report.items() if key not in {"stages", "showcase", "families"}}
    scalars = {key: value for key, value in others.items() if not isinstance(value, dict | list)}
    records = {key: value for key, value in others.items() if isinstance(value, dict)}
    return [
        (
            formatting.label(title),
            [(formatting.label(name), formatting.setting(name, value)) for name, value in pairs.items()],
        )
        for title, pairs in {"run": scalars, **records}.items()
    ]
