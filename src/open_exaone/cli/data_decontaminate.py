"""`exaone data decontaminate`: rows that share nothing with a benchmark."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from open_exaone.base.errors import ConfigError
from open_exaone.base.tables import SUFFIXES
from open_exaone.base.terminal import Console
from open_exaone.cli.data_sources import read_sources
from open_exaone.cli.flags import BenchmarkRows, HubSet, RowFormat

if TYPE_CHECKING:
    from open_exaone.base.tables import Row

MAX_SHOWN = 50  # rows that cannot be read
ITEM_FIELDS = ("question", "problem", "prompt", "question_content", "text", "Question", "content")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataDecontaminateArguments:
    """The flags of `exaone data decontaminate`."""

    against: Annotated[list[str], Parameter(negative="")]
    """The name of a benchmark, or a file of its rows; may be repeated."""
    out: Path
    """The .jsonl file that gets the rows that share nothing with the benchmarks."""
    rows: BenchmarkRows = field(default_factory=BenchmarkRows)
    report: Path | None = None
    """The file that gets what was left out, and why; beside --out if left out."""
    seed: int = 0
    """The seed that draws the windows of each row."""
    samples: str = "10"
    """Windows of 50 characters that are looked up in each row, 10 as in EXAONE 3.5's report, or all."""
    hub: HubSet = field(default_factory=HubSet)


def decontaminate(
    source: Annotated[str, Parameter(help="A file, a folder, a pattern, or hub:owner/name.")],
    /,
    *,
    args: DataDecontaminateArguments,
) -> int:
    """Leave out rows that contain a benchmark's items, by EXAONE 3.5's rule or by exact equality.

    The exit code is 1 if a row could not be read, which leaves it out too.
    """
    from open_exaone.base.tables import RowError
    from open_exaone.data.decontaminate import Pool, write_decontaminated
    from open_exaone.data.source import read_rows
    from open_exaone.present.decontamination import print_decontamination

    samples = _num_windows(args.samples)
    if source.endswith(".toml"):
        raise ConfigError(f"{source}: name one source, as the kept rows of several would be mixed")
    [(opened, *_)] = read_sources([source], RowFormat(), args.hub)
    console, places = Console(soft_wrap=True), args.rows.by_benchmark()
    pool = Pool.build(item for name in args.against for item in benchmark_items(name, places.get(name)))
    unread: list[RowError] = []

    def texts() -> "Iterator[tuple[Row, list[str]]]":
        for row in read_rows(opened):
            if isinstance(row, RowError):
                unread.append(row)
            else:
                yield row, list(strings(row.value))

    written = args.report or args.out.with_name(args.out.name.removesuffix(".jsonl") + ".report.json")
    report = write_decontaminated(texts(), pool, args.out, written, seed=args.seed, samples=samples)
    for error in unread[:MAX_SHOWN]:
        console.print(f"left out, as it cannot be read: {error}")
    print_decontamination(report, console)
    console.print(f"Kept: {args.out}\nWhat was left out, and why: {written}")
    return 1 if unread else 0


def _num_windows(samples: str) -> int | None:
    """--samples as a number; None for all."""
    if samples == "all":
        return None
    if not samples.isdecimal() or int(samples) < 1:
        raise ConfigError(f"--samples {samples}: must be at least 1, or all")
    return int(samples)


def benchmark_items(name: str, source: str | None = None) -> Iterator[tuple[str, str]]:
    """The questions of a benchmark, or of a file, without a prompt around them, each with an id such as "math_500:12".

    Raises:
        ConfigError: there is no such benchmark.
        DataError: its rows cannot be loaded, or one has no question.
    """
    from open_exaone.base.errors import DataError

    for number, row in enumerate(_benchmark_rows(name, source), start=1):
        text = next((row[field] for field in ITEM_FIELDS if isinstance(row.get(field), str)), None)
        if text is None:
            raise DataError(f"{name}: row {number}: has none of the fields {', '.join(ITEM_FIELDS)}")
        key = next((row[field] for field in ("unique_id", "id", "task_id", "question_id") if field in row), number)
        yield f"{Path(name).stem if _is_file(name) else name}:{key}", text


def _is_file(name: str) -> bool:
    return name.endswith(SUFFIXES)


def _benchmark_rows(name: str, source: str | None) -> Iterator[Mapping[str, Any]]:
    from open_exaone.base.config import validate
    from open_exaone.base.errors import DataError
    from open_exaone.base.tables import RowError
    from open_exaone.data.config import SourceConfig
    from open_exaone.data.source import read_rows

    if not _is_file(name):
        from open_exaone.tasks.benchmarks.load import read
        from open_exaone.tasks.benchmarks.registry import find_benchmark

        rows: list[Mapping[str, Any]] = []
        read(find_benchmark(name, source), on_change="warn", on_row=rows.append)
        yield from rows
        return
    for row in read_rows(validate(SourceConfig, {"path": name}, name)):
        if isinstance(row, RowError) or not isinstance(row.value, dict):
            raise DataError(str(row) if isinstance(row, RowError) else f"{row.place}: must be an object")
        yield row.value


def strings(value: Any) -> Iterator[str]:
    """Every text within a row, in order; the names of its columns are left out."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            waiting += reversed(list(item.values()))
        elif isinstance(item, Sequence) and not isinstance(item, bytes):
            waiting += reversed(item)
