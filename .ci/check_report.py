"""Checks what a run left behind: python .ci/check_report.py RUN. Exits 1 with a line for each fault."""

import json
import math
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

RUN_FIELDS = ("recipe", "seed", "config_hash", "versions", "seconds", "peak_rss_bytes", "stages")
TEXT_FIELDS = ("name", "kind", "mode", "measured_on")
COUNT_FIELDS = ("num_problems", "k", "train_tokens")
FRACTION_FIELDS = ("pass_at_1", "greedy", "cons_at_k", "pass_at_k", "truncated_share")
NUMBER_FIELDS = ("mean_thought_tokens", "train_seconds")


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_fraction(value: object) -> bool:
    return is_number(value) and 0.0 <= value <= 1.0


def is_interval(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_fraction, value)) and value[0] <= value[1]


def check_entry(entry: dict[str, Any], where: str) -> Iterator[str]:
    """One measurement: a stage and what it was measured on."""
    for name in TEXT_FIELDS:
        if not isinstance(entry.get(name), str) or not entry[name]:
            yield f"{where}: {name} = {entry.get(name)!r}: a name is needed"
    for name in COUNT_FIELDS:
        if not isinstance(entry.get(name), int) or entry[name] < 1:
            yield f"{where}: {name} = {entry.get(name)!r}: a positive count is needed"
    for name in NUMBER_FIELDS:
        if not is_number(entry.get(name)) or entry[name] < 0:
            yield f"{where}: {name} = {entry.get(name)!r}: a number of at least 0 is needed"
    for name in FRACTION_FIELDS:
        if not is_fraction(entry.get(name)):
            yield f"{where}: {name} = {entry.get(name)!r}: a fraction in 0..1 is needed"
    if not is_interval(entry.get("ci95")):
        yield f"{where}: ci95 = {entry.get('ci95')!r}: two fractions in order are needed"
    tasks = entry.get("per_task")
    if not isinstance(tasks, dict) or not tasks:
        yield f"{where}: per_task is missing or empty"
        return
    for task, score in tasks.items():
        if not is_fraction(score.get("pass_at_1")) or not score.get("num_problems", 0) > 0:
            yield f"{where}: per_task.{task} = {score!r}: pass_at_1 in 0..1 and num_problems are needed"
    if sum(score.get("num_problems", 0) for score in tasks.values()) != entry.get("num_problems"):
        yield f"{where}: the tasks' num_problems do not sum to the stage's"


def check_report(report: dict[str, Any], stages_run: set[str]) -> Iterator[str]:
    """The whole report, against the names of the stages that left a folder."""
    for name in RUN_FIELDS:
        if report.get(name) in (None, "", [], {}):
            yield f"report.json: {name} is missing or empty"
    for name in ("seconds", "peak_rss_bytes"):
        if not is_number(report.get(name)) or report[name] <= 0:
            yield f"report.json: {name} = {report.get(name)!r}: a positive number is needed"
    entries = report.get("stages") or []
    measured = {entry.get("name") for entry in entries if entry.get("measured_on") == "test"}
    if not stages_run or measured != stages_run:
        yield f"stages that ran: {sorted(stages_run)}; measured on test: {sorted(map(str, measured))}"
    keys = [(entry.get("name"), entry.get("measured_on")) for entry in entries]
    if len(set(keys)) != len(keys):
        yield f"report.json: a stage is listed twice: {keys}"
    for entry, key in zip(entries, keys, strict=True):
        yield from check_entry(entry, f"report.json: {'/'.join(map(str, key))}")


class Loads(HTMLParser):
    """Collects what a page would fetch when opened; links to click on are not fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            fetched = name in ("src", "srcset", "poster", "data", "background") or (
                name in ("href", "xlink:href") and tag not in ("a", "area")
            )
            if fetched and value and not value.startswith(("data:", "#")):
                self.found.append(f"<{tag} {name}={value[:60]}>")
            if name == "style":
                self.handle_data(value or "")

    def handle_data(self, data: str) -> None:
        self.found += re.findall(r"""@import[^;]{0,60}|url\(\s*['"]?(?!data:|#)[^)]{1,60}""", data)


def check_page(text: str, name: str) -> Iterator[str]:
    if "<html" not in text.lower() or len(text) < 500:
        yield f"{name}: not a page, or next to empty"
    page = Loads()
    page.feed(text)
    yield from (f"{name}: not self-contained: {load}" for load in page.found)


def check_run(run: Path) -> list[str]:
    """Everything that is wrong with a run's folder."""
    for name in ("report.json", "report.html"):
        if not (run / name).is_file():
            return [f"{run / name}: no such file"]
    try:
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    except ValueError as error:
        return [f"report.json: not JSON: {error}"]
    stages_run = {path.name[3:] for path in run.iterdir() if path.is_dir() and re.match(r"\d\d-.", path.name)}
    faults = [*check_report(report, stages_run), *check_page((run / "report.html").read_text("utf-8"), "report.html")]
    card = run / "card.md"
    if card.exists() and not card.read_text(encoding="utf-8").strip():
        faults.append("card.md: empty")
    return faults


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    faults = check_run(Path(sys.argv[1]))
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print("the report is in order")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
