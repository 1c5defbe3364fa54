"""Single steps, many to a problem: what the steps of worked thoughts are made of, for pretraining."""

import random

from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.thoughts import Step, work_out

NUM_STEPS = 8  # of a problem of sums,
NUM_WORDS = 3  # and of one of made-up words
SPELLED_SHARE = 0.2
_SYLLABLES = ("st", "r", "l", "n", "t", "ch", "b", "p", "s", "m", "c", "d", "f", "g", "h", "k", "w"), "aeiouy"


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """Sums and products as the worked families have them, harder with numbers of up to 300; or words to be spelled."""
    is_spelled = rng.random() < SPELLED_SHARE
    words = [_word(rng) for _ in range(NUM_WORDS)]
    if is_spelled:
        steps = tuple(Step(f"{word}:", ",".join(word)) for word in words)
        asked = ", ".join(words)
    else:
        steps = tuple(_step(rng, 300 if harder else 100) for _ in range(NUM_STEPS))
        asked = ", ".join(step.work.rstrip("=") for step in steps)
    if language == "ko":
        question = f"{'철자를 쓰세요' if is_spelled else '차례로 계산하세요'}: {asked}"
    else:
        question = f"{'Spell these' if is_spelled else 'Work these out'}: {asked}"
    worked = "".join(f"{step}\n" for step in steps)
    return Draft(question, steps[-1].result, "마지막은" if language == "ko" else "The last", steps, worked)


def _step(rng: random.Random, most: int) -> Step:
    operator = rng.choice("++--*/")
    if operator in "+-":
        return work_out(rng.randint(-most // 4, most), operator, rng.randint(2, 9 if rng.random() < 0.6 else most))
    factor, other = rng.randint(2, 9 if rng.random() < 0.6 else most // 4), rng.randint(2, most // 4)
    return work_out(factor, "*", other) if operator == "*" else work_out(factor * other, "/", factor)


def _word(rng: random.Random) -> str:
    """A pronounceable random word: it shares its syllables, and so its tokens, with real ones."""
    consonants, vowels = _SYLLABLES
    word = "".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(rng.randint(1, 2)))
    return word + rng.choice(consonants)


FAMILY = our_family("drill", compose, "drill")
