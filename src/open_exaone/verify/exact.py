"""Comparing a short answer with the gold one: numbers as numbers, all else as normalised text."""

import re

_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?", re.ASCII)  # 1,234,567.8
_NUMBER = re.compile(r"([+-]?)(\d+)(?:\.(\d*))?", re.ASCII)
_WRAPPERS = (  # what mathematics is dressed in: (opening, closing)
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\text{", "}"),
    (r"\mathrm{", "}"),
    (r"\textbf{", "}"),
    (r"\mathbf{", "}"),
)
_MAX_WRAPPERS = 4  # deeper than any answer is dressed; keeps hostile nesting linear


def same_answer(found: str, gold: str) -> bool:
    """Whether two short answers say the same."""
    return normalise(found) == normalise(gold)


def normalise(text: str) -> str:
    """Undresses an answer: wrappers, case, white space, thousands separators, and how a number is written."""
    for _ in range(_MAX_WRAPPERS):
        text = _unwrap(text.strip())
    text = "".join(text.replace("\N{MINUS SIGN}", "-").casefold().split())
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    number = _NUMBER.fullmatch(text)
    return _canonical(*number.groups(default="")) if number else text


def _unwrap(text: str) -> str:
    for opening, closing in _WRAPPERS:
        if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
            return text[len(opening) : -len(closing)]
    return text


def _canonical(sign: str, whole: str, fraction: str) -> str:
    """One spelling for each number, found without arithmetic, so that a million digits cost nothing."""
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    number = f"{whole}.{fraction}" if fraction else whole
    return f"-{number}" if sign == "-" and number != "0" else number
