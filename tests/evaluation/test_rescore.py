"""Stored samples judged anew: the same verdicts as one by one, in the same order."""

from collections import Counter
from dataclasses import replace

import pytest

from mock_endpoint import mock_endpoint
from open_exaone.base.errors import DataError
from open_exaone.base.records import Generation, Problem, Reply, Sample, Sampling, StopReason, Verdict, VerdictStatus
from open_exaone.evaluation.missing import NO_REPLY
from open_exaone.evaluation.rescore import changes, rescore
from open_exaone.evaluation.task import Task
from open_exaone.remote import http
from open_exaone.remote.settings import Endpoint
from open_exaone.rollout import judge_outage
from open_exaone.rollout.run import judge_reply
from open_exaone.verify.settings import JudgeSettings

OLD = Verdict(VerdictStatus.WRONG, "old", "Old.")


def task_of(name: str, num: int, kind: str = "math", gold: str = "{n}") -> Task:
    problems = tuple(Problem(f"{name}{n}", "f", "en", "?", gold.format(n=n), kind) for n in range(num))
    return Task(name, name, problems, Sampling(max_new_tokens=9, num_samples=3), thinking=False)


def rows_of(task: Task, stop: StopReason = StopReason.END) -> list[list[Sample]]:
    return [
        [
            Sample("", task.name, p.id, i, Generation(Reply("", rf"\boxed{{{n + (i == 2)}}}"), stop, 1, 1, 0), OLD)
            for i in range(3)
        ]
        for n, p in enumerate(task.problems)
    ]


def test_verdicts_are_those_of_the_judge_in_the_same_order() -> None:
    tasks = [task_of("a", 90), task_of("b", 1, "exact"), task_of("c", 2, "reasoning_gym"), task_of("d", 30)]
    samples = [rows_of(task) for task in tasks]
    judged = rescore(tasks, samples)
    for task, before, now in zip(tasks, samples, judged, strict=True):
        for problem, old, new in zip(task.problems, before, now, strict=True):
            assert [replace(s, verdict=OLD, judged_by="") for s in new] == old
            assert [s.verdict for s in new] == [judge_reply(problem, s.generation.reply) for s in old]
    statuses = changes(samples, judged)
    assert statuses == Counter(
        {(VerdictStatus.WRONG, VerdictStatus.CORRECT): 242, (VerdictStatus.WRONG, VerdictStatus.ERROR): 6}
    )


def test_a_generation_that_failed_is_an_error_and_a_cut_one_is_truncated() -> None:
    task = task_of("a", 2)
    (failed,) = rescore([task], [rows_of(task, StopReason.ERROR)])
    (cut,) = rescore([task], [rows_of(task, StopReason.LENGTH)])
    assert {s.verdict for row in failed for s in row} == {NO_REPLY}
    assert {s.verdict.status for row in cut for s in row} == {VerdictStatus.TRUNCATED}


def test_a_judge_model_that_is_down_midway_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not judged yet by then does not keep its old verdict."""
    monkeypatch.setattr(http, "FIRST_WAIT_S", 1e-3)
    tasks = [task_of("a", 4, "rule_then_judge"), task_of("b", 90)]
    with mock_endpoint(lambda question, _: "DIFFERENT", error_share=1.0) as endpoint:
        up = {**endpoint.settings, "error_share": 0.0}
        monkeypatch.setattr(judge_outage, "_sleep", lambda seconds: setattr(endpoint, "settings", up))
        settings = JudgeSettings(endpoint=Endpoint(base_url=endpoint.url, model="m", max_attempts=1))
        done = rescore(tasks, [rows_of(task) for task in tasks], settings)
    statuses = [[sample.verdict.status for sample in row] for rows in done for row in rows]
    assert statuses == [[VerdictStatus.CORRECT, VerdictStatus.CORRECT, VerdictStatus.WRONG]] * 94
    assert not any(sample.verdict == OLD for rows in done for row in rows for sample in row)


def test_judging_twice_changes_nothing() -> None:
    task = task_of("a", 5)
    once = rescore([task], [rows_of(task)])
    assert changes(once, rescore([task], once)) == Counter()


def test_a_gold_answer_that_cannot_be_one_is_named() -> None:
    task = task_of("a", 1, gold="")
    with pytest.raises(DataError, match="task 'a', problem 'a0': answer: the gold answer is empty"):
        rescore([task], [rows_of(task)])


def test_samples_of_another_number_of_problems_are_refused() -> None:
    task = task_of("a", 2)
    with pytest.raises(DataError, match="1 rows of samples for 2 problems"):
        rescore([task], [rows_of(task)[:1]])
