"""The one way from problems to judged samples; training and evaluation both take it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import islice

from open_exaone.base import interrupt
from open_exaone.base.errors import DataError, OpenExaoneError
from open_exaone.base.records import (
    NO_FINDING,
    Generation,
    Missing,
    Problem,
    Reply,
    Request,
    Rollout,
    RolloutGroup,
    Sampling,
    StopReason,
    Term,
    Verdict,
    VerdictStatus,
)
from open_exaone.rewards.rubric import GROUP_TERMS, Judged, Rubric, score, weighted_sum, with_group_terms
from open_exaone.rollout.judge_outage import UNJUDGED, Patience, is_open
from open_exaone.rollout.judging import JudgePool, is_slow
from open_exaone.rollout.provider import Provider, requests_for
from open_exaone.verify.judge import judge_answer, judged_with
from open_exaone.verify.own import is_own
from open_exaone.verify.settings import JudgeSettings

MIN_ERRORS = 8  # fewer may be chance
OnProgress = Callable[[int, int, int], None]  # samples that are there, all that are wanted, tokens so far


@dataclass(frozen=True, slots=True)
class Judging:
    """How replies are judged and rewarded; by default 1 for correct and 0 for the rest."""

    settings: JudgeSettings = field(default_factory=JudgeSettings)
    weights: Mapping[str, float] = field(default_factory=lambda: {"correct": 1.0})
    rubric: Rubric = field(default_factory=Rubric)


def sample(
    problems: Sequence[Problem],
    provider: Provider,
    sampling: Sampling,
    *,
    thinking: bool | Sequence[bool],
    on_progress: OnProgress | None = None,
) -> list[RolloutGroup]:
    """Samples replies to every problem; none is judged yet.

    Args:
        thinking: ask in reasoning mode; all, or each by itself.
        on_progress: called with each sample that is there.

    Returns:
        one group a problem, in the problems' order.

    Raises:
        DataError: a problem can't be rendered, or the provider left out some samples.
        OpenExaoneError: see `Provider.stream`.
    """
    requests = requests_for(problems, provider.tokenizer, sampling, thinking=thinking)
    return sample_requests(problems, requests, provider, on_progress)


def sample_requests(
    problems: Sequence[Problem],
    requests: Sequence[Request],
    provider: Provider,
    on_progress: OnProgress | None = None,
) -> list[RolloutGroup]:
    """The same for requests that are there already (`requests_for`): the same number for each problem, in order."""
    generations: dict[int, Generation] = {}
    num_tokens = 0
    with closing(provider.stream(requests)) as stream:
        for place, generation in stream:
            generations[place] = generation
            num_tokens += generation.num_tokens
            if on_progress is not None:
                on_progress(len(generations), len(requests), num_tokens)
    num_missing = len(requests) - len(generations)
    if num_missing:
        raise DataError(f"{num_missing} of {len(requests)} samples could not be generated: {provider.failure}")
    size = len(requests) // max(1, len(problems))
    return [
        RolloutGroup(
            problem,
            requests[start].prompt_ids or (),
            requests[start].thinking,
            tuple(Rollout(generations[place], UNJUDGED, None) for place in range(start, start + size)),
        )
        for problem, start in zip(problems, range(0, len(requests), max(1, size)), strict=True)
    ]


def judge_groups(
    groups: Sequence[RolloutGroup],
    judging: Judging,
    *,
    max_tokens: int,
    save: Callable[[list[RolloutGroup]], None] = lambda groups: None,
    patience: Patience | None = None,
) -> list[RolloutGroup]:
    """Judges and rewards what is not yet; where the judge model is down, waits for it and asks again.

    Args:
        max_tokens: the limit that they were sampled under.
        save: called with the groups as far as they are judged, before each wait and each error but the one that no
            verdict says anything.
        patience: a new one, whose `waited_s` the caller reads.

    Raises:
        DataError: a problem cannot be judged, or no verdict says anything.
        EndpointError: the judge model refuses, or nothing was judged for `max_wait_s`.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    rollouts = dict(enumerate(rollout for group in groups for rollout in group.rollouts))
    patience = patience or Patience(judging.settings.endpoint)
    pool = _pool(groups, rollouts, judging, max_tokens, patience, lambda: save(_grouped(groups, rollouts)))
    try:
        for place in [place for place, rollout in rollouts.items() if is_open(rollout)]:
            pool.add(place)
        pool.finish()
    finally:
        pool.stop()
    check_verdicts([rollout.verdict for rollout in rollouts.values()])
    return [with_group_terms(group, judging.weights) for group in _grouped(groups, rollouts)]


def judge_some(
    groups: Sequence[RolloutGroup], judging: Judging, *, max_tokens: int, limit_s: float
) -> list[RolloutGroup]:
    """Judges what can be judged now: whatever needs the judge model while that is down, more time or an error message
    stays open, for `judge_groups`. Terms of groups are not found either.

    Args:
        max_tokens: the limit that they were sampled under.
        limit_s: the most seconds that this may take.
    """
    rollouts = dict(enumerate(rollout for group in groups for rollout in group.rollouts))
    pool = _pool(groups, rollouts, judging, max_tokens, Patience(judging.settings.endpoint))
    try:
        with suppress(OpenExaoneError, interrupt.Interrupted):
            for place in list(rollouts):
                pool.add(place)
            pool.settle(limit_s)
    finally:
        pool.stop()
    return _grouped(groups, dict(rollouts))


def _grouped(groups: Sequence[RolloutGroup], rollouts: Mapping[int, Rollout]) -> list[RolloutGroup]:
    """The groups with these of their rollouts."""
    rest = iter([rollouts[place] for place in range(len(rollouts))])
    return [replace(group, rollouts=tuple(islice(rest, len(group.rollouts)))) for group in groups]


def _pool(
    groups: Sequence[RolloutGroup],
    rollouts: dict[int, Rollout],
    judging: Judging,
    max_tokens: int,
    patience: Patience,
    on_pause: Callable[[], None] = lambda: None,
) -> JudgePool[int, Rollout]:
    owners = [group for group in groups for _ in group.rollouts]

    def judge(place: int, rollout: Rollout) -> Rollout:
        group = owners[place]
        try:
            return _judged(group.problem, rollout, judging, max_tokens, group.thinking)
        except DataError as error:
            raise DataError(f"problem {group.problem.id}: {error}") from error

    has_slow_terms = any(name == "preference" or is_own(name) for name in judging.weights)
    return JudgePool(
        rollouts,
        judge,
        is_slow=lambda place: has_slow_terms or is_slow(owners[place].problem),
        patience=patience,
        on_pause=on_pause,
    )


def _judged(problem: Problem, rollout: Rollout, judging: Judging, max_tokens: int, thinking: bool) -> Rollout:
    """A sample with its verdict and the terms of its reward, those that are not open as they are."""
    generation, verdict = rollout.generation, rollout.verdict
    if verdict.outage:
        verdict = judge_reply(problem, generation.reply, generation.stop, settings=judging.settings)
    own = [name for name in judging.weights if name not in GROUP_TERMS]
    terms: Mapping[str, Term] = dict.fromkeys(own, Missing(verdict.why, verdict.outage))
    if verdict.status not in NO_FINDING:
        seen = Judged(problem, generation.reply, verdict, generation.num_tokens, max_tokens, thinking)
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
