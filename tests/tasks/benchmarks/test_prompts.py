"""LG's prompts, letter by letter."""

import pytest

from open_exaone.tasks.benchmarks.prompts import CHOICE, choice, fill, letters_of, short_answer
from open_exaone.tasks.benchmarks.registry import load_problems
from tasks.benchmarks.rows import MADE_UP, unpinned, write_rows


def test_short_answer() -> None:
    assert short_answer("What is 1+1?") == (
        "What is 1+1?\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    )


def test_choice_with_its_odd_spaces() -> None:
    assert choice("Which?", ["x", "y", "z", "v", "w"]) == (
        "Question : Which?\n"
        "\n"
        "Options :\n"
        "A) x\n"
        "B) y\n"
        "C) z\n"
        "D) v\n"
        "E) w\n"
        " \n"
        "Please reason step by step, and you should write the correct option alphabet (A, B, C, D or E) within "
        "\\boxed{}."
    )


@pytest.mark.parametrize(("number", "letters"), [(2, "A or B"), (3, "A, B or C"), (8, "A, B, C, D, E, F, G or H")])
def test_the_letters_are_those_of_the_problem(number: int, letters: str) -> None:
    assert letters_of(number) == letters


def test_what_a_question_says_is_never_a_place() -> None:
    question = "{options} {letters} {question} \\frac{1}{2} {}"
    asked = fill(CHOICE, question=question, options="A) {letters}", letters="A or B")
    assert asked.startswith(f"Question : {question}\n") and "A) {letters}\n" in asked
    assert fill("{b}, then {a}", a="{b}", b="{a}") == "{a}, then {b}"
    with pytest.raises(ValueError, match="no place for {code}"):
        fill("{question}", question="?", code="x")


def test_csat_asks_in_both_ways(tmp_path) -> None:
    problems = load_problems(unpinned("csat_2025_math"), write_rows(tmp_path / "csat.jsonl", MADE_UP["csat_2025_math"]))
    by_id = {problem.id.partition("/")[2]: problem for problem in problems}
    assert by_id["common-01"].question == choice("common 1번?", ["8", "10", "12", "14", "16"])
    assert by_id["common-16"].question == short_answer("common 16번?")
    assert (by_id["common-01"].answer, by_id["common-16"].answer) == ("C", "12")


def test_ifeval_asks_as_it_stands(tmp_path) -> None:
    problems = load_problems(unpinned("ifeval"), write_rows(tmp_path / "ifeval.jsonl", MADE_UP["ifeval"]))
    assert [problem.question for problem in problems] == [row["prompt"] for row in MADE_UP["ifeval"]]


def test_every_prompt_holds_the_question(tmp_path) -> None:
    wanted = ("problem", "question", "Question", "prompt", "text", "question_content")
    for name, rows in MADE_UP.items():
        said = {row[field].strip() for row in rows for field in wanted if field in row}
        for problem in load_problems(unpinned(name), write_rows(tmp_path / f"{name}.jsonl", rows)):
            assert any(text in problem.question for text in said), problem
