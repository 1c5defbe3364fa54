"""The examples of a source, by the chunk: its format found out, each row parsed, ids that come again named.

open_examples(source, limit=None, asked=False) -> Examples(format, formats, chunks)
for chunk in examples.chunks: for parsed in chunk: parsed.place, parsed.row, parsed.result (Example | RowError)
"""

import itertools
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from open_exaone.base.config import did_you_mean
from open_exaone.base.errors import DataError
from open_exaone.base.tables import Row, RowError, encodable
from open_exaone.data.columns import FORMATS, RowFormat, detect_format
from open_exaone.data.config import SourceConfig
from open_exaone.data.repeats import Repeats
from open_exaone.data.row_formats import RowParser
from open_exaone.data.rows import Example
from open_exaone.data.source import read_rows

CHUNK_ROWS = 512
_MAX_NAMED = 12  # domains that an error names
_PEEKED = 200  # rows; the format that most of them have is the source's


class Parsed(NamedTuple):
    """A row and what was made of it."""

    place: int  # over all rows of the source, from 0
    row: Row | None  # None where it could not be read
    result: Example | RowError
    text: str = ""  # `Example.text` of a good row


class Examples(NamedTuple):
    """A source, opened."""

    format: RowFormat
    formats: Counter[str]  # among the first rows
    chunks: Iterator[list[Parsed]]
    parser: RowParser  # knows which columns of the rows so far are not read


def open_examples(source: SourceConfig, limit: int | None = None, *, asked: bool = False) -> Examples:
    """Finds out the format of a source; its rows are then read as `chunks` is iterated.

    Args:
        limit: read only so many rows.
        asked: its problems are asked, not learned: in reasoning mode they need no thought of their own.

    Raises:
        DataError: it cannot be opened, or no row has a format that is known.
    """
    end = None if source.limit is None else source.skip + source.limit
    rows = itertools.islice(itertools.islice(read_rows(source), source.skip, end), limit)
    peeked = list(itertools.islice(rows, _PEEKED))
    found = [detect_format(row.value, source) for row in peeked if isinstance(row, Row)]
    formats = Counter(str(format) for format in found if format is not None)
    if source.format != "auto":
        format: RowFormat = source.format
    elif formats:
        format = max(FORMATS, key=lambda known: formats[known])
    else:
        raise DataError(_unknown(source, peeked))
    parser = RowParser(format, source, asked=asked)
    chunks = _chunks(itertools.chain(peeked, rows), parser, source)
    if source.domains:
        chunks = _of_domains(chunks, source, is_whole=limit is None)
    return Examples(format, formats, chunks, parser)


def _unknown(source: SourceConfig, peeked: Sequence[Row | RowError]) -> str:
    """Why a source has no format."""
    row = next((row for row in peeked if isinstance(row, Row)), None)
    if row is None:
        first = next((row for row in peeked if isinstance(row, RowError)), None)
        return f"{source.path}: no row can be read" if first is None else str(first)
    for field, name in source.fields.items() if isinstance(row.value, dict) else ():
        if name not in row.value and name.partition(".")[0] not in row.value:  # a dot may read a key of an object
            known = ", ".join(row.value)
            why = f"fields.{field} = {name!r}: no such column{did_you_mean(name, row.value)} Its columns are {known}"
            return encodable(f"{row.place}: {why}")
    column = next(iter(row.value), "text") if isinstance(row.value, dict) else "text"
    columns = (
        ", ".join(f"{name} (null)" if value is None else str(name) for name, value in row.value.items())
        if isinstance(row.value, dict)
        else f"no columns, but {reprlib.repr(row.value):.60}"
    )
    return encodable(
        f"{row.place}: has columns {columns}: no format that is known; give the source's format ({', '.join(FORMATS)}) "
        f'and which column holds what: in a recipe format = "messages", fields = {{ messages = "{column}" }}, for '
        f"`exaone data check` --format messages --field messages={column}"
    )


def _chunks(rows: Iterable[Row | RowError], parser: RowParser, source: SourceConfig) -> Iterator[list[Parsed]]:
    ids = _Ids(source.unique_ids == "source")
    numbered = enumerate(rows, source.skip)
    while chunk := [
        Parsed(place, row, *parser.parse(row)) if type(row) is Row else Parsed(place, None, row)  # type: ignore[arg-type]
        for place, row in itertools.islice(numbered, CHUNK_ROWS)
    ]:
        yield ids.checked(chunk)


def _of_domains(chunks: Iterable[list[Parsed]], source: SourceConfig, *, is_whole: bool) -> Iterator[list[Parsed]]:
    """The chunks, less the good rows of other domains than the source's.

    Args:
        is_whole: all rows are read, so that a domain without rows is an error.
    """
    found = Counter[str | None]()
    for chunk in chunks:
        domains = [parsed.result.subject if isinstance(parsed.result, Example) else None for parsed in chunk]
        found.update(domains)
        yield [
            parsed
            for parsed, domain in zip(chunk, domains, strict=True)
            if domain in source.domains or not isinstance(parsed.result, Example)
        ]
    if is_whole and (lacking := [domain for domain in source.domains if not found[domain]]):
        there = sorted(domain for domain in found if domain is not None)
        known = ", ".join(there[:_MAX_NAMED]) + ", …" * (len(there) > _MAX_NAMED)
        fix = ": its rows have none; name the column that holds it, as fields = { domain = … }"
        why = f"{did_you_mean(lacking[0], there)} There are {known}" if there else fix
        raise DataError(encodable(f"{source.path}: domains: no good row is of domain {lacking[0]!r}{why}"))


class _Ids:
    """The ids of a source's rows.

    Args:
        over_files: an id may stand only once in all files; else only once in each.
    """

    def __init__(self, over_files: bool) -> None:
        self._over_files = over_files
        self._file: str | None = None
        self._of_source = self._of_file = Repeats()

    def checked(self, chunk: list[Parsed]) -> list[Parsed]:
        """The chunk, with an error in the place of a row whose id another one has.

        An id that a row of another file has gets the row's place behind it, as a problem is known by its id.
        """
        named = [(at, item.row) for at, item in enumerate(chunk) if type(item.result) is Example and item.result.id]
        for file, group in itertools.groupby(named, key=lambda pair: pair[1].file if pair[1] else ""):
            if self._file not in (None, file):
                self._of_file = Repeats()
            self._file = file
            self._check_file(chunk, [at for at, _ in group])
        return chunk

    def _check_file(self, chunk: list[Parsed], at: list[int]) -> None:
        ids = [str(chunk[index].result.id) for index in at]  # type: ignore[union-attr]  # only examples have ids
        places = [chunk[index].place for index in at]
        of_source = self._of_source.first(ids, places)
        of_file = of_source if self._of_file is self._of_source else self._of_file.first(ids, places)
        for index, id, anywhere, here in zip(at, ids, of_source, of_file, strict=True):
            row, example = chunk[index].row, chunk[index].result
            if anywhere is None or row is None or not isinstance(example, Example):
                continue
            first = anywhere if self._over_files else here
            if first is not None:
                why = f"{id!r} is the id of row {first + 1} too"
                error = RowError(row.file, row.number, "id", "duplicate id", why, "give each row its own", row.unit)
                chunk[index] = chunk[index]._replace(result=error)
            else:
                chunk[index] = chunk[index]._replace(result=example.renamed(f"{id}#{chunk[index].place + 1}"))
