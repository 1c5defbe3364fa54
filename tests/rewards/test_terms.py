"""Reward terms: their formulas, their bounds, and what a well-formed reply is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.records import Reply, ToolCall
from open_exaone.learn.advantage import group_relative
from open_exaone.rewards.terms import (
    answer_rules_term,
    concise_group_terms,
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


@given(st.lists(st.integers(1, 3000), max_size=12))
def test_beside_its_siblings_a_shorter_correct_reply_earns_no_less(lengths: list[int]) -> None:
    values = concise_group_terms(lengths)
    assert len(values) == len(lengths) and all(0.0 <= value <= 1.0 for value in values)
    by_length = sorted(zip(lengths, values, strict=True))
    assert [value for _, value in by_length] == sorted(values, reverse=True)
    if lengths:
        assert by_length[0][1] == 1.0
        if by_length[0][0] * 2 <= by_length[-1][0]:
            assert by_length[-1][1] == 0.0


@given(st.lists(st.integers(100, 2000), min_size=2, max_size=16), st.integers(0, 15))
def test_a_token_more_costs_little_even_where_a_group_is_divided_by_its_deviation(lengths: list[int], place: int):
    """Of correct replies, which differ in nothing else."""

    def advantages(some: list[int]) -> torch.Tensor:
        values_PG = torch.tensor([concise_group_terms(some)], dtype=torch.float64)
        return group_relative(values_PG, divide_by_std=True)[0]

    longer = [length + (number == place % len(lengths)) for number, length in enumerate(lengths)]
    sides = [max(some) - min(some) >= 0.1 * max(some) for some in (lengths, longer)]
    if sides == [True, True]:
        change = (advantages(longer) - advantages(lengths)).abs().max()
        assert change <= 1.2 * 10 * (2 * len(lengths)) ** 0.5 / max(lengths)
    elif sides == [False, False]:
        assert not advantages(lengths).any() and not advantages(longer).any()


def test_one_token_more_beside_equal_siblings_costs_nothing() -> None:
    assert concise_group_terms([100] * 7 + [101]) == [1.0] * 8
    assert concise_group_terms([80, 100]) == [1.0, pytest.approx(0.6)]  # a fifth of a spread does not count whole


ANSWER = r"Two apples and three apples are five apples together. \boxed{5}"


def test_an_answer_that_keeps_every_rule_has_them_all_and_none_has_nothing() -> None:
    assert answer_rules_term(Reply("", ANSWER), "en", is_cut=False) == 1.0
    assert answer_rules_term(Reply("A thought alone.", " "), "en", is_cut=False) == 0.0


@pytest.mark.parametrize(
    ("answer", "language", "is_cut"),
    [
        (ANSWER, "en", True),
        (ANSWER + "</think>", "en", False),
        (ANSWER + "\n```python\nprint(5)", "en", False),
        (ANSWER + " So it is five." * 40, "en", False),
        (ANSWER, "ko", False),
        ("".join(f"The number after {n} is {n + 1}. " for n in range(400)) + ANSWER, "en", False),
    ],
)
def test_each_rule_that_an_answer_breaks_costs_a_fifth(answer: str, language: str, is_cut: bool) -> None:
    assert answer_rules_term(Reply("", answer), language, is_cut) == pytest.approx(0.8)


def test_the_thought_plays_no_part_in_the_rules_for_an_answer() -> None:
    thought = "생각을 한국어로 합니다. </think> ```" * 50
    assert answer_rules_term(Reply(thought, ANSWER), "en", is_cut=False) == 1.0
