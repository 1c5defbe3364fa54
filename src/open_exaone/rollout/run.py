"""The one way from problems to judged samples; training and evaluation both take it."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from open_exaone.base import interrupt
from open_exaone.base.errors import DataError, OpenExaoneError
from open_exaone.base.records import (
    NO_FINDING,
    Completion,
    Missing,
    Problem,
    Reply,
    Rollout,
    RolloutGroup,
    Sampling,
    StopReason,
    Term,
    Verdict,
    VerdictStatus,
)
from open_exaone.data.document import prompt_ids
from open_exaone.rewards.rubric import Judged, Rubric, score, weighted_sum
from open_exaone.rollout.judge_outage import UNJUDGED, Patience, is_open
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.verify.judge import judge_answer, judged_with
from open_exaone.verify.settings import JudgeSettings

MIN_ERRORS = 8  # fewer may be chance
Item = TypeVar("Item")
Result = TypeVar("Result")
Generate = Callable[[Sequence[Sequence[int]], Sampling], list[list[Completion]]]


@dataclass(frozen=True, slots=True)
class Judging:
    """How replies are judged and rewarded; by default 1 for correct and 0 for the rest."""

    settings: JudgeSettings = field(default_factory=JudgeSettings)
    weights: Mapping[str, float] = field(default_factory=lambda: {"correct": 1.0})
    rubric: Rubric = field(default_factory=Rubric)


def run(
    problems: Sequence[Problem],
    generate: Generate,
    tokenizer: Tokenizer,
    sampling: Sampling,
    *,
    thinking: bool,
    judging: Judging | None = None,
) -> list[RolloutGroup]:
    """Samples and judges replies to every problem; see `sample` and `judge_groups`."""
    groups = sample(problems, generate, tokenizer, sampling, thinking=thinking)
    return judge_groups(groups, judging or Judging(), max_tokens=sampling.max_new_tokens, thinking=thinking)


def sample(
    problems: Sequence[Problem], generate: Generate, tokenizer: Tokenizer, sampling: Sampling, *, thinking: bool
) -> list[RolloutGroup]:
    """Samples replies to every problem; none is judged yet.

    Args:
        generate: prompts of ids -> per prompt, its completions; the local engine's method, or an endpoint's.
        thinking: ask in reasoning mode.

    Returns:
        one group a problem, in the problems' order.
    """
    prompts = prompt_ids(problems, tokenizer, thinking=thinking)
    return [
        RolloutGroup(
            problem,
            tuple(prompt),
            tuple(
                Rollout(completion, tokenizer.split(completion.ids, thinking=thinking), UNJUDGED, None)
                for completion in completions
            ),
        )
        for problem, prompt, completions in zip(problems, prompts, generate(prompts, sampling), strict=True)
    ]


def judge_groups(
    groups: Sequence[RolloutGroup],
    judging: Judging,
    *,
    max_tokens: int,
    thinking: bool,
    save: Callable[[list[RolloutGroup]], None] | None = None,
    patience: Patience | None = None,
) -> list[RolloutGroup]:
    """Judges and rewards what is not yet; where the judge model is down, waits for it and asks again.

    Args:
        max_tokens: the limit that they were sampled under.
        thinking: they were asked in reasoning mode.
        save: called with the groups as far as they are judged, before each wait and each error but the one that no
            verdict says anything.
        patience: a new one, whose `waited_s` the caller reads.

    Raises:
        DataError: a problem cannot be judged, or no verdict says anything.
        EndpointError: the judge model refuses, or nothing was judged for `max_wait_s`.
        Interrupted: after Ctrl-C or SIGTERM, where the judge model was waited for.
    """
    problems = [group.problem for group in groups for _ in group.rollouts]
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    patience = patience or Patience(judging.settings.endpoint)
    while True:
        before, (rollouts, error) = rollouts, _judge_open(problems, rollouts, judging, max_tokens, thinking)
        rest = iter(rollouts)
        judged = [replace(group, rollouts=tuple(islice(rest, len(group.rollouts)))) for group in groups]
        if not any(map(is_open, rollouts)):
            break
        if save is not None:
            save(judged)
        if error is not None:
            raise error
        interrupt.check()
        rollouts = patience.wait(before, rollouts)
    check_verdicts([rollout.verdict for rollout in rollouts])
    return judged


def _judge_open(
    problems: Sequence[Problem], rollouts: Sequence[Rollout], judging: Judging, max_tokens: int, thinking: bool
) -> tuple[list[Rollout], OpenExaoneError | None]:
    """Judges those that are open, until one of them fails for a reason that is not the reply's and stays open.

    Returns:
        the samples, and what is to be raised.
    """
    stops = threading.Event()
    errors: list[OpenExaoneError] = []

    def judge(item: tuple[Problem, Rollout]) -> Rollout:
        problem, rollout = item
        if not is_open(rollout) or stops.is_set() or interrupt.requested():
            return rollout
        try:
            judged = _judged(problem, rollout, judging, max_tokens, thinking)
        except OpenExaoneError as error:
            errors.append(DataError(f"problem {problem.id}: {error}") if isinstance(error, DataError) else error)
            judged = rollout
        if is_open(judged):
            stops.set()
        return judged

    return side_by_side(judge, list(zip(problems, rollouts, strict=True))), next(iter(errors), None)


def _judged(problem: Problem, rollout: Rollout, judging: Judging, max_tokens: int, thinking: bool) -> Rollout:
    """A sample with its verdict and the terms of its reward, those that are not open as they are."""
    completion, verdict = rollout.completion, rollout.verdict
    if verdict.outage:
        verdict = judge_reply(problem, rollout.reply, completion.stop, settings=judging.settings)
    terms: Mapping[str, Term] = dict.fromkeys(judging.weights, Missing(verdict.why, verdict.outage))
    if verdict.status not in NO_FINDING:
        seen = Judged(problem, rollout.reply, verdict, len(completion.ids), max_tokens, thinking)
        found = {n: term for n, term in rollout.terms.items() if not (isinstance(term, Missing) and term.outage)}
        terms = score(seen, judging.weights, judging.rubric, judging.settings, found)
    return replace(rollout, verdict=verdict, terms=terms, reward=weighted_sum(terms, judging.weights))


def check_verdicts(verdicts: Sequence[Verdict]) -> None:
    """A verifier that fails on every reply must not pass for a model that fails.

    Raises:
        DataError: no verdict says whether a reply is right, and many say that the verifier failed.
    """
    statuses = Counter(verdict.status for verdict in verdicts)
    has_finding = any(statuses[found] for found in (VerdictStatus.CORRECT, VerdictStatus.WRONG, VerdictStatus.TIMEOUT))
    if statuses[VerdictStatus.ERROR] < MIN_ERRORS or has_finding:
        return
    why = next(verdict.why for verdict in verdicts if verdict.status is VerdictStatus.ERROR)
    raise DataError(f"no reply could be judged: {statuses[VerdictStatus.ERROR]} verdicts are errors; the first: {why}")


def judge_reply(
    problem: Problem, reply: Reply, stop: StopReason = StopReason.END, *, settings: JudgeSettings | None = None
) -> Verdict:
    """Judges the answer alone; a thought that never closed, or a reply cut short, is truncated, not wrong."""
    if stop is StopReason.LENGTH:
        return Verdict(VerdictStatus.TRUNCATED, None, "The reply reached the token limit.")
    if not reply.finished:
        return Verdict(VerdictStatus.TRUNCATED, None, "The thought was never closed.")
    return judge_answer(problem.verifier, reply.answer, problem.answer, judged_with(problem, reply), settings)


def side_by_side(judge: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Judges in as many threads as there are cores: what takes long runs in processes of its own."""
    with ThreadPoolExecutor(os.cpu_count(), "judge") as threads:
        return list(threads.map(judge, items))
