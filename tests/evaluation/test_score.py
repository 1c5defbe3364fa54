"""The statistics against brute force, closed forms, and a simulation of what an interval promises."""

import random
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.errors import DataError
from open_exaone.base.records import (
    Completion,
    Problem,
    Reply,
    Rollout,
    RolloutGroup,
    StopReason,
    Verdict,
    VerdictStatus,
)
from open_exaone.evaluation import score

RIGHT, WRONG = VerdictStatus.CORRECT, VerdictStatus.WRONG

grids = st.integers(1, 6).flatmap(
    lambda k: st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=1, max_size=8)
)
shares = st.lists(st.integers(0, 4).map(lambda n: n / 4), min_size=1, max_size=80)


def verdict(answer: str | None, status: VerdictStatus) -> Verdict:
    return Verdict(status, answer, "")


@given(grids)
def test_pass_at_1_is_the_share_of_correct_samples_when_each_problem_has_as_many(grid: list[list[bool]]) -> None:
    assert score.pass_at_1(grid) == pytest.approx(fmean(flag for row in grid for flag in row))


def test_pass_at_1_weighs_problems_alike_however_many_samples_they_have() -> None:
    assert score.pass_at_1([[True], [False] * 9]) == 0.5


@given(grids, st.integers(1, 6))
def test_pass_at_k_is_the_chance_that_a_random_subset_holds_a_correct_sample(grid: list[list[bool]], k: int) -> None:
    k = min(k, len(grid[0]))
    brute = fmean(fmean(any(subset) for subset in combinations(row, k)) for row in grid)
    assert score.pass_at_k(grid, k) == pytest.approx(brute)


@given(grids)
def test_pass_at_one_of_k_is_pass_at_1_and_grows_with_k(grid: list[list[bool]]) -> None:
    rising = [score.pass_at_k(grid, k) for k in range(1, len(grid[0]) + 1)]
    assert rising[0] == pytest.approx(score.pass_at_1(grid))
    assert rising == sorted(rising)


@pytest.mark.parametrize("k", [0, 3])
def test_pass_at_k_refuses_more_samples_than_there_are(k: int) -> None:
    with pytest.raises(ValueError, match=f"pass@{k} needs"):
        score.pass_at_k([[True, False]], k)


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([("3", RIGHT), ("3", RIGHT), ("4", WRONG)], 1.0),
        ([("3", RIGHT), ("4", WRONG), ("4", WRONG)], 0.0),
        ([("3", RIGHT), ("4", WRONG)], 0.5),  # a tie is shared
        ([("3", RIGHT), ("4", WRONG), ("5", WRONG)], 1 / 3),
        ([(" 3 ", RIGHT), ("3", RIGHT), ("4", WRONG), ("4", WRONG), ("x  y", WRONG)], 0.5),  # white space aside
        ([(None, VerdictStatus.UNPARSED), (None, VerdictStatus.UNPARSED), ("3", RIGHT)], 1.0),  # silence loses
        ([("4", VerdictStatus.TRUNCATED), ("4", VerdictStatus.TRUNCATED), ("3", RIGHT)], 1.0),  # as does a cut reply
        ([(None, VerdictStatus.UNPARSED), (None, VerdictStatus.TRUNCATED)], 0.0),
        ([("4", VerdictStatus.ERROR), ("4", VerdictStatus.TIMEOUT), ("3", RIGHT)], 0.0),  # an answer, if unjudged
        ([("", WRONG), (" ", WRONG), ("3", RIGHT)], 1.0),  # an empty box is no answer
    ],
)
def test_cons_at_k_by_cases(votes: list[tuple[str | None, VerdictStatus]], expected: float) -> None:
    assert score.cons_at_k([[verdict(*vote) for vote in votes]]) == pytest.approx(expected)


@given(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=7), st.randoms(use_true_random=False))
def test_cons_at_k_is_what_random_tie_breaking_earns_and_no_order_changes_it(
    answers: list[str | None], shuffler: random.Random
) -> None:
    def cons(order: Sequence[str | None]) -> float:
        statuses = [VerdictStatus.UNPARSED if a is None else RIGHT if a == "1" else WRONG for a in order]
        return score.cons_at_k([[verdict(a, s) for a, s in zip(order, statuses, strict=True)]])

    most = max((answers.count(a) for a in answers if a is not None), default=0)
    tied = {a for a in answers if a is not None and answers.count(a) == most}
    shuffled = shuffler.sample(answers, len(answers))
    assert cons(answers) == pytest.approx(("1" in tied) / len(tied) if tied else 0.0) == cons(shuffled)


@given(shares, st.sampled_from([0.8, 0.95, 0.99]))
def test_an_interval_holds_the_mean_lies_in_the_unit_and_is_never_a_point(means: list[float], level: float) -> None:
    low, high = score.clustered_interval(means, level)
    assert 0 <= low <= fmean(means) <= high <= 1
    assert low < high


@given(shares)
def test_a_higher_level_gives_a_wider_interval_and_mirrored_scores_a_mirrored_one(means: list[float]) -> None:
    low, high = score.clustered_interval(means, 0.95)
    wide_low, wide_high = score.clustered_interval(means, 0.99)
    assert wide_low <= low
    assert high <= wide_high
    assert score.clustered_interval([1 - mean for mean in means]) == pytest.approx((1 - high, 1 - low))


def test_the_interval_is_the_normal_one_on_problem_means() -> None:
    means = [0.0, 0.5, 1.0, 0.5] * 25  # variance 0.125 * 100 / 99
    half = 1.959964 * (0.125 * 100 / 99 / 100) ** 0.5
    assert score.clustered_interval(means) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_the_interval_at_zero_and_for_one_problem_is_wilsons() -> None:
    z2 = 1.959964**2
    assert score.clustered_interval([0.0] * 50) == pytest.approx((0.0, z2 / (50 + z2)), abs=1e-6)
    assert score.clustered_interval([1.0]) == pytest.approx((1 / (1 + z2), 1.0), abs=1e-6)


def coverage(num_problems: int, k: int, alpha: float, beta: float, *, clustered: bool, num_runs: int = 600) -> float:
    """How often the interval holds the truth when problems' pass rates are drawn from Beta(alpha, beta)."""
    draw, hits = random.Random(f"{num_problems} {k} {alpha}"), 0
    for _ in range(num_runs):
        rates = [draw.betavariate(alpha, beta) for _ in range(num_problems)]
        grid = [[draw.random() < rate for _ in range(k)] for rate in rates]
        means = score.problem_means(grid) if clustered else [float(flag) for row in grid for flag in row]
        low, high = score.clustered_interval(means)
        hits += low <= alpha / (alpha + beta) <= high
    return hits / num_runs


@pytest.mark.parametrize(
    ("num_problems", "k", "alpha", "beta"),
    [(100, 4, 0.6, 0.4), (40, 8, 2.0, 3.0), (60, 4, 0.2, 6.0), (8, 4, 1.0, 1.0), (50, 1, 30.0, 1.0)],
)
def test_intervals_cover_the_truth_as_often_as_they_say(num_problems: int, k: int, alpha: float, beta: float) -> None:
    assert coverage(num_problems, k, alpha, beta, clustered=True) >= 0.93


def test_samples_taken_as_independent_would_cover_too_rarely() -> None:
    assert coverage(100, 4, 0.6, 0.4, clustered=False) < 0.8


def group(task: str, language: str, *samples: tuple[str | None, VerdictStatus, str], name: str = "") -> RolloutGroup:
    problem = Problem(f"{task}/{language}/{name}", task, language, "?", "1", "text")
    rollouts = []
    for answer, status, thought in samples:
        completion = Completion((7,) * (len(thought.split()) + 2), (), (), StopReason.END, 0)
        rollouts.append(Rollout(completion, Reply(thought, answer or ""), verdict(answer, status), 0.0))
    return RolloutGroup(problem, (1, 2), tuple(rollouts))


GROUPS = [
    group("sum", "en", ("1", RIGHT, "a b c"), ("2", WRONG, "a")),
    group("sum", "ko", ("1", RIGHT, ""), ("1", RIGHT, "a b")),
    group("sort", "ko", (None, VerdictStatus.TRUNCATED, "a b"), (None, VerdictStatus.UNPARSED, "")),
    group("sort", "en", ("1", VerdictStatus.ERROR, ""), ("1", VerdictStatus.TIMEOUT, "")),
]
GREEDY = [group(g.problem.task, g.problem.language, ("1", g.rollouts[0].verdict.status, "")) for g in GROUPS]


def test_a_summary_holds_exactly_the_fields_of_the_report() -> None:
    told = score.summarise(GROUPS, GREEDY, count_tokens=lambda text: len(text.split()))
    per_task, per_language, ci95 = told.pop("per_task"), told.pop("per_language"), told.pop("ci95")
    assert told == {
        "num_problems": 4,
        "k": 2,
        "pass_at_1": 3 / 8,
        "greedy": 0.5,
        "cons_at_k": (0.5 + 1) / 4,
        "pass_at_k": 0.5,
        "mean_thought_tokens": 1.0,
        "mean_reply_tokens": 3.0,
        "truncated_share": 1 / 8,
        "unparsed_share": 1 / 8,
        "error_share": 2 / 8,
    }
    assert ci95 == list(score.clustered_interval([0.5, 1.0, 0.0, 0.0]))
    assert {task: (part["num_problems"], part["pass_at_1"]) for task, part in per_task.items()} == {
        "sort": (2, 0.0),
        "sum": (2, 0.75),
    }
    assert {code: part["pass_at_1"] for code, part in per_language.items()} == {"en": 0.25, "ko": 0.5}
    assert per_task["sum"]["ci95"] == list(score.clustered_interval([0.5, 1.0]))


def test_without_greedy_replies_greedy_is_null() -> None:
    assert score.summarise(GROUPS, None, len)["greedy"] is None


@pytest.mark.parametrize(
    ("groups", "greedy", "message"),
    [
        ([], None, "no problems"),
        ([GROUPS[0], GREEDY[1]], None, "between 1 and 2 samples"),
        (GROUPS, GREEDY[:3], "different problems"),
    ],
)
def test_what_cannot_be_summarised_is_refused(
    groups: list[RolloutGroup], greedy: list[RolloutGroup] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        score.summarise(groups, greedy, len)
