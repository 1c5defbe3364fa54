"""Counting sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.verify.constraints.sentences import count_sentences

ENGLISH = [
    ("Hello", 1),
    ("Hello. World. ", 2),
    ("What?! Yes. No!", 3),
    ("no capital. still two", 2),
    ("Not.split", 1),
    ("Mr. Smith met Mrs. Jones at the St. James hotel. They left.", 2),
    ("J. R. Smith came. He sat.", 2),
    ("She lives in the U.S. Army base. The base is old.", 2),
    ("She lives in the U.S. The base is old.", 2),
    ("We met at 5 p.m. Later we ate, drank, etc. Then we slept.", 3),
    ("It costs 3.50 dollars, e.g. for tea. Fine.", 2),
    ("Wait... what? Well... Yes.", 3),
    ('He said "Go." Then he left. (Really?) Yes.', 4),
    ('"All in one quotation."', 1),
    ("**Bold.** Plain.", 2),
    ("Write soon. P.S. Don't forget. P.P.S. Bring milk.", 5),  # P.S. is no abbreviation that Punkt knows
    ("A. Introduction\nB. Methods\nC. Results", 4),
    ("Plan:\n**A. Introduction** comes first.", 2),
    ("A. B. Smith and J. Doe met.", 1),
    ("I met J. Smith and Mary A. Jones there.", 1),
    ("a. first\nb. second", 1),
    ('{"text": "It is done."}', 1),
    ('{\n  "text": "It is done."\n}', 2),  # Punkt gives back the quotation mark, but not what follows its white space
    ('He left. ("It is done.")', 2),
    ("1. First item\n2. Second item", 3),  # Punkt takes a list's numbers for sentences
    ("A line\nand another\n\nand one more", 1),  # nor do line breaks end one
]
KOREAN = [
    ("안녕하세요. 저는 학생입니다.", 2),
    ("안녕하세요.저는 학생입니다!그래요?네.", 4),
    ("원주율은 3.14입니다. 끝.", 2),
    ("“밥 먹었니?”라고 물었다.", 1),
    ("「안녕.」 하고 말했다. 그는 웃었다.", 2),
    ("“밥 먹었니?” 그가 물었다.", 2),
    ("(정말입니다.) 네.", 2),
    ("그는 갔다。그녀도 갔다。", 2),
    ("1. 첫째입니다.\n2. 둘째입니다.", 2),  # a list's numbers are no Korean sentences
    ("오늘은 2025. 11. 22. 토요일입니다.", 1),
    ("**1.** 하나\n- 2. 둘입니다.\n***", 1),
    ("정말이야!!! 와…", 2),
    ("**중요합니다.** 기억하세요.", 2),
]


@pytest.mark.parametrize(("text", "count"), ENGLISH + KOREAN)
def test_sentences_are_counted(text: str, count: int) -> None:
    assert count_sentences(text) == count


@given(st.lists(st.sampled_from(["It rains.", "Who is there?", "Go away!", "He met Dr. Lee in July."]), min_size=1))
def test_plain_sentences_add_up(sentences: list[str]) -> None:
    assert count_sentences(" ".join(sentences)) == count_sentences("\n\n".join(sentences)) == len(sentences)


@given(st.lists(st.sampled_from(["비가 옵니다.", "누구세요?", "저리 가요!", "값은 3.5원입니다."]), min_size=1))
def test_korean_sentences_add_up_without_spaces_too(sentences: list[str]) -> None:
    assert count_sentences(" ".join(sentences)) == count_sentences("".join(sentences)) == len(sentences)
