"""Comparing by computing: to many digits, and by Math-Verify and sympy below it.

This runs in a worker process, whose limits end what does not end.
"""

import logging
import re
from typing import Any

from open_exaone.verify.math.algebra import TooLarge, reset_budget
from open_exaone.verify.math.compare import same
from open_exaone.verify.math.normalise import canonical
from open_exaone.verify.math.structure import Relation, Sequence, Value, read

_RELATION = re.compile(
    r"\\(?:neq?|leq?|geq?|leqslant|geqslant|lt|gt|approx|equiv)(?![A-Za-z])|[=<>]|\\.|[{}]", re.DOTALL
)


def preload() -> None:
    """Imports what is slow to import, once for all workers; then finds out, in each of them, that it works there.

    Raises:
        RuntimeError: it does not know what it should: better no verdict than a wrong one.
    """
    logging.disable(logging.CRITICAL)  # it warns that its own timers are off
    if not _same_formulas(r"\sin^2 x", r"1-\cos^2 x", 6):
        raise RuntimeError("Math-Verify does not find that sin² x is 1 - cos² x: part of it cannot be loaded")


def compare(argument: dict[str, Any]) -> bool:
    """Whether two formulas are the same; Math-Verify's own timers are off, since they need the main thread.

    Args:
        argument: "pairs", each of a gold formula and a found one in LaTeX, of which one must be the same; "precision",
            the decimals that rounded numbers must share.
    """
    return any(_same(gold, found, argument["precision"]) for gold, found in argument["pairs"])


def _same(gold: str, found: str, precision: int) -> bool:
    """Whether two formulas are the same; of relations, side by side: Math-Verify takes 1=2 for many an equation."""
    reset_budget()
    try:
        left, right = read(canonical(gold)), read(canonical(found))
        verdict = same(left, right, precision, numerically=True)
    except TooLarge:
        return False
    if verdict is not None:
        return verdict
    if isinstance(left, Relation) and isinstance(right, Relation):
        sides = _sides(gold), _sides(found)
        is_alike = left.operators == right.operators and len(sides[0]) == len(sides[1]) > 1
        return is_alike and all(_same(one, other, precision) for one, other in zip(*sides, strict=True))
    if _has_relation(left) and _has_relation(right):
        return False
    return _same_formulas(gold, found, precision)


def _sides(formula: str) -> list[str]:
    """The sides of a relation, cut outside of all braces."""
    sides, start, depth = [], 0, 0
    for mark in _RELATION.finditer(formula):
        text = mark.group()
        if text in "{}":
            depth += 1 if text == "{" else -1
        elif depth == 0 and (len(text) > 2 or text in "=<>"):
            sides.append(formula[start : mark.start()].strip())
            start = mark.end()
    return [*sides, formula[start:].strip()]


def _has_relation(value: Value) -> bool:
    return isinstance(value, Relation) or (isinstance(value, Sequence) and any(map(_has_relation, value.items)))


def _same_formulas(gold: str, found: str, precision: int) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    # As formulas only: its other way of reading takes a number out of a formula that it does not understand.
    left, right = (parse(f"${formula}$", [LatexExtractionConfig()], parsing_timeout=0) for formula in (gold, found))
    return bool(verify(left, right, float_rounding=precision, timeout_seconds=0))
