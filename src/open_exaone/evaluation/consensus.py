"""cons@k: the majority among k answers, where answers that mean the same vote together.

Correctness of a class of answers is the share of its samples that were judged correct; a tie counts what a fair draw
among the tied classes would earn; a sample without an answer does not vote; without any vote a problem is wrong.
"""

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.verify.judge import judge_answer
from open_exaone.verify.settings import JudgeSettings

if TYPE_CHECKING:
    import numpy as np

Same = Callable[[str, str], bool]  # do these two answers mean the same

NO_VOTE = frozenset({VerdictStatus.UNPARSED, VerdictStatus.TRUNCATED})
MAX_EXACT_SAMPLES = 256  # of one problem; with more, an expectation over subsets is taken from random ones
NUM_SUBSETS = 2000  # so many; an error of about 0.01 on one problem
_BOXED_KINDS = frozenset({"exact", "math"})  # whose answers have several spellings
_INTEGER = re.compile(r"-?[0-9]{1,30}")
_FEW_ROWS = 8  # are multiplied one by one, which is quicker than by a matrix


def consensus(answers: Sequence[str | None], correct: Sequence[bool], same: Same) -> float:
    """cons@k of one problem: the expected correctness of the class with the most votes.

    Args:
        answers: [k], as extracted; None where a sample gives no answer.
        correct: [k], as judged.
        same: see `classes`.
    """
    return expected_consensus(classes(answers, correct, same), correct, len(answers))


def consensus_of(verdicts: Sequence[Verdict], same: Same, k: int | None = None) -> float:
    """cons@k of one problem from its verdicts, n of them; for k below n, expected over the subsets of size k.

    Raises:
        ValueError: k is not between 1 and n.
    """
    return consensus_curve(verdicts, same, [len(verdicts) if k is None else k])[0]


def consensus_curve(verdicts: Sequence[Verdict], same: Same, ks: Sequence[int]) -> list[float]:
    """`consensus_of` for several k at once, for little more than one of them costs.

    Raises:
        ValueError: a k is not between 1 and n.
    """
    answers = [_answer(verdict) for verdict in verdicts]
    correct = [verdict.correct for verdict in verdicts]
    groups = classes(answers, correct, same)
    return [expected_consensus(groups, correct, k) for k in ks]


def _answer(verdict: Verdict) -> str | None:
    """What a sample votes for; of a verifier that takes no answer out, all rights agree, and so do all wrongs."""
    if verdict.status in NO_VOTE:
        return None
    if verdict.extracted is None and verdict.status in (VerdictStatus.CORRECT, VerdictStatus.WRONG):
        return verdict.status.value
    return verdict.extracted


def classes(answers: Sequence[str | None], correct: Sequence[bool], same: Same) -> list[int | None]:
    """[k]: the number of each answer's class, from 0 in order of appearance; None for no answer.

    Answers of one text, white space aside, are one class, and so are all that were judged correct, for they equal the
    gold answer; a correct and a wrong answer never are. `same` is asked of the rest, once for each pair of texts not
    yet joined, both ways round. It need not be transitive: what is joined by a chain is one class.
    """
    texts = [_normal(answer) for answer in answers]
    keys = [(text, right) if text else None for text, right in zip(texts, correct, strict=True)]
    parents = {key: key for key in keys if key}

    def root(key: tuple[str, bool]) -> tuple[str, bool]:
        while parents[key] != key:
            key = parents[key]
        return key

    for one, other in combinations(list(parents), 2):
        if root(one) == root(other) or one[1] != other[1]:
            continue
        if one[1] or same(one[0], other[0]) or same(other[0], one[0]):
            parents[root(other)] = root(one)
    numbers: dict[tuple[str, bool], int] = {}
    return [numbers.setdefault(root(key), len(numbers)) if key else None for key in keys]


def expected_consensus(groups: Sequence[int | None], correct: Sequence[bool], k: int, seed: int = 0) -> float:
    """The mean of cons@k over all subsets of k of the n samples, given each sample's class.

    Exact for n up to `MAX_EXACT_SAMPLES`; beyond, the mean over `NUM_SUBSETS` subsets drawn with `seed`.

    Raises:
        ValueError: k is not between 1 and n.
    """
    if not 1 <= k <= len(groups):
        raise ValueError(f"cons@{k} needs 1 to {len(groups)} samples, as many as there are")
    samples = list(zip(groups, correct, strict=True))
    if k == len(samples):
        return _majority(samples)
    if len(samples) > MAX_EXACT_SAMPLES:
        draw = random.Random(seed)
        return fmean(_majority(draw.sample(samples, k)) for _ in range(NUM_SUBSETS))
    sizes = sorted((fmean(flags), len(flags)) for flags in _members(samples))
    return _expected(tuple(sizes), len(samples))[k]


def same_by_judge(
    kind: str, metadata: Mapping[str, object] | None = None, settings: JudgeSettings | None = None
) -> Same:
    """The problem's own verifier, asked whether one answer would be correct if the other were gold.

    For kinds whose answers have one spelling (a letter, a program), different texts are different answers.
    A comparison that fails or takes too long says no; two answers that took too long are compared with nothing more,
    so that 64 hostile ones cost 32 time limits, not 4,000.
    """
    slow: set[str] = set()

    def same(one: str, other: str) -> bool:
        if kind not in _BOXED_KINDS or one in slow or other in slow:
            return False
        if _INTEGER.fullmatch(one) and _INTEGER.fullmatch(other):  # most answers; every verifier says the same of them
            return int(one) == int(other)
        try:
            verdict = judge_answer(kind, rf"\boxed{{{one}}}", other, metadata or {}, settings)
        except ValueError:  # an answer of a reply that is no gold answer
            return False
        if verdict.status is VerdictStatus.TIMEOUT:
            slow.update((one, other))
        return verdict.status is VerdictStatus.CORRECT

    return same


def _normal(answer: str | None) -> str:
    return "" if answer is None else " ".join(answer.split())


def _members(samples: Sequence[tuple[int | None, bool]]) -> list[list[bool]]:
    """Of each class, which of its samples are correct."""
    members: dict[int, list[bool]] = {}
    for group, right in samples:
        if group is not None:
            members.setdefault(group, []).append(right)
    return list(members.values())


def _majority(samples: Sequence[tuple[int | None, bool]]) -> float:
    members = _members(samples)
    most = max(map(len, members), default=0)
    winners = [fmean(flags) for flags in members if len(flags) == most]
    return fmean(winners) if winners else 0.0


@lru_cache(maxsize=4096)
def _expected(classes_: tuple[tuple[float, int], ...], num_samples: int) -> tuple[float, ...]:
    """[n + 1]: for every k, the mean of cons@k over all subsets of size k; nothing for k = 0.

    Subsets are counted by generating functions, whose powers of x count drawn samples: for each number of votes v that
    may win, a class of s samples that stays below v brings the terms of (1 + x)^s below x^v, and one that ties brings
    C(s, v) x^v u. Each of t further winners leaves a winner 1 / (t + 1) of the win, which is the integral of u^t over
    0 to 1; Gauss's quadrature is exact for it. No term is negative, so nothing cancels.

    Args:
        classes_: (the share of its samples that is correct, how many it has) of each class, in order.
    """
    import numpy as np

    total = np.zeros(num_samples + 1)
    for votes in range(1, max((size for share, size in classes_ if share), default=0) + 1):
        rivals = [(share, size) for share, size in classes_ if size >= votes]
        nodes, weights = _quadrature((len(rivals) + 1) // 2)
        u = nodes[:, None]
        ways = np.tile(_ways(num_samples - sum(size for _, size in rivals), num_samples), (len(nodes), 1))
        earned = np.zeros_like(ways)  # `ways`, each times what the winners so far have earned
        for share, size in rivals:
            wins = _ways(size, num_samples)[votes]
            won, tied = earned[:, :-votes] * u + ways[:, :-votes] * share, ways[:, :-votes] * u
            if share or earned.any():
                earned = _stay_below(earned, size, votes)
                earned[:, votes:] += wins * won
            ways = _stay_below(ways, size, votes)
            ways[:, votes:] += wins * tied
        total += weights @ earned
    return tuple((total / _ways(num_samples, num_samples)).tolist())


@cache
def _quadrature(num_nodes: int) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    """Gauss's nodes and weights for the integral over 0 to 1."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
    return (nodes + 1) / 2, weights / 2


@lru_cache(maxsize=4096)
def _ways(size: int, degree: int) -> "np.ndarray[Any, Any]":
    """[degree + 1]: C(size, 0), C(size, 1), …: the coefficients of (1 + x)^size."""
    import numpy as np

    return np.array([float(math.comb(size, count)) for count in range(degree + 1)])


def _stay_below(rows: "np.ndarray[Any, Any]", size: int, votes: int) -> "np.ndarray[Any, Any]":
    """Each row, as a polynomial, times (1 + x)^size less its terms from x^votes; its degree stays."""
    import numpy as np

    degree = rows.shape[1] - 1
    factor = _ways(size, degree)[:votes]
    if len(rows) <= _FEW_ROWS:
        return np.stack([np.convolve(row, factor)[: degree + 1] for row in rows])
    padded = np.zeros(2 * degree + 1)
    padded[degree : degree + votes] = factor
    return rows @ np.lib.stride_tricks.sliding_window_view(padded, degree + 1)[::-1]
