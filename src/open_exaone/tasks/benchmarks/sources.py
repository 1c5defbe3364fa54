"""Rows of a file: JSON lines, JSON, CSV, any of them gzipped; Parquet and Arrow where pyarrow is installed."""

import csv
import gzip
import importlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from open_exaone.base.config import short
from open_exaone.base.errors import DataError
from open_exaone.tasks.benchmarks.benchmark import Row

Placed = tuple[str, Row]  # where a row stands, such as "test.jsonl: line 3", and the row
_MAX_CELL = 1 << 24  # characters of a CSV's cell; Python's own limit is too low for some questions


def read_rows(path: Path) -> Iterator[Placed]:
    """The rows of one file, one at a time.

    Raises:
        DataError: it is missing, or broken at a line; names both. Or pyarrow is wanted and not installed.
    """
    read = _READERS.get(_suffix(path))
    if read is None:
        raise DataError(f"{path}: is in no form that is read here; those are {', '.join(_READERS)}, also with .gz")
    try:
        for place, row in read(path):
            if not isinstance(row, dict):
                raise DataError(f"{path}: {place}: must be an object with named fields, not {short(row)}")
            yield f"{path}: {place}", row
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


_DEPTHS = ("*", "*/*", "*/*/*")  # how far down a folder's files are looked for


def find_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files of a folder that match, pattern by pattern; where none does, the one file that can be read.

    Raises:
        DataError: there is none, or more than one to choose from.
    """
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]
    readable = found or sorted(
        path for depth in _DEPTHS for path in folder.glob(depth) if is_readable(path) and path.is_file()
    )
    if found or len(readable) == 1:
        return list(dict.fromkeys(readable))
    if not readable:
        raise DataError(f"{folder}: holds no file that is read here; those end in {', '.join(_READERS)}")
    names = ", ".join(str(path.relative_to(folder)) for path in readable[:5])
    raise DataError(f"{folder}: holds several files ({names}): name the one to read")


def is_readable(path: Path) -> bool:
    """Whether a file's name is one of those that are read here."""
    return _suffix(path) in _READERS


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _open(path: Path, newline: str | None = None) -> IO[str]:
    opener: Callable[..., IO[str]] = gzip.open if path.name.endswith(".gz") else open
    return opener(path, "rt", encoding="utf-8-sig", newline=newline)


def _json(text: str, path: Path, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(f"{path}: {place}not valid JSON: {reason}") from error


def _read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    with _open(path, newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"line {number}", _json(line, path, f"line {number}: ")


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    with _open(path) as file:
        rows = _json(file.read(), path, "")
    if not isinstance(rows, list):
        raise DataError(f"{path}: must be a list of rows; one row a line is .jsonl")
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


def _read_csv(path: Path) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(_MAX_CELL)
    with _open(path, newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                place = f"line {reader.line_num}"
                if None in row or None in row.values():
                    columns = len(reader.fieldnames or ())
                    raise DataError(f"{path}: {place}: must have as many cells as the first line, {columns}")
                yield place, row
        except csv.Error as error:
            raise DataError(f"{path}: line {reader.line_num + 1}: not valid CSV: {error}") from error


def _read_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    file = _arrow("parquet", path).ParquetFile
    yield from _batches(path, lambda: file(path).iter_batches())


def _read_arrow(path: Path) -> Iterator[tuple[str, Any]]:
    ipc = _arrow("ipc", path)
    yield from _batches(path, lambda: ipc.open_stream(str(path)))


def _batches(path: Path, batches: Callable[[], Any]) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        for batch in batches():
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: row {number + 1}: cannot be read: {error}") from error


def _arrow(module: str, path: Path) -> Any:
    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ImportError as error:
        raise DataError(
            f"{path}: {path.suffix} files are read with pyarrow, which is not installed: "
            'pip install "open-exaone[data]", or convert the file to .jsonl'
        ) from error


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
