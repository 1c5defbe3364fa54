"""The one way from problems to judged samples; training and evaluation both take it."""

from collections.abc import Callable, Sequence

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
from open_exaone.verify.rubric import Rubric

Generate = Callable[[Sequence[Sequence[int]], Sampling], list[list[Completion]]]


def run(
    problems: Sequence[Problem],
    generate: Generate,
    tokenizer: Tokenizer,
    sampling: Sampling,
    *,
    thinking: bool,
    rubric: Rubric | None = None,
) -> list[RolloutGroup]:
    """Samples and judges replies to every problem.

    Args:
        generate: prompts of ids -> per prompt, its completions; the local engine's method, or an endpoint's.
        thinking: ask in reasoning mode.
        rubric: turns verdicts into rewards; by default 1 for correct and 0 for the rest.

    Returns:
        one group a problem, in the problems' order.
    """
    prompts = prompt_ids(problems, tokenizer, thinking=thinking)
    rubric = rubric or Rubric()
    groups = []
    for problem, prompt, completions in zip(problems, prompts, generate(prompts, sampling), strict=True):
        rollouts = []
        for completion in completions:
            reply = tokenizer.split(completion.ids, thinking=thinking)
            verdict = judge_reply(problem, reply, completion.stop)
            rollouts.append(Rollout(completion, reply, verdict, rubric.reward(verdict)))
        groups.append(RolloutGroup(problem, tuple(prompt), tuple(rollouts)))
    return groups


def judge_reply(problem: Problem, reply: Reply, stop: StopReason = StopReason.END) -> Verdict:
    """Judges the answer alone; a thought that never closed, or a reply cut short, is truncated, not wrong."""
    if stop is StopReason.LENGTH:
        return Verdict(VerdictStatus.TRUNCATED, None, "the reply reached the token limit")
    if not reply.finished:
        return Verdict(VerdictStatus.TRUNCATED, None, "the thought was never closed")
    return judge_answer(problem.verifier, reply.answer, problem.answer, problem.metadata)
