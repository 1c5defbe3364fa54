"""The examples of a source, by the chunk: its format found out, each row parsed, ids that come again named.

open_examples(source, limit=None) -> Examples(format, formats, chunks)
for chunk in examples.chunks: for parsed in chunk: parsed.place, parsed.row, parsed.result (Example | RowError)
"""

import itertools
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from open_exaone.base.errors import DataError
from open_exaone.base.tables import Row, RowError, encodable
from open_exaone.data.config import SourceConfig
from open_exaone.data.repeats import Repeats
from open_exaone.data.row_formats import NEEDS, RowFormat, detect_format, parse_row
from open_exaone.data.rows import Example
from open_exaone.data.source import read_rows

CHUNK_ROWS = 512
_PEEKED = 200  # rows; the format that most of them have is the source's


class Parsed(NamedTuple):
    """A row and what was made of it."""

    place: int  # over all rows of the source, from 0
    row: Row | None  # None where it could not be read
    result: Example | RowError


class Examples(NamedTuple):
    """A source, opened."""

    format: RowFormat
    formats: Counter[str]  # among the first rows
    chunks: Iterator[list[Parsed]]


def open_examples(source: SourceConfig, limit: int | None = None) -> Examples:
    """Finds out the format of a source; its rows are then read as `chunks` is iterated.

    Args:
        limit: read only so many rows.

    Raises:
        DataError: it cannot be opened, or no row has a format that is known.
    """
    end = None if source.limit is None else source.skip + source.limit
    rows = itertools.islice(itertools.islice(read_rows(source), source.skip, end), limit)
    peeked = list(itertools.islice(rows, _PEEKED))
    found = [detect_format(row.value, source.fields) for row in peeked if isinstance(row, Row)]
    formats = Counter(str(format) for format in found if format is not None)
    if source.format != "auto":
        format: RowFormat = source.format
    elif formats:
        format = max(NEEDS, key=lambda known: formats[known])
    else:
        raise DataError(_unknown(source, peeked))
    return Examples(format, formats, _chunks(itertools.chain(peeked, rows), format, source))


def _unknown(source: SourceConfig, peeked: Sequence[Row | RowError]) -> str:
    """Why a source has no format."""
    row = next((row for row in peeked if isinstance(row, Row)), None)
    if row is None:
        first = next((row for row in peeked if isinstance(row, RowError)), None)
        return f"{source.path}: no row can be read" if first is None else str(first)
    columns = (
        ", ".join(map(str, row.value))
        if isinstance(row.value, dict)
        else f"no columns, but {reprlib.repr(row.value):.60}"
    )
    return encodable(
        f"{row.place}: has columns {columns}: no format that is known; give the source's format ({', '.join(NEEDS)}) "
        "and, in fields, which column holds what"
    )


def _chunks(rows: Iterable[Row | RowError], format: RowFormat, source: SourceConfig) -> Iterator[list[Parsed]]:
    ids = Repeats()
    placed = enumerate(rows, start=source.skip)
    while chunk := list(itertools.islice(placed, CHUNK_ROWS)):
        yield _without_repeats([_parse(index, row, format, source) for index, row in chunk], ids)


def _parse(index: int, row: Row | RowError, format: RowFormat, source: SourceConfig) -> Parsed:
    return Parsed(index, row, parse_row(row, format, source)) if isinstance(row, Row) else Parsed(index, None, row)


def _without_repeats(chunk: list[Parsed], ids: Repeats) -> list[Parsed]:
    """The chunk, with an error in the place of a row whose id another one has."""
    places = [place for place, item in enumerate(chunk) if isinstance(item.result, Example) and item.result.id]
    if not places:
        return chunk
    texts = [str(chunk[place].result.id) for place in places]  # type: ignore[union-attr]  # only examples are placed
    for place, first in zip(places, ids.first(texts, [chunk[place].place for place in places]), strict=True):
        row = chunk[place].row
        if first is not None and row is not None:
            why = f"{chunk[place].result.id!r} is the id of row {first + 1} too"  # type: ignore[union-attr]
            error = RowError(row.file, row.number, "id", "duplicate id", why, "give each row its own", row.unit)
            chunk[place] = chunk[place]._replace(result=error)
    return chunk
