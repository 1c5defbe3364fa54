"""A report beside the published tables, and two runs on the same questions."""

from dataclasses import replace
from pathlib import Path

import pytest

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import write_json, write_jsonl
from open_exaone.base.records import Generation, Problem, Reply, Sample, Sampling, StopReason, Verdict, VerdictStatus
from open_exaone.evaluation.compare import compare_runs, published_rows, run_rows, with_published
from open_exaone.evaluation.paired import paired_difference
from open_exaone.evaluation.published import find
from open_exaone.evaluation.report import Entry, Report, build_report
from open_exaone.evaluation.rows import problem_rows, sample_row, task_row
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.task import Task

RIGHT, WRONG = Verdict(VerdictStatus.CORRECT, "1", "Yes."), Verdict(VerdictStatus.WRONG, "2", "No.")
GENERATION = Generation(Reply("", "1"), StopReason.END, 1, 1, 0)


def task_of(benchmark: str, num: int = 30, k: int = 2, thinking: bool = True, budget: int | None = None) -> Task:
    problems = tuple(Problem(f"q{n}", "f", "en", f"Question {n}?", "1", "math") for n in range(num))
    return Task(benchmark, benchmark, problems, Sampling(70_000, num_samples=k, thinking_budget=budget), thinking)


def samples_of(task: Task, num_right: int) -> list[list[Sample]]:
    """The first so many questions are answered rightly, always."""
    return [
        [
            Sample(f"{p.id}/{i}", task.name, p.id, i, GENERATION, RIGHT if n < num_right else WRONG)
            for i in range(task.sampling.num_samples)
        ]
        for n, p in enumerate(task.problems)
    ]


def report_of(*tasks: Task, num_right: int = 15) -> Report:
    entries = [score_task(task, samples_of(task, num_right)) for task in tasks]
    return build_report(entries, suite="s", model={}, code_version="", versions={}, started="")


def beside(entry: Entry, model: str, metric: str = "pass@1", setting: str = "") -> list[float]:
    named = [b for b in entry.published if (b.model, b.metric, b.setting) == (model, metric, setting)]
    return [b.percent for b in named]


def test_published_numbers_of_the_same_benchmark_and_mode_stand_beside_ours() -> None:
    report = with_published(report_of(task_of("aime_2024"), task_of("gsm8k")))
    entry, unknown = report.tasks
    assert unknown.published == ()
    row = find("EXAONE Deep 2.4B", "AIME 2024")
    assert row is not None and beside(entry, "EXAONE Deep 2.4B") == [row.percent] == [52.5]
    assert {found.mode for found in entry.published} == {"reasoning"}
    assert {found.metric for found in entry.published} == {"pass@1"}  # k is 2
    percents = [found.percent for found in entry.published]
    assert percents == sorted(percents, reverse=True) and len(percents) == 11
    near = next(found for found in entry.published if found.percent == 52.5)
    assert near.difference == pytest.approx(0.5 - 0.525) and near.within
    assert near.difference_ci95 is not None and near.difference_ci95[0] < -0.025 < near.difference_ci95[1]
    best = entry.published[0]
    assert best.within is (entry.ci95[0] <= best.percent / 100 <= entry.ci95[1]) is False


def test_the_other_mode_has_other_numbers() -> None:
    (entry,) = with_published(report_of(task_of("aime_2025", thinking=False))).tasks
    assert beside(entry, "EXAONE 4.0 32B") == [35.9]


def test_the_consensus_of_64_stands_beside_cons_at_64_alone() -> None:
    (entry,) = with_published(report_of(task_of("aime_2025", k=64)), "EXAONE Deep 2.4B").tasks
    assert beside(entry, "EXAONE Deep 2.4B", "cons@64") == [73.3]
    assert all(found.model == "EXAONE Deep 2.4B" for found in entry.published)
    report = report_of(task_of("aime_2025", k=64))
    voted = report.tasks[0].model_copy(update={"cons_at_k": 0.9, "cons_ci95": (0.7, 0.95)})
    (entry,) = with_published(report.model_copy(update={"tasks": (voted,)}), "EXAONE Deep 2.4B").tasks
    found = next(found for found in entry.published if found.metric == "cons@64")
    assert found.difference == pytest.approx(0.9 - 0.733) and found.within


def test_under_a_budget_the_numbers_of_that_budget_come_first() -> None:
    (entry,) = with_published(report_of(task_of("aime_2025", budget=32 * 1024)), "exaone 4.0 32b").tasks
    assert next((found.setting, found.percent) for found in entry.published) == ("budget 32K", 74.8)
    assert beside(entry, "EXAONE 4.0 32B") == [85.3]
    (entry,) = with_published(report_of(task_of("aime_2025", budget=1000))).tasks
    assert {found.setting for found in entry.published} == {""}


def test_csats_score_stands_beside_csats() -> None:
    sections = ["common"] * 22 + ["calculus"] * 8 + ["statistics"] * 8 + ["geometry"] * 8
    points = [4] * 8 + [3] * 14 + ([3] * 6 + [4] * 2) * 3
    problems = tuple(
        Problem(f"q{n}", "csat", "ko", "?", "1", "math", metadata={"section": section, "points": p})
        for n, (section, p) in enumerate(zip(sections, points, strict=True))
    )
    task = replace(task_of("csat_2025_math"), problems=problems)
    (entry,) = with_published(report_of(task, num_right=22), "EXAONE Deep 32B").tasks
    (found,) = entry.published
    assert found.percent == 94.5 and found.difference == pytest.approx(0.74 - 0.945)


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no published table has it; the models are .*EXAONE Deep 2\.4B"):
        with_published(report_of(task_of("gsm8k")), "GPT-9")


def test_the_table_has_a_head_and_a_line_for_each_number() -> None:
    report = with_published(report_of(task_of("aime_2025", k=64)), "EXAONE Deep 2.4B")
    rows = published_rows(report)
    assert {len(row) for row in rows} == {len(rows[0])} and len(rows) == 1 + len(report.tasks[0].published)
    ours = report.tasks[0]
    shown = f"{100 * ours.ci95[0]:.1f} to {100 * ours.ci95[1]:.1f}"
    assert rows[1] == ("aime_2025 pass@1", "reasoning", "50.0", shown, "47.9", "EXAONE Deep 2.4B", "+2.1", "yes")


def write_run(folder: Path, task: Task, num_right: int) -> Path:
    folder.mkdir()
    write_json(folder / "evaluation.json", {"tasks": [task_row(task)]})
    write_jsonl(folder / "problems.jsonl", problem_rows([task]))
    write_jsonl(folder / "samples.jsonl", [sample_row(s) for row in samples_of(task, num_right) for s in row])
    return folder


def test_two_runs_are_compared_question_by_question(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "ours", task_of("aime_2025"), 20)
    theirs = write_run(tmp_path / "theirs", task_of("aime_2025", k=1), 12)
    (found,) = compare_runs(ours, theirs)
    expected = paired_difference(
        {f"{n:02}": float(n < 20) for n in range(30)}, {f"{n:02}": float(n < 12) for n in range(30)}
    )
    assert (found.ours, found.theirs) == pytest.approx((2 / 3, 0.4))
    assert found.difference.p_value == pytest.approx(expected.p_value) and found.difference.low > 0
    assert run_rows([found])[1][:6] == ("aime_2025", "reasoning", "30", "66.7", "40.0", "+26.7")
    assert len({len(row) for row in run_rows([found])}) == 1


def test_other_questions_are_refused_unless_the_shared_ones_are_asked_for(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "ours", task_of("aime_2025", num=20), 20)
    theirs = write_run(tmp_path / "theirs", task_of("aime_2025", num=30), 10)
    with pytest.raises(DataError, match="share 20 questions, 0 are in the first only and 10 in the second only"):
        compare_runs(ours, theirs)
    (found,) = compare_runs(ours, theirs, shared_only=True)
    assert (found.difference.num_questions, found.num_only_theirs, found.theirs) == (20, 10, 0.5)


def test_the_same_names_with_another_text_are_other_questions(tmp_path: Path) -> None:
    task = task_of("aime_2025")
    other = replace(task, problems=tuple(replace(p, question="Another?") for p in task.problems))
    with pytest.raises(DataError, match="share no question"):
        compare_runs(write_run(tmp_path / "a", task, 3), write_run(tmp_path / "b", other, 3), shared_only=True)


def test_runs_without_a_common_task_are_refused(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "a", task_of("gsm8k"), 3), write_run(tmp_path / "b", task_of("mmlu"), 3)
    with pytest.raises(DataError, match="share no benchmark"):
        compare_runs(one, other)
