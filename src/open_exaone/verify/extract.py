"""Finding the final answer in a reply."""

import re

_BOX = re.compile(r"\\boxed\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped character is skipped whole, so \{ and \} do not count


def last_boxed(text: str) -> str | None:
    """The content of the last `\\boxed{...}`, its braces balanced and its ends stripped.

    None where there is no box or the last one is never closed. Linear in the length of the text.
    """
    start = None
    for box in _BOX.finditer(text):
        start = box.end()
    if start is None:
        return None
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[start : brace.start()].strip()
    return None
