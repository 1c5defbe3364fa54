"""reasoning-gym as a benchmark: any data set, any size, judged by its own scorer."""

import re
from collections import Counter
from datetime import datetime
from functools import partial
from itertools import islice

import pytest

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.tasks.benchmarks import gym_set
from open_exaone.tasks.benchmarks.registry import load_benchmark, load_problems
from open_exaone.verify.judge import judge_answer
from tasks.benchmarks.rows import write_rows

SPEC = "chain_sum,gcd,simple_equations:size=4,seed=3"


def test_sets_sizes_and_seeds_are_those_asked_for() -> None:
    problems = load_problems("reasoning_gym", SPEC)
    assert Counter(problem.task for problem in problems) == {"chain_sum": 4, "gcd": 4, "simple_equations": 4}
    assert problems[0].id == "reasoning_gym/chain_sum-3-1"
    other = load_problems("reasoning_gym", SPEC.replace("seed=3", "seed=400"))
    assert not {problem.question for problem in problems} & {problem.question for problem in other}
    assert load_problems("reasoning_gym", SPEC) == problems
    assert load_problems("reasoning_gym", "chain_sum:size=2,seed=3") == problems[:2]


def test_the_day_on_which_items_are_drawn_is_no_part_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """reasoning-gym completes a time that has no date with today's."""
    times = pytest.importorskip("reasoning_gym.arithmetic.time_intervals").parser
    parse, drawn = times.parse, []
    for today in (datetime(2024, 2, 28), datetime(2026, 11, 29)):
        monkeypatch.setattr(times, "parse", partial(parse, default=today))
        drawn.append(load_problems("reasoning_gym", "time_intervals:size=40"))
    assert drawn[0] == drawn[1]


def test_every_default_is_right_by_its_own_scorer_and_junk_is_not() -> None:
    problems = load_problems("reasoning_gym")
    assert len(problems) == 320 and len({problem.task for problem in problems}) == 16
    for problem in problems:
        judged = [
            judge_answer("reasoning_gym", f"\\boxed{{{said}}}", problem.answer, problem.metadata).correct
            for said in (problem.answer, "?", "nan", "답")
        ]
        assert judged == [True, False, False, False], problem.id


def test_the_prompt_asks_for_a_box_or_is_plain() -> None:
    (asked,) = load_problems("reasoning_gym", "gcd:size=1")
    (plain,) = load_problems("reasoning_gym", "gcd:size=1,prompt=plain")
    assert asked.question == (
        f"{plain.question}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."
    )


def test_rows_from_a_file_are_judged_as_the_made_ones(tmp_path) -> None:
    loaded = load_benchmark("reasoning_gym", SPEC)
    rows = [
        {"data_set": p.task, "number": 1 + i % 4, "seed": 3, "prompt": "short answer", "entry": p.metadata["entry"]}
        for i, p in enumerate(loaded.problems)
    ]
    again = load_benchmark("reasoning_gym", write_rows(tmp_path / "rows.jsonl", rows))
    assert (again.problems, again.sha256) == (loaded.problems, loaded.sha256)


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("chain_sums", r"reasoning_gym: 'chain_sums': is no data set of reasoning-gym \d.*; did you mean .chain_sum"),
        ("gcd:size=0", "reasoning_gym: size = '0': must be a whole number from 1 to 100000"),
        ("gcd:sizes=3", "reasoning_gym: 'sizes=3': must be one of the options"),
        ("gcd:prompt=x", "reasoning_gym: prompt = 'x': must be one of short answer, plain"),
    ],
)
def test_what_is_asked_wrongly_is_named(spec: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        load_problems("reasoning_gym", spec)


@pytest.mark.parametrize(
    ("name", "fault"),
    [("arc_agi", "does not find "), ("game_of_life_halting", "does not find '?' wrong: ")],
)
def test_a_set_whose_scorer_cannot_tell_right_from_wrong_is_refused(name: str, fault: str) -> None:
    with pytest.raises(
        DataError, match=re.escape(f"reasoning_gym {name}:size=1: row 1: field 'entry': {name} {fault}")
    ):
        load_problems("reasoning_gym", f"{name}:size=1")


def test_a_set_without_gold_answers_is_judged_all_the_same() -> None:
    (problem,) = load_problems("reasoning_gym", "rush_hour:size=1")
    assert problem.answer == ""


def test_a_broken_row_is_named(tmp_path) -> None:
    row = {"data_set": "gcd", "number": 1, "seed": 0, "prompt": "plain", "entry": 7}
    with pytest.raises(DataError, match="line 1: field 'entry': must be an item of gcd, not 7"):
        load_problems("reasoning_gym", write_rows(tmp_path / "a.jsonl", [row]))


def test_another_version_s_items_are_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = gym_set._data_set
    monkeypatch.setattr(gym_set, "_data_set", lambda name, seed: islice(draw(name, seed), 1, None))
    fault = "the benchmark's content changed: .*; install the version of the code that made it, or accept it"
    with pytest.raises(DataError, match=fault):
        load_problems("reasoning_gym")
