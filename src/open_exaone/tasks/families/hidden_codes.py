"""The codes of some places, hidden in a text: from which a longer context is learned, in the needle tests' words."""

import random

from open_exaone.tasks.benchmarks.needle_words import WORDS, Words
from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.thoughts import Step

NUM_SENTENCES, NUM_CODES = (0, 6), (2, 4)  # of filler, and how many codes stand among it
# Of harder ones. With two sentences less for each code that is asked for, text and reply fill at most 1,024 tokens of
# the nano tokenizer, to which a Korean sentence is two thirds of an English one.
MORE_SENTENCES, MORE_CODES = {"en": (7, 85), "ko": (7, 131)}, (5, 8)
ONE_ASKED_SHARE = 0.25  # how often one code is asked for, as the tests ask; otherwise all, from which more is learned
AT_AN_END_SHARE = 0.25  # how often a code that is asked for opens or closes the text: chance does that in few long ones

Fact = tuple[str, str]  # name, number


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """Up to 6 sentences of filler with two to four codes of five digits, harder up to 129 with five to eight.

    A harder text has the larger of two drawn numbers of sentences. The reply quotes each fact before it gives the
    answer.
    """
    words = WORDS[language]
    names = rng.sample(words.names, rng.randint(*(MORE_CODES if harder else NUM_CODES)))
    facts = [(name, str(rng.randrange(10_000, 100_000))) for name in names]
    asked = [rng.choice(facts)] if rng.random() < ONE_ASKED_SHARE else rng.sample(facts, len(facts))
    text = _text(rng, words, facts, rng.choice(asked), _num_sentences(rng, language, len(asked), harder))
    question = " ".join(words.ask_one(name) for name, _ in asked)
    reply = "".join(f"{words.fact(*fact)} " for fact in asked)
    name, number = asked[-1]
    subject = f"{name}의 암호는" if language == "ko" else f"The code of the {name}"
    in_order = [*(fact for fact in facts if fact != asked[-1]), asked[-1]]
    steps = tuple(Step(f"{place}:", code) for place, code in in_order)
    return Draft(f"{text}\n\n{question}", number, subject, steps, reply)


def _num_sentences(rng: random.Random, language: str, num_asked: int, harder: bool) -> int:
    if not harder:
        return rng.randint(*NUM_SENTENCES)
    least, most = MORE_SENTENCES[language]
    return max(rng.randint(least, most - 2 * num_asked) for _ in range(2))


def _text(rng: random.Random, words: Words, facts: list[Fact], at_an_end: Fact, num_sentences: int) -> str:
    """The facts anywhere among filler; `at_an_end` in some texts before or behind all of it."""
    sentences = [words.sentence(rng) for _ in range(num_sentences)]
    is_at_an_end = rng.random() < AT_AN_END_SHARE
    for fact in facts:
        if not (is_at_an_end and fact == at_an_end):
            sentences.insert(rng.randrange(len(sentences) + 1), words.fact(*fact))
    if is_at_an_end:
        sentences.insert(rng.choice((0, len(sentences))), words.fact(*at_an_end))
    return " ".join(sentences)


FAMILY = our_family("hidden_codes", compose, "long")
