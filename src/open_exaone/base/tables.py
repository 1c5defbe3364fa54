"""Rows of a file, one at a time: a file may be larger than memory, and a row that cannot be read stops nothing.

    read_table(path) -> Iterator[Row | RowError]             a RowError stands where a row could not be read

JSON lines, JSON and CSV, also gzipped, are read by Python alone; Parquet and Arrow need pyarrow (`open-exaone[data]`).
Two kilobytes of Parquet may stand for ten gigabytes of rows, so that its batches are of bounded memory.
"""

import csv
import importlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from open_exaone.base.errors import DataError
from open_exaone.base.streams import MAX_LINE_BYTES, list_items, open_bytes, parse_json

PLAIN_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".arrow")
SUFFIXES = (*PLAIN_SUFFIXES, ".jsonl.gz", ".json.gz", ".csv.gz")
MAX_SKIPPED_BYTES = 1 << 30  # of a line that is too long: beyond that the file holds no rows
MAX_CELL = 1 << 24  # characters of a CSV's cell; Python's own limit is too low for some questions
MAX_RATIO, SMALL_BYTES = 50, 16 << 20  # of a column's unpacked bytes to its packed ones; below that any ratio goes
MAX_BATCH_BYTES = 1 << 30
MIN_ROWS, MAX_ROWS = 16, 1000
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")  # how such a file begins


class Row(NamedTuple):
    """One row of a file."""

    file: str  # as an error names it
    number: int  # the line of a file of lines, else which row it is; from 1
    value: Any
    unit: str = "line"  # what `number` counts: "line" or "row"

    @property
    def place(self) -> str:
        return f"{self.file}: {self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row cannot be used."""

    file: str
    number: int  # 0: the file itself
    field: str  # such as "messages[1].role"; "" is the whole row
    reason: str  # one of a few, such as "wrong role": what is counted
    why: str
    fix: str = ""
    unit: str = "line"

    def __str__(self) -> str:
        place = f"{self.file}: {self.unit} {self.number}" if self.number else self.file
        field = f"{self.field}: " if self.field else ""
        return encodable(f"{place}: {field}{self.why}" + (f"; {self.fix}" if self.fix else ""))


Rows = Iterator[Row | RowError]


def encodable(text: str) -> str:
    """A text as any file and terminal takes it: half a surrogate pair is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_table(path: Path) -> bool:
    """Whether a file's name is one of those that are read here."""
    return path.name.lower().endswith(SUFFIXES)


def read_table(path: Path, name: str | None = None) -> Rows:
    """The rows of one file.

    Args:
        name: what errors call it; its path when left out.

    Raises:
        DataError: it is missing, no file, in no format that is read here, or broken as a whole; or pyarrow is missing.
    """
    name, file = name or encodable(str(path)), path.name.lower()
    if not is_table(path):
        raise DataError(f"{name}: is not in a supported format; these are {', '.join(SUFFIXES)}")
    if path.exists() and not path.is_file():
        raise DataError(f"{name}: is a folder, a device or a pipe; a file is needed")
    try:
        if file.endswith((".parquet", ".arrow")):
            yield from _read_batches(path, name)
            return
        with open_bytes(path) as stream:
            if file.removesuffix(".gz").endswith(".csv"):
                yield from _read_csv(stream, name)
            elif file.removesuffix(".gz").endswith(".jsonl") or not _is_list(stream):
                yield from _read_lines(stream, name)
            else:
                for number, value in enumerate(list_items(stream, name), start=1):
                    if isinstance(value, ValueError):
                        yield RowError(name, number, "", "not JSON", f"is not valid JSON: {value}", unit="row")
                    else:
                        yield Row(name, number, value, "row")
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: cannot be read: {error}") from error


def _is_list(stream: BufferedReader) -> bool:
    """Whether a .json file is one list of rows; many hold JSON lines in truth."""
    return stream.peek(1024).removeprefix(_BOM).lstrip().startswith(b"[")


def _read_lines(stream: BufferedReader, name: str) -> Rows:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) > MAX_LINE_BYTES:
            _skip_line(stream, name, line)
            why = f"is longer than {MAX_LINE_BYTES >> 20} MiB"
            yield RowError(name, number, "", "too large", why, "split it into several rows")
        elif not line.isspace():
            yield _parse(line, name, number)


def _skip_line(stream: BufferedReader, name: str, line: bytes) -> None:
    """Reads on to the end of a line that is too long."""
    skipped = 0
    while line and not line.endswith(b"\n"):
        line = stream.readline(MAX_LINE_BYTES)
        skipped += len(line)
        if skipped > MAX_SKIPPED_BYTES:
            raise DataError(f"{name}: holds more than {MAX_SKIPPED_BYTES >> 30} GiB without a line end: no rows")


def _parse(line: bytes, name: str, number: int) -> Row | RowError:
    try:
        return Row(name, number, parse_json(line, unique_keys=True))
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1} of the line is {line[error.start]:#04x}"
        fix = "it looks like UTF-16; save the file as UTF-8" if line[:2] in _UTF16 else "write the file as UTF-8"
        return RowError(name, number, "", "not UTF-8", f"is not UTF-8 text: {where}", fix)
    except json.JSONDecodeError as error:
        why = f"is not valid JSON: {error.msg} at character {min(error.pos, len(error.doc.rstrip())) + 1}"
        return RowError(name, number, "", "not JSON", why, _json_fix(error))
    except ValueError as error:  # a key that stands twice, too many digits or brackets; it names the fix
        return RowError(name, number, "", "not JSON", f"is not valid JSON: {error}")


def _json_fix(error: json.JSONDecodeError) -> str:
    """How to fix a line that is no JSON; names the usual slips."""
    line = error.doc.strip()
    if line.startswith("["):
        return "a list of rows belongs in a file whose name ends in .json; here, write one JSON object a line"
    if line.startswith("{'"):
        return "this is how Python prints a dict; write it with json.dumps, one JSON object a line"
    if line.endswith(","):
        return "take out the comma at the end of the line; write one JSON object a line"
    return "write one JSON object a line"


def _read_csv(stream: BufferedReader, name: str) -> Rows:
    """Rows of a CSV, whose first line names their fields."""
    csv.field_size_limit(MAX_CELL)
    size = 0  # of the row at hand, whose cells may hold line ends

    def lines() -> Iterator[str]:
        nonlocal size
        for number in range(1, 1 << 62):
            line = stream.readline(MAX_LINE_BYTES + 1)
            size += len(line)
            if size > MAX_LINE_BYTES:
                raise DataError(f"{name}: line {number}: the row is longer than {MAX_LINE_BYTES >> 20} MiB")
            if not line:
                return
            try:
                yield (line.removeprefix(_BOM) if number == 1 else line).decode()
            except UnicodeDecodeError as error:
                raise DataError(f"{name}: line {number}: is not UTF-8 text: {error}") from error

    reader = csv.reader(lines(), strict=True)
    fields: list[str] | None = None
    while True:
        size = 0
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield RowError(name, reader.line_num, "", "not CSV", f"is not valid CSV: {error}", "check its quotes")
            continue
        if fields is None:
            fields = cells
            if twice := [cell for cell, times in Counter(cells).items() if times > 1 and cell]:
                raise DataError(f"{name}: line {reader.line_num}: names {twice[0][:80]!r} twice; leave one column out")
        elif cells and len(cells) != len(fields):
            why = f"must have as many cells as the first line, {len(fields)}"
            yield RowError(name, reader.line_num, "", "not CSV", why)
        elif cells:
            yield Row(name, reader.line_num, dict(zip(fields, cells, strict=True)))


def _read_batches(path: Path, name: str) -> Rows:
    """Rows of Parquet or Arrow."""
    is_parquet = path.name.lower().endswith(".parquet")
    try:
        arrow = importlib.import_module("pyarrow.parquet" if is_parquet else "pyarrow.ipc")
    except ImportError as error:
        raise DataError(
            f"{name}: {path.suffix} files are read with pyarrow, which is not installed: "
            'pip install "open-exaone[data]", or convert the file to .jsonl'
        ) from error
    number = 0
    try:
        with arrow.ParquetFile(path) if is_parquet else arrow.open_stream(str(path)) as opened:
            names = opened.schema_arrow.names if is_parquet else opened.schema.names
            if twice := [column for column, times in Counter(names).items() if times > 1]:
                raise ValueError(f"the column {twice[0][:80]!r} appears twice; leave one out")
            for batch in parquet_batches(opened) if is_parquet else opened:
                if batch.nbytes > MAX_BATCH_BYTES:
                    raise ValueError(f"{len(batch)} rows have {batch.nbytes:,} bytes")
                for value in _batch_values(batch):
                    number += 1
                    if isinstance(value, UnicodeDecodeError):
                        why = f"holds text that is not UTF-8: {value}"
                        yield RowError(name, number, "", "not UTF-8", why, unit="row")
                    else:
                        yield Row(name, number, value, "row")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, MemoryError) as error:  # pyarrow's own errors are kinds of these
        raise DataError(f"{name}: row {number + 1}: cannot be read: {error}") from error


def parquet_batches(file: Any) -> Iterator[Any]:
    """The record batches of an open `pyarrow.parquet.ParquetFile`.

    Every row may repeat a column's one long value, so that the larger a column is, the fewer rows a batch has.

    Raises:
        ValueError: a column unpacks to far more than data does.
    """
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    largest = 1
    for group in groups:
        for column in (group.column(number) for number in range(group.num_columns)):
            size, packed = column.total_uncompressed_size, column.total_compressed_size
            if not 0 <= size <= max(SMALL_BYTES, MAX_RATIO * packed):
                raise ValueError(f"column {column.path_in_schema!r} unpacks from {packed:,} bytes to {size:,}")
            largest = max(largest, size)
    yield from file.iter_batches(batch_size=min(MAX_ROWS, max(MIN_ROWS, MAX_BATCH_BYTES // largest)))


def _batch_values(batch: Any) -> list[Any]:
    """A batch's rows; where one cannot be decoded, its error stands in its place."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError as error:
        if len(batch) == 1:
            return [error]
        return [value for place in range(len(batch)) for value in _batch_values(batch.slice(place, 1))]
