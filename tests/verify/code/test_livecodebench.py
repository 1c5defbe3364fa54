"""The private tests of LiveCodeBench."""

import base64
import json
import os
import pickle
import zlib
from pathlib import Path

import pytest

from open_exaone.base import streams
from open_exaone.verify.code.livecodebench import decode_private_tests

TESTS = [{"input": "1\n", "output": "2\n", "testtype": "stdin"}]


def packed(pickled: bytes) -> str:
    return base64.b64encode(zlib.compress(pickled)).decode()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("text", [json.dumps(TESTS), json.dumps(TESTS) + " " * 300, json.dumps(["한국어\\"])])
def test_a_pickled_string_is_read_in_every_protocol(protocol: int, text: str) -> None:
    assert decode_private_tests(packed(pickle.dumps(text, protocol))) == json.loads(text)


def test_plain_json_is_read() -> None:
    assert decode_private_tests(json.dumps(TESTS)) == TESTS


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch pickle_was_run",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_not_run(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in (Hostile(), [json.dumps(TESTS)], (json.dumps(TESTS), Hostile()), {"a": 1}, 7, None):
        with pytest.raises(ValueError, match="pickle holds"):
            decode_private_tests(packed(pickle.dumps(value, protocol)))
    assert not list(tmp_path.iterdir())
    pickle.loads(pickle.dumps(Hostile(), protocol))  # the same pickle, where nobody is careful
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "cut"),
        ("nonsense!", "neither JSON nor"),
        (base64.b64encode(b"abc").decode(), "neither JSON nor"),
        (packed(pickle.dumps(json.dumps(TESTS)))[:40], "cut"),
        (packed(b""), "pickle"),
        (packed(b"\x80\x04."), "holds no string"),
        (packed(b"\x80\x04X\xff\xff\xff\x7fab"), "expected"),
        (packed(b"\x80\x04X\x02\x00\x00\x00[]" + b"\x94" * 1_000_000 + b"."), "more than one string"),
        (packed(b"\x80\x04X\x02\x00\x00\x00[]X\x02\x00\x00\x00{}."), "more than one string"),
        (packed(pickle.dumps("no json")), "Expecting value"),
        (packed(pickle.dumps("[" * 100_000)), "nested too deeply"),
    ],
)
def test_what_is_broken_is_an_error_that_says_so(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        decode_private_tests(text)


def test_many_brackets_in_strings_are_tests(monkeypatch) -> None:
    """As edges of a graph in a test's input."""
    tests = [{"input": "[[1, 2], " * 500, "output": "{}", "testtype": "stdin"}] * 45
    monkeypatch.setattr(streams, "MAX_BRACKETS", 1000)
    for text in (json.dumps(tests), packed(pickle.dumps(json.dumps(tests)))):
        assert decode_private_tests(text) == tests


def test_a_limit_s_own_error_is_raised(monkeypatch) -> None:
    monkeypatch.setattr(streams, "MAX_BRACKETS", 1000)
    swarm = json.dumps([[]] * 2000)
    for text in (swarm, packed(pickle.dumps(swarm))):
        with pytest.raises(ValueError, match="more than 1,000 brackets"):
            decode_private_tests(text)


def test_a_zip_bomb_is_not_unpacked() -> None:
    bomb = packed(pickle.dumps(" " * 50_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match="unpacks to more than 1,000,000 bytes"):
        decode_private_tests(bomb, max_bytes=1_000_000)
