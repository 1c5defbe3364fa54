"""Each of the 25 instruction types: texts that hold and texts that fail, with the boundary numbers."""

from typing import Any

import pytest

from open_exaone.verify.constraints.judge import check
from open_exaone.verify.constraints.row import INSTRUCTIONS

Row = tuple[str, dict[str, Any], list[str], list[str]]  # an instruction, its arguments, texts that hold, that fail

CASES: list[Row] = [
    (
        "keywords:existence",
        {"keywords": ["river", "C++"]},
        ["A river, in C++.", "RIVERS and c++"],
        ["A river.", "C++", "A river in CCC"],
    ),
    (
        "keywords:frequency",
        {"keyword": " sun ", "frequency": 2, "relation": "at least"},
        ["sun Sun", "sunsun", "The sun; a sunny day; sun"],
        ["sun", "moon"],
    ),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "less than"}, ["sun", "moon"], ["sun, sun"]),
    (
        "keywords:forbidden_words",
        {"forbidden_words": ["cat", "a.b"]},
        ["concatenate", "cats", "axb"],
        ["The Cat.", "(cat)", "cat", "see a.b there"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "E", "let_frequency": 3, "let_relation": "at least"},
        ["eEe", "three e"],
        ["ee", "x"],
    ),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "less than"}, ["#"], ["##"]),
    (
        "language:response_language",
        {"language": "de"},
        ["Der Zug nach Berlin fährt heute leider erst um neun Uhr.", "1234 5678"],
        ["The train to Berlin will not leave before nine today."],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "at least"},
        ["One. Two! Three?", "One is. Two is. Three is"],
        ["One. Two.", "Mr. Lee met Dr. Kim at 3.15 p.m. today. They left."],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "less than"},
        ["One. Two."],
        ["One. Two. Three."],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "***\na***b", "a***b***", "a *** b\n\nc"],
        ["a", "a***b***c", "a\n\nb", "a******b"],
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 3}, ["a***b***c"], ["a******b", "a***\n***b***c"]),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        ["one two three", "don't stop", "1-2-3"],
        ["one two", "one - two !"],
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["a b"], ["a b c"]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Weekend"},
        ["a\n\nweekend b", "a\n\n'Weekend's b", 'a\n\n"weekend" b', "a\n\nweekend!\n\n"],
        [
            "a\n\nb",
            "a\n\nweekends",
            "weekend",
            "a\n\nweekend\n\nc",
            "weekend\n\na",
            "a\n\n \n\nweekend",
            "a\n\n**weekend**",
        ],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[a] [b]", "[a][]", "[x [y] [z]]"],
        ["[a]", "[a\nb] [c]", "][", "[[[ ]"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["Bye\nP.S. Hi", "p. s. x"], ["PS: Hi", "P.S"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["P.P.S. x", "p. p. s"], ["P.S. x", "PPS"]),
    ("detectable_content:postscript", {"postscript_marker": "Note:"}, ["note: x"], ["Note x"]),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "- a\n  * b", "-a\n\n\n\t* b\n** c", "*\na\n* b", "- a\n- b\n• c"],
        ["* a", "* a\n- b\n* c", "1. a\n2. b", "** a\n** b", "x * a\nx - b"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is yes.", "Well: My answer is maybe. So be it."],
        ["yes", "my answer is no.", "My answer is no"],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* *b*", "**a** and **b**", "*a*b*c*"],
        ["*a*", "* a\n* b", "* * * *", "****", "plain"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": " Section ", "num_sections": 2},
        ["Section 1\na\nSection 2\nb", "Section1 Section2", "see Section 12 and Section 3"],
        ["Section 1\na", "section 1 section 2", "Section one Section two", "Section  1 Section  2"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": [1, 2]}', '```json\n{"a": 1}\n```', "```\n[]\n```", '"text"', "1" * 5000, "NaN"],
        ["{'a': 1}", 'Here: {"a": 1}', '{"a": 1} done', "```yaml\na: 1\n```", "[" * 100_000, ""],
    ),
    (
        "detectable_format:title",
        {},
        ["<<Joy>>\nIt is", "a << b > c >> d", "<<<x>>>"],
        ["<Joy>", "<<Joy\n>>", "<<>>", "<<>>>", "<< >>", ">>Joy<<"],
    ),
    (
        "combination:two_responses",
        {},
        ["a\n******\nb", "******a******b******"],
        ["a", "a******a", "a******b******c", "a***b", "a******  ******b", "******a"],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a poem. "},
        ["Write a poem.", "  write a POEM.\nRoses"],
        ["Here: Write a poem.", "Write a  poem."],
    ),
    (
        "startend:end_checker",
        {"end_phrase": " Is that all? "},
        ["Yes. is that ALL?", 'Yes. Is that all?"\n'],
        ["Is that all? Yes", "Is that all"],
    ),
    ("startend:quotation", {}, ['"a"', '\n"a" and "b" ', '""'], ['"a', 'a"', '"', "“a”", "'a'"]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 3, "capital_relation": "at least"},
        ["A B C", "I'm in the US of A", "DON'T GO", "AND/OR, A-B: X1!", "I CANNOT"],
        ["A B", "AI-BASED WORLD", "Ab Cd Ef", "GO, x"],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        ["One A", "x"],
        ["A B"],
    ),
    (
        "change_case:english_capital",
        {},
        ["WHAT A WONDERFUL MORNING IT IS TO READ THE NEWS AND WALK IN THE PARK WITH MY FRIENDS."],
        ["What A WONDERFUL MORNING IT IS TO READ THE NEWS.", "1234"],
    ),
    (
        "change_case:english_lowercase",
        {},
        ["what a wonderful morning it is to read the news."],
        ["What a wonderful morning it is.", "heute ist leider kein schöner morgen für einen spaziergang.", "1234"],
    ),
    ("punctuation:no_comma", {}, ["no comma; none", "a，b"], ["a, b", ","]),
]


@pytest.mark.parametrize(("name", "kwargs", "holding", "failing"), CASES)
def test_texts_that_hold_and_texts_that_fail(
    name: str, kwargs: dict[str, Any], holding: list[str], failing: list[str]
) -> None:
    assert [text for text in holding if not check(text, name, kwargs)] == []
    assert [text for text in failing if check(text, name, kwargs)] == []


def test_every_type_is_in_the_table() -> None:
    assert len(INSTRUCTIONS) == 25
    assert {name for name, *_ in CASES} == set(INSTRUCTIONS)


@pytest.mark.parametrize(("name", "kwargs"), [(name, kwargs) for name, kwargs, *_ in CASES])
def test_an_empty_answer_follows_nothing(name: str, kwargs: dict[str, Any]) -> None:
    assert not check("", name, kwargs) and not check(" \n\t", name, kwargs)
