"""The verdict on a mathematical answer: exactly where that is possible, by computer algebra where it is not."""

import re
from collections.abc import Mapping
from functools import lru_cache

from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.verify.math import find
from open_exaone.verify.math.algebra import TooLarge
from open_exaone.verify.math.compare import DEFAULT_PRECISION, same
from open_exaone.verify.math.normalise import canonical, to_latex
from open_exaone.verify.math.structure import read
from open_exaone.verify.sandbox.workers import call
from open_exaone.verify.settings import JudgeSettings

_MAX_CHARS = 2000  # of an answer; a longer one is compared as text alone
_LETTER = re.compile(  # "D", "(C) Cecile", "D. it can't be A", but not "A, B"
    r"\s*(?:\(([A-J])\)(?!\s*[∧,;])|([A-J])(?:[.):](?:\s|$)|\s+[A-Za-z]{2}|$))"
)
_LETTER_IN_PROSE = re.compile(  # "for sure D, it can't be A or B"
    r"(?=[^A-Za-z]*\w*[A-Za-z]{2})[^\\$=+*/^<>\d]*?(?<![A-Za-z])([A-J])(?![A-Za-z']|\s[a-z])[^\\$=+*/^<>]*"
)
_UNIT_POWER = re.compile(r"\\(?:text\w*|mbox|mathrm)\s*\{\s*[A-Za-z]+\s*\}\s*\^\s*\{?\s*([23])")
_STATUS = {True: VerdictStatus.CORRECT, False: VerdictStatus.WRONG}
_HOSTILE = re.compile(  # what costs the algebra its whole time limit, and is no answer
    r"\^\s*[{(\s]*-?\d+\s*\^|\^\s*[{(\s]*-?\d{6,}|\d{5,}[\s)}]*!|!\s*!"
)


def judge_math(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """Judges a mathematical answer; no text of a reply makes it raise.

    Args:
        answer: the reply without its thought.
        gold: the right answer, in LaTeX or plain.
        metadata: "precision" is the number of decimals that a rounded answer must have (6 where it is absent).
        settings: what the computer algebra may cost.

    Raises:
        ValueError: the gold answer is empty, or "precision" is no number of decimals.
    """
    precision = metadata.get("precision", DEFAULT_PRECISION)
    if not isinstance(precision, int) or not 0 < precision <= 100:
        raise ValueError(f"metadata.precision = {precision!r}: must be a number of decimals, 1 to 100")
    readings = _read_gold(gold)
    found = find.answer(answer)
    if found is None or not found.text:
        return Verdict(VerdictStatus.UNPARSED, None, "The reply has no final answer.")
    failure = None
    for reading in found.readings:
        for wanted in readings:
            status = _compare(wanted, reading, precision, settings)
            if status is VerdictStatus.CORRECT:
                return Verdict(status, found.text, f"{_short(found.text)} is the gold answer.")
            if status is not VerdictStatus.WRONG:
                failure = failure or status
    if failure is not None:
        return Verdict(failure, found.text, f"Comparing {_short(found.text)} with the gold answer ended in {failure}.")
    return Verdict(VerdictStatus.WRONG, found.text, f"{_short(found.text)} is not the gold answer {_short(gold)}.")


@lru_cache(maxsize=1024)
def _read_gold(gold: str) -> tuple[str, ...]:
    if not gold.strip():
        raise ValueError("answer: the gold answer is empty")
    return find.gold(gold).readings


def _compare(gold: str, found: str, precision: int, settings: JudgeSettings) -> VerdictStatus:
    """One reading of the answer with one of the gold answer, the cheapest way first."""
    if max(len(gold), len(found)) > _MAX_CHARS:
        return _STATUS[gold.strip() == found.strip()]
    if _differ_in_unit_power(gold, found):
        return VerdictStatus.WRONG
    left, right = canonical(gold), canonical(found)
    if left == right or left.replace(" ", "") == right.replace(" ", ""):
        return _STATUS["∞" in right or any(map(str.isalnum, right))]
    if letter := _LETTER.match(left):
        other = _LETTER.match(right) or _LETTER_IN_PROSE.fullmatch(right)
        if other:
            return _STATUS[letter[letter.lastindex or 0] == other[other.lastindex or 0]]
    try:
        equal = same(_value(left), read(right), precision)
    except TooLarge:
        return VerdictStatus.WRONG
    return _ask_algebra(gold, found, precision, settings) if equal is None else _STATUS[equal]


_value = lru_cache(maxsize=1024)(read)  # of a gold answer, which many replies are compared with


def _ask_algebra(gold: str, found: str, precision: int, settings: JudgeSettings) -> VerdictStatus:
    formulas = [" ".join(to_latex(text).replace("$", " ").split()) for text in (gold, found)]
    if not all(formula.isascii() for formula in formulas) or any(map(_HOSTILE.search, formulas)):
        return VerdictStatus.WRONG
    result = call(
        "open_exaone.verify.math.symbolic:compare",
        {"gold": formulas[0], "found": formulas[1], "precision": precision},
        time_limit_s=settings.time_limit_s,
        memory_bytes=settings.memory_bytes,
        unsafe=True,  # formulas are no programs: they may be compared where programs may not run
    )
    if result.status == "ok":
        return VerdictStatus.CORRECT if result.value else VerdictStatus.WRONG
    return VerdictStatus.TIMEOUT if result.status == "timeout" else VerdictStatus.ERROR


def _differ_in_unit_power(gold: str, found: str) -> bool:
    """15 cm^2 is not 15 cm^3; units are otherwise let off."""
    if "^" not in found:
        return False
    powers = {power[1] for text in (gold, found) if (power := _UNIT_POWER.search(text))}
    return len(powers) > 1


def _short(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
