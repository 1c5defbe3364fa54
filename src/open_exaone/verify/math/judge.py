"""The verdict on a mathematical answer: exactly where that is possible, by computer algebra where it is not."""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate

from open_exaone.base.errors import DataError
from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.sandbox.workers import call
from open_exaone.verify.called import status_of
from open_exaone.verify.choice import judge_choice
from open_exaone.verify.math import find
from open_exaone.verify.math.algebra import TooLarge, reset_budget
from open_exaone.verify.math.compare import DEFAULT_PRECISION, same
from open_exaone.verify.math.normalise import canonical, to_latex
from open_exaone.verify.math.structure import read
from open_exaone.verify.settings import JudgeSettings

_LETTER = re.compile(  # "D", "(C) Cecile", "D. it can't be A", but not "A, B"
    r"\s*(?:\(([A-J])\)(?!\s*[∧,;])|([A-J])(?:[.):](?:\s|$)|(?<![AI])\s+[A-Za-z]{2}|\s+[A-Z][a-z]|$))"
)
_LABEL = re.compile(r"\A\(?[A-J]\)\s+(?=\S)")  # of an option, before its value
_IS_PROSE = re.compile(r"[^\\$=+*/^<>\d]*")
_LABELS = re.compile(r"^\s*\(?([A-J])[.):]", re.MULTILINE)
_UNSETTLED = re.compile(r"\b(?:not?|maybe|perhaps|both|neither|or)\b|n['’]t\b|아니|또는", re.IGNORECASE)
_LETTER_IN_PROSE = re.compile(  # "for sure D, it can't be A or B"
    r"(?=[^A-Za-z]*\w*[A-Za-z]{2})[^\\$=+*/^<>\d]*?(?<![A-Za-z])([A-J])(?![A-Za-z']|\s[a-z])[^\\$=+*/^<>]*"
)
_UNIT_POWER = re.compile(  # 15 cm^2 is not 15 cm^3; units are otherwise let off
    r"\\(?:text\w*|mbox|mathrm)\s*\{\s*[A-Za-z]+\s*\}\s*\^\s*\{?\s*([23])"
)
_HALF_OF_DAY = re.compile(r"\d[\s~]*(?:\\\w+\s*\{[\s~]*)?([ap])\.?\s?m\b|오([전후])", re.IGNORECASE)
_SHORT_WORD = re.compile(r"[A-Za-z]{2,3}")
_GAP = re.compile(r"(?<![^\W_]) | (?![^\W_])")  # a space that parts no two numbers or words
_HOSTILE = re.compile(  # what costs the algebra its whole time limit, and is no answer
    r"\^\s*[{(\s]*-?\d+\s*\^|\^\s*[{(\s]*-?\d{6,}|\d{5,}[\s)}]*!|!\s*!"
    r"|(?:\\times|\\cdot|[+*/^_-])\s*$"
    r"|(?:(?:\||[vV]ert|mid)(?:(?!\||[vV]ert|mid).)*){21}|(?<!\d)(?:\d++(?:\s|\\[,;:! ])++){30}"
)
_MAX_DEPTH = 10  # of round and square brackets; braces cost little
_PLAIN = re.compile(
    r"(-)?(?:\\[dt]?frac\{(\d{1,18})\}\{(\d{1,18})\}|([1-9]\d{0,2}(?:,\d{3}){1,5}|\d{1,18})(?:/(\d{1,18}))?)", re.ASCII
)
_NOT_IGNORED = ("'", "dots")  # by us; Math-Verify reads f'(x) as f(x)


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
        raise DataError(f"metadata.precision = {precision!r}: must be a number of decimals, 1 to 100")
    readings, letter = _read_gold(gold)
    if letter and letter in answer:
        chosen = judge_choice(answer, letter, {}, settings)
        if chosen.status is not VerdictStatus.UNPARSED or not _may_name_letter(answer):
            return chosen
    found = find.answer(answer)
    if found is None or not found.text:
        return Verdict(VerdictStatus.UNPARSED, None, "The reply has no final answer.")
    pairs = [(wanted, reading) for reading in found.readings for wanted in readings]
    equal = [_compare(wanted, reading, precision) for wanted, reading in pairs]
    unsure = [pair for pair, verdict in zip(pairs, equal, strict=True) if verdict is None]
    status, problem = (VerdictStatus.CORRECT, "") if True in equal else _ask_algebra(unsure, precision, settings)
    outcome = "is correct." if status is VerdictStatus.CORRECT else f"is wrong: the gold answer is {_short(gold)}."
    if problem:
        outcome = f"could not be compared with the gold answer: {problem}"
    return Verdict(status, found.text, f"The answer {_short(found.text)} {outcome}")


@lru_cache(maxsize=1024)
def _read_gold(gold: str) -> tuple[tuple[str, ...], str | None]:
    """What the gold answer may be read as, and the letter where it is that of an option, alone or before words."""
    if not gold.strip():
        raise DataError("answer: the gold answer is empty")
    if _PLAIN.fullmatch(gold):
        return (gold,), None
    readings = find.gold(gold).readings
    plain = canonical(readings[0]) if len(readings[0]) <= find.MAX_CHARS else ""
    letter = _LETTER.match(plain)
    return readings, letter[letter.lastindex or 0] if letter and _IS_PROSE.fullmatch(plain) else None


def _may_name_letter(answer: str) -> bool:
    """Whether a letter in a reply that announces none may be its answer: it weighs no letters against each other."""
    return not _UNSETTLED.search(answer[-find.MAX_CHARS :]) and len(set(_LABELS.findall(answer[-find.MAX_CHARS :]))) < 2


def _compare(gold: str, found: str, precision: int) -> bool | None:
    """One reading of the answer with one of the gold answer, the cheapest way first; None where that is not certain."""
    if max(len(gold), len(found)) > find.MAX_CHARS:
        return gold.strip() == found.strip()
    plain = _plain(gold), _plain(found)
    if plain[0] and plain[1]:
        return plain[0][0] * plain[1][1] == plain[1][0] * plain[0][1]
    if _differ_in_mark(gold, found):
        return False
    left, right = canonical(gold), canonical(found)
    if left == right or _GAP.sub("", left) == _GAP.sub("", right):
        return any(character.isalnum() or character in "∞∅" for character in right)
    if letter := _LETTER.match(left):
        other = _LETTER.match(right) or _LETTER_IN_PROSE.fullmatch(right)
        if other:
            return bool(letter[letter.lastindex or 0] == other[other.lastindex or 0])
    if ")" in left or ")" in right:
        left, right = _LABEL.sub("", left), _LABEL.sub("", right)
    if _SHORT_WORD.fullmatch(left) and _SHORT_WORD.fullmatch(right):  # words, or products as far as we know
        is_same = left.lower() == right.lower()
        if r"\text" in gold + found or (is_same and (len(left) == 3 or left.lower() == "no")):
            return is_same
    reset_budget()
    try:
        return same(_value(left), read(right), precision)
    except TooLarge:
        return False


def _plain(text: str) -> tuple[int, int] | None:
    """The plainest answers without more ado: an integer, or a fraction of two, as (numerator, denominator)."""
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    sign, top, bottom, whole, below = match.groups()
    numerator, denominator = int((top or whole).replace(",", "")), int(bottom or below or 1)
    return (-numerator if sign else numerator, denominator) if denominator else None


_value = lru_cache(maxsize=1024)(read)  # of a gold answer, which many replies are compared with


def _ask_algebra(pairs: list[tuple[str, str]], precision: int, settings: JudgeSettings) -> tuple[VerdictStatus, str]:
    """Whether one of the pairs is the same for Math-Verify, and why it did not say; one time limit for all of them."""
    formulas = [[" ".join(to_latex(text).replace("$", " ").split()) for text in pair] for pair in pairs]
    serious = [
        pair
        for pair in formulas
        if all(map(str.isascii, pair))
        and not any(_HOSTILE.search(text) or _depth(text) > _MAX_DEPTH for text in pair)
        and all(pair[0].count(mark) == pair[1].count(mark) for mark in _NOT_IGNORED)
    ]
    if not serious:
        return VerdictStatus.WRONG, ""
    result = call(
        "open_exaone.verify.math.symbolic:compare",
        {"pairs": serious, "precision": precision},
        time_limit_s=settings.time_limit_s,
        memory_bytes=settings.memory_bytes,
        unsafe=True,  # formulas are no programs: they may be compared where programs may not run
    )
    if result.status == "ok":
        return (VerdictStatus.CORRECT if result.value else VerdictStatus.WRONG), ""
    return status_of(result), result.why


def _depth(text: str) -> int:
    return max(accumulate((mark in "([") - (mark in ")]") for mark in text), default=0)


def _differ_in_mark(gold: str, found: str) -> bool:
    """Whether both carry a mark that is otherwise let off, and not the same one."""
    pairs = [(mark.search(gold), mark.search(found)) for mark in (_UNIT_POWER, _HALF_OF_DAY)]
    return any(a and b and "".join(a.groups("")).lower() != "".join(b.groups("")).lower() for a, b in pairs)


def _short(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
