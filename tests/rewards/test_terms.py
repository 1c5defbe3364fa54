"""Reward terms: their formulas, their bounds, and what a well-formed reply is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.records import Reply, ToolCall
from open_exaone.rewards.terms import (
    concise_term,
    format_term,
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
    ],
)
def test_numbers_out_of_range_are_refused_by_name(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
