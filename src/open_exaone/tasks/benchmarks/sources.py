"""Rows of a file: JSON lines, JSON, CSV, any of them gzipped; Parquet and Arrow where pyarrow is installed."""

import codecs
import csv
import importlib
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from open_exaone.base.config import short
from open_exaone.base.errors import DataError
from open_exaone.base.links import own_file
from open_exaone.base.parquet import MAX_BATCH_BYTES, parquet_batches
from open_exaone.base.streams import list_items, open_bytes, parse_json, read_line
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
    found = [_own(path, folder) for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]
    readable = found or sorted(
        _own(path, folder) for depth in _DEPTHS for path in folder.glob(depth) if is_readable(path) and path.is_file()
    )
    if found or len(readable) == 1:
        return list(dict.fromkeys(readable))
    if not readable:
        raise DataError(f"{folder}: holds no file that is read here; those end in {', '.join(_READERS)}")
    names = ", ".join(str(path.relative_to(folder)) for path in readable[:5])
    raise DataError(f"{folder}: holds several files ({names}): name the one to read")


def _own(path: Path, folder: Path) -> Path:
    return own_file(path, folder, DataError)


def is_readable(path: Path) -> bool:
    """Whether a file's name is one of those that are read here."""
    return _suffix(path) in _READERS


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _lines(path: Path, newline: str) -> Iterator[str]:
    """A text file's lines, with their ends."""
    number = 0
    with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline=newline) as file:
        while True:
            number += 1
            try:
                line = read_line(file)
            except (DataError, UnicodeDecodeError):
                raise
            except ValueError as error:
                raise DataError(f"{path}: line {number}: {error}") from error
            if not line:
                return
            yield line


def _read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_lines(path, "\n"), start=1):
        if line.strip():
            try:
                row = parse_json(line)
            except ValueError as error:
                raise DataError(f"{path}: line {number}: not valid JSON: {error}") from error
            yield f"line {number}", row


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    with open_bytes(path) as file:
        if not file.peek(1024).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
            raise DataError(f"{path}: must be a list of rows; one row a line is .jsonl")
        for number, row in enumerate(list_items(file, path), start=1):
            yield f"row {number}", row


def _read_csv(path: Path) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(_MAX_CELL)
    reader = csv.DictReader(_lines(path, ""), strict=True)
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
    yield from _batches(path, lambda: parquet_batches(file(path)))


def _read_arrow(path: Path) -> Iterator[tuple[str, Any]]:
    ipc = _arrow("ipc", path)
    yield from _batches(path, lambda: ipc.open_stream(str(path)))


def _batches(path: Path, batches: Callable[[], Any]) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        for batch in batches():
            if batch.nbytes > MAX_BATCH_BYTES:
                raise ValueError(f"{len(batch)} rows have {batch.nbytes:,} bytes")
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except FileNotFoundError:
        raise
    except (OSError, ValueError, MemoryError) as error:  # pyarrow's own errors are kinds of these
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
