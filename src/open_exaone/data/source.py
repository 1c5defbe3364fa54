"""Rows of files, one at a time: a file may be larger than memory, and a row that cannot be read stops nothing.

    find_files(source) -> list[SourceFile(name, path)]        a file, a folder, a pattern, or a data set of the hub
    read_rows(source) -> Iterator[Row | RowError]             a RowError stands where a row could not be read

JSON lines and JSON, also gzipped, are read by Python alone; Parquet needs pyarrow (`open-exaone[data]`).
"""

import importlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from open_exaone.base.errors import DataError
from open_exaone.base.links import own_file
from open_exaone.base.parquet import parquet_batches
from open_exaone.base.streams import list_items, open_bytes, parse_json
from open_exaone.data.config import SourceConfig
from open_exaone.data.hub import HUB, hub_files
from open_exaone.data.rows import Row, RowError, encodable

SUFFIXES = (".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz")
MAX_LINE_BYTES = 64 << 20  # no row is longer; a file without line ends must not fill the memory
MAX_SKIPPED_BYTES = 1 << 30  # of a line that is longer: beyond that the file holds no rows
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source."""

    name: str  # as errors name it
    path: Path


def read_rows(source: SourceConfig | str) -> Iterator[Row | RowError]:
    """All rows of a source, file after file.

    Raises:
        DataError: there is no such file, it cannot be opened, or a package that reads it is missing.
    """
    for file in find_files(source):
        is_empty = True
        for row in read_file(file):
            is_empty = False
            yield row
        if is_empty:
            yield RowError(file.name, 0, "", "empty file", "holds no row")


def find_files(source: SourceConfig | str) -> list[SourceFile]:
    """The files of a source, in the order of their names.

    Raises:
        DataError: there are none, one is a device or a pipe, or the hub's data set cannot be had.
    """
    source = SourceConfig(path=source) if isinstance(source, str) else source
    if source.path.startswith(HUB):
        files = hub_files(source.path.removeprefix(HUB), source.config, source.split, SUFFIXES)
        return [SourceFile(name, path) for name, path in files]
    if source.config is not None or source.split != "train":
        raise DataError(f'{source.path}: config and split choose files of a hub data set, "{HUB}owner/name"')
    path = source.root / Path(source.path).expanduser()
    if path.is_dir():
        found = sorted(own_file(file, path, DataError) for file in path.rglob("*") if _is_readable(file, path))
        if not found:
            raise DataError(f"{path}: holds no file that is read here; those end in {', '.join(SUFFIXES)}")
    elif path.is_file():
        found = [path]
    elif path.exists():
        raise DataError(f"{path}: is a device or a pipe; a file is needed")
    elif set(path.name) & set("*?["):
        found = sorted(file for file in path.parent.glob(path.name) if file.is_file())
        if not found:
            raise DataError(f"{path}: no file matches")
    else:
        raise DataError(f"{path}: no such file" + _hint(source.path))
    return [
        SourceFile(encodable(os.path.relpath(file, source.root) if source.root.parts else str(file)), file)
        for file in found
    ]


def read_file(file: SourceFile) -> Iterator[Row | RowError]:
    """The rows of one file.

    Raises:
        DataError: as `read_rows`.
    """
    name = file.path.name.lower()
    if not name.endswith(SUFFIXES):
        raise DataError(f"{file.name}: is in no form that is read here; those are {', '.join(SUFFIXES)}")
    if file.path.exists() and not file.path.is_file():
        raise DataError(f"{file.name}: is a folder, a device or a pipe; a file is needed")
    try:
        if name.endswith(".parquet"):
            yield from _read_parquet(file)
            return
        with open_bytes(file.path) as stream:
            if ".jsonl" in name[-9:] or not _is_list(stream):
                yield from _read_lines(file, stream)
            else:
                yield from _read_json(file, stream)
    except FileNotFoundError as error:
        raise DataError(f"{file.name}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file.name}: cannot be read: {error}") from error


def _hint(path: str) -> str:
    looks_like_hub = path.count("/") == 1 and not path.startswith(("/", ".", "~")) and "." not in path.split("/")[1]
    return f'; a data set of the hub is named "{HUB}{path}"' if looks_like_hub else ""


def _is_readable(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.name.lower().endswith(SUFFIXES) and file.is_file()


def _read_lines(file: SourceFile, stream: IO[bytes]) -> Iterator[Row | RowError]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) > MAX_LINE_BYTES:
            _skip_line(file, stream, line)
            why = f"is longer than {MAX_LINE_BYTES >> 20} MiB"
            yield RowError(file.name, number, "", "too large", why, "split it into several rows")
        elif line.strip():
            yield _parse(line, file.name, number)


def _skip_line(file: SourceFile, stream: IO[bytes], line: bytes) -> None:
    """Reads on to the end of a line that is too long."""
    skipped = 0
    while line and not line.endswith(b"\n"):
        line = stream.readline(MAX_LINE_BYTES)
        skipped += len(line)
        if skipped > MAX_SKIPPED_BYTES:
            raise DataError(f"{file.name}: holds more than {MAX_SKIPPED_BYTES >> 30} GiB without a line end: no rows")


def _parse(line: bytes, name: str, number: int) -> Row | RowError:
    try:
        return Row(name, number, parse_json(line))
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1} of the line is {line[error.start]:#04x}"
        return RowError(name, number, "", "not UTF-8", f"is not UTF-8 text: {where}", "write the file as UTF-8")
    except ValueError as error:  # not JSON, or a number of too many digits
        return RowError(name, number, "", "not JSON", f"is not valid JSON: {error}", "write one JSON object a line")


def _is_list(stream: BufferedReader) -> bool:
    """Whether a .json file is one list of rows; many hold JSON lines in truth."""
    return stream.peek(1024).removeprefix(_BOM).lstrip().startswith(b"[")


def _read_json(file: SourceFile, stream: IO[bytes]) -> Iterator[Row | RowError]:
    for number, value in enumerate(list_items(stream, file.name), start=1):
        yield Row(file.name, number, value, "row")


def _read_parquet(file: SourceFile) -> Iterator[Row | RowError]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(
            f'{file.name}: Parquet files are read with pyarrow, which is not installed: pip install "open-exaone[data]"'
            ", or convert the file to .jsonl"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(file.path) as opened:
            for batch in parquet_batches(opened):
                for value in _batch_values(batch):
                    number += 1
                    if isinstance(value, UnicodeDecodeError):
                        why = f"holds text that is not UTF-8: {value}"
                        yield RowError(file.name, number, "", "not UTF-8", why, unit="row")
                    else:
                        yield Row(file.name, number, value, "row")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, MemoryError) as error:  # pyarrow's own errors are kinds of these
        raise DataError(f"{file.name}: row {number + 1}: cannot be read: {error}") from error


def _batch_values(batch: Any) -> list[Any]:
    """A batch's rows; where one cannot be decoded, its error stands in its place."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError as error:
        if len(batch) == 1:
            return [error]
        return [value for place in range(len(batch)) for value in _batch_values(batch.slice(place, 1))]
