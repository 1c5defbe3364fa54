"""Worked thoughts: one tiny step a line, with slips that are noticed at once.

A thought is a list of steps such as `47+38=85`. At a set rate a step is first written wrong and then corrected on the
next line (`47+38=75`, `Wait, 47+38=85`), so that a model sees what catching an error looks like. What follows always
builds on the right result.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

SLIP_RATE = 0.2  # the share of steps that are first written wrong

CORRECTION = {"en": "Wait, ", "ko": "잠깐, "}


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a thought, and the ways in which it goes wrong."""

    work: str  # what leads to the result, such as "47+38="
    result: str  # such as "85"
    wrong: tuple[str, ...] = ()  # plausible wrong results, such as "84", "86", "75"; empty: the step never slips
    label: str = ""  # words before it, such as "pens:"

    def __str__(self) -> str:
        return f"{self.label}{self.work}{self.result}"


def write_thought(steps: Iterable[Step], rng: random.Random, language: str, slip_rate: float = SLIP_RATE) -> str:
    """Writes the steps as lines; `rng` decides which ones slip, and how."""
    lines = []
    for step in steps:
        slips = rng.random() < slip_rate and step.wrong
        if slips:
            lines.append(f"{step.label}{step.work}{rng.choice(step.wrong)}")
        lines.append(f"{CORRECTION[language]}{step}" if slips else str(step))
    return "\n".join(lines)


def without_words(steps: Iterable[Step]) -> str:
    """The steps without their labels: `3*4=12 2*5=10 12+10=22`, whatever is bought."""
    return " ".join(f"{step.work}{step.result}" for step in steps)


def work_out(left: int, operator: str, right: int, label: str = "") -> Step:
    """One operation on integers: `+`, `-`, `*` or a `/` that leaves no rest."""
    result = {"+": left + right, "-": left - right, "*": left * right, "/": left // right if right else 0}[operator]
    assert operator != "/" or result * right == left, f"{left}/{right} leaves a rest"
    return Step(f"{left}{operator}{right}=", str(result), near_misses(result), label)


def near_misses(number: int) -> tuple[str, ...]:
    """Wrong results as people get them: one too many, one too few, a carry forgotten or made up."""
    misses = (number + 1, number - 1, number + 10, number - 10)
    return tuple(str(miss) for miss in misses if miss >= 0 or number < 0)


def running_total(terms: Iterable[int]) -> list[Step]:
    """Adds the terms one by one; a negative one is taken away."""
    total, *rest = terms
    steps = []
    for term in rest:
        steps.append(work_out(total, "+" if term >= 0 else "-", abs(term)))
        total += term
    return steps


def swaps(items: str | list[str]) -> tuple[str, ...]:
    """The items listed with two neighbours swapped, in each way that shows."""
    swapped = [[*items[:i], items[i + 1], items[i], *items[i + 2 :]] for i in range(len(items) - 1)]
    return tuple(",".join(variant) for variant in swapped if variant != list(items))
