"""Worked thoughts: true line by line, slips and their corrections apart."""

import random
import re
from itertools import pairwise

import pytest

from open_exaone.base.records import Problem
from open_exaone.tasks.family import Drawn
from open_exaone.tasks.thoughts import (
    CORRECTION,
    SLIP_RATE,
    Step,
    near_misses,
    running_total,
    swaps,
    without_words,
    work_out,
    write_thought,
)

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


def test_every_line_is_true_unless_the_next_one_corrects_it(draws: Draws) -> None:
    num_corrected = 0
    for problem, lines in thoughts(draws):
        for line, following in pairwise([*lines, ""]):
            corrected = following.startswith(CORRECTION[problem.language])
            assert is_true(line) or corrected, (problem.id, line)
            if corrected and SUM.search(line):
                num_corrected += 1
                assert not is_true(line), (problem.id, line)  # nothing right is "corrected"
                assert is_true(following), (problem.id, following)
    assert num_corrected > 500


def test_the_last_line_holds_the_answer(draws: Draws) -> None:
    for problem, lines in thoughts(draws):
        last = lines[-1] if problem.task != "spell_backward" else lines[-1].replace(",", "")
        assert re.search(rf"(^|[=: ]){re.escape(problem.answer)}$", last), (problem.id, last)


def test_slips_happen_at_the_set_rate(draws: Draws) -> None:
    num_steps = num_slips = 0
    for problem, lines in thoughts(draws):
        corrections = [line for line in lines if line.startswith(CORRECTION[problem.language])]
        num_slips += len(corrections)
        num_steps += len(lines) - len(corrections)
    assert num_steps > 10_000
    assert num_slips / num_steps == pytest.approx(SLIP_RATE, abs=0.01)


def test_a_slip_is_corrected_on_the_next_line_in_the_thoughts_language() -> None:
    steps = [work_out(17, "+", 8)]
    for language, corrected in (("en", "Wait, 17+8=25"), ("ko", "잠깐, 17+8=25")):
        wrong, right = write_thought(steps, random.Random(0), language, slip_rate=1.0).split("\n")
        assert right == corrected
        assert wrong in ("17+8=24", "17+8=26", "17+8=15", "17+8=35")


def test_without_slips_a_thought_is_its_steps() -> None:
    steps = [work_out(4, "*", 3, label="cups:"), work_out(2, "*", 7, label="pens:"), *running_total([12, 14])]
    thought = "cups:4*3=12\npens:2*7=14\n12+14=26"
    assert write_thought(steps, random.Random(0), "en", slip_rate=0.0) == thought


def test_words_are_no_part_of_the_work() -> None:
    steps = [work_out(4, "*", 3, label="cups:"), Step("", "(3,4)", label="point:")]
    assert without_words(steps) == "4*3=12 (3,4)"


def test_a_running_total_adds_term_by_term() -> None:
    assert [str(step) for step in running_total([4, 1, 7])] == ["4+1=5", "5+7=12"]
    assert [str(step) for step in running_total([9, -4])] == ["9-4=5"]
    assert running_total([4]) == []


def test_what_goes_wrong_is_wrong() -> None:
    for number in range(-120, 120):
        assert str(number) not in near_misses(number)
        assert number < 0 or all(int(miss) >= 0 for miss in near_misses(number))
    assert swaps("abb") == ("b,a,b",)
    assert swaps("aa") == ()
