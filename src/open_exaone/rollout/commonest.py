"""The answer that a family's samples give most often, and what always giving it would score: how guessing shows."""

from collections import Counter
from collections.abc import Iterable, Sequence

from open_exaone.verify.exact import normalise


def commonest_answer(answers: Iterable[str | None]) -> tuple[str | None, float]:
    """The commonest answer as `verify.exact` normalises it, the first of several; and its share of all answers.

    Args:
        answers: at least one; None, where a sample gives no answer, is no answer that could be the commonest.
    """
    counts: Counter[str | None] = Counter()
    for answer, count in Counter(answers).items():
        counts[None if answer is None else normalise(answer)] += count
    total = counts.total()
    del counts[None]
    best = max(counts, key=counts.__getitem__, default=None)
    return best, counts[best] / total


def constant_score(golds: Sequence[str], answer: str | None) -> float:
    """The share of problems, by their gold answers, that always giving this one normalised answer would solve."""
    return sum(normalise(gold) == answer for gold in golds) / len(golds)
