"""From a benchmark and a source to problems, with the hash of what was read."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from open_exaone.base.errors import DataError
from open_exaone.base.hub import is_hub_name, snapshot
from open_exaone.base.records import Problem
from open_exaone.base.tables import is_table
from open_exaone.tasks.benchmarks.benchmark import Benchmark, Hub, Pin, Row
from open_exaone.tasks.benchmarks.sources import Placed, find_files, read_rows

OnChange = Literal["error", "warn"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Problems, and the hash that shows whether another's are the same."""

    problems: tuple[Problem, ...]
    sha256: str  # over the rows that were kept, in their order
    source: str  # where they were read: a file, a folder, "owner/name" of the hub, or what code was asked to make
    is_pinned: bool  # whether the content is one that we have seen
    is_whole: bool = True  # whether no row was left out by a limit


@dataclass(frozen=True, slots=True)
class Found:
    """Where a benchmark's rows are; none is read yet."""

    benchmark: Benchmark
    name: str  # what to call the place: a file, a folder, "owner/name" of the hub, or what code was asked to make
    rows: Iterable[Placed]  # once through
    has_pins: bool  # whether the benchmark's pins speak for these rows
    is_accepted: bool = False  # whether somebody took them, changed or not: then a change is no error, but a warning


def load(
    benchmark: Benchmark, source: str | None = None, *, limit: int | None = None, on_change: OnChange = "error"
) -> Loaded:
    """Finds a benchmark's rows and reads their problems.

    Args:
        source, limit, on_change: as for `find` and `read`.

    Raises:
        ConfigError, DataError: as `find` and `read`.
    """
    return read(find(benchmark, source), limit=limit, on_change=on_change)


def find(benchmark: Benchmark, source: str | None = None) -> Found:
    """Finds a benchmark's rows, and fetches them where they are on the hub.

    Args:
        source: a file, a folder, or `owner/name[@revision]` of the hub; of a benchmark that code makes also what to
            make, such as "1024,4096:seed=1". The benchmark's own when left out.

    Raises:
        DataError: there are none: the hub has no copy, is out of reach, or has it behind a form.
    """
    hub, patterns = benchmark.hub, benchmark.hub.files if benchmark.hub else ()
    if source is None and benchmark.file is not None:
        source = str(benchmark.file)
    if benchmark.make is not None and (source is None or not is_table(Path(source))):
        return _make(benchmark, source)
    if source is None:
        if hub is None:
            raise DataError(
                f"{benchmark.name}: cannot be fetched ({benchmark.licence}): bring a file in its schema, which "
                f"docs/benchmarks.md shows: exaone fetch {benchmark.name} --rows FILE"
            )
        return Found(benchmark, hub.repo, _rows(_fetch(hub, hub.repo)), True)
    path, has_pins = Path(source).expanduser(), benchmark.make is None
    if path.is_dir():
        return Found(benchmark, source, _rows(find_files(path, patterns)), has_pins)
    if path.exists() or is_table(path) or not is_hub_name(source):
        return Found(benchmark, source, _rows([path]), has_pins)
    if hub is None:
        raise DataError(f"{source}: there is no such file or folder here, and the hub has no copy of {benchmark.name}")
    return Found(benchmark, source, _rows(_fetch(hub, source)), has_pins)


def read(
    found: Found,
    *,
    limit: int | None = None,
    on_change: OnChange = "error",
    on_row: Callable[[Row], object] = lambda row: None,
) -> Loaded:
    """Reads the problems of the rows that were found.

    Args:
        limit: stop after so many problems. The hash then covers those alone, and no content is refused; where there
            were no more, `is_pinned` still says whether they are known.
        on_change: what to do where a file with the fields of one that we know holds something else.
        on_row: gets each row that counts, in order, before anything is known of those behind it.

    Raises:
        ConfigError: what code is asked to make is wrong.
        DataError: a row is wrong (names file, line and field), two rows have the same id, no row is left, or the
            content changed.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit = {limit}: must be at least 1")
    digest, problems, first = hashlib.sha256(), dict[str, Problem](), None
    rows = _problems(found)
    for place, row, problem in islice(rows, limit):
        if problem.id in problems:
            raise DataError(f"{place}: {problem.id!r} is an earlier row's: give each row a unique id, or drop one")
        on_row(row)
        digest.update(_canonical(row))
        problems[problem.id] = problem
        first = first or row
    if first is None:
        benchmark = found.benchmark
        raise DataError(f"{found.name}: no row belongs to {benchmark.name}: {benchmark.what} Is it the right file?")
    sha256 = digest.hexdigest()
    if limit is None:
        is_whole = True
        is_pinned = found.has_pins and _check(found, first, sha256, "warn" if found.is_accepted else on_change)
    else:
        is_whole = len(problems) < limit or not _has_more(rows)
        is_pinned = found.has_pins and is_whole and _is_known(found, sha256)
    return Loaded(tuple(problems.values()), sha256, found.name, is_pinned, is_whole)


def _fetch(hub: Hub, repo: str) -> list[Path]:
    folder = snapshot(repo, hub.files, use="name the folder with --rows")
    try:
        return find_files(folder, hub.files)
    except DataError as error:
        raise DataError(
            f"{repo}: has no {' or '.join(hub.files)}; its files were arranged anew: fetch them from "
            f"https://huggingface.co/datasets/{repo.partition('@')[0]} yourself and name the file"
        ) from error


def _make(benchmark: Benchmark, asked: str | None) -> Found:
    assert benchmark.make is not None
    spec = benchmark.spec if asked is None else asked
    name = f"{benchmark.name} {spec}"
    rows = enumerate(benchmark.make(spec), start=1)
    return Found(benchmark, name, ((f"{name}: row {number}", row) for number, row in rows), asked is None)


def _problems(found: Found) -> Iterator[tuple[str, Row, Problem]]:
    """Every row that counts, with its place and its problem."""
    number = 1
    for place, row in found.rows:
        try:
            if not found.benchmark.keep(row):
                continue
            problem = found.benchmark.parse(row, number)
        except ValueError as error:
            raise DataError(f"{place}: {error}") from error
        number += 1
        yield place, row, problem


def _has_more(rows: Iterator[object]) -> bool:
    """Whether a row follows, right or wrong."""
    try:
        return next(rows, None) is not None
    except DataError:
        return True


def _rows(files: list[Path]) -> Iterator[Placed]:
    for file in files:
        yield from read_rows(file)


def rows_hash(rows: Iterable[Row]) -> str:
    """The hash of rows that come from elsewhere, as `Loaded.sha256` has it."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(_canonical(row))
    return digest.hexdigest()


def _canonical(row: Row) -> bytes:
    """A row as it is hashed: sorted keys, and no fields that hold nothing, which some forms must write out."""
    return (json.dumps(_without_nulls(row), ensure_ascii=True, sort_keys=True, default=str) + "\n").encode()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _is_known(found: Found, sha256: str) -> bool:
    return any(pin.sha256 == sha256 for pin in found.benchmark.pins)


def _check(found: Found, first: Row, sha256: str, on_change: OnChange) -> bool:
    """Whether the content is pinned; a pin speaks for files with its fields."""
    benchmark = found.benchmark
    if _is_known(found, sha256):
        return True
    known: list[Pin] = [pin for pin in benchmark.pins if pin.fields == frozenset(first)]
    if known:
        message = (
            f"{found.name}: the benchmark's content changed: the rows of {benchmark.name} have sha256 {sha256}, not "
            f"{known[0].sha256}: scores do not compare with those of others"
        )
        if on_change == "error":
            fix = "install the version of the code that made it" if benchmark.make else "fetch it again"
            raise DataError(f"{message}; {fix}, or accept it with --changed (on_change='warn')")
        warnings.warn(message, stacklevel=4)
    return False
