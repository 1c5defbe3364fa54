"""A file of JSON lines that another process appends to: what is new in it since the last look."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from open_exaone.base.streams import MAX_LINE_BYTES, parse_json

_BLOCK_BYTES = 1 << 20
_REMEMBERED_BYTES = 64  # of the end of what was read: other bytes there mean that the file was written anew


class Tail:
    """Reads the rows of a growing file, each once; a last line that is not ended yet waits for the next look.

    A line that is no JSON object, or is longer than 128 MiB, is left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._file_id: tuple[int, int] | None = None
        self._offset = 0
        self._end = b""  # the last bytes before the offset

    def read(self, take: Callable[[dict[str, Any]], object], forget: Callable[[], object]) -> None:
        """Calls `take` with each row that is new.

        Where the file was cut, replaced or removed since the last look, `forget` is called first, and all of its rows
        come again. A file that is missing, or is no regular file, has no rows.
        """
        try:
            if not self._path.is_file():
                if self._file_id is not None:
                    forget()
                self._forget()
                return
            with open(self._path, "rb") as file:
                self._find_place(file, forget)
                rest = b""
                while block := file.read(_BLOCK_BYTES):
                    whole, end, rest = (rest + block).rpartition(b"\n")
                    self._take(whole + end, take)
                    rest = rest if len(rest) <= MAX_LINE_BYTES else b""
        except OSError:  # it went while it was read: the next look finds out
            return

    def _find_place(self, file: BinaryIO, forget: Callable[[], object]) -> None:
        """Moves to where the last look ended, or to the start of a file that is another one."""
        stat = os.fstat(file.fileno())
        found, known = (stat.st_dev, stat.st_ino), self._file_id
        file.seek(self._offset - len(self._end))
        if found != known or file.read(len(self._end)) != self._end:
            self._forget()
            file.seek(0)
            if known is not None:
                forget()
        self._file_id = found

    def _take(self, text: bytes, take: Callable[[dict[str, Any]], object]) -> None:
        self._offset += len(text)
        self._end = (self._end + text[-_REMEMBERED_BYTES:])[-_REMEMBERED_BYTES:]
        for line in filter(None, map(bytes.strip, text.split(b"\n"))):
            try:
                row = parse_json(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                take(row)
