"""Texts with hidden codes: what the nano needle tests ask is among what they teach."""

import pytest

from open_exaone.tasks.benchmarks.needle import make_needles
from open_exaone.tasks.benchmarks.needle_words import WORDS
from open_exaone.tasks.registry import get_family

NUM_DRAWN = 800
CHARS_PER_TOKEN = {"en": 4.4, "ko": 3.5}  # as the suite nano-needle counts


@pytest.fixture(scope="module", params=["en", "ko"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def questions(language: str, *, harder: bool) -> list[tuple[str, str]]:
    """Of texts of which one code is asked for, the text with its question, and the fact."""
    drawn = [get_family("hidden_codes").draw(seed, language, harder).problem for seed in range(NUM_DRAWN)]
    names = WORDS[language].names
    asked = [(one, [name for name in names if WORDS[language].ask_one(name) in one.question]) for one in drawn]
    return [(one.question, WORDS[language].fact(names[0], one.answer)) for one, names in asked if len(names) == 1]


def test_harder_texts_are_as_long_as_the_longest_needle_test(language: str) -> None:
    source = f"1000:kinds=single,depths=5,repeats=4,prompt=plain,chars_per_token={CHARS_PER_TOKEN[language]}"
    longest = max(len(str(row["prompt"])) for row in make_needles("needle", language, source))
    lengths = sorted(len(question) for question, _ in questions(language, harder=True))
    assert lengths[-1] > 0.97 * longest  # their codes are more tokens for a character than filler
    assert sum(length > 0.9 * longest for length in lengths) > 0.12 * len(lengths)


@pytest.mark.parametrize("harder", [False, True])
def test_a_code_that_is_asked_for_often_opens_or_closes_the_text(language: str, harder: bool) -> None:
    found = [(question.partition("\n\n")[0], fact) for question, fact in questions(language, harder=harder)]
    num_opening = sum(text.startswith(fact) for text, fact in found)
    num_closing = sum(text.endswith(fact) for text, fact in found)
    assert min(num_opening, num_closing) > 0.08 * len(found)
    if harder:  # and most stand elsewhere
        assert num_opening + num_closing < 0.4 * len(found)
