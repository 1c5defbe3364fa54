"""cons@k: the majority among k answers, where answers that mean the same vote together.

Correctness of a class of answers is the share of its samples that were judged correct; a tie counts what a fair draw
among the tied classes would earn; a sample without an answer does not vote; without any vote a problem is wrong.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from statistics import fmean

from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.evaluation.score import NO_VOTE
from open_exaone.verify.judge import judge_answer
from open_exaone.verify.settings import JudgeSettings

Same = Callable[[str, str], bool]  # do these two answers mean the same

MAX_EXACT_SAMPLES = 128  # of one problem; with more, an expectation over subsets is taken from random ones
NUM_SUBSETS = 2000  # so many; an error of about 0.01 on one problem
_BOXED_KINDS = frozenset({"exact", "math"})  # whose answers have several spellings


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
    answers = [None if verdict.status in NO_VOTE else verdict.extracted for verdict in verdicts]
    correct = [verdict.correct for verdict in verdicts]
    return expected_consensus(classes(answers, correct, same), correct, len(answers) if k is None else k)


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
    members = _members(samples)
    most = min(k, max(map(len, members), default=0))
    return math.fsum(_won_with(members, len(samples), k, votes) for votes in range(1, most + 1))


def same_by_judge(
    kind: str, metadata: Mapping[str, object] | None = None, settings: JudgeSettings | None = None
) -> Same:
    """The problem's own verifier, asked whether one answer would be correct if the other were gold.

    For kinds whose answers have one spelling (a letter, a program), different texts are different answers.
    A comparison that fails or takes too long says no.
    """

    def same(one: str, other: str) -> bool:
        if kind not in _BOXED_KINDS:
            return False
        try:
            verdict = judge_answer(kind, rf"\boxed{{{one}}}", other, metadata or {}, settings)
        except ValueError:  # an answer of a reply that is no gold answer
            return False
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


def _won_with(members: Sequence[Sequence[bool]], num_samples: int, k: int, votes: int) -> float:
    """What subsets earn whose winning classes have exactly so many votes, weighed by their probability.

    Classes are drawn one after another, each by the hypergeometric law among the samples left. A state is (draws left,
    classes with exactly `votes`) -> (its probability, that times the summed correctness of those classes).
    """
    states = {(k, 0): (1.0, 0.0)}
    left = num_samples
    for flags in members:
        after: dict[tuple[int, int], tuple[float, float]] = {}
        for (draws, ties), (chance, earned) in states.items():
            for count, share in enumerate(_hypergeometric(len(flags), left, draws)[: votes + 1]):
                if not share:
                    continue
                wins = count == votes
                key = (draws - count, ties + wins)
                old = after.get(key, (0.0, 0.0))
                after[key] = (old[0] + share * chance, old[1] + share * (earned + wins * chance * fmean(flags)))
        states, left = after, left - len(flags)
    return math.fsum(earned / ties for (_, ties), (_, earned) in states.items() if ties)


@lru_cache(maxsize=65536)
def _hypergeometric(size: int, total: int, draws: int) -> tuple[float, ...]:
    """P(0), P(1), … of so many from a class of `size`, in `draws` from `total` without replacement."""
    ways, counts = math.comb(total, draws), range(min(size, draws) + 1)
    return tuple(math.comb(size, count) * math.comb(total - size, draws - count) / ways for count in counts)
