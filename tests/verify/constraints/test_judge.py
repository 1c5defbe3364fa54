"""Verdicts on rows, and what no reply may do to them."""

import json
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.base.records import VerdictStatus
from open_exaone.verify.constraints.detect import is_language
from open_exaone.verify.constraints.judge import MAX_CHARS, check, follow, judge_constraints
from open_exaone.verify.constraints.row import INSTRUCTIONS
from open_exaone.verify.settings import JudgeSettings

ROW = {
    "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words", "startend:quotation"],
    "kwargs": [{}, {"num_words": 2, "relation": "at least"}, {}],
}
ARGUMENTS: dict[str, Any] = {
    "capital_frequency": 3,
    "capital_relation": "at least",
    "prompt_to_repeat": "a b",
    "num_placeholders": 2,
    "postscript_marker": "P.S.",
    "section_spliter": "장",
    "num_sections": 2,
    "num_bullets": 2,
    "num_highlights": 2,
    "keywords": ["a", "가"],
    "forbidden_words": ["a", "가"],
    "keyword": "가",
    "frequency": 2,
    "letter": "ㄱ",
    "let_frequency": 2,
    "let_relation": "at least",
    "language": "ko",
    "num_paragraphs": 2,
    "nth_paragraph": 2,
    "first_word": "가",
    "num_sentences": 2,
    "relation": "at least",
    "num_words": 2,
    "end_phrase": "가",
}
ALL = {
    "instruction_id_list": list(INSTRUCTIONS),
    "kwargs": [{key: ARGUMENTS[key] for key in readers} for _, readers in INSTRUCTIONS.values()],
}
PIECES = [
    "*",
    "**",
    "***",
    "-",
    " ",
    "\n",
    "\n\n",
    "[",
    "]",
    "<<",
    ">>",
    '"',
    "“",
    "”",
    ".",
    "가",
    "a",
    "장 1",
    "P.S.",
    ",",
]
TEXTS = st.text() | st.lists(st.sampled_from(PIECES)).map("".join)


def judge(answer: str, gold: str = "", **metadata: Any) -> tuple[VerdictStatus, str]:
    verdict = judge_constraints(answer, gold, metadata, JudgeSettings())
    assert verdict.extracted is None
    return verdict.status, verdict.why


def test_all_instructions_must_hold() -> None:
    assert judge('"one two"', **ROW) == (VerdictStatus.CORRECT, "The answer follows all 3 instructions.")
    assert judge("one two", **ROW) == (VerdictStatus.WRONG, "The answer does not follow startend:quotation.")
    assert judge(",", **ROW) == (
        VerdictStatus.WRONG,
        "The answer does not follow punctuation:no_comma, length_constraints:number_words and 1 more.",
    )
    assert judge(" ", **ROW) == (VerdictStatus.WRONG, "The answer is empty.")


def test_the_row_may_be_the_gold_answer() -> None:
    assert judge('"one two"', json.dumps({**ROW, "prompt": "Say it."}))[0] is VerdictStatus.CORRECT
    assert judge("one two", json.dumps(ROW))[0] is VerdictStatus.WRONG


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_absent_arguments_may_be_null_and_numbers_floats(nothing: float | None) -> None:
    every_key = {key: nothing for _, readers in INSTRUCTIONS.values() for key in readers}
    tables = [{**every_key, **table} for table in ROW["kwargs"]]  # as on the hub
    tables[1]["num_words"] = 2.0
    assert judge('"one two"', **{**ROW, "kwargs": tables})[0] is VerdictStatus.CORRECT
    assert judge('"one two"', **{**ROW, "kwargs": [None, tables[1], None]})[0] is VerdictStatus.CORRECT


def test_loose_forgives_an_introduction_a_closing_line_and_asterisks() -> None:
    for answer in ("Sure, here:\n*one two*", "one two\nSo, done.", "Sure, here:\none two\nSo, done.", "one two"):
        row = {"instruction_id_list": ["combination:repeat_prompt", "punctuation:no_comma"]}
        row |= {"kwargs": [{"prompt_to_repeat": "one two"}, {}]}
        assert follow(answer, row, "loose") == (True, True)
        assert judge(answer, **row, mode="loose")[0] is VerdictStatus.CORRECT
        assert (judge(answer, **row)[0] is VerdictStatus.CORRECT) == (answer == "one two")
    assert follow("Well, so\nand, so\nthen, so", ROW, "loose")[0] is False


@settings(deadline=None)
@given(TEXTS)
def test_no_text_raises_and_loose_holds_where_strict_holds(answer: str) -> None:
    strict, loose = follow(answer, ALL), follow(answer, ALL, "loose")
    assert all(later or not now for now, later in zip(strict, loose, strict=True))
    assert strict == tuple(check(answer, name, table) for name, table in zip(*ALL.values(), strict=True))


@settings(deadline=None)
@given(TEXTS, st.permutations(range(len(INSTRUCTIONS))))
def test_neither_the_order_of_instructions_nor_of_keys_matters(answer: str, order: list[int]) -> None:
    names, tables = ALL.values()
    shuffled = {
        "kwargs": [dict(reversed(tables[index].items())) for index in order],
        "instruction_id_list": [names[index] for index in order],
    }
    held = follow(answer, ALL)
    assert follow(answer, shuffled) == tuple(held[index] for index in order)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"instruction_id_list": None}, r"instruction_id_list: must be a list"),
        ({"instruction_id_list": []}, r"instruction_id_list: must be a list"),
        ({"instruction_id_list": "punctuation:no_comma"}, r"instruction_id_list: must be a list"),
        ({"kwargs": [{}, {}]}, r"kwargs: must be a list of 3 tables"),
        ({"kwargs": None}, r"kwargs: must be a list of 3 tables"),
        ({"kwargs": [{}, 3, {}]}, r"kwargs\[1\]: must be a table"),
        ({"kwargs": [{}, {}, {}]}, r"kwargs\[1\].num_words: length_constraints:number_words needs it"),
        ({"kwargs": [{"n": 1}, {}, {}]}, r"kwargs\[0\].n: punctuation:no_comma has no such argument; it has none"),
        ({"kwargs": [{}, {"num_words": -1, "relation": "at least"}, {}]}, r"kwargs\[1\].num_words: .*whole number"),
        ({"kwargs": [{}, {"num_words": True, "relation": "at least"}, {}]}, r"kwargs\[1\].num_words: .*whole number"),
        ({"kwargs": [{}, {"num_words": 1.5, "relation": "at least"}, {}]}, r"kwargs\[1\].num_words: .*not 1.5"),
        ({"kwargs": [{}, {"num_words": 1, "relation": "at most"}, {}]}, r'relation: must be "at least" or "less than"'),
        ({"mode": "lax"}, r"mode: 'lax' is unknown; it may be strict or loose"),
        (
            {"instruction_id_list": ["a:b"], "kwargs": [{}]},
            r"instruction_id_list\[0\]: 'a:b' is unknown; the ids are change_case:capital_word_frequency, .*quotation",
        ),
    ],
)
def test_a_broken_row_is_refused_by_field_whatever_the_answer(change: dict[str, Any], error: str) -> None:
    for answer in ('"one two"', ""):
        with pytest.raises(ValueError, match=error):
            judge(answer, **{**ROW, **change})


@pytest.mark.parametrize(
    ("name", "kwargs", "error"),
    [
        ("language:response_language", {"language": "xx"}, r"kwargs.language: must be one of af, ar, .*, not 'xx'"),
        ("keywords:letter_frequency", {**ARGUMENTS, "letter": "ab"}, r"kwargs.letter: must be one letter, not 'ab'"),
        ("keywords:existence", {"keywords": "word"}, r"kwargs.keywords: must be a list of words"),
        ("keywords:existence", {"keywords": [""]}, r"kwargs.keywords: must be a text"),
        ("length_constraints:nth_paragraph_first_word", {**ARGUMENTS, "nth_paragraph": 3}, r"nth_paragraph: 3 exceeds"),
        ("length_constraints:nth_paragraph_first_word", {**ARGUMENTS, "nth_paragraph": 0}, r"nth_paragraph: must be"),
    ],
)
def test_a_broken_argument_is_refused(name: str, kwargs: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        check("text", name, {key: value for key, value in kwargs.items() if key in INSTRUCTIONS[name][1]})


@pytest.mark.parametrize("gold", ["", "3", "[]", "{", "[" * 100_000])
def test_a_gold_answer_that_is_no_row_is_refused(gold: str) -> None:
    with pytest.raises(ValueError, match="gold: must be"):
        judge("text", gold)


HOSTILE = (
    "*", "* ", "\n", "ab\n", "[", "<", "《", ".", "가.", "가. ", "A. ", "-", "'", "a'", '"', "1", "1.", '{"a":', "a@",
    "http://", " ", "\ud800", "\0", " \n*", "각", "\u1100\u1161", "P. ", "제1", "제목", "가이나이나", "e\u0301",
)  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("opening", ["x", "가" * 20_000])  # what follows is then judged as Korean
def test_hostile_answers_cost_linear_time(unit: str, opening: str) -> None:
    check("x", "language:response_language", {"language": "ko"})  # loads the detector before the clock starts
    num_chars = MAX_CHARS // 4  # a quadratic pattern takes a minute
    answer = (opening + unit * (num_chars // len(unit)))[: num_chars - 1] + "x"
    for name, table in zip(*ALL.values(), strict=True):
        start = time.process_time()
        follow(answer, {"instruction_id_list": [name], "kwargs": [table]}, "loose")
        assert time.process_time() - start < 4.0, name


@pytest.mark.parametrize("answer", ["word " * 2_000_000, "[" * 10_000_000, "가.\n" * 3_000_000])
def test_an_answer_that_no_model_can_write_follows_nothing_at_once(answer: str) -> None:
    start = time.process_time()
    assert judge(answer, **ALL) == (VerdictStatus.WRONG, "The answer is longer than 500,000 characters.")
    assert time.process_time() - start < 1.0


def test_language_detection_repeats_itself_in_threads() -> None:
    texts = ["the cat", "le chat est là", "no", "AI 모델", "ok 네", "una casa", "det er", "to be or"]
    expected = [is_language(text, "en") for text in texts]
    found: list[list[bool]] = []
    threads = [
        threading.Thread(target=lambda: found.append([is_language(text, "en") for text in texts])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_language_detection_repeats_itself() -> None:
    word = "hotel taxi"  # unseeded, detection wavers on it
    assert len({tuple(is_language(word, code) for code in ("ca", "cs", "so")) for _ in range(40)}) == 1


def test_language_detection_leaves_the_library_as_it_was() -> None:
    from langdetect import DetectorFactory

    is_language("The seed is ours alone.", "en")
    assert DetectorFactory.seed is None


@pytest.mark.parametrize("tail", ["가나다라 " * 50_000, "Погода сегодня очень хорошая. " * 20_000])
def test_language_is_that_of_the_first_part_of_a_long_answer(tail: str) -> None:
    english = "The weather in Seoul is very nice today, and we walked along the river for hours. " * 250
    assert is_language(english, "en") and is_language(english + tail, "en")
