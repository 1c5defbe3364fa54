"""Thoughts in sentences: the steps stay, the sentences differ, and the language is the one that was asked for."""

import random
from statistics import fmean

import pytest

from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError
from open_exaone.tasks.generated import GeneratedSource, draw_problems
from open_exaone.tasks.sentences import SENTENCES, in_sentences
from open_exaone.tasks.thoughts import Step, written
from open_exaone.verify.language import is_consistent

STEPS = (Step("47+38=", "85"), Step("85-5=", "80"))


def problems(**values):
    source = validate(GeneratedSource, {"families": "worked", "num_problems": 600, **values}, "source")
    return draw_problems(source, 0, set(), "sft")


@pytest.mark.parametrize("language", list(SENTENCES))
def test_the_steps_stand_in_every_thought_unchanged(language):
    thoughts = [in_sentences(random.Random(seed), STEPS, language) for seed in range(200)]
    assert all(written(STEPS) in thought for thought in thoughts)
    assert all(is_consistent(thought, language) for thought in thoughts)
    assert len({len(thought.splitlines()) for thought in thoughts}) == 4  # 2 to 5 lines: brevity can be learned
    assert thoughts == [in_sentences(random.Random(seed), STEPS, language) for seed in range(200)]


def test_only_the_thoughts_differ_from_those_in_steps():
    steps, sentences = problems(), problems(thoughts="sentences")
    assert [(p.id, p.question, p.answer, p.reply) for p in steps] == [
        (p.id, p.question, p.answer, p.reply) for p in sentences
    ]
    assert all(str(one.thought) in str(other.thought) for one, other in zip(steps, sentences, strict=True))
    assert 1.3 < fmean(len(p.thought) for p in sentences) / fmean(len(p.thought) for p in steps) < 4


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_so_many_thoughts_are_in_the_other_language(share):
    drawn = problems(thoughts="sentences", other_language_share=share)
    other = [not is_consistent(str(problem.thought), problem.language) for problem in drawn]
    assert fmean(other) == pytest.approx(share, abs=0.03)  # a person called Una counts as Spanish


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"other_language_share": 0.1}, "other_language_share: has no effect on thoughts"),
        ({"families": None, "problems": "x.jsonl", "thoughts": "sentences"}, "thoughts: is for families"),
        ({"thoughts": "sentences", "mode": "non_reasoning"}, 'thoughts: has no effect with mode = "non_reasoning"'),
        ({"families": "unworked", "thoughts": "sentences"}, "thoughts: none of these families has a worked thought"),
    ],
)
def test_settings_without_effect_are_refused(values, why):
    with pytest.raises(ConfigError, match=why):
        problems(**values)
