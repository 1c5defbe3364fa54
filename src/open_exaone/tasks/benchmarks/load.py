"""From a benchmark and a source to problems, with the hash of what was read."""

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks.benchmark import Benchmark, Pin, Row
from open_exaone.tasks.benchmarks.hub import fetch, is_hub_name
from open_exaone.tasks.benchmarks.sources import Placed, find_files, is_readable, read_rows

OnChange = Literal["error", "warn"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Problems, and what tells whether another's are the same."""

    problems: tuple[Problem, ...]
    sha256: str  # over the rows that were kept, in their order
    source: str  # where they were read: a file, a folder, or "owner/name" of the hub
    is_pinned: bool  # whether the content is one that we have seen


def load(
    benchmark: Benchmark, source: str | None = None, *, limit: int | None = None, on_change: OnChange = "error"
) -> Loaded:
    """Reads a benchmark's problems.

    Args:
        source: a file, a folder, or `owner/name[@revision]` of the hub; the benchmark's own when left out.
        limit: stop after so many problems. The hash then covers those alone, and is compared with none.
        on_change: what to do where a file with the fields of one that we know holds something else.

    Raises:
        DataError: there is no such source, a row is wrong (names file, line and field), two rows have the same id, no
            row is left, or the content changed.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit = {limit}: must be at least 1")
    name, files = _find(benchmark, source)
    digest, problems, first = hashlib.sha256(), dict[str, Problem](), None
    for place, row, problem in islice(_problems(benchmark, files), limit):
        if problem.id in problems:
            raise DataError(f"{place}: {problem.id!r} is an earlier row's: give each row an id of its own, or drop one")
        digest.update(_canonical(row))
        problems[problem.id] = problem
        first = first or row
    if first is None:
        raise DataError(f"{name}: no row counts for {benchmark.name}: {benchmark.what} Is it the right file?")
    is_pinned = limit is None and _check(benchmark, name, first, digest.hexdigest(), on_change)
    return Loaded(tuple(problems.values()), digest.hexdigest(), name, is_pinned)


def _find(benchmark: Benchmark, source: str | None) -> tuple[str, list[Path]]:
    """What to call the source, and its files."""
    hub, patterns = benchmark.hub, benchmark.hub.files if benchmark.hub else ()
    if source is None and benchmark.file is not None:
        source = str(benchmark.file)
    if source is None:
        if hub is None:
            raise DataError(
                f"{benchmark.name}: cannot be fetched ({benchmark.licence}): name a file in its schema, which "
                "docs/benchmarks.md shows"
            )
        return hub.repo, fetch(hub)
    path = Path(source).expanduser()
    if path.is_dir():
        return source, find_files(path, patterns)
    if path.exists() or is_readable(path) or not is_hub_name(source):
        return source, [path]
    if hub is None:
        raise DataError(f"{source}: there is no such file or folder here, and the hub has no copy of {benchmark.name}")
    return source, fetch(hub, source)


def _problems(benchmark: Benchmark, files: list[Path]) -> Iterator[tuple[str, Row, Problem]]:
    """Every row that counts, with its place and its problem."""
    for number, (place, row) in enumerate(_rows(files), start=1):
        try:
            if benchmark.keep(row):
                yield place, row, benchmark.parse(row, number)
        except ValueError as error:
            raise DataError(f"{place}: {error}") from error


def _rows(files: list[Path]) -> Iterator[Placed]:
    for file in files:
        yield from read_rows(file)


def _canonical(row: Row) -> bytes:
    """A row as it is hashed: sorted keys, and no fields that hold nothing, which some forms must write out."""
    return (json.dumps(_without_nulls(row), ensure_ascii=True, sort_keys=True, default=str) + "\n").encode()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _check(benchmark: Benchmark, name: str, first: Row, sha256: str, on_change: OnChange) -> bool:
    """Whether the content is pinned; a pin speaks for files with its fields."""
    if any(pin.sha256 == sha256 for pin in benchmark.pins):
        return True
    known: list[Pin] = [pin for pin in benchmark.pins if pin.fields == frozenset(first)]
    if known:
        message = (
            f"{name}: the benchmark's content changed: the rows of {benchmark.name} have sha256 {sha256}, not "
            f"{known[0].sha256}: scores do not compare with those of others"
        )
        if on_change == "error":
            raise DataError(f"{message}; fetch it anew, or allow it with on_change='warn'")
        warnings.warn(message, stacklevel=4)
    return False
