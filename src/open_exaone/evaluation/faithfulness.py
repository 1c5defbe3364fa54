"""Is the thought used? The model's answers after its own thought, changed in several ways: tasks, and their scores.

After Lanham et al. 2023 (arXiv 2307.13702): early answering and added mistakes; and thoughts of other problems.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Final, Literal, NamedTuple

from open_exaone.base.errors import DataError
from open_exaone.base.records import Begun, Problem, Sample, Sampling, StopReason, VerdictStatus
from open_exaone.evaluation.altered import cut, partners, token_pieces, with_slip, word_pieces
from open_exaone.evaluation.config import GREEDY
from open_exaone.evaluation.consensus import same_by_judge
from open_exaone.evaluation.missing import is_missing
from open_exaone.evaluation.paired import paired_difference
from open_exaone.evaluation.record import Count, Interval, Record, Share
from open_exaone.evaluation.statistics import question_interval
from open_exaone.evaluation.task import Task
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.verify.exact import normalise

Condition = Literal["unchanged", "none", "first_25", "first_50", "first_75", "other_problem", "slip", "slip_continued"]
UNCHANGED: Final = "unchanged"
SHARES: Mapping[Condition, float] = {"first_25": 0.25, "first_50": 0.5, "first_75": 0.75}  # of the thought that is kept
CONDITIONS: tuple[Condition, ...] = (UNCHANGED, "none", *SHARES, "other_problem", "slip", "slip_continued")
_ENDED = frozenset({StopReason.END, StopReason.STOP_STRING, StopReason.BUDGET})

Measured = tuple[Task, Sequence[Sequence[Sample]]]  # P problems, k samples of each


class ThoughtCondition(Record):
    """The answers after thoughts that were all changed in one way, on the problems to which that applies."""

    condition: Condition
    """What the model answered after: its own thought, none, the first 25, 50 or 75 % of it, another problem's, its own
    with one wrong result ("slip"), or its own as far as that result, from where it went on by itself."""
    num_problems: Count
    """To how many problems it applies."""
    accuracy: Share | None
    """The share of correct answers; null, as the rest, where it applies to no problem."""
    ci95: Interval | None
    """Its interval."""
    difference: float | None
    """Its accuracy less that after the unchanged thought, on the same problems; null for that one itself."""
    difference_ci95: tuple[float, float] | None
    """The difference's interval, paired by problem."""
    same_answer: Share | None
    """The share of answers that equal the one after the unchanged thought; for that one, the model's own reply's."""
    other_answer: Share | None
    """The share of answers that are others."""
    no_answer: Share | None
    """The share of replies without an answer, such as those that were cut."""


class ThoughtUse(Record):
    """Whether the answers to a task's problems depend on the thoughts before them."""

    task: str
    """The task whose greedy replies gave the thoughts."""
    benchmark: str
    """Its benchmark, or the name of its data."""
    num_problems: Count
    """How many greedy replies there are."""
    not_applicable: dict[str, Count]
    """Why a reply gave no thought to change, and how many did not; the rest are in "unchanged"."""
    cut_between: Literal["tokens", "words"]
    """What the shares of a thought count: its tokens, or, of a server that has the tokenizer, its words."""
    missing: Count = 0
    """Replies after changed thoughts that could not be had; they count as not correct and without an answer."""
    conditions: tuple[ThoughtCondition, ...]


def with_greedy(tasks: Sequence[Task]) -> list[Task]:
    """The tasks, and for each in reasoning mode that has none yet, the task of one greedy reply to each problem."""
    names = {task.name for task in tasks}
    missing = [task for task in tasks if task.thinking and not _is_greedy(task) and task.name + GREEDY not in names]
    return [*tasks, *(replace(task, name=task.name + GREEDY, sampling=_greedy(task)) for task in missing)]


def thought_givers(done: Sequence[Measured]) -> list[Measured]:
    """The tasks whose greedy replies have the thoughts that are changed: those in reasoning mode."""
    return [(task, samples) for task, samples in done if task.thinking and _is_greedy(task)]


def _is_greedy(task: Task) -> bool:
    return task.sampling.temperature == 0 and task.sampling.num_samples == 1


def _greedy(task: Task) -> Sampling:
    return replace(task.sampling, temperature=0.0, num_samples=1)


def why_not(sample: Sample) -> str | None:
    """Why a reply has no thought that could be changed; None where it has one."""
    reply = sample.generation.reply
    if is_missing(sample):
        return "no reply"
    if sample.generation.stop not in _ENDED or not reply.finished:
        return "cut reply"
    return None if reply.thought.strip() else "no thought"


def altered_tasks(task: Task, samples: Sequence[Sequence[Sample]], tokenizer: Tokenizer | None) -> list[Task]:
    """For each condition, the problems to which it applies, each with the thought that its reply begins with.

    Args:
        samples: [P, 1], one greedy reply to each problem.
        tokenizer: cuts thoughts between tokens; None: a server has it, thoughts are cut between words, and none is
            left open, since servers continue answers only.
    """
    replies = [(problem, row[0]) for problem, row in zip(task.problems, samples, strict=True) if not why_not(row[0])]
    problems = [problem for problem, _ in replies]
    thoughts = [sample.generation.reply.thought for _, sample in replies]
    seed = task.sampling.seed
    others = partners(problems, [answer_of(sample) for _, sample in replies], seed)
    found: dict[Condition, list[tuple[Problem, Begun]]] = {condition: [] for condition in CONDITIONS}
    for problem, thought, other in zip(problems, thoughts, others, strict=True):
        own = _altered(thought, random.Random(f"{seed}:{problem.id}:slip"), tokenizer)
        if other is not None and thoughts[other] != thought:
            own["other_problem"] = Begun(thoughts[other], closed=True)
        for condition, begun in own.items():
            found[condition].append((problem, begun))
    if tokenizer is None:
        found.pop("slip_continued")
    sampling = replace(task.sampling, thinking_budget=None)
    return [
        replace(
            task,
            name=f"{task.name}+{condition}",
            problems=tuple(problem for problem, _ in pairs),
            begun=tuple(begun for _, begun in pairs),
            sampling=sampling,
        )
        for condition, pairs in found.items()
        if pairs
    ]


def _altered(thought: str, draw: random.Random, tokenizer: Tokenizer | None) -> dict[Condition, Begun]:
    """All that is made of a thought alone."""
    pieces = word_pieces(thought) if tokenizer is None else token_pieces(tokenizer, thought)
    kept = {condition: cut(pieces, share) for condition, share in SHARES.items()}
    slip = with_slip(thought, draw)
    texts: dict[Condition, str | None] = {UNCHANGED: thought, "none": "", **kept, "slip": slip and slip.thought}
    made = {condition: Begun(text, closed=True) for condition, text in texts.items() if text is not None}
    return made | ({"slip_continued": Begun(slip.begun, closed=False)} if slip else {})


def thought_use(
    task: Task, samples: Sequence[Sequence[Sample]], altered: Sequence[Measured], *, by_words: bool
) -> ThoughtUse:
    """The table of one task.

    Args:
        samples: [P, 1], its greedy replies.
        altered: the tasks of `altered_tasks`, those that there are.
        by_words: thoughts were cut between words.

    Raises:
        DataError: of `altered`, a problem lacks the reply after its unchanged thought.
    """
    why = Counter(reason for row in samples if (reason := why_not(row[0])))
    by_name = {
        other.name: (other.problems, [row[0] for row in rows])
        for other, rows in altered
        if other.name.rpartition("+")[0] == task.name
    }
    own = {row[0].problem: row[0] for row in samples}
    _, control = by_name.get(f"{task.name}+{UNCHANGED}", ((), []))
    unchanged = {sample.problem: sample for sample in control}
    conditions = []
    for condition in CONDITIONS:
        problems, replies = by_name.get(f"{task.name}+{condition}", ((), []))
        conditions.append(_scored(condition, problems, replies, own if condition == UNCHANGED else unchanged))
    return ThoughtUse(
        task=task.name,
        benchmark=task.benchmark,
        num_problems=len(task.problems),
        not_applicable=dict(sorted(why.items())),
        cut_between="words" if by_words else "tokens",
        missing=sum(is_missing(sample) for _, replies in by_name.values() for sample in replies),
        conditions=tuple(conditions),
    )


class _Answers(NamedTuple):
    """How many answers there are of each kind."""

    same: float
    other: float
    none: float


def _scored(
    condition: Condition, problems: Sequence[Problem], replies: Sequence[Sample], before: Mapping[str, Sample]
) -> ThoughtCondition:
    """One line of the table.

    Args:
        before: by its problem, the reply that each is compared with.
    """
    nothing = dict.fromkeys(("accuracy", "ci95", "difference", "difference_ci95"))
    if not replies:
        shares = dict.fromkeys(("same_answer", "other_answer", "no_answer"))
        return ThoughtCondition(condition=condition, num_problems=0, **nothing, **shares)
    if lacking := [sample.problem for sample in replies if sample.problem not in before]:
        raise DataError(f"{condition}: {lacking[0]!r} has no reply to compare with: measure again by the same command")
    right = {sample.problem: float(sample.verdict.correct) for sample in replies}
    own = {name: float(before[name].verdict.correct) for name in right}
    change = None if condition == UNCHANGED else paired_difference(right, own)
    answers = _answers(problems, replies, before)
    return ThoughtCondition(
        condition=condition,
        num_problems=len(replies),
        accuracy=fmean(right.values()),
        ci95=question_interval(list(right.values())),
        difference=change.value if change else None,
        difference_ci95=(change.low, change.high) if change else None,
        same_answer=answers.same,
        other_answer=answers.other,
        no_answer=answers.none,
    )


def _answers(problems: Sequence[Problem], replies: Sequence[Sample], before: Mapping[str, Sample]) -> _Answers:
    kinds = Counter[bool | None]()
    for problem, sample in zip(problems, replies, strict=True):
        answer, earlier = answer_of(sample), answer_of(before[problem.id])
        kinds[None if answer is None else earlier is not None and _is_same(problem, answer, earlier)] += 1
    return _Answers(*(kinds[kind] / len(replies) for kind in (True, False, None)))


def _is_same(problem: Problem, one: str, other: str) -> bool:
    """Whether two answers are equal, as texts or by the problem's verifier."""
    return normalise(one) == normalise(other) or same_by_judge(problem.verifier, problem.metadata)(one, other)


def answer_of(sample: Sample) -> str | None:
    """A reply's answer: what the verifier found in it, or all of it where the verifier looks for nothing in it."""
    verdict = sample.verdict
    if verdict.extracted is None and verdict.status in (VerdictStatus.CORRECT, VerdictStatus.WRONG):
        return sample.generation.reply.answer.strip() or None
    return verdict.extracted
