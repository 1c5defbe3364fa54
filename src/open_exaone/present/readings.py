"""How a public list of models reads size, training tokens and scores: its formulas and its words, as rules.

The list is AIComputing101/llm-leaderboard; the words were read from its pages. They are its judgements, not ours.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

BILLION = 1e9
ALSCORE_DIVISOR = 300
OPTIMAL_RATIO = 20  # tokens for each parameter
TIERS = (
    (20.0, "Extremely powerful"),
    (10.0, "Very powerful"),
    (5.0, "Powerful"),
    (1.0, "Mid-tier"),
    (0, "Lightweight"),
)


class Reading(NamedTuple):
    """What the list says of a score from `least` percent up."""

    least: float
    word: str
    sentence: str


READINGS: Mapping[str, tuple[Reading, ...]] = MappingProxyType(
    {
        "MMLU": (
            Reading(
                90.0,
                "Exceptional",
                "Exceptional performance on MMLU benchmark (>90%), demonstrating strong general knowledge.",
            ),
            Reading(80.0, "Strong", "Strong performance on MMLU benchmark (80-90%)."),
        ),
        "GPQA": (
            Reading(80.0, "Outstanding", "Outstanding reasoning capabilities on GPQA (>80%)."),
            Reading(60.0, "Good", "Good reasoning capabilities on GPQA (60-80%)."),
        ),
    }
)


def alscore(parameters: float, tokens: float) -> float:
    """√(parameters x tokens) / 300, both in billions."""
    return math.sqrt((parameters / BILLION) * (tokens / BILLION)) / ALSCORE_DIVISOR


def tier(score: float) -> str:
    """The word for an ALScore: below 1 Lightweight, from 1 Mid-tier, from 5 Powerful, from 10 Very powerful, from 20
    Extremely powerful."""
    return next(word for least, word in TIERS if score >= least)


def token_ratio(parameters: float, tokens: float) -> int:
    """Training tokens for each parameter, rounded up as the list does."""
    return math.ceil(round(tokens / parameters, 9))


def is_compute_optimal(ratio: float) -> bool:
    """Whether the list calls it compute-optimal: at least 20 tokens for each parameter."""
    return ratio >= OPTIMAL_RATIO


def reading(benchmark: str, percent: float) -> Reading | None:
    """What the list says of a score on MMLU or GPQA; None for others, and for lower scores."""
    return next((item for item in READINGS.get(benchmark, ()) if percent >= item.least), None)
