"""Asking Math-Verify, and sympy below it. This runs in a worker process, whose limits end what does not end."""

import logging
from typing import Any


def preload() -> None:
    """Imports what is slow to import, once for all workers; then finds out, in each of them, that it works there.

    Raises:
        RuntimeError: it does not know what it should: better no verdict than a wrong one.
    """
    logging.disable(logging.CRITICAL)  # it warns that its own timers are off
    if not compare({"pairs": [[r"\sin^2 x", r"1-\cos^2 x"]], "precision": 6}):
        raise RuntimeError("Math-Verify does not find that sin² x is 1 - cos² x: part of it cannot be loaded")


def compare(argument: dict[str, Any]) -> bool:
    """Whether two formulas are the same for Math-Verify; its own timers are off, since they need the main thread.

    Args:
        argument: "pairs", each of a gold formula and a found one in LaTeX, of which one must be the same; "precision",
            the decimals that rounded numbers must share.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    # As formulas only: its other way of reading takes a number out of a formula that it does not understand.
    for pair in argument["pairs"]:
        gold, found = (parse(f"${formula}$", [LatexExtractionConfig()], parsing_timeout=0) for formula in pair)
        if verify(gold, found, float_rounding=argument["precision"], timeout_seconds=0):
            return True
    return False
