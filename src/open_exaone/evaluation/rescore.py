"""Judging stored samples anew: nothing is generated."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from open_exaone.base.errors import DataError
from open_exaone.base.records import Sample, VerdictStatus
from open_exaone.evaluation.judged import judged, judging_key
from open_exaone.evaluation.task import Task
from open_exaone.rollout.judge_outage import UNJUDGED, Patience
from open_exaone.rollout.judging import JudgePool, is_slow
from open_exaone.verify.settings import JudgeSettings

Grid = Sequence[Sequence[Sequence[Sample]]]  # [task, P, k]
Change = tuple[VerdictStatus, VerdictStatus]  # before, now


def rescore(tasks: Sequence[Task], samples: Grid, settings: JudgeSettings | None = None) -> list[list[list[Sample]]]:
    """The same samples with the verdicts that they get now, in the same order; judged side by side.

    Args:
        samples: [task, P, k], in the order of `tasks` and their problems.

    Raises:
        DataError: the samples don't fit the problems, or a problem's gold answer is not what its verifier needs.
    """
    settings = settings or JudgeSettings()
    rows = [
        (problem, row)
        for task, rows in zip(tasks, samples, strict=True)
        for problem, row in zip(task.problems, _rows_of(task, rows), strict=True)
    ]
    problems = [problem for problem, row in rows for _ in row]
    keys = {id(problem): judging_key(problem, settings) for problem, _ in rows}
    done = dict(enumerate(replace(sample, verdict=UNJUDGED) for _, row in rows for sample in row))
    pool = JudgePool(
        done,
        lambda place, sample: judged(problems[place], sample, settings, keys[id(problems[place])]),
        is_slow=lambda place: is_slow(problems[place]),
        patience=Patience(settings.endpoint),
    )
    try:
        for place in range(len(problems)):
            pool.add(place)
        pool.finish()
    finally:
        pool.stop()
    rest = iter(done.values())
    return [[list(islice(rest, len(row))) for row in rows] for rows in samples]


def changes(before: Grid, now: Grid) -> Counter[Change]:
    """How many verdicts became which others; those that stayed are left out."""
    flat = zip(_flat(before), _flat(now), strict=True)
    pairs = ((old.verdict.status, new.verdict.status) for old, new in flat)
    return Counter((old, new) for old, new in pairs if old is not new)


def _rows_of(task: Task, rows: Sequence[Sequence[Sample]]) -> Sequence[Sequence[Sample]]:
    if len(rows) != len(task.problems):
        raise DataError(f"task {task.name!r}: {len(rows)} rows of samples for {len(task.problems)} problems")
    return rows


def _flat(samples: Grid) -> list[Sample]:
    return [sample for rows in samples for row in rows for sample in row]
