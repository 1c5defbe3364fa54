"""Questions whose verdict differs between two evaluations."""

from collections.abc import Iterator, Mapping, Sequence

from open_exaone.base.records import Flip, Problem, Sample
from open_exaone.evaluation.task import Task

Asked = Mapping[tuple[str, ...], tuple[Problem, Sequence[Sample]]]


def by_question(task: Task, samples: Sequence[Sequence[Sample]]) -> Asked:
    """(id, text, gold answer) -> the problem and its samples."""
    pairs = zip(task.problems, samples, strict=True)
    return {(problem.id, problem.question, problem.answer): (problem, row) for problem, row in pairs}


def find_flips(task: str, ours: Asked, theirs: Asked) -> Iterator[Flip]:
    """The questions that both have and whose share of correct samples differs, in our order."""
    for question, (problem, our_row) in ours.items():
        if question not in theirs:
            continue
        their_row = theirs[question][1]
        our_correct, their_correct = _correct(our_row), _correct(their_row)
        difference = our_correct[0] * their_correct[1] - their_correct[0] * our_correct[1]
        if difference:
            is_gained = difference > 0
            first, second = _first(our_row, is_gained), _first(their_row, not is_gained)
            yield Flip(task, problem, first, second, our_correct, their_correct, is_gained)


def _correct(row: Sequence[Sample]) -> tuple[int, int]:
    return sum(sample.verdict.correct for sample in row), len(row)


def _first(row: Sequence[Sample], is_correct: bool) -> Sample:
    return next(sample for sample in row if sample.verdict.correct == is_correct)
