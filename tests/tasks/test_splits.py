"""Splits share no question, whatever their sizes, families and seeds."""

from collections import Counter

import pytest

from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.tasks import splits
from open_exaone.tasks.registry import FAMILIES
from open_exaone.tasks.splits import ProblemsConfig, SplitConfig, assert_disjoint, build_splits, normalise_question

SMALL = ProblemsConfig(
    splits={
        "test": SplitConfig(num_problems=210),
        "base": SplitConfig(num_problems=2_100),
        "sft": SplitConfig(num_problems=360, with_thoughts_only=True),
        "rl": SplitConfig(num_problems=100, families=("gcd", "bus_ride")),
    }
)


def test_no_question_occurs_twice() -> None:
    built = build_splits(SMALL)
    questions = [normalise_question(problem.question) for problems in built.values() for problem in problems]
    assert len(questions) == len(set(questions)) == 210 + 2_100 + 360 + 100
    assert len({problem.id for problems in built.values() for problem in problems}) == len(questions)


def test_neighbouring_seeds_share_items_and_splits_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "BLOCK", 1)  # the second split now draws the first one's items, shifted by one
    config = ProblemsConfig(splits={name: SplitConfig(num_problems=300, families=("chain_sum",)) for name in "ab"})
    first, second = build_splits(config).values()
    assert {problem.question for problem in first}.isdisjoint(problem.question for problem in second)
    assert int(second[0].id.split("/")[-1]) >= 300  # all the shared items were skipped


def test_families_and_languages_have_equal_shares_in_turn() -> None:
    built = build_splits(SMALL)
    pairs = [(family.name, language) for family in FAMILIES.values() for language in family.languages]
    assert [(problem.task, problem.language) for problem in built["test"]] == (pairs * 12)[:210]
    assert Counter(problem.task for problem in built["rl"]) == {"gcd": 34, "bus_ride": 66}


def test_only_families_with_thoughts_when_asked() -> None:
    assert all(problem.thought for problem in build_splits(SMALL)["sft"])


def test_the_same_config_gives_the_same_problems_and_another_seed_others() -> None:
    config = ProblemsConfig(splits={"test": SplitConfig(num_problems=42)})
    assert build_splits(config) == build_splits(config)
    other = build_splits(config.model_copy(update={"seed": 1}))["test"]
    assert {problem.id for problem in other}.isdisjoint(problem.id for problem in build_splits(config)["test"])


def test_a_larger_set_begins_with_the_smaller_one() -> None:
    small, large = (ProblemsConfig(splits={"test": SplitConfig(num_problems=size)}) for size in (60, 210))
    assert build_splits(large)["test"][:60] == build_splits(small)["test"]


def test_the_set_listed_first_is_not_touched_by_what_follows() -> None:
    alone = ProblemsConfig(splits={"test": SMALL.splits["test"]})
    assert build_splits(alone)["test"] == build_splits(SMALL)["test"]


def test_a_family_that_runs_dry_is_named_with_its_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "DRAWS_PER_PROBLEM", 2)  # 4,095 questions in all, so more draws only take longer
    config = ProblemsConfig(splits={"huge": SplitConfig(num_problems=4_096, families=("count_bits",))})
    with pytest.raises(DataError, match=r"split 'huge': the family count_bits \(en\) has no 4096 new questions"):
        build_splits(config)


def test_shared_questions_are_found_whatever_their_case_and_spaces() -> None:
    problem = FAMILIES["bus_ride"].draw(0, "en")
    twin = type(problem)(**{**_fields(problem), "id": "twin", "question": f" {problem.question.upper()}\n"})
    with pytest.raises(AssertionError, match=r"split 'b': twin asks the same as bus_ride/en/0"):
        assert_disjoint({"a": (problem,), "b": (twin,)})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"splits": {"test": {"num_problems": 0}}}, r"splits\.test\.num_problems = 0: .*greater than or equal to 1"),
        ({"splits": {}}, r"splits = {}"),
        ({"splits": {"test": {"num_problems": 5, "families": ["chess"]}}}, r"'chess': unknown. The families are"),
        ({"splits": {"test": {"num_problems": 5, "families": []}}}, r"no family is left"),
        (
            {"splits": {"test": {"num_problems": 5, "families": ["bus_ride"], "with_thoughts_only": True}}},
            r"no family is left",
        ),
        ({"splits": {"test": {"num_problems": 5}}, "seed": -1}, r"seed = -1"),
    ],
)
def test_mistakes_in_a_config_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(ProblemsConfig, values, "recipe.toml")


def _fields(problem: object) -> dict[str, object]:
    return {name: getattr(problem, name) for name in problem.__slots__}  # type: ignore[attr-defined]
