"""Where a benchmark's rows stand: the files of a folder, and their rows, none of which may be broken."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from open_exaone.base.config import short
from open_exaone.base.errors import DataError
from open_exaone.base.links import own_file
from open_exaone.base.tables import SUFFIXES, RowError, is_table, read_table
from open_exaone.tasks.benchmarks.benchmark import Row

Placed = tuple[str, Row]  # where a row stands, such as "test.jsonl: line 3", and the row


def read_rows(path: Path) -> Iterator[Placed]:
    """The rows of one file, one at a time.

    Raises:
        DataError: it cannot be read, or a row of it cannot; names file and line.
    """
    for row in read_table(path):
        if isinstance(row, RowError):
            raise DataError(str(row))
        if not isinstance(row.value, dict):
            raise DataError(f"{row.place}: must be an object with named fields, not {short(row.value)}")
        yield row.place, row.value


_DEPTHS = ("*", "*/*", "*/*/*")  # how far down a folder's files are looked for


def find_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files of a folder that match, pattern by pattern; where none does, the one file that can be read.

    Raises:
        DataError: there is none, or more than one to choose from.
    """
    found = [_own(path, folder) for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]
    readable = found or sorted(
        _own(path, folder) for depth in _DEPTHS for path in folder.glob(depth) if is_table(path) and path.is_file()
    )
    if found or len(readable) == 1:
        return list(dict.fromkeys(readable))
    if not readable:
        raise DataError(f"{folder}: holds no file that is read here; those end in {', '.join(SUFFIXES)}")
    names = ", ".join(str(path.relative_to(folder)) for path in readable[:5])
    raise DataError(f"{folder}: holds several files ({names}): name the one to read")


def _own(path: Path, folder: Path) -> Path:
    return own_file(path, folder, DataError)
