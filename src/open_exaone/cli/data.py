"""The bodies of `exaone data check`, `stats` and `decontaminate`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_exaone.base.config import read_toml, validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.output import say
from open_exaone.base.terminal import Console
from open_exaone.data.config import DataConfig, SourceConfig

if TYPE_CHECKING:
    from open_exaone.base.tables import Row, RowError
    from open_exaone.data.check import CheckReport
    from open_exaone.text.tokenizer import Tokenizer

MAX_TOLD = 50  # bad rows that are printed where not all are asked for
ITEM_FIELDS = ("question", "problem", "prompt", "question_content", "text", "Question", "content")


def sources_of(
    paths: Sequence[str],
    format: str | None,
    fields: Sequence[str],
    domain: str | None,
    config: str | None,
    split: str | None,
) -> list[SourceConfig]:
    """The sources that a command line names; a .toml file stands for those of its table [data].

    Raises:
        ConfigError: a flag is wrong, or given for a .toml file, whose sources say it themselves.
    """
    return [source for source, _ in _sources(paths, format, fields, domain, config, split)]


def _sources(
    paths: Sequence[str],
    format: str | None,
    fields: Sequence[str],
    domain: str | None,
    config: str | None,
    split: str | None,
) -> list[tuple[SourceConfig, str]]:
    """As `sources_of`, each source with which replies of it are learned: `DataConfig.turns`."""
    if not paths:
        raise ConfigError("name a file, a folder, hub:owner/name, or a .toml file with a table [data]")
    pairs = [field.partition("=") for field in fields]
    if not all(name and equals and column for name, equals, column in pairs):
        raise ConfigError("--field: write it as OURS=COLUMN, such as --field question=Question")
    flags = {
        "format": format,
        "fields": {name: column for name, _, column in pairs} or None,
        "domain": domain,
        "config": config,
        "split": split,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    found: list[tuple[SourceConfig, str]] = []
    for path in paths:
        if not path.endswith(".toml"):
            found.append((validate(SourceConfig, {"path": path, **given}, path), "each"))
        elif given:
            raise ConfigError(f"{path}: its sources say their {', '.join(given)} themselves; leave the flags out")
        else:
            table = read_toml(Path(path))
            data = validate(DataConfig, table.get("data", table), path)
            found += [(source, data.turns) for source in data.sources]
    return found


def check(
    paths: Sequence[str],
    format: str | None = None,
    fields: Sequence[str] = (),
    config: str | None = None,
    split: str | None = None,
    tokenizer: Path | None = None,
    max_tokens: int | None = None,
    limit: int | None = None,
    show_all: bool = False,
    out: Path | None = None,
) -> int:
    """Prints what is wrong with each row, and what the others are.

    Args:
        out: gets every bad row, one JSON object a line.

    Returns:
        1 where a row is bad.
    """
    from dataclasses import asdict

    from open_exaone.base.files import json_line, write_atomically
    from open_exaone.data.check import check as check_source

    console = Console(soft_wrap=True)
    opened = _tokenizer(tokenizer)
    reports = []

    def read(on_bad: Any = None) -> None:
        for source, turns in _sources(paths, format, fields, None, config, split):
            told = _Told(console, show_all, on_bad)
            report = check_source(
                source, limit=limit, tokenizer=opened, max_tokens=max_tokens, turns=turns, on_bad=told
            )
            _print_report(report, told.num_hidden, console)
            reports.append(report)

    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8") as file:
            read(lambda error: file.write(json_line(asdict(error))))

    if out is None:
        read()
    else:
        write_atomically(out, write)
    return 1 if any(report.num_bad for report in reports) else 0


class _Told:
    """Prints bad rows, the first of each reason whatever comes."""

    def __init__(self, console: Console, show_all: bool, on_bad: Any) -> None:
        self._console, self._show_all, self._on_bad = console, show_all, on_bad
        self._num_told, self._reasons = 0, set[str]()
        self.num_hidden = 0

    def __call__(self, error: "RowError") -> None:
        if self._on_bad is not None:
            self._on_bad(error)
        if self._show_all or self._num_told < MAX_TOLD or error.reason not in self._reasons:
            self._console.print(str(error))
            self._num_told += 1
        else:
            self.num_hidden += 1
        self._reasons.add(error.reason)


def _print_report(report: "CheckReport", num_hidden: int, console: Console) -> None:
    def say(text: str) -> None:
        console.print(text)

    if num_hidden:
        say(f"… and {num_hidden:,} more bad rows; --all prints them, --out FILE writes them")
    say(
        f"{report.path}: {report.rows:,} rows of the format {report.format}: "
        f"{report.good:,} good, {report.num_bad:,} bad"
    )
    for reason, number in report.reasons.most_common():
        say(f"  {number:9,} bad: {reason}")
    if len(report.formats) > 1:
        told = ", ".join(f"{name} ({number:,})" for name, number in report.formats.most_common())
        say(f"  mixed schemas: its first rows are of the format {told}")
    for mode, number in report.modes.most_common():
        say(f"  {number:9,} {'with a thought' if mode == 'reasoning' else 'without a thought'}")
    if report.format == "problems":
        say(f"  {report.with_reply:9,} with a worked solution")
    if report.turns:
        told = ", ".join(f"{turns} ({number:,})" for turns, number in sorted(report.turns.items())[:8])
        say(f"  turns: {told}")
    if report.repeated:
        say(f"  {report.repeated:9,} say the same as an earlier row")
    if report.unused:
        say(f"  columns that are not read: {', '.join(name for name, _ in report.unused.most_common(12))}")
    if report.tokens:
        say(f"  {report.tokens:,} tokens, at most {report.longest:,} in one example")


def stats(
    paths: Sequence[str],
    tokenizer: Path,
    format: str | None = None,
    fields: Sequence[str] = (),
    domain: str | None = None,
    config: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    out: Path | None = None,
) -> int:
    """Prints how long examples are, by domain and mode.

    Args:
        out: gets a page (.html), the plot alone (.svg) or the numbers (.json).
    """
    from open_exaone.data.lengths import lengths
    from open_exaone.data.measure import example_lengths
    from open_exaone.present.lengths import print_lengths, write_lengths

    opened = _tokenizer(tokenizer)
    assert opened is not None
    sources = sources_of(paths, format, fields, domain, config, split)
    found = lengths(length for source in sources for length in example_lengths(source, opened, limit))
    print_lengths(found)
    if out is not None:
        write_lengths(found, out)
        say(f"Written: {out}")
    return 0


def decontaminate(
    path: str,
    against: Sequence[str],
    rows: Mapping[str, str],
    out: Path,
    report: Path | None = None,
    seed: int = 0,
    samples: int | None = 10,
    config: str | None = None,
    split: str | None = None,
) -> int:
    """Writes the rows that share nothing with a benchmark's items, and a report of the others.

    Args:
        against: benchmarks' names, or files of rows.
        rows: where the rows of a benchmark are, as in `exaone eval --rows`.
        samples: windows of a row that are looked up; None: all.

    Returns:
        1 where a row could not be read: it is not written.
    """
    from open_exaone.base.tables import RowError
    from open_exaone.data.decontaminate import Pool, write_decontaminated
    from open_exaone.data.source import read_rows
    from open_exaone.present.decontamination import print_decontamination

    if not against:
        raise ConfigError("--against: name a benchmark, such as math_500, or a file of its rows")
    if samples is not None and samples < 1:
        raise ConfigError(f"--samples {samples}: must be at least 1")
    if path.endswith(".toml"):
        raise ConfigError(f"{path}: name one source; what is kept of several could not be told apart")
    [source] = sources_of([path], None, (), None, config, split)
    console = Console(soft_wrap=True)
    pool = Pool.build(item for benchmark in against for item in benchmark_items(benchmark, rows.get(benchmark)))
    unread: list[RowError] = []

    def texts() -> "Iterator[tuple[Row, list[str]]]":
        for row in read_rows(source):
            if isinstance(row, RowError):
                unread.append(row)
            else:
                yield row, list(strings(row.value))

    written = report or out.with_name(out.name.removesuffix(".jsonl") + ".report.json")
    told = write_decontaminated(texts(), pool, out, written, seed=seed, samples=samples)
    for error in unread[:MAX_TOLD]:
        console.print(f"left out, as it cannot be read: {error}")
    print_decontamination(told, console)
    console.print(f"Kept: {out}\nWhat was left out, and why: {written}")
    return 1 if unread else 0


def benchmark_items(name: str, source: str | None = None) -> "Iterator[tuple[str, str]]":
    """The questions of a benchmark, or of a file, without a prompt around them, each with an id such as "math_500:12".

    Raises:
        ConfigError: there is no such benchmark.
        DataError: its rows cannot be had, or one has no question.
    """
    from open_exaone.base.errors import DataError

    for number, row in enumerate(_benchmark_rows(name, source), start=1):
        text = next((row[field] for field in ITEM_FIELDS if isinstance(row.get(field), str)), None)
        if text is None:
            raise DataError(f"{name}: row {number}: has none of the fields {', '.join(ITEM_FIELDS)}")
        key = next((row[field] for field in ("unique_id", "id", "task_id", "question_id") if field in row), number)
        yield f"{Path(name).stem if _is_file(name) else name}:{key}", text


def _is_file(name: str) -> bool:
    return Path(name).suffix in (".jsonl", ".json", ".parquet", ".gz")


def _benchmark_rows(name: str, source: str | None) -> "Iterator[Mapping[str, Any]]":
    from open_exaone.base.errors import DataError
    from open_exaone.base.tables import RowError
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


def strings(value: Any) -> "Iterator[str]":
    """Every text within a row, in order; names of columns are none."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            waiting += reversed(list(item.values()))
        elif isinstance(item, Sequence) and not isinstance(item, bytes):
            waiting += reversed(item)


def _tokenizer(source: Path | None) -> "Tokenizer | None":
    if source is None:
        return None
    from open_exaone.pipeline.folder import resolve_tokenizer
    from open_exaone.text.tokenizer import Tokenizer

    return Tokenizer.load(resolve_tokenizer(source))
