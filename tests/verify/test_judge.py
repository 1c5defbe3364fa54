"""One verdict on one answer."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.remote.settings import Endpoint
from open_exaone.verify.judge import KINDS, judge_answer
from open_exaone.verify.settings import JudgeSettings

ENTRY = {"question": "4 - 1 =", "answer": "3", "metadata": {}}
CHAIN_SUM = {"source_dataset": "chain_sum", "entry": ENTRY}
NEEDED = {  # by a kind: a gold answer and its metadata; "3" and CHAIN_SUM where a kind is not named
    "choice": ("B", {"options": ["two", "three", "four"]}),
    "code": ('[{"input": "3", "output": "3"}]', {}),
    "constraints": ("", {"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["gold"]}]}),
    "language": ("ko", {}),
    "length": ("", {"min_words": 5}),
    "rule_then_judge": ("3", {"rule": "exact", "question": "What is 1 + 2?"}),
}
SETTINGS = JudgeSettings(endpoint=Endpoint(base_url="http://127.0.0.1:9", model="none", timeout_s=0.5, max_attempts=1))


def judge(kind: str, text: str) -> Verdict:
    gold, metadata = NEEDED.get(kind, ("3", CHAIN_SUM))
    return judge_answer(kind, text, gold, metadata, SETTINGS)


def status(answer: str, gold: str, kind: str = "exact", metadata: dict[str, Any] = CHAIN_SUM) -> VerdictStatus:
    return judge_answer(kind, f"It is \\boxed{{{answer}}}.", gold, metadata).status


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("46", "46"),
        (" 46 ", "46"),
        ("$46$", "46"),
        (r"\(46\)", "46"),
        (r"\text{Ann}", "Ann"),
        (r"$\text{Ann}$", "Ann"),
        ("ann", "Ann"),
        ("1,234", "1234"),
        ("-1,234,567.50", "-1234567.5"),
        ("046", "46"),
        ("46.0", "46"),
        ("46.", "46"),
        ("+46", "46"),
        ("-0", "0"),
        ("\N{MINUS SIGN}5", "-5"),
        ("(3, 4)", "(3,4)"),
        ("유나", "유나"),
    ],
)
def test_the_same_answer_written_otherwise_is_correct(answer: str, gold: str) -> None:
    assert status(answer, gold) is VerdictStatus.CORRECT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("47", "46"),
        ("-46", "46"),
        ("4 or 6", "46"),
        ("12,34", "1234"),
        ("1,234", "1.234"),
        ("460", "46"),
        ("4.6", "46"),
        ("(4,3)", "(3,4)"),
        ("(3,456)", "3456"),
        ("9:40", "9:04"),
        ("nan", "46"),
        ("٤٦", "46"),
        ("", "46"),
        ("$", "46"),
        ("유나는", "유나"),
    ],
)
def test_another_answer_is_wrong(answer: str, gold: str) -> None:
    assert status(answer, gold) is VerdictStatus.WRONG


@given(st.integers(), st.integers())
def test_numbers_are_the_same_when_they_are_equal(found: int, gold: int) -> None:
    assert (status(f"{found:,}", str(gold)) is VerdictStatus.CORRECT) == (found == gold)


@pytest.mark.parametrize("kind", ["exact", "reasoning_gym", "rule_then_judge"])
def test_without_a_closed_box_nothing_is_parsed(kind: str) -> None:
    for text in ("", "46", r"\boxed{3"):
        verdict = judge(kind, text)
        assert (verdict.status, verdict.extracted) == (VerdictStatus.UNPARSED, None)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(text=st.text() | st.text().map("\\boxed{{{}}}".format))
def test_no_reply_makes_it_raise_and_every_verdict_says_why(kind: str, text: str) -> None:
    verdict = judge(kind, text)
    assert verdict.why.endswith(".") and len(verdict.why) < 400


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer", ["9" * 1_000_000, "1," * 500_000, r"\text{" * 100_000 + "}" * 100_000, "$" * 1_000_000, "1e999999999"]
)
def test_hostile_answers_are_judged_in_linear_time(kind: str, answer: str) -> None:
    judge(kind, "3")  # imports what is imported late before the clock starts
    start = time.process_time()
    assert not judge(kind, f"It is \\boxed{{{answer}}}.").correct or kind == "language"
    assert time.process_time() - start < 2.0


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"'maths': unknown; did you mean .math.. The kinds are exact, math, .*reasoning_gym"
    ):
        judge_answer("maths", "", "", {})


def test_reasoning_gym_is_asked_for_its_own_score() -> None:
    assert status("3", "3", "reasoning_gym") is VerdictStatus.CORRECT
    assert status("+03.0", "3", "reasoning_gym") is VerdictStatus.CORRECT  # its scorer's leave, not ours
    assert status("4", "3", "reasoning_gym") is VerdictStatus.WRONG


def test_part_of_a_score_is_wrong() -> None:
    verdict = judge_answer("reasoning_gym", r"\boxed{3 or 4}", "3", CHAIN_SUM)  # scored 1/6
    assert verdict.status is VerdictStatus.WRONG
    assert verdict.why == "The answer 3 or 4 is wrong: reasoning-gym's chain_sum scores it 0.166667 of 1."


@pytest.mark.parametrize(
    ("name", "answer", "error"),
    [("prime_factorization", "two", "ValueError"), ("coin_flip", "-1e999", "OverflowError")],
)
def test_an_answer_on_which_a_scorer_raises_is_wrong_and_the_exception_is_named(
    name: str, answer: str, error: str
) -> None:
    from reasoning_gym import create_dataset

    entry = create_dataset(name, seed=0)[0]
    verdict = judge_answer(
        "reasoning_gym", f"\\boxed{{{answer}}}", entry["answer"], {"source_dataset": name, "entry": entry}
    )
    assert verdict.status is VerdictStatus.WRONG
    assert error in verdict.why


@pytest.mark.parametrize("metadata", [{}, {"source_dataset": "chain_sum"}, {"source_dataset": "chess", "entry": ENTRY}])
def test_broken_metadata_is_an_error_not_a_wrong_answer(metadata: dict[str, Any]) -> None:
    assert status("3", "3", "reasoning_gym", metadata) is VerdictStatus.ERROR
