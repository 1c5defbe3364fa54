"""Generated sets share no problem, whatever their sizes, families and seeds, and their answers are balanced."""

from collections import Counter

import pytest

from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.normalise import normalise_prompt
from open_exaone.base.records import Problem
from open_exaone.tasks import generated
from open_exaone.tasks.family import Drawn
from open_exaone.tasks.generated import GeneratedSource, draw_problems, seen_share
from open_exaone.tasks.registry import families_of, get_family

SMALL = {
    "test": {"num_problems": 210},
    "base": {"num_problems": 2_100},
    "sft": {"num_problems": 360, "with_thoughts_only": True},
    "rl": {"num_problems": 100, "families": ["chain_sum", "bus_ride"]},
}


def drawn(sources: dict[str, dict[str, object]]) -> dict[str, list[Problem]]:
    """The problems of several sources of one run, drawn in order."""
    used: set[str] = set()
    made = {
        name: validate(GeneratedSource, {"families": ["worked", "unworked"], **values}, name)
        for name, values in sources.items()
    }
    return {name: draw_problems(source, index, used, name) for index, (name, source) in enumerate(made.items())}


def drawn_of(problem: Problem) -> Drawn:
    name, language, *harder, seed = problem.id.split("/")
    return get_family(name).draw(int(seed), language, bool(harder))


def work_of(problem: Problem) -> str:
    return drawn_of(problem).work


def test_no_question_and_no_sum_occurs_twice() -> None:
    sources = SMALL | {"unseen": {"num_problems": 400, "families": "unseen"}}
    built = [problem for problems in drawn(sources).values() for problem in problems]
    assert len({normalise_prompt(problem.question) for problem in built}) == 210 + 2_100 + 360 + 100 + 400
    assert len({problem.id for problem in built}) == len(built)
    assert len({(work_of(problem), problem.answer) for problem in built}) == len(built)


def test_the_same_sum_of_another_family_is_a_double() -> None:
    """Of every sum that one shopper has paid, two shoppers, who would draw hundreds of them, give none."""
    names = ("shopping", "two_shoppers")
    one, two = drawn({name: {"num_problems": 1_500, "families": [name]} for name in names}).values()
    alone = drawn({name: {"num_problems": 1_500, "families": [name]} for name in names[1:]})["two_shoppers"]
    works = {work_of(problem) for problem in one}
    assert len(works & {work_of(problem) for problem in alone}) > 100
    assert not works & {work_of(problem) for problem in two}


def test_nothing_is_learned_from_steps_among_which_a_held_out_problem_is_worked_out() -> None:
    """Not from a change either, on the way to which the total of two shoppers stands."""
    used, held_out = set[str](), set[str]()
    draw_problems(validate(GeneratedSource, {"num_problems": 900, "families": "unworked"}, "x"), 0, held_out, "test")
    source = validate(GeneratedSource, {"num_problems": 2_000, "families": "worked"}, "x")
    learned = draw_problems(source, 1, used, "sft", held_out=held_out)
    assert not any(part in held_out for problem in learned for part in drawn_of(problem).parts())
    alone = draw_problems(source, 1, set(), "sft")
    assert any(part in held_out for problem in alone for part in drawn_of(problem).parts())


def test_no_problem_is_a_single_step_as_drills_have_them() -> None:
    problems = drawn({"test": {"num_problems": 2_000, "families": ["simple_equations"]}})["test"]
    assert all(len(drawn_of(problem).steps) >= 2 for problem in problems)
    family = get_family("simple_equations")
    assert any(len(family.draw(seed, "en", False).steps) == 1 for seed in range(400))


@pytest.mark.parametrize("harder", [False, True])
def test_no_constant_answer_is_right_more_often_than_once_in_twenty(harder: bool) -> None:
    sources = {
        group: {"num_problems": size, "families": group, "harder": harder}
        for group, size in (("worked", 1_000), ("unworked", 400), ("unseen", 400))
    }
    for problems in drawn(sources).values():
        for name in {problem.task for problem in problems}:
            answers = Counter(problem.answer for problem in problems if problem.task == name)
            assert max(answers.values()) <= 0.05 * answers.total(), name


def test_neighbouring_seeds_share_items_and_sources_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "BLOCK", 1)  # the second source now draws the first one's items, shifted by one
    first, second = drawn({name: {"num_problems": 300, "families": ["chain_sum"]} for name in "ab"}).values()
    assert {problem.question for problem in first}.isdisjoint(problem.question for problem in second)
    assert int(second[0].id.split("/")[-1]) >= 300  # all the shared items were skipped


def test_families_and_languages_have_equal_shares_in_turn() -> None:
    built = drawn(SMALL)
    chosen = families_of(["worked", "unworked"])
    pairs = [(family.name, language) for family in chosen for language in family.languages]
    assert [(problem.task, problem.language) for problem in built["test"]] == (pairs * 14)[:210]
    assert Counter(problem.task for problem in built["rl"]) == {"chain_sum": 34, "bus_ride": 66}


def test_only_families_with_thoughts_when_asked() -> None:
    assert all(problem.thought for problem in drawn(SMALL)["sft"])


def test_the_same_config_gives_the_same_problems_and_another_seed_others() -> None:
    config: dict[str, dict[str, object]] = {"test": {"num_problems": 42}}
    assert drawn(config) == drawn(config)
    other = drawn({"test": {"num_problems": 42, "seed": 1}})["test"]
    assert {problem.id for problem in other}.isdisjoint(problem.id for problem in drawn(config)["test"])


def test_the_set_listed_first_is_not_touched_by_what_follows() -> None:
    assert drawn({"test": SMALL["test"]})["test"] == drawn(SMALL)["test"]


def test_a_family_that_runs_dry_is_named_with_its_data_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "DRAWS_PER_PROBLEM", 2)
    message = (
        r"data\.huge: the family two_shoppers \(en\) gave [\d,]+ of 5,000 problems in 11,000 draws: [\d,]+ have the"
    )
    with pytest.raises(DataError, match=message):
        drawn({"huge": {"num_problems": 10_000, "families": ["two_shoppers"]}})


def test_answers_that_cannot_be_balanced_are_named_with_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "MAX_SHARE_OF_ANSWER", 0.02)  # 25 answers cannot be fewer than one in fifty
    message = (
        r"simple_equations \(en\) gave 125 of 200 .* have an answer that 4 problems have already, of 25 answers in all"
    )
    with pytest.raises(DataError, match=message):
        drawn({"test": {"num_problems": 200, "families": ["simple_equations"]}})


@pytest.mark.parametrize("num_problems", [100, 110, 118, 150, 158, 196])
def test_a_family_of_24_answers_gives_any_number_of_problems_with_no_answer_twice_more_than_its_share(
    num_problems: int,
) -> None:
    """Of which one in twenty is too few for some numbers: 55 problems would be three of each answer."""
    [problems] = drawn({"test": {"num_problems": num_problems, "families": ["height_order"]}}).values()
    for language in ("en", "ko"):
        answers = Counter(problem.answer for problem in problems if problem.language == language)
        assert answers.total() == num_problems / 2 and max(answers.values()) <= 0.05 * answers.total() + 1
    assert len({(work_of(problem), problem.answer) for problem in problems}) == num_problems


@pytest.mark.parametrize("seed", [0, 1_000_000])
def test_how_much_of_a_family_was_seen_is_measured_on_draws_of_no_source(seed: int) -> None:
    used: set[str] = set()
    source = GeneratedSource(families=("bus_ride",), num_problems=400, seed=seed)
    draw_problems(source, 0, used, "base")
    assert seen_share("bus_ride", set()) == 0.0
    assert 0.0 < seen_share("bus_ride", used) < 0.1


def test_questions_are_compared_whatever_their_case_and_spaces() -> None:
    assert normalise_prompt(" How MANY\n apples? ") == normalise_prompt("how many apples?")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_problems": 0, "families": "worked"}, r"num_problems = 0: .*greater than or equal to 1"),
        ({"num_problems": 5}, r"give either families.*or problems"),
        ({"num_problems": 5, "families": "worked", "problems": "mine.jsonl"}, r"give either families.*or problems"),
        ({"num_problems": 5, "families": ["chess"]}, r"'chess': unknown. The families are"),
        ({"num_problems": 5, "families": []}, r"no family is left"),
        ({"num_problems": 5, "families": ["bus_ride"], "with_thoughts_only": True}, r"no family is left"),
        ({"num_problems": 5, "families": "worked", "seed": -1}, r"seed = -1"),
    ],
)
def test_mistakes_in_a_config_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(GeneratedSource, values, "recipe.toml")
