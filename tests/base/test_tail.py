"""A growing file of JSON lines: each row once, half-written lines later, a file written anew from its start."""

import json
import os
from pathlib import Path
from typing import Any

from open_exaone.base.tail import Tail


class Reader:
    """What a tail gave so far."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self.rows: list[dict[str, Any]] = []

    def read(self) -> list[int]:
        self._tail.read(self.rows.append, self.rows.clear)
        return [row["step"] for row in self.rows]


def lines(*steps: int) -> str:
    return "".join(json.dumps({"step": step}) + "\n" for step in steps)


def test_rows_come_once_and_a_half_written_line_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = Reader(path)
    assert reader.read() == []
    text = lines(1, 2, 3).encode()
    for size in range(len(text) + 1):  # cut at every byte
        path.write_bytes(text[:size])
        assert reader.read() == list(range(1, text[:size].count(b"\n") + 1))
    with open(path, "ab") as file:
        file.write(b'not json\n[1]\n"x"\n\n{"step": 4}\n{"step":')
    assert reader.read() == [1, 2, 3, 4]


def test_a_file_that_was_cut_replaced_or_removed_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 2, 3, 4))
    reader = Reader(path)
    assert reader.read() == [1, 2, 3, 4]
    os.truncate(path, len(lines(1, 2)))
    assert reader.read() == [1, 2]
    os.truncate(path, len(lines(1)))  # cut, and longer than before again at the next look
    with open(path, "a") as file:
        file.write(lines(7, 8, 9))
    assert reader.read() == [1, 7, 8, 9]
    (tmp_path / "other").write_text(lines(*range(1, 20)))
    os.replace(tmp_path / "other", path)
    assert reader.read() == list(range(1, 20))
    path.unlink()
    assert reader.read() == []
    os.mkfifo(path)  # which nobody writes to: it is not opened
    assert reader.read() == []


def test_a_line_longer_than_a_block_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1, "text": "x" * (3 << 20)}) + "\n" + lines(2))
    assert Reader(path).read() == [1, 2]
