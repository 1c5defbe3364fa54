"""What a benchmark is: rows from a file, from the hub, or made by code."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from open_exaone.base.records import Problem

Row = Mapping[str, Any]


class Access(StrEnum):
    """How its rows are come by; none of them is shipped in this package."""

    OPEN = "open"  # the hub has it
    GATED = "gated"  # the hub has it, behind a form
    OWN = "own"  # no public copy may be fetched: bring a file in the schema that docs/benchmarks.md shows
    MADE = "made"  # code makes them: there is nothing to fetch


class PromptKind(StrEnum):
    """What the user turn looks like; `prompts` holds the texts."""

    SHORT_ANSWER = "short answer"  # LG's
    CHOICE = "choice"  # LG's
    BOTH = "short answer or choice"
    CODE = "code"  # ours: LG's is not published
    PLAIN = "plain"  # the question, and no more
    OWN = "own"  # a template of the user's


@dataclass(frozen=True, slots=True)
class Hub:
    """A data set of the Hugging Face hub."""

    repo: str  # "owner/name"
    files: tuple[str, ...]  # patterns of its files within that repository, in the order in which they are read
    config: str = "default"  # as its page calls it
    split: str = "test"


@dataclass(frozen=True, slots=True)
class Pin:
    """The content of a copy that we have seen. It speaks for copies with the same fields, and for no others."""

    fields: frozenset[str]
    sha256: str  # as `load.Loaded.sha256`


def keep_all(row: Row) -> bool:
    """The rows of most benchmarks all count."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A set of questions and how its rows are read.

    `parse` is a plain function (row, its number from 1 among those that count) -> Problem; where the row is not as it
    should be it raises ValueError naming the field, and the loader adds file and line.
    """

    name: str
    what: str  # one sentence
    language: str  # "en", "ko", "es"
    verifiers: tuple[str, ...]  # the kinds that its problems are judged by
    prompt: PromptKind
    hub: Hub | None  # None: the hub has no copy that we could name
    access: Access
    licence: str  # what its authors allow, as far as we know
    parse: Callable[[Row, int], Problem]
    keep: Callable[[Row], bool] = keep_all  # which rows count; raises ValueError as `parse` does
    pins: tuple[Pin, ...] = ()
    file: Path | None = None  # where a benchmark of the user's own has its rows
    make: Callable[[str], Iterable[Row]] | None = None  # makes the rows, from what was asked for ("1024,4096:seed=1")
    spec: str = ""  # what `make` makes by default; `pins` hold for that alone
