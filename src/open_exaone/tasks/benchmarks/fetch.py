"""Fetches a benchmark once, checks every row, and writes it down in one form, with a checksum."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from open_exaone.base.errors import ConfigError
from open_exaone.base.files import write_atomically
from open_exaone.tasks.benchmarks.benchmark import Benchmark, Row
from open_exaone.tasks.benchmarks.fetched import fetched_file
from open_exaone.tasks.benchmarks.load import Loaded, OnChange, find, read
from open_exaone.tasks.benchmarks.registry import get_benchmark, is_shipped


@dataclass(frozen=True, slots=True)
class Fetched:
    """A benchmark's file, and what is in it."""

    path: Path
    num_rows: int  # those that count; the file has no others
    sha256: str  # of the rows, as `Loaded.sha256`: the same for the same rows from anywhere
    is_pinned: bool  # whether these are the rows that we know
    source: str  # where they were read


def fetch_benchmark(
    name: str, source: str | None = None, out: str | Path | None = None, *, on_change: OnChange = "error"
) -> Fetched:
    """Reads a benchmark from the hub or a file of yours, checks every row, and writes those that count as `.jsonl`.

    Without `out` the file goes where `load_benchmark` looks before it asks the hub, so that no source need be named
    later. It appears whole or not at all; an earlier one stays until then.

    Args:
        name: a benchmark, or a `.toml` file that describes one; such a one needs `out`.
        source: a file, a folder, or `owner/name[@revision]` of the hub; the hub's own copy when left out.
        out: where to write instead.
        on_change: "warn" to take content that differs from what we know; loading it later is then no error either.

    Raises:
        ConfigError: there is no such benchmark, or nothing to fetch.
        DataError: it cannot be fetched, with the fix; or a row is wrong: names file, line and field.
        RunFolderError: the file cannot be written.
    """
    benchmark = get_benchmark(name)
    found = find(benchmark, source)
    loaded = list[Loaded]()

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="ascii") as file:
            loaded.append(read(found, on_change=on_change, on_row=lambda row: _write_row(file, row)))

    path = _path(name, benchmark, out)
    write_atomically(path, write)
    (result,) = loaded
    return Fetched(path, len(result.problems), result.sha256, result.is_pinned, result.source)


def _path(name: str, benchmark: Benchmark, out: str | Path | None) -> Path:
    if out is not None:
        path = Path(out).expanduser()
        if path.suffix != ".jsonl":
            raise ConfigError(f"--out {out}: must end in .jsonl, the form that is written")
        return path
    if benchmark.make is not None:
        raise ConfigError(f"{name}: is made by code, there is nothing to fetch; --out FILE.jsonl writes its rows down")
    if not is_shipped(benchmark):
        raise ConfigError(f"{name}: is a description of your own: name a file with --out, and give it as `file` there")
    return fetched_file(benchmark.name)


def _write_row(file: IO[str], row: Row) -> None:
    """A row as it was read; what JSON has no word for, such as a date, as its text, which is also what is hashed."""
    file.write(json.dumps(row, default=str) + "\n")
