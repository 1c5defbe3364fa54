"""Rewards of the user's own: a function, named by its file.

A reward gets one dictionary and returns a number:

    def score(sample: dict) -> float: ...

    sample = {"question", "gold", "language", "task", "metadata",             of the problem
              "thought", "answer", "num_tokens",                              of the reply
              "verdict", "extracted"}                                         of the verifier that the problem names
"""

from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.records import Missing, Problem, Reply, Term, Verdict
from open_exaone.verify.own import call_own, is_number, short_value
from open_exaone.verify.settings import JudgeSettings

MAX_REWARD = 1_000_000


def own_score(
    name: str, problem: Problem, reply: Reply, verdict: Verdict, num_tokens: int, settings: JudgeSettings
) -> Term:
    """What a reward of the user's own gives for a reply; missing where it ran out of time or memory.

    Raises:
        DataError: it raised, or returned no finite number: a mistake in it must not pass as a low reward.
    """
    result = call_own(name, _sample(problem, reply, verdict, num_tokens), settings=settings)
    if result.status in ("timeout", "clock", "memory"):
        return Missing(result.why)
    if result.status == "failed":
        raise DataError(f"{name} failed on a reply: {result.why}")
    if not is_number(result.value) or abs(result.value) > MAX_REWARD:
        found = short_value(result.value)
        raise DataError(f"{name} returned {found} for a reply: a number within ±{MAX_REWARD:,} is needed")
    return float(result.value)


def _sample(problem: Problem, reply: Reply, verdict: Verdict, num_tokens: int) -> dict[str, Any]:
    return {
        "question": problem.question,
        "gold": problem.answer,
        "language": problem.language,
        "task": problem.task,
        "metadata": dict(problem.metadata),
        "thought": reply.thought,
        "answer": reply.answer,
        "num_tokens": num_tokens,
        "verdict": verdict.status.value,
        "extracted": verdict.extracted,
    }
