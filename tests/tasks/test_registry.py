"""What every family promises, ours and reasoning-gym's alike."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from open_exaone.base.errors import ConfigError
from open_exaone.tasks.family import GROUPS, Drawn
from open_exaone.tasks.gym import SETTINGS
from open_exaone.tasks.registry import FAMILIES, families_of, get_family
from open_exaone.verify.judge import judge_answer

Draws = dict[tuple[str, str, bool], tuple[Drawn, ...]]


def test_there_are_families_of_each_sort() -> None:
    groups = Counter(family.group for family in FAMILIES.values())
    assert groups["worked"] >= 7
    assert groups["unworked"] >= 2
    assert groups["unseen"] >= 2
    assert {name: family.languages for name, family in FAMILIES.items()} == {
        name: ("en",) if name in SETTINGS else ("en", "ko") for name in FAMILIES
    }


def test_groups_and_names_choose_families_each_once() -> None:
    assert [family.group for family in families_of(GROUPS)] == [family.group for family in FAMILIES.values()]
    assert [family.name for family in families_of(["egg_boxes", "unseen"])] == ["egg_boxes", "bus_ride"]


def test_the_gold_reply_is_judged_correct(draws: Draws) -> None:
    for drawn in draws.values():
        for problem in (each.problem for each in drawn):
            verdict = judge_answer(problem.verifier, str(problem.reply), problem.answer, problem.metadata)
            assert verdict.correct, (problem.id, verdict)


def test_the_reply_to_another_question_is_judged_wrong(draws: Draws) -> None:
    for drawn in draws.values():
        for problem, other in pairwise(each.problem for each in drawn):
            if other.answer.casefold() != problem.answer.casefold():
                reply = str(other.reply)
                assert not judge_answer(problem.verifier, reply, problem.answer, problem.metadata).correct, problem.id


def test_a_problem_says_what_it_is(draws: Draws) -> None:
    for (name, language, _), drawn in draws.items():
        for problem in (each.problem for each in drawn):
            assert (problem.task, problem.language) == (name, language)
            assert (problem.thought is not None) == get_family(name).has_thought
            assert str(problem.reply).count("\\boxed{") == 1
            json.dumps(dict(problem.metadata))  # it is saved with the samples
    ids = [each.problem.id for drawn in draws.values() for each in drawn]
    assert len(set(ids)) == len(ids)


def test_the_steps_end_in_the_answer(draws: Draws) -> None:
    for (name, _, _), drawn in draws.items():
        for each in drawn:
            last = re.split("[ =:]", str(each.steps[-1]))[-1]
            assert last.replace(",", "") == each.problem.answer.replace(",", ""), (name, each)


def test_harder_problems_have_more_steps_than_any_other(draws: Draws) -> None:
    for (name, language, harder), drawn in draws.items():
        if harder and name not in ("drill", "simple_equations"):  # of those, the numbers grow
            shorter = draws[name, language, False]
            measure = len if name == "spell_backward" else lambda work: len(work.split(" "))
            longest = max(measure(each.work) for each in shorter)
            assert all(measure(each.work) > longest for each in drawn), name
            assert not {each.problem.question for each in drawn} & {each.problem.question for each in shorter}


def test_the_order_of_steps_is_no_part_of_the_work(draws: Draws) -> None:
    for drawn in draws.values():
        assert all(replace(each, steps=each.steps[::-1]).work == each.work for each in drawn)


def test_harder_equations_have_larger_numbers_than_any_other(draws: Draws) -> None:
    def numbers(drawn: Drawn) -> list[int]:
        return [int(text) for text in re.findall("[0-9]+", drawn.problem.question)]

    assert max(int(each.problem.answer) for each in draws["simple_equations", "en", False]) <= 25
    harder = draws["simple_equations", "en", True]
    assert all(min(abs(int(each.problem.answer)), max(numbers(each))) > 25 for each in harder)


def test_the_same_sum_in_other_words_is_the_same_work() -> None:
    one = {get_family("shopping").draw(seed, "en", False).work for seed in range(4_000)}
    two = {get_family("two_shoppers").draw(seed, "ko", False).work for seed in range(4_000)}
    assert len(one & two) > 100
    english, korean = (get_family("shopping").draw(5, language, False) for language in ("en", "ko"))
    assert "pens" not in english.work and "연필" not in korean.work


def test_questions_and_thoughts_are_short_enough_for_a_small_model(draws: Draws) -> None:
    for key, drawn in draws.items():
        if get_family(key[0]).group == "long":
            continue
        problems = [each.problem for each in drawn]
        assert sum(len(problem.question) for problem in problems) / len(problems) <= (150 if key[-1] else 140), key
        thoughts = [problem.thought for problem in problems if problem.thought]
        if thoughts:
            assert 14 <= sum(map(len, thoughts)) / len(thoughts) <= 120, key
            assert max(map(len, thoughts)) <= 280, key


def test_korean_problems_are_korean_and_english_ones_are_not(draws: Draws) -> None:
    for (_, language, _), drawn in draws.items():
        for problem in (each.problem for each in drawn):
            for text in (problem.question, problem.reply):
                assert bool(re.search("[가-힣]", str(text))) == (language == "ko"), problem.id
            if language == "en" and problem.thought:
                assert problem.thought.isascii(), problem.id


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'chess': unknown. The families are chain_sum, .*; the groups worked, unw"):
        get_family("chess")


def test_a_seed_gives_the_same_problem_in_every_process() -> None:
    code = (
        "from open_exaone.tasks.registry import FAMILIES\n"
        "for family in FAMILIES.values():\n"
        "    for language in family.languages:\n"
        "        for seed in (7, 10_000_007): print(ascii(family.draw(seed, language, seed > 7)))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().splitlines()) == 2 * sum(len(family.languages) for family in FAMILIES.values())
