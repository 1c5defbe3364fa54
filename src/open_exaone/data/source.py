"""Files with rows: a file, a folder, a pattern, or a data set of the hub.

find_files(source) -> list[SourceFile(name, path)]
read_rows(source) -> Iterator[Row | RowError]             a RowError stands where a row could not be read
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from open_exaone.base.errors import DataError
from open_exaone.base.links import own_file
from open_exaone.base.tables import SUFFIXES, Row, RowError, encodable, is_table, read_table
from open_exaone.data.config import SourceConfig
from open_exaone.data.hub import HUB, hub_files


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
        for row in read_table(file.path, file.name):
            is_empty = False
            yield row
        if is_empty:
            yield RowError(file.name, 0, "", "empty file", "holds no row", "write rows into it, or take it out")


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
    elif set(str(path)) & set("*?["):
        fixed = list(itertools.takewhile(lambda part: not set(part) & set("*?["), path.parts))
        pattern = Path(*path.parts[len(fixed) :])
        found = sorted(file for file in Path(*fixed).glob(str(pattern)) if file.is_file())
        if not found:
            raise DataError(f"{path}: no file matches")
    else:
        raise DataError(f"{path}: no such file" + _hint(source.path))
    return [
        SourceFile(encodable(os.path.relpath(file, source.root) if source.root.parts else str(file)), file)
        for file in found
    ]


def _hint(path: str) -> str:
    looks_like_hub = path.count("/") == 1 and not path.startswith(("/", ".", "~")) and "." not in path.split("/")[1]
    return f'; a data set of the hub is named "{HUB}{path}"' if looks_like_hub else ""


def _is_readable(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and is_table(file) and file.is_file()
