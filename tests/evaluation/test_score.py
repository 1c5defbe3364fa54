"""The scores against brute force and closed forms, and what a report's entry holds."""

from dataclasses import replace
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.errors import DataError
from open_exaone.base.records import (
    Generation,
    Problem,
    Reply,
    Sample,
    Sampling,
    StopReason,
    Verdict,
    VerdictStatus,
)
from open_exaone.evaluation import score
from open_exaone.evaluation.report import Entry
from open_exaone.evaluation.statistics import question_interval
from open_exaone.evaluation.task import Task

RIGHT, WRONG = VerdictStatus.CORRECT, VerdictStatus.WRONG
ANSWERS = st.sampled_from(["1", "2", "3", None])

grids = st.integers(1, 6).flatmap(
    lambda k: st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=1, max_size=8)
)


def recounted(answers: list[str | None]) -> float:
    return max([answers.count(answer) for answer in answers if answer is not None], default=0) / len(answers)


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


def sample(problem: Problem, index: int, answer: str | None, status: VerdictStatus, **fields: object) -> Sample:
    reply = Reply(str(fields.get("thought", "")), str(fields.get("text", f"The answer is {answer}.")))
    stop = StopReason.LENGTH if status is VerdictStatus.TRUNCATED else StopReason.END
    num_thought = int(str(fields.get("num_thought", 3)))
    generation = Generation(reply, stop, 10, num_thought + 2, num_thought)
    return Sample(f"{problem.id}/{index}", "sums", problem.id, index, generation, verdict(answer, status))


def problem_of(name: str, family: str = "sum", language: str = "en", **metadata: object) -> Problem:
    return Problem(name, family, language, "?", "1", "math", metadata=metadata)


PROBLEMS = (problem_of("a"), problem_of("b", "sort"))
SAMPLES = [
    [
        sample(PROBLEMS[0], 0, "1", RIGHT, num_thought=1),
        sample(PROBLEMS[0], 1, "2", WRONG, num_thought=5),
        sample(PROBLEMS[0], 2, "2.0", WRONG, num_thought=5),
    ],
    [
        sample(PROBLEMS[1], 0, "1", RIGHT, num_thought=3),
        sample(PROBLEMS[1], 1, None, VerdictStatus.TRUNCATED, num_thought=9),
        sample(PROBLEMS[1], 2, "1", VerdictStatus.ERROR, text="그래서 정답은 바로 이것입니다."),
    ],
]
TASK = Task("sums", "sum_set", PROBLEMS, Sampling(max_new_tokens=99, num_samples=3, seed=5), thinking=True)


def test_an_entry_by_hand() -> None:
    entry = score.score_task(TASK, SAMPLES, flops=7.0, not_published=("temperature",))
    assert (entry.name, entry.benchmark, entry.mode) == ("sums", "sum_set", "reasoning")
    assert (entry.num_problems, entry.k) == (2, 3)
    assert (entry.seed, entry.temperature, entry.max_new_tokens, entry.thinking_budget) == (5, 0.6, 99, None)
    assert entry.not_published == ("temperature",)
    assert entry.pass_at_1 == pytest.approx(1 / 3) and entry.ci95 == pytest.approx(question_interval([1 / 3] * 2))
    assert entry.pass_at == pytest.approx({"1": 1 / 3, "2": 2 / 3, "3": 1.0}) and entry.pass_at_k == 1.0
    # the first question's majority is 2; the second's is a tie of a correct 1 and an unjudged one
    assert entry.cons_at_k == entry.cons_at["3"] == pytest.approx((0 + 0.5) / 2)
    assert entry.cons_at["1"] == pytest.approx(entry.pass_at_1)
    assert entry.cons_ci95 == pytest.approx(question_interval([0.0, 0.5]))
    shares = {name: rate["value"] for name, rate in entry.rates.model_dump().items()}
    assert shares == pytest.approx({"no_answer": 0, "truncated": 1 / 6, "language_mismatch": 1 / 6, "error": 1 / 6})
    assert entry.tokens is not None and entry.tokens.model_dump() == pytest.approx(
        {"prompt": 10, "thought": 26 / 6, "answer": 2, "reply": 38 / 6, "thought_correct": 2, "thought_wrong": 22 / 4}
    )
    assert entry.cost is not None and entry.cost.model_dump() == {"prompt_tokens": 60, "reply_tokens": 38, "flops": 7.0}
    assert entry.stops == {"end": 5, "length": 1}
    assert {name: part.num_problems for name, part in entry.per_task.items()} == {"sort": 1, "sum": 1}
    assert entry.per_language["en"].ci95 == entry.ci95
    assert (entry.csat, entry.published, entry.grader, entry.per_cell) == (None, (), None, ())


@given(
    st.lists(
        st.tuples(st.sampled_from(["sum", "sort"]), st.sampled_from("123"), st.lists(ANSWERS, min_size=2, max_size=2)),
        min_size=1,
        max_size=9,
    )
)
def test_the_share_of_the_commonest_answer_is_recounted(drawn: list[tuple[str, str, list[str | None]]]) -> None:
    """Of the gold answers, and of those that were given; no answer at all is none that could be the commonest."""
    problems = tuple(
        replace(problem_of(str(place), family), answer=gold) for place, (family, gold, _) in enumerate(drawn)
    )
    samples = [
        [sample(problem, index, answer, RIGHT if answer == gold else WRONG) for index, answer in enumerate(answers)]
        for problem, (_, gold, answers) in zip(problems, drawn, strict=True)
    ]
    entry = score.score_task(replace(TASK, problems=problems, sampling=replace(TASK.sampling, num_samples=2)), samples)
    for name, part in entry.per_task.items():
        assert part.constant_baseline == recounted([gold for family, gold, _ in drawn if family == name])
        assert part.commonest_answer_share == recounted(
            [a for family, _, answers in drawn if family == name for a in answers]
        )
    assert entry.per_language["en"].constant_baseline == recounted([gold for _, gold, _ in drawn])


CELL = {"kind": "single", "length": 512, "depth": 0.25}
NO_CELLS = [{name: value for name, value in CELL.items() if name != lacking} for lacking in CELL]
ODD = [
    ("kind", 1),
    ("length", True),
    ("length", 0),
    ("length", "512"),
    ("length", 9.5),
    ("depth", True),
    ("depth", "0"),
]
ODD += [("depth", 1.5), ("depth", -0.1), ("depth", float("nan")), ("depth", None)]


def test_each_cell_is_the_score_of_its_problems_alone() -> None:
    """By kind, length and depth, whatever the order of the problems; those without all three are in none."""
    cells = [("single", 512, 0.5), ("keys", 512, 0), ("single", 64, 1.0), ("single", 512, 0.5), ("single", 512, 0.25)]
    about = [dict(zip(("kind", "length", "depth"), cell, strict=True)) for cell in cells]
    about += [*NO_CELLS, *({**CELL, name: value} for name, value in ODD)]
    problems = tuple(problem_of(str(place), **metadata) for place, metadata in enumerate(about))
    right = [[True, True], [True, False], [False, False], [False, True], [True, True]]
    right += [[True, False]] * (len(about) - len(right))
    samples = [
        [sample(problem, index, str(int(flag)), RIGHT if flag else WRONG) for index, flag in enumerate(row)]
        for problem, row in zip(problems, right, strict=True)
    ]
    entry = score.score_task(replace(TASK, problems=problems, sampling=replace(TASK.sampling, num_samples=2)), samples)
    assert [(cell.kind, cell.length, cell.depth, cell.num_problems, cell.pass_at_1) for cell in entry.per_cell] == [
        ("keys", 512, 0.0, 1, 0.5), ("single", 64, 1.0, 1, 0.0),
        ("single", 512, 0.25, 1, 1.0), ("single", 512, 0.5, 2, 0.75),
    ]  # fmt: skip
    assert entry.per_cell[-1].ci95 == question_interval([1.0, 0.5]) and entry.num_problems == len(problems)
    assert (entry.per_cell[-1].constant_baseline, entry.per_cell[-1].commonest_answer_share) == (1.0, 0.75)


@pytest.mark.parametrize(("k", "expected"), [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])])
def test_the_curves_stand_at_powers_of_two_and_at_k(k: int, expected: list[int]) -> None:
    assert score.powers_up_to(k) == expected


def test_where_all_are_wrong_nothing_is_divided_by_nothing() -> None:
    wrong = [[replace(s, verdict=verdict("9", WRONG)) for s in row] for row in SAMPLES]
    entry = score.score_task(TASK, wrong)
    assert (entry.pass_at_1, entry.cons_at_k, entry.pass_at_k) == (0.0, 0.0, 0.0)
    assert entry.tokens is not None and entry.tokens.thought_correct is None
    assert entry.ci95[0] == 0.0 < entry.ci95[1]


def test_tokens_that_nobody_counted_are_unknown() -> None:
    silent = [[replace(s, generation=replace(s.generation, num_tokens=0)) for s in row] for row in SAMPLES]
    entry = score.score_task(TASK, silent)
    assert (entry.tokens, entry.cost) == (None, None)


def test_a_language_that_cannot_be_told_leaves_the_mismatch_unknown() -> None:
    problems = (PROBLEMS[0], replace(PROBLEMS[1], language="fr"))
    assert score.score_task(replace(TASK, problems=problems), SAMPLES).rates.language_mismatch is None


def csat_entry(num_wrong: int, sections: tuple[str, ...] = ("calculus", "statistics", "geometry")) -> Entry:
    """22 common questions (74 points) and 8 for each elective (26); the first so many are wrong."""
    points = [4] * 8 + [3] * 14
    own = [3] * 6 + [4] * 2
    problems = [problem_of(f"common-{n}", section="common", points=p) for n, p in enumerate(points)]
    for section in sections:
        problems += [problem_of(f"{section}-{n}", section=section, points=p) for n, p in enumerate(own)]
    status = [WRONG if n < num_wrong else RIGHT for n in range(len(problems))]
    samples = [[sample(p, 0, "1", s)] for p, s in zip(problems, status, strict=True)]
    return score.score_task(replace(TASK, benchmark="csat_2025_math", problems=tuple(problems)), samples)


def test_csat_has_its_score_with_an_interval_of_the_same_weights() -> None:
    whole = csat_entry(2)
    assert whole.csat is not None and whole.csat.mean_points == pytest.approx(100 - 8)
    weights = [12.0] * 8 + [9.0] * 14 + ([3.0] * 6 + [4.0] * 2) * 3  # a common question counts for each elective
    assert whole.csat.points_ci95 == pytest.approx(question_interval([0.0] * 2 + [1.0] * 44, weights=weights))
    assert whole.pass_at_1 == pytest.approx(44 / 46)


def test_a_part_of_csat_has_no_score() -> None:
    assert csat_entry(2, ("calculus",)).csat is None


@pytest.mark.parametrize(
    ("task", "samples", "message"),
    [
        (TASK, [], "no problems"),
        (TASK, [SAMPLES[0], SAMPLES[1][:2]], "between 2 and 3 samples"),
        (TASK, SAMPLES[:1], "1 rows of samples for 2 problems"),
        (TASK, SAMPLES[::-1], "problem 'a': has a sample of task 'sums', problem 'b'"),
        (replace(TASK, name="other"), SAMPLES, "task 'other', problem 'a': has a sample of task 'sums'"),
    ],
)
def test_what_cannot_be_scored_is_refused(task: Task, samples: list[list[Sample]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        score.score_task(task, samples)
