"""Comparing what a program printed with what it should have printed."""

import math
import re
from decimal import Decimal

from open_exaone.base.text import count

TOLERANCE = 1e-6  # relative or absolute, whichever is kinder: that of rcmp6, the checker most contests use
_NUMBER = re.compile(r"[+-]?(?:\d+(\.\d*)?|(\.\d+))(e[+-]?\d{1,9})?", re.ASCII | re.IGNORECASE)
_MAX_NUMBER_CHARS = 400  # longer tokens are compared as text; so are longer exponents, which Decimal does not take


def output_difference(got: str, expected: str) -> str | None:
    """Where two outputs differ, as "expected '7', got '8'", or None where they are the same.

    White space around the outputs and around their lines does not count, nor how much of it stands between two tokens.
    The lines must be as many, and so must the tokens of a line. Two tokens are the same as text, as decimal numbers,
    or, where both have a decimal point or an exponent, within TOLERANCE. Linear in the length of the outputs.
    """
    if got.strip() == expected.strip():
        return None
    got_lines, expected_lines = got.strip().split("\n"), expected.strip().split("\n")
    for number, (found, wanted) in enumerate(zip(got_lines, expected_lines, strict=False), start=1):
        if found != wanted and not _same_line(found, wanted):
            return f"{_line(number, expected_lines)}expected {shown(wanted)}, got {shown(found)}"
    if len(got_lines) != len(expected_lines):
        return f"expected {count(len(expected_lines), 'line')}, got {count(len(got_lines), 'line')}"
    return None


def shown(text: str, limit: int = 40) -> str:
    """A piece of text for a sentence: quoted, on one line, cut."""
    text = text.strip()
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def _same_line(found: str, wanted: str) -> bool:
    tokens, others = found.split(), wanted.split()
    return len(tokens) == len(others) and all(map(_same_token, tokens, others))


def _same_token(found: str, wanted: str) -> bool:
    if found == wanted:
        return True
    if max(len(found), len(wanted)) > _MAX_NUMBER_CHARS:
        return False
    one, other = _NUMBER.fullmatch(found), _NUMBER.fullmatch(wanted)
    if not (one and other):
        return False
    if any(one.groups()) and any(other.groups()):
        x, y = float(found), float(wanted)
        if math.isfinite(x) and math.isfinite(y):
            return math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return Decimal(found) == Decimal(wanted)


def _line(number: int, lines: list[str]) -> str:
    return f"line {number}: " if len(lines) > 1 else ""
