"""How much of a text repeats itself: a model that degenerates writes the same again and again."""

import re
from collections import Counter

GRAM_PIECES = 4
MIN_PIECES = 32  # a text with less says nothing
# A word, a long one in pieces, so that a letter that is written without end counts too; or a mark.
_PIECES = re.compile(r"\w{1,8}|[^\w\s]")


def repeated_share(text: str) -> float:
    """The share of a text's runs of four words or marks that stood in it before, in [0, 1); 0 for a short text.

    1 - distinct / all: "rep-4" of Welleck et al. 2020, arXiv 1908.04319, over words. Takes time linear in the text.
    """
    pieces = _PIECES.findall(text)
    if len(pieces) < MIN_PIECES:
        return 0.0
    grams = Counter(zip(*(pieces[start:] for start in range(GRAM_PIECES)), strict=False))
    return 1.0 - len(grams) / grams.total()
