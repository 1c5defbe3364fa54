"""JSON is read within limits, whatever a file claims to be."""

import os

import pytest

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_json


def test_json_is_read(tmp_path):
    (tmp_path / "x.json").write_text('{"a": [1, "열"]}', encoding="utf-8")
    assert read_json(tmp_path / "x.json") == {"a": [1, "열"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "x.json: no such file"),
        (b"{", "x.json: not valid JSON"),
        (b"\xff", "x.json: not UTF-8 text"),
        (b"[" * 100_000, "x.json: not valid JSON: nested too deeply"),
        (b"1" * 5000, "x.json: not valid JSON"),  # more digits than a number may have
        (b" " * 101 + b"1", "x.json: is larger than 100 bytes"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    max_bytes = 100 if content and content.startswith(b" ") else 10**6
    with pytest.raises(DataError, match=message):
        read_json(tmp_path / "x.json", max_bytes=max_bytes)


def test_devices_pipes_and_folders_are_not_read(tmp_path):
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.json")
    for path, message in ((tmp_path / "zero.json", "device"), (tmp_path / "pipe.json", "pipe"), (tmp_path, "folder")):
        with pytest.raises(DataError, match=f"is a .*{message}"):
            read_json(path)
