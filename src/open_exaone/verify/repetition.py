"""Repetition: whether a text has fallen into a loop, and how unlike two texts are. Linear in their length.

A piece is a word or a sign, at most 16 characters of it; docs/data.md holds what was measured.
"""

import re
from collections.abc import Sequence, Set

MAX_REPEATED = 0.65  # of a stretch's windows; measured, see the docs
_PIECES = re.compile(r"\w{1,16}|[^\w\s]{1,16}|\s{16}")
_WINDOW = 8  # pieces that are compared together
_STRETCHES = (128, 1024)  # pieces; a loop within a long text shows in a stretch, one of long paragraphs in all of it
_MIN_PIECES = 64  # a shorter text is never a loop


def repeated_share(text: str) -> float:
    """The share of windows of 8 pieces that stood before in the same stretch, in [0, 1]: the highest of any stretch.

    Stretches are the whole text, and each 128 and 1,024 pieces of it, every one beginning in the middle of the one
    before. 0 for a text of fewer than 64 pieces.
    """
    windows = _windows(text, _WINDOW)
    if len(windows) <= _MIN_PIECES - _WINDOW:
        return 0.0
    shares = [_share(windows)]
    for size in _STRETCHES:
        length = size - _WINDOW + 1
        if len(windows) > length:
            starts = [*range(0, len(windows) - length, size // 2), len(windows) - length]
            shares += [_share(windows[start : start + length]) for start in starts]
    return max(shares)


def is_degenerate(text: str) -> bool:
    """Whether a text repeats itself as one does that has fallen into a loop."""
    return repeated_share(text) > MAX_REPEATED


def shingles(text: str) -> frozenset[int]:
    """The runs of 3 pieces of a text, hashed."""
    return frozenset(_windows(text, 3))


def distance(one: Set[int], other: Set[int]) -> float:
    """1 less the Jaccard similarity of two sets of `shingles`, in [0, 1]: 0 of equal sets, 1 of disjoint ones."""
    union = len(one | other)
    return 1.0 - len(one & other) / union if union else 0.0


def _windows(text: str, size: int) -> list[int]:
    """Each run of `size` pieces, hashed; all of a shorter text is one run."""
    pieces = _PIECES.findall(text.casefold())
    runs = zip(*(pieces[start:] for start in range(size)), strict=False)
    return list(map(hash, runs)) if len(pieces) >= size else [hash(tuple(pieces))]


def _share(windows: Sequence[int]) -> float:
    return 1.0 - len(set(windows)) / len(windows)
