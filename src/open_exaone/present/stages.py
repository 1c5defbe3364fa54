"""What a run's report.json says, stage by stage: the reading that the page, the card and the terminal share."""

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_json
from open_exaone.base.printable import printable
from open_exaone.base.records import mode_label
from open_exaone.present import formatting

Entry = dict[str, Any]  # one stage; where it was evaluated, on one benchmark or one set of problems
Columns = list[tuple[str, Callable[[Entry], str]]]  # headings, and how a cell is read


def read_report(run_folder: Path) -> dict[str, Any]:
    """Reads `report.json`.

    Raises:
        DataError: the file is missing, is not JSON, or has no stage.
    """
    path = run_folder / "report.json"
    report = read_json(path)
    if not isinstance(report, dict) or not report.get("stages"):
        raise DataError(f"{path}: stages: has no stage: nothing was trained in this run")
    if not all(isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in report["stages"]):
        raise DataError(f"{path}: stages: a stage has no name")
    return report


def by_benchmark(report: Mapping[str, Any]) -> dict[str, list[Entry]]:
    """For each benchmark or set of problems that a stage was measured on, the entries with a pass@1, in order."""
    found: dict[str, list[Entry]] = {}
    for entry in _entries(report):
        if is_number(entry.get("pass_at_1")):
            found.setdefault(entry.get("measured_on", ""), []).append(entry)
    return found


def _entries(report: Mapping[str, Any]) -> list[Entry]:
    """The stages' entries; one for each benchmark of a suite, or each of several data."""
    return [  # a part without `per_cell` has none, and not that of the stage, which is its first part's
        {**entry, "per_cell": [], **part} for entry in _trained(report) for part in entry.get("tasks") or [entry]
    ]


def _trained(report: Mapping[str, Any]) -> list[Entry]:
    """The entries of the stages that leave a model; a filter's is shown by itself."""
    return [entry for entry in report["stages"] if "filter" not in entry]


def closing_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The closing table: its headings, and a row of texts per stage, or per stage and what it was measured on.

    Without an evaluation, it is the table of what was trained.
    """
    benchmarks, entries = by_benchmark(report), _entries(report)
    if not benchmarks:
        return training_rows(report)
    sizes = {entry.get("k") for measured in benchmarks.values() for entry in measured}
    k = str(sizes.pop()) if len(sizes) == 1 and None not in sizes else "k"
    columns: Columns = [
        ("stage", lambda e: printable(e["name"])),
        ("mode", lambda e: mode_name(e)),
        ("pass@1", lambda e: formatting.percent(e.get("pass_at_1"))),
        ("95% interval", lambda e: formatting.interval(e.get("ci95"))),
        ("greedy", lambda e: formatting.percent(e.get("greedy"))),
        (f"cons@{k}", lambda e: formatting.percent(e.get("cons_at_k"))),
        (f"pass@{k}", lambda e: formatting.percent(e.get("pass_at_k"))),
        ("thought tokens", lambda e: formatting.tokens(e.get("mean_thought_tokens"))),
        ("truncated", lambda e: formatting.percent(e.get("truncated_share"))),
        ("train tokens", lambda e: formatting.number(e.get("train_tokens"))),
        ("train time", lambda e: formatting.duration(e.get("train_seconds"))),
    ]
    if len(benchmarks) > 1:
        columns.insert(1, ("benchmark", lambda e: printable(e.get("measured_on") or formatting.NONE)))
    return [title for title, _ in columns], [[read(entry) for _, read in columns] for entry in entries]


CHANGES: Columns = [
    ("stage", lambda row: f"{printable(row['start'])} → {printable(row['stage'])}"),
    ("benchmark", lambda row: printable(row["measured_on"])),
    ("mode", lambda row: _modes(row)),
    ("change of pass@1", lambda row: formatting.points(row["value"])),
    ("95% interval", lambda row: f"{formatting.points(row['low'])} to {formatting.points(row['high'])}"),
    (
        "thought tokens",
        lambda row: _both(row, "mean_thought_tokens", formatting.tokens),
    ),
    ("wrong language", lambda row: _both(row, "language_mismatch_share", formatting.percent)),
]


def change_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What each stage changed beside the model that it began from: headings, and a row of texts per stage and task."""
    rows = report.get("changes") or []
    return [title for title, _ in CHANGES], [[read(row) for _, read in CHANGES] for row in rows]


def change_groups(report: Mapping[str, Any]) -> list[tuple[str, str, list[str], list[list[str]]]]:
    """The same for a narrow screen, by benchmark and mode: the benchmark, a title, headings, and a row per stage.

    A stage is named alone where it began from the model of the stage trained before it.
    """
    names = [entry["name"] for entry in _trained(report)]
    before = dict(zip(names[1:], names, strict=False))
    columns = [(title, read) for title, read in CHANGES if title not in ("stage", "benchmark", "mode")]
    groups: dict[tuple[str, str], list[list[str]]] = {}
    for row in report.get("changes") or []:
        start = "" if before.get(row["stage"]) == row["start"] else f" (from {row['start']})"
        stage = printable(row["stage"] + start)
        group = f"{printable(row['measured_on'])}, {_modes(row)} mode"
        groups.setdefault((row["measured_on"], group), []).append([stage, *(read(row) for _, read in columns)])
    return [(*group, ["stage", *(title for title, _ in columns)], rows) for group, rows in groups.items()]


def _modes(row: Entry) -> str:
    """The mode in which both models were asked, or both modes."""
    modes = dict.fromkeys(mode_name({"mode": mode}) for mode in row.get("mode") or (None,))
    return " → ".join(modes)


def _both(row: Entry, name: str, write: Callable[[Any], str]) -> str:
    """The number before and after."""
    before, after = row.get(name) or (None, None)
    return formatting.NONE if before is None or after is None else f"{write(before)} → {write(after)}"


TRAINED: Columns = [
    ("stage", lambda e: printable(e["name"])),
    ("kind", lambda e: printable(e.get("kind") or formatting.NONE)),
    ("steps", lambda e: formatting.number(e.get("train_steps"))),
    ("tokens", lambda e: formatting.number(e.get("train_tokens"))),
    ("time", lambda e: formatting.duration(e.get("train_seconds"))),
    ("sampling", lambda e: formatting.duration(e.get("sample_seconds") or None)),
    ("FLOPs (estimate)", lambda e: f"{e['train_flops']:.2e}" if e.get("train_flops") else formatting.NONE),
    ("memory", lambda e: formatting.size(e.get("peak_rss_bytes"))),
    ("skipped steps", lambda e: formatting.number(e.get("skipped_steps"))),
    ("empty steps", lambda e: formatting.number(e.get("empty_steps") or None)),
    ("retries", lambda e: _retries(e.get("retries"))),
]


def training_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What was trained: headings, and a row of texts per stage; columns that no stage has are left out."""
    columns = [(title, [read(entry) for entry in _trained(report)]) for title, read in TRAINED]
    columns = [(title, cells) for title, cells in columns if set(cells) != {formatting.NONE}]
    return [title for title, _ in columns], [list(row) for row in zip(*(cells for _, cells in columns), strict=True)]


def _retries(retries: object) -> str:
    """A number, or for each reason (a status such as 429) a number."""
    if isinstance(retries, Mapping):
        reasons = ", ".join(f"{printable(reason)}: {number}" for reason, number in retries.items())
        return f"{formatting.number(sum(retries.values()))} ({reasons})" if retries else "0"
    return formatting.number(retries) if isinstance(retries, int) else formatting.NONE


def is_number(value: object) -> bool:
    """A finite int or float; a bool is not one, nor an int beyond all floats."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float) and math.isfinite(value)


def mode_name(entry: Mapping[str, Any]) -> str:
    """`reasoning` or `non-reasoning`, as people write it."""
    return mode_label(printable(entry.get("mode") or formatting.NONE))
