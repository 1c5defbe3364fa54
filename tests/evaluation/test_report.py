"""report.json: the schema that is shipped, what is written and read back, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from open_exaone.base.errors import DataError
from open_exaone.base.records import Generation, Problem, Reply, Sample, Sampling, StopReason, Verdict, VerdictStatus
from open_exaone.evaluation.report import (
    SCHEMA_FILE,
    Entry,
    Report,
    build_report,
    read_report,
    schema,
    write_report,
)
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.task import Task


def entry(budget: int | None = None, benchmark: str = "aime_2025", thinking: bool = True, right: int = 1) -> Entry:
    problems = (Problem("a", "aime", "en", "?", "1", "math"), Problem("b", "aime", "ko", "?", "1", "math"))
    sampling = Sampling(max_new_tokens=100_000, num_samples=2, thinking_budget=budget)
    task = Task("t", benchmark, problems, sampling, thinking)
    generation = Generation(Reply("", "1"), StopReason.END, 1, 7, 5 + (budget or 0))
    statuses = [VerdictStatus.CORRECT] * right + [VerdictStatus.WRONG] * (2 - right)
    rows = [
        [Sample("", "t", p.id, index, generation, Verdict(s, "1", "")) for index, s in enumerate(statuses)]
        for p in problems
    ]
    return score_task(task, rows)


def report(*entries: Entry, **changes: Any) -> Report:
    about: dict[str, Any] = {"suite": "s", "model": {"engine": "local", "layers": [1, 2]}, "code_version": "1"}
    return build_report(entries, **about, versions={"torch": "2"}, started="2026-11-22T08:00:00+00:00", **changes)


def test_the_shipped_schema_is_that_of_the_records() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == schema(), "write_schema() writes it anew"


def test_every_field_of_the_schema_that_holds_a_number_is_explained() -> None:
    for name in ("Entry", "Rates", "TokenMeans", "Cost", "Beside", "Grader", "Cell"):
        fields = schema()["$defs"][name]["properties"]
        assert [field for field, about in fields.items() if "description" not in about and "$ref" not in about] == []


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = report(entry(), entry(1024), seconds=2.5)
    write_report(tmp_path / "report.json", written)
    assert read_report(tmp_path / "report.json") == read_report(tmp_path) == written
    value = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert value["schema_version"] == 1
    assert isinstance(value["tasks"][0]["ci95"], list) and value["tasks"][0]["published"] == []
    for task in value["tasks"]:
        assert task.pop("per_cell") == []  # which reports of before did not have
    (tmp_path / "report.json").write_text(json.dumps(value), encoding="utf-8")
    assert read_report(tmp_path) == written


def test_a_curve_holds_the_budgets_of_one_benchmark_and_mode_in_order() -> None:
    entries = [entry(None, right=2), entry(4096), entry(1024, right=0), entry(64, thinking=False), entry(64, "hmmt")]
    (curve,) = report(*entries).curve
    assert (curve.benchmark, curve.mode) == ("aime_2025", "reasoning")
    assert [(point.budget, point.pass_at_1) for point in curve.points] == [(1024, 0.0), (4096, 0.5), (None, 1.0)]
    assert [point.mean_thought_tokens for point in curve.points] == [1029, 4101, 5]


def test_one_budget_makes_no_curve() -> None:
    assert report(entry(1024)).curve == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.pop("schema_version"), "is no report of an evaluation"),
        (lambda value: value.update(schema_version=2), "schema_version 2: this version reads 1"),
        (lambda value: value["tasks"][0].update(pass_at_1=1.5), r"tasks\.0\.pass_at_1: .*less than or equal to 1"),
        (lambda value: value["tasks"][0].pop("k"), r"tasks\.0\.k: Field required"),
        (lambda value: value.update(extra=1), "extra: Extra inputs"),
        (lambda value: [value["tasks"][0].pop(name) for name in list(value["tasks"][0])[:9]], "and 4 more"),
    ],
)
def test_what_is_no_report_is_refused_by_field(tmp_path: Path, change: Any, message: str) -> None:
    write_report(tmp_path / "report.json", report(entry()))
    value = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    change(value)
    (tmp_path / "report.json").write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_report(tmp_path)


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"report\.json: no such file"):
        read_report(tmp_path)


def test_no_share_is_above_one() -> None:
    with pytest.raises(ValidationError):
        Entry.model_validate({**entry().model_dump(), "correlation": 1.1})


def test_an_entry_needs_no_more_than_one_sample() -> None:
    problem = Problem("a", "f", "en", "?", "1", "math")
    task = Task("t", "b", (problem,), Sampling(max_new_tokens=9), thinking=False)
    generation = Generation(Reply("", "1"), StopReason.END, 1, 1, 0)
    one = Sample("", "t", "a", 0, generation, Verdict(VerdictStatus.CORRECT, "1", ""))
    found = score_task(task, [[one]])
    assert (found.mode, found.pass_at, found.cons_at) == ("non_reasoning", {"1": 1.0}, {"1": 1.0})
    assert found.ci95_bootstrap[0] < 1.0
    assert score_task(task, [[replace(one, verdict=Verdict(VerdictStatus.WRONG, "2", ""))]]).pass_at_1 == 0.0
