"""report.html of an evaluation: what was measured, beside what is published, and every sample; one file, no loads."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from open_exaone.base.errors import DataError
from open_exaone.base.files import explain_os_errors, read_json, write_atomically
from open_exaone.base.records import mode_label
from open_exaone.present import evaluation_plots as drawn
from open_exaone.present import evaluation_tables as tables
from open_exaone.present import formulas
from open_exaone.present.cells import grids
from open_exaone.present.evaluation_tables import Entry
from open_exaone.present.faithfulness import sections
from open_exaone.present.page_parts import policy, read_templates, template
from open_exaone.present.plots import Point
from open_exaone.present.viewer import MAX_TEXT_CHARS, Packed, pack

SAMPLES = "<!-- samples -->"  # where the packed samples go; escaped text holds no "<"
MAX_OPEN_PLOTS = 12  # of one kind; more are folded away


class Figure(NamedTuple):
    """A plot with its title."""

    title: str
    svg: str
    numbers: tuple[list[str], list[list[str]]] | None = None  # the table behind it, where no other table has them


class Plots(NamedTuple):
    """Plots of one kind."""

    title: str
    what: str
    shown: list[Figure]
    folded: list[Figure]


def write_evaluation_page(folder: Path) -> Path:
    """Writes `report.html` from `report.json`, `problems.jsonl` and `samples.jsonl`; returns its path.

    Samples go through line by line, so that memory holds their index only, never their texts.

    Raises:
        DataError: a file is missing or broken; names it, the line and the field.
    """
    report = read_evaluation(folder)
    path = folder / "report.html"
    with explain_os_errors(path), tempfile.TemporaryFile(dir=folder) as samples:
        head, _, foot = render(report, pack(folder, samples), links(folder)).partition(SAMPLES)

        def write(temporary: Path) -> None:
            samples.seek(0)
            with open(temporary, "wb") as page:
                page.write(head.encode("utf-8"))
                shutil.copyfileobj(samples, page)
                page.write(foot.encode("utf-8"))

        write_atomically(path, write)
    return path


def links(folder: Path) -> list[tuple[str, str]]:
    """The pages beside an evaluation's that there are: each page's address, and what it is called."""
    found = [("against.html", "questions gained and lost")]
    run = folder.resolve().parent.parent
    if folder.resolve().name == "eval" and (run / "recipe.toml").is_file():
        found.append(("../../report.html", "report of the run"))
    return [(place, title) for place, title in found if (folder / place).is_file()]


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Reads an evaluation's `report.json`.

    Raises:
        DataError: it is missing, is not JSON, or has no measured task.
    """
    path = folder / "report.json"
    report = tables.record(read_json(path))
    entries = tables.rows_of(report.get("tasks"))
    if not entries:
        raise DataError(f"{path}: tasks: holds no measured task; run `exaone eval` to measure one")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(tables.record(entry).get("name"), str):
            raise DataError(f"{path}: tasks: entry {number}: must be an object with a name")
    return dict(report)


def render(report: Mapping[str, Any], packed: Packed, pages: Sequence[tuple[str, str]] = ()) -> str:
    """The page as text, with `SAMPLES` where the samples belong; the same report gives the same bytes."""
    entries: list[Entry] = report["tasks"]
    style, script = read_templates("report.css", "evaluation.css"), read_templates("formulas.js", "viewer.js")
    scripts: tuple[str, ...] = (script,)
    if packed.has_formulas:
        style, scripts = style + formulas.style(), (script, formulas.converter())
    points = [point for entry in entries if (point := tables.point(entry, entry["name"]))]
    page: str = template("evaluation.html.jinja").render(
        report=report,
        pages=pages,
        model=tables.model_name(report),
        entries=entries,
        only=entries[0] if len(entries) == 1 else None,
        packed=packed,
        results=tables.results(entries),
        settings=tables.settings(entries),
        notes=tables.notes(entries),
        model_notes=tables.model_notes(report),
        num_problems=tables.num_problems(entries, packed.problems, packed.tasks),
        graders=tables.graders(entries),
        scores=drawn.scores(points) if points else None,
        published=[(entry["name"], beside(entry), rows) for entry in entries if (rows := tables.published(entry))],
        parts=[(entry["name"], *part) for entry in entries for part in tables.parts(entry)],
        cell_grids=[(f"{entry['name']}, {grid.kind}", grid) for entry in entries for grid in grids(entry)],
        thought_uses=sections(report.get("faithfulness")),
        plots=plots(report, packed),
        records=tables.records(report),
        bounds=tables.bounds,
        value=tables.value_of,
        max_text_chars=packed.thoughts_cut_at or MAX_TEXT_CHARS,
        marker=SAMPLES,
        converter=formulas.packed() if packed.has_formulas else "",
        style=style,
        script=script,
        policy=policy(style, scripts),
    )
    return page


def beside(entry: Entry) -> list[Figure]:
    """The run's plots beside the published numbers, one for each metric."""
    figures = []
    shown = [row for row in tables.published(entry) if row["percent"] is not None]
    for metric in dict.fromkeys(row["metric"] for row in shown):
        is_points = metric == "pass@1" and bool(tables.record(entry.get("csat")))
        name = tables.POINTS if is_points else metric
        ours = tables.point(entry, "this run", name)
        rows = [row for row in shown if row["metric"] == metric]
        labels = [" ".join(str(row[field]) for field in ("model", "setting") if row.get(field)) for row in rows]
        shares = [row["percent"] / 100 for row in rows]
        others = [Point(label, share, share, share) for label, share in zip(labels, shares, strict=True)]
        if ours:
            figures.append(Figure(name, drawn.scores([ours], others, f"{entry['name']}: {name} beside published")))
    return figures


def plots(report: Mapping[str, Any], packed: Packed) -> list[Plots]:
    """The plots by kind, those kinds that there are."""
    found: Sequence[tuple[str, str, list[Figure]]] = (
        (
            "Accuracy against thinking budget",
            "pass@1 with 95% intervals, by the longest thought allowed, in tokens.",
            _budgets(report),
        ),
        ("Thought tokens", "Samples by the length of their thought: correct, and not.", _lengths(packed)),
    )
    return [Plots(title, what, all_[:MAX_OPEN_PLOTS], all_[MAX_OPEN_PLOTS:]) for title, what, all_ in found if all_]


def _budgets(report: Mapping[str, Any]) -> list[Figure]:
    found = []
    for curve in map(tables.record, tables.rows_of(report.get("curve"))):
        points = []
        for step in map(tables.record, tables.rows_of(curve.get("points"))):
            point, budget = tables.point(step, ""), tables.value_of(step.get("budget"))
            if point is not None:
                points.append(drawn.Budget(int(budget) if budget and budget >= 1 else None, *point[1:]))
        mode = mode_label(str(curve.get("mode") or ""))
        title = f"{curve.get('benchmark') or ''} {mode}".strip()
        if points:
            found.append(Figure(title, drawn.budgets(title, points)))
    return found


def _lengths(packed: Packed) -> list[Figure]:
    return [
        Figure(task, drawn.lengths(task, correct, others), drawn.length_table(correct, others))
        for task, (correct, others) in packed.thought_tokens().items()
        if any(correct) or any(others)
    ]
