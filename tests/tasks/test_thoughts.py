"""Worked thoughts: true line by line, and they end in the answer."""

import re

from open_exaone.base.records import Problem
from open_exaone.tasks.family import Drawn
from open_exaone.tasks.thoughts import Step, canonical, running_total, work_out, written

Draws = dict[tuple[str, str, bool], tuple[Drawn, ...]]

SUM = re.compile(r"(-?\d+)([-+*/])(-?\d+)=(-?\d+)")


def is_true(line: str) -> bool:
    """Whether the sum that a line does comes out, if it does one."""
    match = SUM.search(line)
    if not match:
        return True
    left, operator, right, result = int(match[1]), match[2], int(match[3]), int(match[4])
    done = {"+": left + right, "-": left - right, "*": left * right}
    return result * right == left if operator == "/" else done[operator] == result


def thoughts(draws: Draws) -> list[tuple[Problem, list[str]]]:
    problems = [each.problem for drawn in draws.values() for each in drawn]
    return [(problem, problem.thought.split("\n")) for problem in problems if problem.thought]


def test_every_line_is_true(draws: Draws) -> None:
    num_sums = 0
    for problem, lines in thoughts(draws):
        num_sums += sum(SUM.search(line) is not None for line in lines)
        assert all(map(is_true, lines)), problem.id
    assert num_sums > 10_000


def test_the_last_line_holds_the_answer(draws: Draws) -> None:
    for problem, lines in thoughts(draws):
        last = lines[-1] if problem.task != "spell_backward" else lines[-1].replace(",", "")
        assert re.search(rf"(^|[=: ]){re.escape(problem.answer)}$", last), (problem.id, last)


def test_a_thought_is_its_steps() -> None:
    steps = [work_out(4, "*", 3, label="cups:"), work_out(2, "*", 7, label="pens:"), *running_total([12, 14])]
    assert written(steps) == "cups:4*3=12\npens:2*7=14\n12+14=26"


def test_words_and_order_are_no_part_of_the_work() -> None:
    texts = ["3*4=12", "-2+5=3", "5-7=-2", "12/4=3", "(3,4)"]
    sums = [(4, "*", 3), (5, "+", -2), (5, "-", 7), (12, "/", 4)]
    steps = [*(work_out(*terms, label="cups:") for terms in sums), Step("", "(3,4)", label="point:")]
    assert [canonical(step) for step in steps] == texts


def test_a_running_total_adds_term_by_term() -> None:
    assert [str(step) for step in running_total([4, 1, 7])] == ["4+1=5", "5+7=12"]
    assert [str(step) for step in running_total([9, -4])] == ["9-4=5"]
    assert running_total([4]) == []
