"""Names as people write them: "MATH-500" is math_500; and of a name that is none, which it may have meant."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_MAX_NAME = 80  # characters that are compared


def spelled(name: str, known: Iterable[str]) -> str:
    """The one known name that differs in case, spaces and punctuation alone; without one, the name as it is."""
    names = list(known)
    alike = [item for item in names if _key(item) == _key(name)]
    return alike[0] if len(alike) == 1 and name not in names else name


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" (did you mean math_500?)"`, with at most three names, the nearest first; empty where none is near."""
    key, by_key = _key(name), {_key(item): item for item in known}
    within = [item for item in by_key if len(key) > 2 and key in item]
    within.sort(key=lambda item: (item.index(key), len(item)))
    near = dict.fromkeys([*within, *get_close_matches(key, by_key)])
    return f" (did you mean {' or '.join([by_key[item] for item in near][:3])}?)" if near else ""


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name[:_MAX_NAME]).casefold()
