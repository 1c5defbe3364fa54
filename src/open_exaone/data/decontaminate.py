"""Training examples that hold a benchmark's item are found and left out, as EXAONE 3.5's report describes it.

The method (arXiv 2412.04862, section 2.2.2 and appendix C): benchmark items are reduced to letters and digits, and
every window of 50 of them goes into a pool; an example is contaminated when one of 10 random windows of its own is in
the pool. Ours, where the report is silent or a miss can be avoided at no cost: case is folded, compatible characters
are unified, an example that equals an item is always found, and all windows can be looked up instead of 10.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from open_exaone.base.errors import DataError
from open_exaone.base.files import json_line, write_atomically, write_json
from open_exaone.base.tables import Row

WINDOW = 50  # characters
SAMPLES = 10  # windows of an example that are looked up
BLOCK_CHARS = 1 << 20  # so many are hashed at a time, and about so many texts' characters wait for it
BLOCK_ROWS = 10_000
SLOTS_PER_WINDOW = 8  # of the table that rules out most windows at once
FACTOR = 0x9E3779B97F4A7C15  # of the polynomial hash; odd, the golden ratio's bits
ASCII_SIGNS = bytes(code for code in range(128) if not chr(code).isalnum())
NOT_KEPT = re.compile(r"[\W_]+")
LONG_RUNS = re.compile(r"[^\w\x00-\x7f]{31,}")  # of signs that are dropped: sorting so many accents takes long

AnyRow = TypeVar("AnyRow")
Texts = str | Sequence[str]  # of an example: its one text, or its turns or fields


class Reason(StrEnum):
    """Why an example is left out."""

    EQUAL = "equal"  # it, or one of its parts, is the item
    WINDOW = "window"  # it shares at least 50 characters with the item


@dataclass(frozen=True, slots=True)
class Overlap:
    """What an example and a benchmark's item have in common, in normalised characters."""

    item: str  # the item's id
    reason: Reason
    text: str  # the 50 characters that were found; of a shorter item all
    shared_chars: int  # how many on both sides of them are the same too, themselves counted
    item_chars: int  # of the whole item


@dataclass(frozen=True, slots=True)
class Dropped:
    """An example that was left out."""

    file: str
    unit: str  # what the number counts: "line" or "row"
    number: int  # from 1
    overlap: Overlap


def normalise(text: str) -> str:
    """The text's letters and digits of any script, case folded, compatible forms (`ﬁ`, `x²`, `１`) unified."""
    if text.isascii():  # the same, ten times as fast
        return text.lower().encode("ascii").translate(None, ASCII_SIGNS).decode("ascii")
    return NOT_KEPT.sub("", unicodedata.normalize("NFKC", LONG_RUNS.sub(" ", text)).casefold())


class Pool:
    """Every window of 50 characters of a set of benchmark items, as sorted hashes, and the items' normalised texts.

    Takes 20 to 28 bytes for each window; hits are confirmed on the text, so a clash of hashes drops no example.
    """

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        """As `build`."""
        kept = [(id_, text) for id_, text in ((id_, normalise(text)) for id_, text in items) if text]
        if not kept:
            raise DataError("benchmark items: none has a letter or a digit; name a benchmark that has rows")
        self.ids = [id_ for id_, _ in kept]
        self.texts = [text for _, text in kept]
        self.by_text = {text: index for index, text in reversed(list(enumerate(self.texts)))}
        hashes = [window_hashes(_codes(text)) for text in self.texts]
        self.hashes, first = np.unique(np.concatenate(hashes), return_index=True)
        owners = np.repeat(np.arange(len(hashes), dtype=np.int32), [len(found) for found in hashes])
        self.owners: NDArray[np.int32] = owners[first]
        num_bits = max(10, (SLOTS_PER_WINDOW * len(self.hashes)).bit_length())
        self._shift = np.uint64(64 - num_bits)
        self._is_near = np.zeros(1 << num_bits, np.bool_)
        self._is_near[self.hashes >> self._shift] = True

    @classmethod
    def build(cls, items: Iterable[tuple[str, str]]) -> "Pool":
        """Makes the pool of benchmark items, each an id and a text.

        Args:
            items: what of an item must not be trained on, as a rule its question. An id such as
                `math_500:test/algebra/1.json` is counted under `math_500`.

        Raises:
            DataError: no item has a letter or a digit; a pool of nothing would find everything clean.
        """
        return cls(items)

    def hits(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The places in `text` at which a window of the pool begins, and the first item that has each.

        Hashes are compared, so a place in a long while may be wrong.
        """
        places, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
        for start in range(0, len(text) - WINDOW + 1, BLOCK_CHARS):
            found = window_hashes(_codes(text[start : start + BLOCK_CHARS + WINDOW - 1]))
            near = np.flatnonzero(self._is_near[found >> self._shift])
            found = found[near]
            rows = np.searchsorted(self.hashes, found)
            is_hit = self.hashes[np.minimum(rows, len(self.hashes) - 1)] == found
            places.append(near[is_hit] + start)
            owners.append(self.owners[rows[is_hit]])
        return np.concatenate(places), np.concatenate(owners)

    def equal(self, texts: Iterable[str]) -> Overlap | None:
        """The first item that equals one of these normalised texts."""
        for text in texts:
            if (index := self.by_text.get(text)) is not None:
                return Overlap(self.ids[index], Reason.EQUAL, text[:WINDOW], len(text), len(text))
        return None

    def confirm(self, text: str, place: int, owner: int) -> Overlap | None:
        """The overlap of a normalised text with an item, around the window at `place`; None if the item has it not."""
        window, item = text[place : place + WINDOW], self.texts[owner]
        at = item.find(window)
        if len(window) < WINDOW or at < 0:
            return None
        before = _same(reversed(text[:place]), reversed(item[:at]))
        after = _same(text[place + WINDOW :], item[at + WINDOW :])
        return Overlap(self.ids[owner], Reason.WINDOW, window, before + WINDOW + after, len(item))


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _same(one: Iterable[str], other: Iterable[str]) -> int:
    """How many characters are the same from the beginning on."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def window_hashes(codes: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """A polynomial hash, modulo 2^64, of the 50 codes from each place on; [number of codes - 49], or empty.

    By doubling, a dozen passes instead of 50: hashes of 1, 2, 4, … 32 codes, and of 2 + 16 + 32 = 50 together.
    """
    part, size = codes.astype(np.uint64), 1  # the hash of `size` codes from each place on
    whole, covered = part, 0
    while size <= WINDOW:
        if WINDOW & size:
            whole = _joined(part, size, whole, covered) if covered else part
            covered += size
        part = _joined(part, size, part, size)
        size *= 2
    return whole


def _joined(first: NDArray[np.uint64], size: int, second: NDArray[np.uint64], second_size: int) -> NDArray[np.uint64]:
    """The hashes of `size + second_size` codes, of those of the first `size` and of the others behind them."""
    second = second[size:]
    return first[: len(second)] * np.uint64(pow(FACTOR, second_size, 2**64)) + second


def decontaminate(
    rows: Iterable[tuple[AnyRow, Texts]], pool: Pool, *, seed: int = 0, samples: int | None = SAMPLES
) -> Iterator[tuple[AnyRow, Overlap | None]]:
    """Each row, in order, with why it must be left out; None: it may stay.

    An example is contaminated when it, or one of its parts, equals an item, or when one of its windows is in the
    pool. Which windows are looked up depends on the seed and the example's text alone, so neither its place nor its
    neighbours change the outcome. If a share f of its windows is in the pool, it is found with 1 - (1 - f)^samples.

    Args:
        rows: anything, with its text; or with its parts (turns, fields) in order, each of which is compared with whole
            items: give a question and its solution as two. Windows run over all parts joined.
        samples: how many windows of an example are looked up, drawn with replacement; None: all of them.

    Raises:
        ValueError: `samples` is below 1.
    """
    if samples is not None and samples < 1:
        raise ValueError(f"samples = {samples}: must be at least 1, or none for all windows")
    waiting: list[tuple[AnyRow, list[str]]] = []
    num_chars = 0
    for row, texts in rows:
        parts = [normalise(text) for text in ([texts] if isinstance(texts, str) else texts)]
        waiting.append((row, parts))
        num_chars += sum(map(len, parts))
        if num_chars >= BLOCK_CHARS or len(waiting) >= BLOCK_ROWS:
            yield from _judged(waiting, pool, seed, samples)
            waiting, num_chars = [], 0
    yield from _judged(waiting, pool, seed, samples)


def _judged(
    rows: Sequence[tuple[AnyRow, list[str]]], pool: Pool, seed: int, samples: int | None
) -> Iterator[tuple[AnyRow, Overlap | None]]:
    """As `decontaminate`, of normalised parts, all at once."""
    texts = ["".join(parts) for _, parts in rows]
    starts = np.cumsum([0, *map(len, texts)])
    places, owners = pool.hits("".join(texts))  # a window over two texts is of neither, and is not confirmed
    bounds = np.searchsorted(places, starts)
    for index, (row, parts) in enumerate(rows):
        text, hits = texts[index], slice(bounds[index], bounds[index + 1])
        overlap = pool.equal([*parts, text])
        if overlap is None and hits.start < hits.stop:
            overlap = _first(text, places[hits] - starts[index], owners[hits], pool, seed, samples)
        yield row, overlap


def _first(
    text: str,
    places: NDArray[np.int64],
    owners: NDArray[np.int32],
    pool: Pool,
    seed: int,
    samples: int | None,
) -> Overlap | None:
    """The overlap with the item that has most of the windows looked up, at the first of them."""
    if samples is not None:
        is_drawn = np.isin(places, drawn(text, seed, samples))
        places, owners = places[is_drawn], owners[is_drawn]
    counts = Counter(owners.tolist())
    for place, owner in sorted(zip(places.tolist(), owners.tolist(), strict=True), key=lambda hit: -counts[hit[1]]):
        if overlap := pool.confirm(text, place, owner):
            return overlap
    return None


def drawn(text: str, seed: int, samples: int) -> NDArray[np.int64]:
    """Where the windows of a normalised text begin that are looked up: all, if there are no more than `samples`."""
    num_windows = len(text) - WINDOW + 1
    if num_windows <= samples:
        return np.arange(num_windows)
    bits = hashlib.shake_128(f"{seed} {text}".encode()).digest(8 * samples)
    return (np.frombuffer(bits, "<u8") % np.uint64(num_windows)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class DecontaminationReport:
    """What was looked for, how, and what was left out and why."""

    num_items: int  # of the benchmarks
    num_short_items: int  # of these, with fewer than 50 characters: found only where a text equals them
    num_windows: int  # different ones
    samples: int | None  # windows looked up of each example; None: all
    seed: int
    num_rows: int
    dropped: tuple[Dropped, ...]

    @property
    def num_kept(self) -> int:
        return self.num_rows - len(self.dropped)

    @property
    def by_reason(self) -> dict[str, int]:
        """Examples left out, by reason."""
        counts = Counter(row.overlap.reason for row in self.dropped)
        return {reason.value: counts[reason] for reason in Reason}

    @property
    def by_benchmark(self) -> dict[str, int]:
        """Examples left out, by the benchmark (what stands before the colon of an item's id), the most first."""
        return dict(Counter(row.overlap.item.partition(":")[0] for row in self.dropped).most_common())

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON, each example that was left out included."""
        return {
            "window": WINDOW,
            "samples": self.samples,
            "seed": self.seed,
            "items": self.num_items,
            "short_items": self.num_short_items,
            "windows": self.num_windows,
            "rows": self.num_rows,
            "kept": self.num_kept,
            "dropped": len(self.dropped),
            "by_reason": self.by_reason,
            "by_benchmark": self.by_benchmark,
            "dropped_rows": [{"file": row.file, row.unit: row.number, **asdict(row.overlap)} for row in self.dropped],
        }


def write_decontaminated(
    rows: Iterable[tuple[Row, Texts]],
    pool: Pool,
    out: Path,
    report: Path,
    *,
    seed: int = 0,
    samples: int | None = SAMPLES,
) -> DecontaminationReport:
    """Writes the rows that may stay to `out`, as JSON lines, and what was left out and why to `report`, as JSON.

    Rows stream through. Each file appears whole or not at all; `out` may be the file that the rows are read from.

    Args:
        rows: with their texts, as in `decontaminate`.

    Raises:
        DataError: a row holds what JSON has no word for, such as a date of a parquet file.
        RunFolderError: a file cannot be written.
        ValueError: `samples` is below 1.
    """
    num_rows = 0
    dropped: list[Dropped] = []

    def write(temporary: Path) -> None:
        nonlocal num_rows
        with open(temporary, "w", encoding="utf-8") as file:
            for row, overlap in decontaminate(rows, pool, seed=seed, samples=samples):
                num_rows += 1
                if overlap:
                    dropped.append(Dropped(row.file, row.unit, row.number, overlap))
                else:
                    file.write(_line(row))

    write_atomically(out, write)
    num_short = sum(len(text) < WINDOW for text in pool.texts)
    result = DecontaminationReport(len(pool.ids), num_short, len(pool.hashes), samples, seed, num_rows, tuple(dropped))
    write_json(report, result.as_json())
    return result


def _line(row: Row) -> str:
    try:
        return json_line(row.value)
    except TypeError as error:
        raise DataError(f"{row.place}: {error}: leave that column out, or write it as text") from error
