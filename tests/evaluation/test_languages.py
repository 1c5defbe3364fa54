"""Replies in another language, found here and by other processes."""

import subprocess

import pytest

from open_exaone.base.records import Reply
from open_exaone.evaluation import languages

KOREAN, ENGLISH = "따라서 정답은 세 번째 보기입니다.", "So the answer is the third of them, as was said."
REPLIES = [
    (Reply("", KOREAN), "ko"),
    (Reply("", ENGLISH), "ko"),
    (Reply(ENGLISH, KOREAN), "ko"),
    (Reply(KOREAN, ENGLISH), "en"),
    (Reply(ENGLISH, "\ud800 " + ENGLISH), "en"),
    (Reply("", ""), "en"),
    (Reply("", ENGLISH), "es"),
]
EXPECTED = [False, True, True, True, False, False, True]


def test_either_part_in_another_language_counts() -> None:
    assert languages.mismatches(REPLIES) == EXPECTED
    assert languages.mismatches([]) == []


def test_other_processes_find_the_same_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages.os, "cpu_count", lambda: 3)
    monkeypatch.setattr(languages, "_look", lambda items: pytest.fail("was looked at here"))
    assert languages.mismatches(REPLIES, min_chars=0) == EXPECTED


@pytest.mark.parametrize(("code", "told"), [(1, b"00000"), (1, b""), (0, b"0"), (0, b"")])
def test_where_another_process_fails_it_is_found_here(monkeypatch: pytest.MonkeyPatch, code: int, told: bytes) -> None:
    failed = subprocess.CompletedProcess([], code, told[: -(-len(REPLIES) // 2)])
    monkeypatch.setattr(languages.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(languages.subprocess, "run", lambda *args, **options: failed)
    assert languages.mismatches(REPLIES, min_chars=0) == EXPECTED


def test_an_unknown_language_is_refused_wherever_it_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages.os, "cpu_count", lambda: 2)
    for min_chars in (0, 10**9):
        with pytest.raises(ValueError, match="language 'fr'"):
            languages.mismatches([(Reply("", KOREAN), "fr")], min_chars)
