"""reasoning-gym's data sets: chosen by the rule, and thought through as their metadata says."""

import multiprocessing
import resource
import signal
import time

import pytest

import gym_rule
from open_exaone.tasks.gym import SETTINGS, gym_family
from open_exaone.tasks.gym_work import WORK

SLOW = "number_sequence"  # its fault shows only after many seconds


@pytest.mark.parametrize("name", SETTINGS)
def test_a_listed_data_set_fulfils_the_rule(name: str) -> None:
    assert gym_rule.fault(name) is None


def test_no_other_data_set_fulfils_the_rule() -> None:
    others = set(gym_rule.candidates()) - set(SETTINGS) - {SLOW}
    assert len(others) > 90
    for name in sorted(others):
        assert gym_rule.fault(name, num_items=5) or gym_rule.fault(name), f"{name} fulfils the rule: list it"


def _draw_under_a_limit_of_processor_time() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (int(2 * gym_rule.MAX_ITEM_S), resource.RLIM_INFINITY))
    gym_rule.fault(SLOW, 164)


def test_number_sequence_is_left_out_for_an_item_that_takes_seconds() -> None:
    draw = multiprocessing.get_context("fork").Process(target=_draw_under_a_limit_of_processor_time)
    draw.start()
    draw.join()
    assert draw.exitcode == -signal.SIGXCPU  # the 163 items before take milliseconds


def test_the_data_set_that_takes_anything_for_right_is_left_out() -> None:
    assert "game_of_life_halting" not in SETTINGS
    assert gym_rule.fault("game_of_life_halting", num_items=5)


@pytest.mark.parametrize("name", SETTINGS)
def test_our_settings_leave_enough_different_questions(name: str) -> None:
    questions = set[str]()
    for seed in range(8_000):
        questions.add(gym_family(name).draw(seed, "en").problem.question)
        if len(questions) == 2_500:
            return
    pytest.fail(f"{name}: only {len(questions)}")


def test_each_data_set_is_thought_about() -> None:
    assert set(WORK) == set(SETTINGS)


@pytest.mark.parametrize(
    ("equation", "lines"),
    [
        ("7*x + 12 = 61", ["61-12=49", "49/7=7"]),
        ("12 - 7*x = -37", ["-37-12=-49", "-49/-7=7"]),
        ("x - 5 = 4", ["4+5=9"]),
        ("5 - x = -4", ["-4-5=-9", "-9/-1=9"]),
        ("-3*x - 5 = -20", ["-20+5=-15", "-15/-3=5"]),
        ("3*x = 12", ["12/3=4"]),
        ("x = 5", ["x=5"]),
    ],
)
def test_equations_are_undone_from_the_outside(equation: str, lines: list[str]) -> None:
    steps = WORK["simple_equations"]({"equation": equation, "variable": "x"})
    assert [str(step) for step in steps] == lines


def test_a_chain_is_worked_out_in_its_own_operators() -> None:
    steps = WORK["chain_sum"]({"expression": "4 - 0 + 1 - 7"})
    assert [str(step) for step in steps] == ["4-0=4", "4+1=5", "5-7=-2"]


def test_drawing_is_fast() -> None:
    families = [gym_family(name) for name in SETTINGS]
    for family in families:
        family.draw(0, "en")  # reads its word list
    start = time.process_time()
    for family in families:
        for seed in range(100):
            family.draw(seed, "en")
    assert (time.process_time() - start) / (100 * len(families)) < 0.003  # measured: 0.00015
