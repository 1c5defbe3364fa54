"""Generated sets of problems share no question, whatever their sizes, families and seeds."""

from collections import Counter

import pytest

from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.normalise import normalise_prompt
from open_exaone.base.records import Problem
from open_exaone.tasks import generated
from open_exaone.tasks.generated import GeneratedSource, draw_problems
from open_exaone.tasks.registry import FAMILIES

SMALL = {
    "test": {"num_problems": 210},
    "base": {"num_problems": 2_100},
    "sft": {"num_problems": 360, "with_thoughts_only": True},
    "rl": {"num_problems": 100, "families": ["gcd", "bus_ride"]},
}


def drawn(sources: dict[str, dict[str, object]]) -> dict[str, list[Problem]]:
    """The problems of several sources of one run, drawn in order."""
    used: set[str] = set()
    made = {name: validate(GeneratedSource, {"families": "all", **values}, name) for name, values in sources.items()}
    return {name: draw_problems(source, index, used, name) for index, (name, source) in enumerate(made.items())}


def test_no_question_occurs_twice() -> None:
    built = drawn(SMALL)
    questions = [normalise_prompt(problem.question) for problems in built.values() for problem in problems]
    assert len(questions) == len(set(questions)) == 210 + 2_100 + 360 + 100
    assert len({problem.id for problems in built.values() for problem in problems}) == len(questions)


def test_neighbouring_seeds_share_items_and_sources_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "BLOCK", 1)  # the second source now draws the first one's items, shifted by one
    first, second = drawn({name: {"num_problems": 300, "families": ["chain_sum"]} for name in "ab"}).values()
    assert {problem.question for problem in first}.isdisjoint(problem.question for problem in second)
    assert int(second[0].id.split("/")[-1]) >= 300  # all the shared items were skipped


def test_families_and_languages_have_equal_shares_in_turn() -> None:
    built = drawn(SMALL)
    pairs = [(family.name, language) for family in FAMILIES.values() for language in family.languages]
    assert [(problem.task, problem.language) for problem in built["test"]] == (pairs * 12)[:210]
    assert Counter(problem.task for problem in built["rl"]) == {"gcd": 34, "bus_ride": 66}


def test_only_families_with_thoughts_when_asked() -> None:
    assert all(problem.thought for problem in drawn(SMALL)["sft"])


def test_the_same_config_gives_the_same_problems_and_another_seed_others() -> None:
    config: dict[str, dict[str, object]] = {"test": {"num_problems": 42}}
    assert drawn(config) == drawn(config)
    other = drawn({"test": {"num_problems": 42, "seed": 1}})["test"]
    assert {problem.id for problem in other}.isdisjoint(problem.id for problem in drawn(config)["test"])


def test_a_larger_set_begins_with_the_smaller_one() -> None:
    small, large = (drawn({"test": {"num_problems": size}})["test"] for size in (60, 210))
    assert large[:60] == small


def test_the_set_listed_first_is_not_touched_by_what_follows() -> None:
    assert drawn({"test": SMALL["test"]})["test"] == drawn(SMALL)["test"]


def test_a_family_that_runs_dry_is_named_with_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "DRAWS_PER_PROBLEM", 2)  # 4,095 questions in all, so more draws only take longer
    with pytest.raises(DataError, match=r"data\.huge: the family count_bits \(en\) has no 4096 new questions"):
        drawn({"huge": {"num_problems": 4_096, "families": ["count_bits"]}})


def test_questions_are_compared_whatever_their_case_and_spaces() -> None:
    assert normalise_prompt(" How MANY\n apples? ") == normalise_prompt("how many apples?")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_problems": 0, "families": "all"}, r"num_problems = 0: .*greater than or equal to 1"),
        ({"num_problems": 5}, r"give either families.*or problems"),
        ({"num_problems": 5, "families": "all", "problems": "mine.jsonl"}, r"give either families.*or problems"),
        ({"num_problems": 5, "families": ["chess"]}, r"'chess': unknown. The families are"),
        ({"num_problems": 5, "families": []}, r"no family is left"),
        ({"num_problems": 5, "families": ["bus_ride"], "with_thoughts_only": True}, r"no family is left"),
        ({"num_problems": 5, "families": "all", "seed": -1}, r"seed = -1"),
    ],
)
def test_mistakes_in_a_config_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(GeneratedSource, values, "recipe.toml")
