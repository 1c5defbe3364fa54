"""Korean particles after every word that our families use, checked by hand."""

import re

import pytest

from open_exaone.tasks.families import grid_walk, height_order, shopping
from open_exaone.tasks.family import Drawn
from open_exaone.tasks.korean import attach

Draws = dict[tuple[str, str, bool], tuple[Drawn, ...]]

TOPICS = (
    *(
        "민수는",
        "유나는",
        "하늘은",
        "서준은",
        "지우는",
        "도윤은",
        "예준은",
        "시우는",
        "하준은",
        "지호는",
        "준서는",
        "수아는",
    ),
    *(
        "지아는",
        "서연은",
        "민지는",
        "은우는",
        "다은은",
        "채원은",
        "소율은",
        "태오는",
        "연우는",
        "나은은",
        "현우는",
        "보라는",
    ),
    *("연필은", "컵은", "사과는", "책은", "달걀은", "자루는", "개는", "권은"),
)
OBJECTS = (
    *("0을", "1을", "2를", "3을", "4를", "5를", "6을", "7을", "8을", "9를", "10을", "12를", "17을", "20을"),
    *("100을", "105를", "150을", "200을", "1000을", "10000을"),
)


@pytest.mark.parametrize("word", TOPICS)
def test_topic(word: str) -> None:
    assert attach(word[:-1], "은/는") == word


@pytest.mark.parametrize("number", OBJECTS)
def test_object_after_a_number_follows_how_it_is_read(number: str) -> None:
    assert attach(int(number[:-1]), "을/를") == number


@pytest.mark.parametrize(
    "word", ["2로", "3으로", "6으로", "7로", "8로", "10으로", "왼쪽으로", "오른쪽으로", "위로", "아래로", "연필로"]
)
def test_direction_knows_that_rieul_takes_ro(word: str) -> None:
    assert attach(word.removesuffix("로").removesuffix("으"), "으로/로") == word


def test_every_word_that_takes_a_topic_particle_is_in_the_table() -> None:
    counters = set(shopping.COUNTERS.values())
    words = {*height_order.NAMES["ko"], *shopping.NAMES["ko"], *shopping.THINGS["ko"], *counters}
    assert words == {word[:-1] for word in TOPICS}
    assert set(grid_walk.MOVES["ko"]) == {"왼쪽", "오른쪽", "위", "아래"}


def test_no_number_and_no_noun_is_followed_by_the_wrong_particle(draws: Draws) -> None:
    nouns = "|".join(word[:-1] for word in TOPICS)
    pairs = {form: pair for pair in ("은/는", "을/를", "이/가", "과/와", "으로/로") for form in pair.split("/")}
    followed = re.compile(rf"(\d+|{nouns})({'|'.join(pairs)})(?= )")
    questions = [each.problem.question for key, drawn in draws.items() if key[1] == "ko" for each in drawn]
    found = [match for question in questions for match in followed.findall(question)]
    assert len(found) > 1_000
    for word, particle in found:
        assert attach(word, pairs[particle]) == word + particle
