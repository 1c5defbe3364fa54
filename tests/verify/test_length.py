"""Kind "length": what is counted, and which limits are refused."""

import pytest

from open_exaone.base.records import VerdictStatus
from open_exaone.verify.length import judge_length
from open_exaone.verify.settings import JudgeSettings


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
    assert (verdict.status, verdict.why) == (VerdictStatus.WRONG, "The answer has 3 words instead of at most 2.")


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
