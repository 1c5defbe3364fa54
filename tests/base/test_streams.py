"""Small files that unpack to much, and small texts that parse to much, are refused before the memory is full."""

import gzip
import io
import json
import resource
from collections import deque
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.base import streams
from open_exaone.base.errors import DataError
from open_exaone.base.streams import list_items, open_bytes, parse_json, read_line

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Dripping(io.BytesIO):
    """Gives a few bytes at a time, as a stream may."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(3)


@settings(max_examples=200)
@given(st.lists(JSON), st.sampled_from([None, 1]), st.booleans())
def test_a_list_is_read_item_by_item(values, indent, has_mark) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        text.decode()
    except UnicodeDecodeError:
        text = json.dumps(values, indent=indent).encode()
    for stream in (io.BytesIO, Dripping):
        assert list(list_items(stream(b"\xef\xbb\xbf" * has_mark + text + b"\n "), "a")) == values


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "must be a list"),
        (b"{}", "must be a list"),
        (b"[1", "item 1: a comma or ] must follow it; the file is truncated"),
        (b"[1 2]", "item 1: a comma or ] must follow it"),
        (b"[1,]", "item 2: Expecting value"),
        (b"[1] 2", "something follows the list"),
        (b'[1, {"a"', "item 2: "),
        (b"[\xff]", "codec can't decode"),
        (b"[" * 100_000, "item 1: nested too deeply; flatten it"),
    ],
)
def test_what_is_no_list_is_named_with_its_item(text, why) -> None:
    for stream in (io.BytesIO, Dripping):
        if stream is Dripping and len(text) > 10_000:
            continue
        with pytest.raises(DataError, match=rf"^a.json: not (valid JSON|UTF-8 text): .*{why}"):
            list(list_items(stream(text), "a.json"))


@pytest.mark.parametrize("cut", [io.BytesIO, Dripping])
def test_a_number_of_thousands_of_digits_costs_its_item_alone(cut) -> None:
    items = list(list_items(cut(b'[1, {"a": [' + b"9" * 5000 + b"]}, -" + b"9" * 5000 + b", 2]"), "a"))
    assert [items[0], items[-1]] == [1, 2]
    why = "it holds a number of thousands of digits; write it as a text"
    assert [str(item) for item in items[1:-1]] == [why, why]


def test_an_item_has_a_limit(monkeypatch) -> None:
    monkeypatch.setattr(streams, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(streams, "_CHUNK_BYTES", 100)
    assert sum(list_items(io.BytesIO(b"[" + b"1," * 10_000 + b"1]"), "a")) == 10_001
    with pytest.raises(ValueError, match="item 2: it is longer than"):
        list(list_items(io.BytesIO(b'[1, "' + b"x" * 10_000 + b'"]'), "a"))


def test_a_line_has_a_limit() -> None:
    for stream in (io.BytesIO(b"abc\ndefg"), io.StringIO("abc\ndefg")):
        assert len(read_line(stream, 4)) == 4 and len(read_line(stream, 4)) == 4 and not read_line(stream, 4)
    with pytest.raises(ValueError, match="is longer than"):
        read_line(io.BytesIO(b"abcd\n"), 4)


@pytest.mark.parametrize("item", [b"[],", b"{},", b'{"":0},', b'{"a":['])
def test_a_swarm_of_brackets_is_no_data(item, monkeypatch) -> None:
    monkeypatch.setattr(streams, "MAX_BRACKETS", 1000)
    with pytest.raises(ValueError, match="more than 1,000 brackets|nested"):
        parse_json(b"[" + item * 2000 + b"1]")
    with pytest.raises(ValueError, match="more than 1,000 brackets|nested"):
        list(list_items(io.BytesIO(b"[[" + item * 2000 + b"1]]"), "a"))


@settings(max_examples=300)
@given(st.lists(JSON | st.text('[]{}"\\,:'), min_size=1), st.integers(0, 40))
def test_brackets_in_strings_are_free(values, limit) -> None:
    """The count is that of the brackets that json itself writes, in a whole text and in one that is cut anywhere."""
    text = json.dumps(values)
    bare, is_in, is_escaped = [], False, False
    for sign in text:
        if is_in:
            is_in, is_escaped = is_escaped or sign != '"', sign == "\\" and not is_escaped
        elif sign == '"':
            is_in = True
        bare.append(not is_in and sign in "[{")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "MAX_BRACKETS", limit)
        for end in {len(text), len(text) // 2, len(text) // 3}:
            if sum(bare[:end]) > limit:
                with pytest.raises(ValueError, match="brackets"):
                    streams._check_brackets(text[:end])
            else:
                streams._check_brackets(text[:end])


def test_a_short_row_again_and_again_is_data(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(streams, "MIN_UNPACKED_BYTES", 1 << 10)
    row = b'{"text": "abcdefghij"}\n'
    packed = gzip.compress(row * 100_000, 9)
    assert len(row) * 100_000 > 200 * len(packed)
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    with open_bytes(tmp_path / "a.jsonl.gz") as file:
        assert sum(line == row for line in file) == 100_000


def test_a_bomb_is_refused_and_takes_no_memory(tmp_path, monkeypatch) -> None:
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b"0," * (4 << 20), 9))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(streams, "MIN_UNPACKED_BYTES", 1 << 20)
    with (
        open_bytes(path) as file,
        pytest.raises(DataError, match="bomb.json.gz: unpacks to more than 500 times its size"),
    ):
        deque(iter(partial(file.read, 1 << 16), b""), maxlen=0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB
    monkeypatch.undo()
    with open_bytes(path) as file:
        assert len(file.read()) == 8 << 20


def test_a_packed_file_of_blanks_is_refused(tmp_path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"{}\n" + b"\n" * (6 << 20), 9))
    with open_bytes(tmp_path / "a.jsonl.gz") as file, pytest.raises(DataError, match="blanks in a row"):
        deque(iter(file.readline, b""), maxlen=0)


def test_a_packed_file_reads_as_the_file_itself(tmp_path) -> None:
    text = b"\n".join(b"%d" % number for number in range(100_000))
    (tmp_path / "a.jsonl").write_bytes(text)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text[:1000]) + gzip.compress(text[1000:]))
    for name in ("a.jsonl", "a.jsonl.gz"):
        with open_bytes(tmp_path / name) as file:
            assert file.peek(3)[:1] == b"0"
            assert b"".join(iter(file.readline, b"")) == text
