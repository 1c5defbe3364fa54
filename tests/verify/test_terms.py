"""Reward terms: their formulas, their bounds, and what a well-formed reply is."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.records import Reply, ToolCall, VerdictStatus
from open_exaone.verify.settings import JudgeSettings
from open_exaone.verify.terms import (
    concise_term,
    format_term,
    group_concise,
    judge_length,
    language_term,
    overlong_term,
)

GOOD = Reply("2 + 3 = 5", r"The total is \boxed{5}.")


def test_a_whole_reply_is_well_formed_with_a_thought_or_without_one() -> None:
    assert format_term(GOOD, thinking=True) == 1.0
    assert format_term(Reply("", r"합계는 \boxed{5}입니다."), thinking=False) == 1.0


@pytest.mark.parametrize(
    ("reply", "thinking"),
    [
        (Reply(r"2 + 3 = 5 \boxed{5}", "", finished=False), True),
        (Reply("", GOOD.answer), True),
        (Reply(" \n", GOOD.answer), True),
        (Reply("a thought that nobody asked for", GOOD.answer), False),
        (Reply(GOOD.thought, ""), True),
        (Reply(GOOD.thought, "The total is 5."), True),
        (Reply(GOOD.thought, r"The total is \boxed{5"), True),
        (Reply(GOOD.thought, r"The total is \boxed{ }."), True),
        (Reply(GOOD.thought, r"\boxed{5} or \boxed{6}"), True),
        (Reply(GOOD.thought, r"</think> \boxed{5}"), True),
        (Reply(GOOD.thought, r"<thought>again</thought> \boxed{5}"), True),
        (Reply("<think>" + GOOD.thought, GOOD.answer), True),
        (Reply(GOOD.thought, GOOD.answer + "[|endofturn|]"), True),
        (Reply(GOOD.thought, GOOD.answer + "<tool_call>{"), True),
        (Reply(GOOD.thought, GOOD.answer, (ToolCall("{}"),)), True),
    ],
)
def test_every_fault_of_the_format_costs_the_whole_term(reply: Reply, thinking: bool) -> None:
    assert format_term(reply, thinking) == 0.0


def test_the_language_of_thought_and_answer_counts() -> None:
    english, korean = "We add the two numbers first.", "먼저 두 수를 더합니다."
    assert language_term(Reply(korean, korean), "ko") == 1.0
    assert language_term(Reply(english, korean), "ko") == 0.0
    assert language_term(Reply(korean, english), "ko") == 0.0
    assert language_term(Reply("17-9=8", r"\boxed{8}"), "ko") == 1.0


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(1, 1000))
def test_the_shorter_correct_reply_earns_no_less_and_a_wrong_one_nothing(one: int, other: int, most: int) -> None:
    short, long = sorted((one, other))
    assert 0.0 <= concise_term(long, most, True) <= concise_term(short, most, True) <= 1.0
    assert concise_term(short, most, False) == 0.0


def test_conciseness_follows_its_formula() -> None:
    assert [concise_term(n, 100, True) for n in (0, 25, 100, 150)] == [1.0, 0.75, 0.0, 0.0]


def test_the_group_formula_is_that_of_kimi() -> None:
    assert group_concise([10, 20, 30], [True, True, True]) == [0.5, 0.0, -0.5]
    assert group_concise([10, 20, 30], [False, True, False]) == [0.0, 0.0, -0.5]
    assert group_concise([10, 10], [True, False]) == [0.0, 0.0]
    assert group_concise([], []) == []


@given(st.lists(st.tuples(st.integers(1, 1000), st.booleans()), max_size=8))
def test_in_a_group_a_correct_reply_is_never_behind_a_longer_or_wrong_one(rows: list[tuple[int, bool]]) -> None:
    terms = group_concise([length for length, _ in rows], [right for _, right in rows])
    for (row, term), (other, other_term) in itertools.permutations(zip(rows, terms, strict=True), 2):
        assert -0.5 <= term <= 0.5
        if row[1] and row[0] <= other[0]:
            assert term >= other_term


def test_overlong_replies_are_punished_by_the_formula_of_dapo() -> None:
    # arXiv 2503.14476, 4.1: 16,384 tokens expected and 4,096 more as the buffer
    terms = {n: overlong_term(n, 20480, 4096) for n in (0, 16384, 16385, 18432, 20480, 30000)}
    assert terms == {0: 0.0, 16384: 0.0, 16385: -1 / 4096, 18432: -0.5, 20480: -1.0, 30000: -1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: concise_term(1, 0, True), "max_tokens = 0: must be at least 1"),
        (lambda: concise_term(-1, 5, True), "num_tokens = -1: must be at least 0"),
        (lambda: overlong_term(1, 10, 11), "buffer_tokens = 11: must lie in 1 to max_tokens = 10"),
        (lambda: overlong_term(1, 10, 0), "buffer_tokens = 0"),
        (lambda: group_concise([1, 2], [True]), "correct: must say of each of 2 replies"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("metadata", "status"),
    [
        ({"max_words": 4}, "correct"),
        ({"max_words": 3}, "wrong"),
        ({"min_words": 4}, "correct"),
        ({"min_words": 5}, "wrong"),
        ({"max_characters": 14}, "correct"),
        ({"max_characters": 13}, "wrong"),
        ({"min_characters": 14, "max_words": 4}, "correct"),
        ({"min_characters": 15, "max_words": 4}, "wrong"),
        ({"min_words": 0}, "correct"),
    ],
)
def test_words_and_characters_are_counted_in_korean_too(metadata: dict[str, int], status: str) -> None:
    verdict = judge_length(" 두 수를 더하면\n8입니다.\n", "", metadata, JudgeSettings())
    assert verdict.status == status


def test_the_verdict_on_length_names_the_count() -> None:
    verdict = judge_length("one two three", "", {"max_words": 2}, JudgeSettings())
    assert (verdict.status, verdict.why) == (VerdictStatus.WRONG, "The answer has 3 words, not at most 2.")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "at least one of min_words, max_words, min_characters, max_characters"),
        ({"max_words": "5"}, "metadata 'max_words': must be a whole number of at least 0, not '5'"),
        ({"min_characters": -1}, "metadata 'min_characters'"),
        ({"min_words": True}, "metadata 'min_words'"),
    ],
)
def test_broken_limits_are_refused_by_name(metadata: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge_length("text", "", metadata, JudgeSettings())
