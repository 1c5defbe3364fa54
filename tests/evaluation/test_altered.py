"""Altered thoughts: what a slip changes, where thoughts are cut, whose thought a problem gets."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles import make_tokenizer
from open_exaone.base.records import Problem
from open_exaone.evaluation.altered import cut, partners, token_pieces, with_slip, word_pieces

NUMBERS = re.compile(r"[0-9]+")
RESULTS = {  # thought -> the numbers that its steps compute
    "0-4=-4\n-4-8=-12": ["4", "12"],
    "down:y=28-5=23\nright:x=16+3=19\npoint:(23,19)": ["23", "19"],
    "연필:8*19=152\n컵:6*4=24": ["152", "24"],
    "So 3 * 4 = 12, and 12 + 1 = 13.": ["12", "13"],
    "It costs 2 * 500 = $1,000.50 in all": ["1,000.50"],
    "x = 3*5 = 15": ["15"],
    "x = 3y, y = 2": ["2"],
    "a = 12 \\times 3 = 36": ["36"],
    "a ≈ 7.5": ["7.5"],
    "Ray>Ben\n2:Ben": [],
    "c,i,m\nm,i,c": [],
    "x = 1/2": [],
    "12 + 5": [],
    "": [],
    "=": [],
}
THOUGHTS = st.text(st.sampled_from("0123456789=+-*/.,: \n한가🙂éab$<>\\"), max_size=60)
WORDS = st.lists(st.sampled_from(("How much is ", "The answer is", "3+4=7", "한글")), max_size=6).map("".join)


def problem(number: int, task: str = "sum", language: str = "en", answer: str | None = None) -> Problem:
    return Problem(
        f"{task}/{language}/{number}", task, language, "?", str(number) if answer is None else answer, "exact"
    )


@pytest.mark.parametrize("thought", RESULTS)
def test_a_slip_is_in_a_number_that_a_step_computes(thought: str) -> None:
    slips = [with_slip(thought, random.Random(seed)) for seed in range(60)]
    found = {thought[slip.start : slip.end] for slip in slips if slip}
    assert found == set(RESULTS[thought])


@given(THOUGHTS, st.integers(0, 99))
def test_a_slip_changes_one_digit_of_one_number(thought: str, seed: int) -> None:
    slip = with_slip(thought, random.Random(seed))
    assert slip == with_slip(thought, random.Random(seed))
    if slip is None:
        return
    assert NUMBERS.sub("#", slip.thought) == NUMBERS.sub("#", thought)
    pairs = list(zip(NUMBERS.findall(thought), NUMBERS.findall(slip.thought), strict=True))
    changed = [(one, other) for one, other in pairs if one != other]
    assert len(changed) == 1
    [(one, other)] = changed
    assert len(one) == len(other) and one[:-1] == other[:-1]
    assert slip.thought.startswith(slip.begun)
    assert slip.begun in (slip.thought[: slip.end], slip.thought[: slip.end] + "\n")


def test_a_thought_goes_on_behind_the_line_of_its_slip() -> None:
    begun = {slip.begun for seed in range(40) if (slip := with_slip("1+1=2\n2+1=3", random.Random(seed)))}
    assert {text.count("\n") for text in begun} == {1}
    assert all(re.fullmatch(r"1\+1=\d\n(2\+1=\d)?", text) for text in begun)


@given(st.text(max_size=40) | THOUGHTS | WORDS, st.sampled_from((0.25, 0.5, 0.75)))
def test_a_cut_splits_no_token_and_no_character(thought: str, share: float) -> None:
    tokenizer = make_tokenizer(420)  # with tokens of several characters
    pieces = token_pieces(tokenizer, thought)
    assert "".join(pieces) == thought
    ids = tokenizer.encode(thought)
    kept = cut(pieces, share)
    if kept is None:
        assert int(len(pieces) * share) == 0
        return
    assert thought.startswith(kept) and 0 < len(kept) < len(thought)
    ends = [tokenizer.decode(ids[:number]) for number in range(len(ids) + 1)]
    assert kept in ends  # it ends where a token does
    num_kept = min(number for number, text in enumerate(ends) if text == kept)
    assert len(pieces) < len(ids) or num_kept == int(len(ids) * share)  # the tokens of a character are one piece
    assert kept.encode().decode() == kept


def test_shares_count_tokens() -> None:
    pieces = token_pieces(make_tokenizer(), "한" * 8)
    assert pieces == ["한"] * 8  # three bytes each
    assert [cut(pieces, share) for share in (0.25, 0.5, 0.75)] == ["한" * 2, "한" * 4, "한" * 6]
    assert cut(["a"], 0.75) is None and cut(["a", "b", "c"], 0.25) is None
    assert cut(["a", "b", "c"], 0.5) == "a"


@given(st.text(max_size=40))
def test_words_are_a_whole_text(thought: str) -> None:
    pieces = word_pieces(thought)
    assert "".join(pieces) == thought
    assert all(pieces)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(("en", "ko")), st.integers(0, 3)), max_size=14))
def test_no_problem_gets_its_own_thought_or_one_with_its_answer(drawn: list[tuple[str, str, int]]) -> None:
    problems = [
        problem(place, task, language, str(gold) if gold else "") for place, (task, language, gold) in enumerate(drawn)
    ]
    answers = [str((gold + place) % 5) if place % 3 else None for place, (*_, gold) in enumerate(drawn)]
    found = partners(problems, answers, seed=7)
    assert found == partners(problems, answers, seed=7)
    avoided = [{problems[place].answer, answers[place]} - {None, ""} for place in range(len(problems))]
    for place, other in enumerate(found):
        usable = [one for one in range(len(problems)) if one != place and not avoided[place] & avoided[one]]
        near = [one for one in usable if drawn[one][:2] == drawn[place][:2]]
        assert (other is None) == (not usable)
        assert other is None or other in (near or usable)


def test_partners_differ_by_seed_and_are_spread() -> None:
    problems = [problem(number) for number in range(40)]
    answers = [one.answer for one in problems]
    found = partners(problems, answers, seed=0)
    assert found != partners(problems, answers, seed=1)
    assert max(Counter(found).values()) <= 6
