"""CSAT's score in closed form."""

import pytest

from open_exaone.base.errors import DataError
from open_exaone.tasks.benchmarks.csat import ELECTIVES, csat_score
from open_exaone.tasks.benchmarks.registry import load_problems
from tasks.benchmarks.rows import MADE_UP, write_rows


@pytest.fixture
def problems(tmp_path):
    return load_problems("csat_2025_math", write_rows(tmp_path / "csat.jsonl", MADE_UP["csat_2025_math"]))


def score(problems, is_correct):
    return csat_score({problem.id: is_correct(problem) for problem in problems}, problems)


def test_all_right_is_100_and_all_wrong_is_0(problems) -> None:
    full = {"points": 100.0, "accuracy": 1.0}
    assert score(problems, lambda _: True) == {
        "electives": dict.fromkeys(ELECTIVES, full), "mean_points": 100.0, "mean_accuracy": 1.0
    }  # fmt: skip
    assert score(problems, lambda _: False)["mean_points"] == 0


def test_the_common_questions_count_in_every_elective(problems) -> None:
    found = score(problems, lambda problem: problem.metadata["section"] == "common")
    assert found["electives"] == {name: {"points": 74.0, "accuracy": 22 / 30} for name in ELECTIVES}


def test_one_elective_is_a_third_of_the_mean(problems) -> None:
    found = score(problems, lambda problem: problem.metadata["section"] == "geometry")
    assert found["electives"]["geometry"] == {"points": 26.0, "accuracy": 8 / 30}
    assert found["electives"]["calculus"] == {"points": 0.0, "accuracy": 0.0}
    assert found["mean_points"] == pytest.approx(26 / 3) and found["mean_accuracy"] == pytest.approx(8 / 90)


def test_means_over_samples_are_scored_too(problems) -> None:
    """15 of 16 on a question of 4 points costs a quarter of a point."""
    found = score(problems, lambda problem: 15 / 16 if problem.id.endswith("common-22") else 1.0)
    assert found["mean_points"] == 99.75 and found["mean_accuracy"] == pytest.approx(1 - 1 / 480)


def test_what_is_missing_is_named(problems) -> None:
    results = {problem.id: True for problem in problems}
    with pytest.raises(DataError, match="geometry has 22 common and 7 elective questions for 96 points"):
        csat_score(results, problems[:-1])
    missing = problems[3].id
    with pytest.raises(DataError, match=f"{missing}: has no result"):
        csat_score({key: True for key in results if key != missing}, problems)
