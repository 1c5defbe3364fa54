"""What every family promises, ours and reasoning-gym's alike."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise

import pytest

from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Problem
from open_exaone.tasks.registry import FAMILIES, get_family
from open_exaone.verify.judge import judge_answer

Drawn = dict[tuple[str, str], tuple[Problem, ...]]


def test_there_are_enough_families_of_each_sort() -> None:
    gym = [family for family in FAMILIES.values() if family.source == "reasoning-gym"]
    ours = [family for family in FAMILIES.values() if family.source == "open-exaone"]
    assert len(gym) >= 8
    assert len(ours) >= 5
    assert sum(family.has_thought for family in gym) >= 4
    assert sum(family.has_thought for family in ours) >= 4
    assert any(not family.has_thought for family in gym)
    assert any(not family.has_thought for family in ours)
    assert all(family.languages == ("en", "ko") for family in ours)


def test_the_gold_reply_is_judged_correct(drawn: Drawn) -> None:
    for problems in drawn.values():
        for problem in problems:
            verdict = judge_answer(problem.verifier, str(problem.reply), problem.answer, problem.metadata)
            assert verdict.correct, (problem.id, verdict)


def test_the_reply_to_another_question_is_judged_wrong(drawn: Drawn) -> None:
    for problems in drawn.values():
        for problem, other in pairwise(problems):
            if other.answer.casefold() != problem.answer.casefold():
                reply = str(other.reply)
                assert not judge_answer(problem.verifier, reply, problem.answer, problem.metadata).correct, problem.id


def test_a_problem_says_what_it_is(drawn: Drawn) -> None:
    for (name, language), problems in drawn.items():
        for problem in problems:
            assert (problem.task, problem.language) == (name, language)
            assert (problem.thought is not None) == get_family(name).has_thought
            assert str(problem.reply).count("\\boxed{") == 1
            json.dumps(dict(problem.metadata))  # it is saved with the samples
        assert len({problem.id for problem in problems}) == len(problems)


def test_questions_and_thoughts_are_short_enough_for_a_small_model(drawn: Drawn) -> None:
    for key, problems in drawn.items():
        assert sum(len(problem.question) for problem in problems) / len(problems) <= 120, key
        thoughts = [problem.thought for problem in problems if problem.thought]
        if thoughts:
            assert 14 <= sum(map(len, thoughts)) / len(thoughts) <= 90, key
            assert max(map(len, thoughts)) <= 220, key


def test_no_answer_can_be_guessed_too_often(drawn: Drawn) -> None:
    for key, problems in drawn.items():
        answers = [problem.answer for problem in problems]
        assert max(answers.count(answer) for answer in set(answers)) <= 0.6 * len(answers), (
            key
        )  # letter_counting's 1 comes nearest


def test_korean_problems_are_korean_and_english_ones_are_not(drawn: Drawn) -> None:
    for (_, language), problems in drawn.items():
        for problem in problems:
            for text in (problem.question, problem.reply):
                assert bool(re.search("[가-힣]", str(text))) == (language == "ko"), problem.id
            if language == "en" and problem.thought:
                assert problem.thought.isascii(), problem.id


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'chess': unknown. The families are basic_arithmetic, chain_sum"):
        get_family("chess")


def test_a_seed_gives_the_same_problem_in_every_process() -> None:
    code = (
        "from open_exaone.tasks.registry import FAMILIES\n"
        "for family in FAMILIES.values():\n"
        "    for language in family.languages:\n"
        "        for seed in (7, 10_000_007): print(ascii(family.draw(seed, language)))\n"
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
