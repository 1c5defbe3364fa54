"""What a run's report.json says, stage by stage: the reading that the page, the card and the terminal share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_json
from open_exaone.base.printable import printable
from open_exaone.present import formatting

Entry = dict[str, Any]  # one stage in one mode on one split


def read_report(run_folder: Path) -> dict[str, Any]:
    """Reads `report.json`.

    Raises:
        DataError: the file is missing, is not JSON, or has no measured stage.
    """
    path = run_folder / "report.json"
    report = read_json(path)
    if not isinstance(report, dict) or not report.get("stages"):
        raise DataError(f"{path}: stages: holds no measured stage; run `exaone run` to measure one")
    for entry in report["stages"]:
        missing = {"name", "pass_at_1", "num_problems"} - entry.keys()
        if missing:
            raise DataError(f"{path}: stages: {entry.get('name', 'an entry')}: {', '.join(sorted(missing))} is missing")
    return report


def ladder(report: Mapping[str, Any]) -> list[Entry]:
    """One entry per stage, in order, to compare the stages by: on the test split, in the last stage's mode.

    A stage not measured in that mode (a base model that does not think yet) stands in the mode it has.
    """
    entries = split_entries(report)
    modes = [entry.get("mode") for entry in entries if entry["name"] == entries[-1]["name"]]
    mode = "reasoning" if "reasoning" in modes else modes[-1]
    rungs: dict[str, Entry] = {}
    for entry in entries:
        if entry["name"] not in rungs or entry.get("mode") == mode:
            rungs[entry["name"]] = entry
    return list(rungs.values())


def split_entries(report: Mapping[str, Any]) -> list[Entry]:
    """The entries on the test split; where there is none, on the last entry's split."""
    entries: list[Entry] = report["stages"]
    splits = {entry.get("split") for entry in entries}
    split = "test" if "test" in splits else entries[-1].get("split")
    return [entry for entry in entries if entry.get("split") == split]


def closing_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The closing table: its headings, and a row of texts per entry; the split is named where there are several."""
    entries: list[Entry] = report["stages"]
    sizes = {entry.get("k") for entry in entries}
    k = str(sizes.pop()) if len(sizes) == 1 and None not in sizes else "k"
    columns: list[tuple[str, Callable[[Entry], str]]] = [
        ("stage", lambda e: printable(e["name"])),
        ("mode", lambda e: mode_name(e)),
        ("pass@1", lambda e: formatting.percent(e["pass_at_1"])),
        ("95% interval", lambda e: formatting.interval(e.get("ci95"))),
        ("greedy", lambda e: formatting.percent(e.get("greedy"))),
        (f"cons@{k}", lambda e: formatting.percent(e.get("cons_at_k"))),
        (f"pass@{k}", lambda e: formatting.percent(e.get("pass_at_k"))),
        ("thought tokens", lambda e: formatting.number(e.get("mean_thought_tokens"))),
        ("truncated", lambda e: formatting.percent(e.get("truncated_share"))),
        ("train tokens", lambda e: formatting.number(e.get("train_tokens"))),
        ("train time", lambda e: formatting.duration(e.get("train_seconds"))),
    ]
    if len({entry.get("split") for entry in entries}) > 1:
        columns.insert(2, ("split", lambda e: printable(e.get("split") or formatting.NONE)))
    return [title for title, _ in columns], [[read(entry) for _, read in columns] for entry in entries]


def mode_name(entry: Mapping[str, Any]) -> str:
    """`reasoning` or `non-reasoning`, as people write it."""
    return printable(entry.get("mode") or formatting.NONE).replace("_", "-")
