"""Worked thoughts: one tiny step a line, such as `47+38=85`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_COMMUTATIVE = re.compile(r"(-?[0-9]+)([+*])(-?[0-9]+)=")


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


def canonical(step: Step) -> str:
    """The step without words, the smaller summand or factor first: `3*4=12` of `pens:4*3=12`."""
    return f"{_in_order(step.work)}{step.result}"


def _in_order(work: str) -> str:
    if not (found := _COMMUTATIVE.fullmatch(work)):
        return work
    left, operator, right = found.groups()
    return f"{operator.join(sorted((left, right), key=int))}="


def work_out(left: int, operator: str, right: int, label: str = "") -> Step:
    """One operation on integers: `+`, `-`, `*` or a `/` without a remainder."""
    result = {"+": left + right, "-": left - right, "*": left * right, "/": left // right if right else 0}[operator]
    assert operator != "/" or result * right == left, f"{left}/{right} leaves a remainder"
    return Step(f"{left}{operator}{right}=", str(result), label)


def running_total(terms: Iterable[int]) -> list[Step]:
    """Adds the terms one by one; a negative one is taken away."""
    total, *rest = terms
    steps = []
    for term in rest:
        steps.append(work_out(total, "+" if term >= 0 else "-", abs(term)))
        total += term
    return steps
