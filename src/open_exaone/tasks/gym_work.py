"""How the problems of reasoning-gym are worked out: from an item's metadata to the steps of a thought."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from open_exaone.tasks.thoughts import Step, work_out

Metadata = Mapping[str, Any]


def _chain_sum(item: Metadata) -> tuple[Step, ...]:
    """`4 - 1 - 7`: `4-1=3`, `3-7=-4`."""
    first, *rest = item["expression"].split()
    total, steps = int(first), list[Step]()
    for operator, term in zip(rest[::2], rest[1::2], strict=True):
        steps.append(work_out(total, operator, int(term)))
        total = int(steps[-1].result)
    return tuple(steps)


def _simple_equations(item: Metadata) -> tuple[Step, ...]:
    """`12 - 7*x = -37`: `-37-12=-49`, `-49/-7=7`."""
    factor, constant, right = _linear(item["equation"], item["variable"])
    steps = list[Step]()
    if constant:
        steps.append(work_out(right, "-" if constant > 0 else "+", abs(constant)))
    if factor != 1:
        steps.append(work_out(right - constant, "/", factor))
    return tuple(steps) or (Step("", str(right), f"{item['variable']}="),)


def _linear(equation: str, variable: str) -> tuple[int, int, int]:
    """`12 - 7*x = -37` is (-7, 12, -37)."""
    left, right = equation.replace(" ", "").split("=")
    factor = constant = 0
    for term in re.findall(r"[+-]?[^+-]+", left):
        if variable in term:
            number = term.replace(variable, "").replace("*", "")
            factor = int(f"{number}1" if number in ("", "+", "-") else number)
        else:
            constant = int(term)
    return factor, constant, int(right)


def _spell_backward(item: Metadata) -> tuple[Step, ...]:
    """`crane`: `c,r,a,n,e`, `e,n,a,r,c`."""
    return tuple(Step("", ",".join(word)) for word in (item["word"], item["word"][::-1]))


WORK: Mapping[str, Callable[[Metadata], tuple[Step, ...]]] = {
    "chain_sum": _chain_sum,
    "simple_equations": _simple_equations,
    "spell_backward": _spell_backward,
}
