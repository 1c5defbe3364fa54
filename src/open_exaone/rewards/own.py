"""Rewards of the user's own: a function, named by its file.

A reward gets one dictionary and returns a number:

    def score(sample: dict) -> float: ...

    sample = {"question", "gold", "language", "task", "metadata",             of the problem
              "thought", "answer", "num_tokens",                              of the reply
              "mode",                                                         "reasoning" or "non_reasoning"
              "verdict", "extracted"}                                         of the verifier that the problem names
"""

from collections.abc import Mapping
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.records import Missing, Term
from open_exaone.verify.own import call_own, is_number, short_value
from open_exaone.verify.settings import JudgeSettings

MAX_REWARD = 1_000_000


def own_score(name: str, sample: Mapping[str, Any], settings: JudgeSettings) -> Term:
    """What a reward of the user's own gives for a reply; missing where it ran out of time or memory.

    Args:
        sample: what it is called with, as above.

    Raises:
        DataError: it raised, or returned no finite number: a mistake in it must not pass as a low reward.
    """
    result = call_own(name, sample, settings=settings)
    if result.status in ("timeout", "clock", "memory"):
        return Missing(result.why)
    if result.status == "failed":
        raise DataError(f"{name} failed on a reply: {result.why}")
    if not is_number(result.value) or abs(result.value) > MAX_REWARD:
        found = short_value(result.value)
        raise DataError(f"{name} returned {found} for a reply: a number within ±{MAX_REWARD:,} is needed")
    return float(result.value)
