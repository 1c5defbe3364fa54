"""CI's check of a run's report passes a sound report and fails on each kind of fault."""

import copy
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "check_report.py"
PAGE = "<!doctype html><html><body>" + "<p>said</p>" * 60 + '<a href="https://example.org">link</a>{}</body></html>'
ENTRY = {
    "name": "sft",
    "kind": "sft",
    "mode": "reasoning",
    "measured_on": "test",
    "num_problems": 40,
    "k": 4,
    "pass_at_1": 0.61,
    "ci95": [0.59, 0.63],
    "greedy": 0.63,
    "cons_at_k": 0.66,
    "pass_at_k": 0.74,
    "mean_thought_tokens": 71.2,
    "truncated_share": 0.01,
    "train_tokens": 5_400_000,
    "train_seconds": 300.1,
    "per_task": {"chain_sum": {"pass_at_1": 0.61, "num_problems": 40}},
}
REPORT = {
    "recipe": "nano/exaone-deep",
    "seed": 0,
    "config_hash": "0" * 12,
    "versions": {"torch": "2.13.0"},
    "seconds": 100.2,
    "peak_rss_bytes": 10**9,
    "stages": [ENTRY],
}


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_report", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_run = load_script().check_run


def check(run: Path, report: Any, page: str = "") -> list[str]:
    (run / "02-sft").mkdir(exist_ok=True)
    (run / "report.json").write_text(report if isinstance(report, str) else json.dumps(report))
    (run / "report.html").write_text(PAGE.format(page))
    (run / "card.md").write_text("# A card")
    return check_run(run)


def test_a_sound_report_passes(tmp_path: Path) -> None:
    assert check(tmp_path, REPORT, '<img src="data:image/png;base64,AA=="><style>p { color: red }</style>') == []


@pytest.mark.parametrize("field", [*ENTRY])
def test_a_missing_field_fails(tmp_path: Path, field: str) -> None:
    entry = {key: value for key, value in ENTRY.items() if key != field}
    assert check(tmp_path, {**REPORT, "stages": [entry]})


@pytest.mark.parametrize("field", [*REPORT])
def test_a_missing_run_field_fails(tmp_path: Path, field: str) -> None:
    assert check(tmp_path, {key: value for key, value in REPORT.items() if key != field})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pass_at_1", 61.0),
        ("pass_at_1", float("nan")),
        ("greedy", -0.1),
        ("greedy", True),
        ("ci95", [0.7, 0.6]),
        ("ci95", [0.7]),
        ("truncated_share", None),
        ("mean_thought_tokens", float("inf")),
        ("num_problems", 0),
        ("num_problems", 41),
        ("name", "prefer"),
        ("measured_on", "validation"),
        ("per_task", {}),
        ("per_task", {"chain_sum": {"pass_at_1": 1.5, "num_problems": 40}}),
    ],
)
def test_a_wrong_value_fails(tmp_path: Path, field: str, value: object) -> None:
    assert check(tmp_path, {**REPORT, "stages": [{**ENTRY, field: value}]})


def test_a_stage_listed_twice_or_not_at_all_fails(tmp_path: Path) -> None:
    assert check(tmp_path, {**REPORT, "stages": [ENTRY, copy.deepcopy(ENTRY)]})
    (tmp_path / "03-prefer").mkdir()
    assert check(tmp_path, REPORT)


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://example.org/x.js"></script>',
        '<link rel="stylesheet" href="//example.org/x.css">',
        '<img src="plot.png">',
        "<style>@import 'https://example.org/x.css';</style>",
        '<p style="background: url(http://example.org/x.png)">',
    ],
)
def test_a_page_that_loads_something_fails(tmp_path: Path, page: str) -> None:
    assert len(check(tmp_path, REPORT, page)) == 1


def test_files_that_are_missing_or_broken_fail(tmp_path: Path) -> None:
    assert check(tmp_path, "{")
    assert check(tmp_path, REPORT) == []
    (tmp_path / "card.md").write_text("")
    assert len(check_run(tmp_path)) == 1
    (tmp_path / "report.html").write_text("")
    assert len(check_run(tmp_path)) == 2
    (tmp_path / "report.html").unlink()
    assert len(check_run(tmp_path)) == 1
