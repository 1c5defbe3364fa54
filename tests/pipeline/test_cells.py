"""Scores by cell on their way from a measurement into a run's own report."""

import json
from dataclasses import replace

from open_exaone.base.records import Generation, Reply, Sample, Sampling, StopReason, Verdict, VerdictStatus
from open_exaone.evaluation.report import Entry
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.measure import stage_report
from open_exaone.present.stages import by_benchmark
from open_exaone.tasks.benchmarks.registry import load_problems


def measured(name: str, *, wrong: str = "", has_depths: bool = True) -> Entry:
    """A greedy measurement in which the problems whose identifier ends so are wrong."""
    problems = tuple(load_problems("needle", "64,128:kinds=single,depths=3,repeats=2,prompt=plain"))
    if not has_depths:
        problems = tuple(replace(problem, metadata={}) for problem in problems)
    task = Task(name, name, problems, Sampling(max_new_tokens=9), thinking=False)
    rows = []
    for problem in problems:
        is_wrong = bool(wrong) and problem.id.endswith(wrong)
        verdict = Verdict(VerdictStatus.WRONG if is_wrong else VerdictStatus.CORRECT, problem.answer, "")
        generation = Generation(Reply("", problem.answer), StopReason.END, 60, 5, 0)
        rows.append([Sample("", name, problem.id, 0, generation, verdict)])
    return score_task(task, rows)


def test_a_stage_keeps_the_cells_of_its_suite_and_other_benchmarks_have_none() -> None:
    needle, other = measured("needle", wrong="single-128-0-2-2"), measured("other", has_depths=False)
    report = json.loads(json.dumps(stage_report([needle, other], has_suite=True)))
    first, second = report["tasks"]
    assert "per_cell" not in second  # as before there were cells, so that what is stored equals what is measured anew
    assert [(cell["length"], cell["depth"], cell["pass_at_1"]) for cell in first["per_cell"]] == [
        (64, 0.0, 1.0), (64, 0.5, 1.0), (64, 1.0, 1.0), (128, 0.0, 1.0), (128, 0.5, 0.5), (128, 1.0, 1.0)
    ]  # fmt: skip
    assert {cell["num_problems"] for cell in first["per_cell"]} == {2}
    read = by_benchmark({"stages": [{"name": "sft", **report}]})  # the stage's own fields are those of its first task
    assert [entry["per_cell"] for entry in (*read["needle"], *read["other"])] == [first["per_cell"], []]


def test_a_suite_of_one_and_a_run_s_own_data_keep_their_cells() -> None:
    needle = measured("needle")
    assert (
        stage_report([needle], has_suite=True)["per_cell"]
        == stage_report([needle, needle], has_suite=False)["per_cell"]
    )
    assert len(stage_report([needle], has_suite=True)["per_cell"]) == 6
