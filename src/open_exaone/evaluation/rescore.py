"""Judging stored samples anew: nothing is generated."""

import os
from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice

from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem, Sample, VerdictStatus
from open_exaone.evaluation.judged import is_slow, judged, judging_key
from open_exaone.evaluation.task import Task
from open_exaone.rollout.run import side_by_side
from open_exaone.verify.settings import JudgeSettings

Grid = Sequence[Sequence[Sequence[Sample]]]  # [task, P, k]
Change = tuple[VerdictStatus, VerdictStatus]  # before, now

_MAX_CHUNK = 64  # samples that one thread judges at one go: a switch for each costs more than judging an integer


def rescore(tasks: Sequence[Task], samples: Grid, settings: JudgeSettings | None = None) -> list[list[list[Sample]]]:
    """The same samples with the verdicts that they get now, in the same order; judged side by side.

    Args:
        samples: [task, P, k], in the order of `tasks` and their problems.

    Raises:
        DataError: the samples don't fit the problems, or a problem's gold answer is not what its verifier needs.
    """
    settings = settings or JudgeSettings()
    pairs = [
        (problem, sample)
        for task, rows in zip(tasks, samples, strict=True)
        for problem, row in zip(task.problems, _rows_of(task, rows), strict=True)
        for sample in row
    ]

    keys = {id(problem): judging_key(problem, settings) for task in tasks for problem in task.problems}

    def judge(chunk: Sequence[tuple[Problem, Sample]]) -> list[Sample]:
        return [judged(problem, sample, settings, keys[id(problem)]) for problem, sample in chunk]

    done = chain.from_iterable(side_by_side(judge, _chunks(pairs)))
    return [[list(islice(done, len(row))) for row in rows] for rows in samples]


def changes(before: Grid, now: Grid) -> Counter[Change]:
    """How many verdicts became which others; those that stayed are left out."""
    flat = zip(_flat(before), _flat(now), strict=True)
    pairs = ((old.verdict.status, new.verdict.status) for old, new in flat)
    return Counter((old, new) for old, new in pairs if old is not new)


def _rows_of(task: Task, rows: Sequence[Sequence[Sample]]) -> Sequence[Sequence[Sample]]:
    if len(rows) != len(task.problems):
        raise DataError(f"task {task.name!r}: {len(rows)} rows of samples for {len(task.problems)} problems")
    return rows


def _chunks(pairs: Sequence[tuple[Problem, Sample]]) -> list[list[tuple[Problem, Sample]]]:
    """In order: as many at a time as leave every thread enough chunks; what may take long, one by one."""
    size = max(1, min(_MAX_CHUNK, len(pairs) // (8 * (os.cpu_count() or 1))))
    chunks: list[list[tuple[Problem, Sample]]] = []
    room = 0
    for pair in pairs:
        slow = is_slow(pair[0])
        if slow or not room:
            chunks.append([])
            room = 1 if slow else size
        chunks[-1].append(pair)
        room -= 1
    return chunks


def _flat(samples: Grid) -> list[Sample]:
    return [sample for rows in samples for row in rows for sample in row]
