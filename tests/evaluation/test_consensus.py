"""cons@k against brute force over subsets and the closed form."""

import math
import random
import time
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.evaluation import consensus as module
from open_exaone.evaluation.consensus import (
    MAX_EXACT_SAMPLES,
    classes,
    consensus,
    consensus_curve,
    consensus_of,
    expected_consensus,
    same_by_judge,
)

samples = st.lists(st.tuples(st.sampled_from([None, 0, 1, 2, 3]), st.booleans()), min_size=1, max_size=8)


def never(one: str, other: str) -> bool:
    return False


def as_numbers(one: str, other: str) -> bool:
    return float(one) == float(other)


def brute_majority(drawn: Sequence[tuple[int | None, bool]]) -> float:
    groups = [group for group, _ in drawn if group is not None]
    most = max(map(groups.count, groups), default=0)
    tied = [group for group in dict.fromkeys(groups) if groups.count(group) == most]
    return fmean(fmean(right for group, right in drawn if group == winner) for winner in tied) if tied else 0.0


@given(samples)
def test_the_expectation_is_the_mean_over_every_subset(drawn: list[tuple[int | None, bool]]) -> None:
    groups, correct = [group for group, _ in drawn], [right for _, right in drawn]
    for k in range(1, len(drawn) + 1):
        brute = fmean(brute_majority(subset) for subset in combinations(drawn, k))
        assert expected_consensus(groups, correct, k) == pytest.approx(brute)


def test_cons_at_1_is_pass_at_1_and_two_answers_have_their_closed_form() -> None:
    groups, correct = [0] * 5 + [1] * 3, [True] * 5 + [False] * 3
    assert expected_consensus(groups, correct, 1) == pytest.approx(5 / 8)
    for k in range(1, 9):
        ways = [math.comb(5, x) * math.comb(3, k - x) for x in range(k + 1)]
        won = sum(way * (1 if 2 * x > k else 0.5 if 2 * x == k else 0) for x, way in enumerate(ways))
        assert expected_consensus(groups, correct, k) == pytest.approx(won / math.comb(8, k))


@given(samples, st.randoms(use_true_random=False), st.integers(1, 8))
def test_it_is_a_fraction_and_neither_order_nor_names_play_a_part(
    drawn: list[tuple[int | None, bool]], shuffler: random.Random, k: int
) -> None:
    k = min(k, len(drawn))
    shuffled = shuffler.sample(drawn, len(drawn))
    renamed = [None if group is None else 9 - group for group, _ in shuffled]
    first = expected_consensus([group for group, _ in drawn], [right for _, right in drawn], k)
    assert 0 <= first <= 1 + 1e-12
    assert expected_consensus(renamed, [right for _, right in shuffled], k) == pytest.approx(first)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(0, 30), min_size=64, max_size=64), st.sampled_from([2, 8, 16, 32, 63]))
def test_sixty_four_samples_are_exact_and_agree_with_draws(groups: list[int], k: int) -> None:
    correct = [group < 3 for group in groups]
    drawn, draw = list(zip(groups, correct, strict=True)), random.Random(0)
    near = fmean(brute_majority(draw.sample(drawn, k)) for _ in range(300))
    assert expected_consensus(groups, correct, k) == pytest.approx(near, abs=0.15)


def test_beyond_the_exact_limit_it_is_drawn_with_a_seed() -> None:
    groups = [0] * 160 + [1] * 120
    correct = [group == 0 for group in groups]
    assert len(groups) > MAX_EXACT_SAMPLES
    found = expected_consensus(groups, correct, 1, seed=1)
    assert found == expected_consensus(groups, correct, 1, seed=1)
    assert found == pytest.approx(80 / 140, abs=0.05)


def test_equal_answers_vote_together() -> None:
    answers, correct = ["0.5", "1/2", "7", "7", "0.50"], [True, True, False, False, True]
    assert consensus(answers, correct, never) == 1.0  # what was judged correct is one class
    wrong = ["3", "3", "7", "7.0", "7.00"]
    assert consensus(wrong, [True, True, False, False, False], never) == 1.0
    assert consensus(wrong, [True, True, False, False, False], as_numbers) == 0.0


def test_a_tie_is_shared_and_silence_does_not_vote() -> None:
    assert consensus(["1", "2", None, None, " "], [True, False, False, False, False], never) == 0.5
    assert consensus([None, None], [False, False], never) == 0.0


def test_a_chain_is_one_class_and_is_asked_for_both_ways_round() -> None:
    asked = []

    def chain(one: str, other: str) -> bool:
        asked.append((one, other))
        return (one, other) in {("b", "a"), ("b", "c")}

    assert classes(["a", "c", "b", "d"], [False] * 4, chain) == [0, 0, 0, 1]
    assert ("a", "b") in asked and ("b", "a") in asked


def test_the_comparison_is_asked_of_few_pairs() -> None:
    asked = []

    def count(one: str, other: str) -> bool:
        asked.append((one, other))
        return False

    answers = ["4"] * 30 + ["4.0"] * 10 + ["5"] * 20 + [" 5 "] * 3 + ["6"]
    numbers = classes(answers, [True] * 40 + [False] * 24, count)
    assert numbers == [0] * 40 + [1] * 23 + [2]
    assert asked == [("5", "6"), ("6", "5")]


def test_a_correct_and_a_wrong_answer_never_join() -> None:
    assert classes(["2", "2", "2.0"], [True, False, False], lambda one, other: True) == [0, 1, 1]


@given(st.lists(st.sampled_from(["1", " 1", "2", "3", None]), min_size=1, max_size=7))
def test_it_is_what_random_tie_breaking_earns(answers: list[str | None]) -> None:
    texts = [answer and answer.strip() for answer in answers]
    verdicts = [
        Verdict(VerdictStatus.UNPARSED, None, "")
        if answer is None
        else Verdict(VerdictStatus.CORRECT if answer.strip() == "1" else VerdictStatus.WRONG, answer, "")
        for answer in answers
    ]
    most = max((texts.count(text) for text in texts if text), default=0)
    tied = {text for text in texts if text and texts.count(text) == most}
    assert consensus_of(verdicts, never) == pytest.approx(("1" in tied) / len(tied) if tied else 0.0)


def test_a_curve_is_each_of_its_points_and_asks_for_classes_once() -> None:
    asked = []

    def count(one: str, other: str) -> bool:
        asked.append((one, other))
        return False

    votes = [("4", VerdictStatus.WRONG), ("5", VerdictStatus.WRONG), ("3", VerdictStatus.CORRECT)] * 2
    verdicts = [Verdict(status, answer, "") for answer, status in votes]
    curve = consensus_curve(verdicts, count, [1, 2, 4, 6])
    assert len(asked) == 2
    assert curve == [consensus_of(verdicts, count, k) for k in (1, 2, 4, 6)]


def test_every_k_of_many_questions_is_quick() -> None:
    draw, started = random.Random(2), time.process_time()
    for _ in range(100):
        chance = draw.random()
        right = [draw.random() < chance for _ in range(64)]
        groups = [0 if flag else 1 + int(draw.expovariate(0.1)) for flag in right]
        for k in (1, 2, 4, 8, 16, 32, 64):
            expected_consensus(groups, right, k)
    assert time.process_time() - started < 10  # 0.2 s where it was measured; one after another in Python, minutes


def test_a_truncated_sample_has_no_vote_and_an_unjudged_one_has() -> None:
    status = VerdictStatus
    votes = [(status.TRUNCATED, "4"), (status.TRUNCATED, "4"), (status.CORRECT, "3")]
    assert consensus_of([Verdict(s, answer, "") for s, answer in votes], never) == 1.0
    votes = [(status.ERROR, "4"), (status.TIMEOUT, "4"), (status.CORRECT, "3")]
    assert consensus_of([Verdict(s, answer, "") for s, answer in votes], never) == 0.0
    assert consensus_of([Verdict(s, answer, "") for s, answer in votes], never, k=1) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("kind", "one", "other", "expected"),
    [
        ("math", r"\frac{1}{2}", "0.5", True),
        ("math", "x+1", "1+x", True),
        ("math", "3", "4", False),
        ("math", "007", "7", True),
        ("exact", "-0", "0", True),
        ("math", r"\frac{1}{", "}{", False),
        ("math", "$$", "3", False),
        ("exact", "1,000", "1000", True),
        ("choice", "A", "B", False),
    ],
)
def test_the_problems_own_verifier_says_what_is_the_same(kind: str, one: str, other: str, expected: bool) -> None:
    same = same_by_judge(kind)
    assert (same(one, other) or same(other, one)) is expected


def test_answers_whose_comparison_takes_too_long_are_compared_with_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def judge(kind: str, answer: str, gold: str, *rest: object) -> Verdict:
        asked.append((answer, gold))
        slow = "int" in answer and "int" in gold
        same = answer == rf"\boxed{{{gold}.0}}"
        status = VerdictStatus.TIMEOUT if slow else VerdictStatus.CORRECT if same else VerdictStatus.WRONG
        return Verdict(status, answer, "")

    monkeypatch.setattr(module, "judge_answer", judge)
    answers = [f"int {n}" for n in range(20)] + ["x", "x.0"]
    numbers = classes(answers, [False] * len(answers), same_by_judge("math"))
    assert numbers == [*range(21), 20]
    assert sum("int" in one and "int" in other for one, other in asked) == 10


@pytest.mark.parametrize("k", [0, 3])
def test_more_votes_than_samples_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"cons@{k} needs 1 to 2"):
        expected_consensus([0, 1], [True, False], k)
