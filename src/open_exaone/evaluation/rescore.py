"""Judging stored samples anew: nothing is generated."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice

from open_exaone.base.errors import DataError, OpenExaoneError
from open_exaone.base.records import Problem, Sample, StopReason, VerdictStatus
from open_exaone.evaluation.task import Task
from open_exaone.rollout.run import judge_reply, side_by_side
from open_exaone.verify.own import is_own
from open_exaone.verify.settings import JudgeSettings

Grid = Sequence[Sequence[Sequence[Sample]]]  # [task, P, k]
Change = tuple[VerdictStatus, VerdictStatus]  # before, now

_NOT_JUDGED = frozenset({StopReason.ERROR, StopReason.CANCELLED})  # there is no whole reply: its verdict stands
_SLOW_KINDS = frozenset({"code", "reasoning_gym", "rule_then_judge"})
_MAX_CHUNK = 64  # samples that one thread judges at one go: a switch for each costs more than judging an integer


def rescore(tasks: Sequence[Task], samples: Grid, settings: JudgeSettings | None = None) -> list[list[list[Sample]]]:
    """The same samples with the verdicts that they get now, in the same order; judged side by side.

    A generation that failed or was cancelled is no reply, and keeps its verdict.

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

    def judge(chunk: Sequence[tuple[Problem, Sample]]) -> list[Sample]:
        return [_judged(problem, sample, settings) for problem, sample in chunk]

    judged = chain.from_iterable(side_by_side(judge, _chunks(pairs)))
    return [[list(islice(judged, len(row))) for row in rows] for rows in samples]


def changes(before: Grid, now: Grid) -> Counter[Change]:
    """How many verdicts became which others; those that stayed are left out."""
    flat = zip(_flat(before), _flat(now), strict=True)
    pairs = ((old.verdict.status, new.verdict.status) for old, new in flat)
    return Counter((old, new) for old, new in pairs if old is not new)


def is_slow(problem: Problem) -> bool:
    """Whether a verdict takes a process or another machine, so that each deserves a thread of its own."""
    return problem.verifier in _SLOW_KINDS or is_own(problem.verifier)


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


def _judged(problem: Problem, sample: Sample, settings: JudgeSettings) -> Sample:
    generation = sample.generation
    if generation.stop in _NOT_JUDGED:
        return sample
    try:
        return replace(sample, verdict=judge_reply(problem, generation.reply, generation.stop, settings=settings))
    except OpenExaoneError:
        raise
    except ValueError as error:
        raise DataError(f"task {sample.task!r}, problem {problem.id!r}: {error}") from error


def _flat(samples: Grid) -> list[Sample]:
    return [sample for rows in samples for row in rows for sample in row]
