"""The one way from problems to judged samples; training and evaluation both take it."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from open_exaone.base.errors import DataError, OpenExaoneError
from open_exaone.base.records import (
    Completion,
    Problem,
    Reply,
    Rollout,
    RolloutGroup,
    Sampling,
    StopReason,
    Verdict,
    VerdictStatus,
)
from open_exaone.data.document import prompt_ids
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.verify.judge import judge_answer, judged_with
from open_exaone.verify.rubric import Judged, Rubric, score
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
    """Samples and judges replies to every problem.

    Args:
        generate: prompts of ids -> per prompt, its completions; the local engine's method, or an endpoint's.
        thinking: ask in reasoning mode.

    Returns:
        one group a problem, in the problems' order.
    """
    judging = judging or Judging()
    prompts = prompt_ids(problems, tokenizer, thinking=thinking)
    samples = [
        (problem, completion, tokenizer.split(completion.ids, thinking=thinking))
        for problem, completions in zip(problems, generate(prompts, sampling), strict=True)
        for completion in completions
    ]

    def judge(sample: tuple[Problem, Completion, Reply]) -> Rollout:
        problem, completion, reply = sample
        try:
            verdict = judge_reply(problem, reply, completion.stop, settings=judging.settings)
            judged = Judged(problem, reply, verdict, len(completion.ids), sampling.max_new_tokens, thinking)
            reward, terms = score(judged, judging.weights, judging.rubric, judging.settings)
        except OpenExaoneError:
            raise
        except ValueError as error:
            raise DataError(f"problem {problem.id}: {error}") from error
        return Rollout(completion, reply, verdict, reward, terms)

    rollouts = side_by_side(judge, samples)
    check_verdicts([rollout.verdict for rollout in rollouts])
    rest = iter(rollouts)
    return [
        RolloutGroup(problem, tuple(prompt), tuple(islice(rest, sampling.num_samples)))
        for problem, prompt in zip(problems, prompts, strict=True)
    ]


def check_verdicts(verdicts: Sequence[Verdict]) -> None:
    """A verifier that fails on every reply must not pass for a model that fails.

    Raises:
        DataError: no verdict says whether a reply is right, and many say that the verifier failed.
    """
    statuses = Counter(verdict.status for verdict in verdicts)
    if statuses[VerdictStatus.ERROR] < MIN_ERRORS or statuses[VerdictStatus.CORRECT] or statuses[VerdictStatus.WRONG]:
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
