"""Worked thoughts: one tiny step a line, such as `47+38=85`."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a thought."""

    work: str  # what leads to the result, such as "47+38="
    result: str  # such as "85"
    label: str = ""  # words before it, such as "pens:"

    def __str__(self) -> str:
        return f"{self.label}{self.work}{self.result}"


def written(steps: Iterable[Step]) -> str:
    """The steps as a thought, a line each."""
    return "\n".join(map(str, steps))


def without_words(steps: Iterable[Step]) -> str:
    """The steps without their labels: `3*4=12 2*5=10 12+10=22`, whatever is bought."""
    return " ".join(f"{step.work}{step.result}" for step in steps)


def work_out(left: int, operator: str, right: int, label: str = "") -> Step:
    """One operation on integers: `+`, `-`, `*` or a `/` that leaves no rest."""
    result = {"+": left + right, "-": left - right, "*": left * right, "/": left // right if right else 0}[operator]
    assert operator != "/" or result * right == left, f"{left}/{right} leaves a rest"
    return Step(f"{left}{operator}{right}=", str(result), label)


def running_total(terms: Iterable[int]) -> list[Step]:
    """Adds the terms one by one; a negative one is taken away."""
    total, *rest = terms
    steps = []
    for term in rest:
        steps.append(work_out(total, "+" if term >= 0 else "-", abs(term)))
        total += term
    return steps
