"""The one way from problems to judged samples; training and evaluation both take it."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

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
from open_exaone.verify.judge import judge_answer
from open_exaone.verify.rubric import Judged, Rubric, score
from open_exaone.verify.settings import JudgeSettings

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
        verdict = judge_reply(problem, reply, completion.stop, settings=judging.settings)
        judged = Judged(problem, reply, verdict, len(completion.ids), sampling.max_new_tokens, thinking)
        reward, terms = score(judged, judging.weights, judging.rubric, judging.settings)
        return Rollout(completion, reply, verdict, reward, terms)

    rollouts = iter(side_by_side(judge, samples))
    return [
        RolloutGroup(problem, tuple(prompt), tuple(next(rollouts) for _ in range(sampling.num_samples)))
        for problem, prompt in zip(problems, prompts, strict=True)
    ]


def judge_reply(
    problem: Problem, reply: Reply, stop: StopReason = StopReason.END, *, settings: JudgeSettings | None = None
) -> Verdict:
    """Judges the answer alone; a thought that never closed, or a reply cut short, is truncated, not wrong."""
    if stop is StopReason.LENGTH:
        return Verdict(VerdictStatus.TRUNCATED, None, "The reply reached the token limit.")
    if not reply.finished:
        return Verdict(VerdictStatus.TRUNCATED, None, "The thought was never closed.")
    metadata = {"question": problem.question, "thought": reply.thought, **problem.metadata}
    return judge_answer(problem.verifier, reply.answer, problem.answer, metadata, settings)


def side_by_side(judge: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Judges in as many threads as there are cores: what takes long runs in processes of its own."""
    with ThreadPoolExecutor(os.cpu_count(), "judge") as threads:
        return list(threads.map(judge, items))
