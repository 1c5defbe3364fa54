"""`exaone data check`: every row that training could not use."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from open_exaone.base.terminal import Console
from open_exaone.base.text import count
from open_exaone.cli.data_sources import Sources, open_tokenizer, read_sources
from open_exaone.cli.flags import HubSet, RowFormat, Switch

if TYPE_CHECKING:
    from open_exaone.base.tables import RowError
    from open_exaone.data.check import CheckReport

MAX_SHOWN = 50  # bad rows that are printed without --all


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataCheckArguments:
    """The flags of `exaone data check`."""

    columns: RowFormat = field(default_factory=RowFormat)
    hub: HubSet = field(default_factory=HubSet)
    tokenizer: Path | None = None
    """Count tokens with the tokenizer of this model: a folder, or a name on the hub."""
    max_tokens: int | None = None
    """Report examples of more tokens than this as bad; needs --tokenizer."""
    limit: int | None = None
    """The number of rows to read from each source; all if left out."""
    show_all: Annotated[Switch, Parameter(name="--all")] = False
    """Print every bad row, instead of the first ones."""
    out: Path | None = None
    """A file that gets every bad row, one JSON object a line."""


def check(sources: Sources, /, *, args: DataCheckArguments = DataCheckArguments()) -> int:
    """Report every row that training could not use, with its line and field, and count the others.

    The exit code is 1 if any row is bad.
    """
    from open_exaone.base.files import json_line, write_atomically
    from open_exaone.data.check import check as check_source

    console = Console(soft_wrap=True)
    tokenizer = None if args.tokenizer is None else open_tokenizer(args.tokenizer)
    limits: dict[str, Any] = {"limit": args.limit, "tokenizer": tokenizer, "max_tokens": args.max_tokens}
    reports = []

    def read(on_bad: Any = None) -> None:
        for source, turns, asked in read_sources(sources, args.columns, args.hub):
            bad_rows = _BadRows(console, args.show_all, on_bad)
            report = check_source(source, **limits, turns=turns, asked=asked, on_bad=bad_rows)
            _print_report(report, bad_rows.num_hidden, console)
            reports.append(report)

    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8") as file:
            read(lambda error: file.write(json_line(asdict(error))))

    if args.out is None:
        read()
    else:
        write_atomically(args.out, write)
    return 1 if any(report.num_bad for report in reports) else 0


class _BadRows:
    """Prints the first bad rows, and the first of each reason wherever it comes."""

    def __init__(self, console: Console, show_all: bool, on_bad: Any) -> None:
        self._console, self._show_all, self._on_bad = console, show_all, on_bad
        self._num_shown, self._reasons = 0, set[str]()
        self.num_hidden = 0

    def __call__(self, error: "RowError") -> None:
        if self._on_bad is not None:
            self._on_bad(error)
        if self._show_all or self._num_shown < MAX_SHOWN or error.reason not in self._reasons:
            self._console.print(str(error))
            self._num_shown += 1
        else:
            self.num_hidden += 1
        self._reasons.add(error.reason)


def _print_report(report: "CheckReport", num_hidden: int, console: Console) -> None:
    if num_hidden:
        console.print(f"… and {count(num_hidden, 'more bad row')}; --all prints them, --out FILE writes them")
    console.print(
        f"{report.path}: {count(report.rows, 'row')} of the format {report.format}: "
        f"{report.good:,} good, {report.num_bad:,} bad"
    )
    for reason, number in report.reasons.most_common():
        console.print(f"  {number:9,} bad: {reason}")
    if len(report.formats) > 1:
        formats = ", ".join(f"{name} ({number:,})" for name, number in report.formats.most_common())
        console.print(f"  mixed formats: the first rows have {formats}")
    for mode, number in report.modes.most_common():
        of = "in the mode of their stage" if mode == "auto" else f"in {mode.replace('_', '-')} mode"
        console.print(f"  {number:9,} {of}")
    if report.format == "problems":
        console.print(f"  {report.with_reply:9,} with a worked solution")
    if report.turns:
        turns = ", ".join(f"{turns} ({number:,})" for turns, number in sorted(report.turns.items())[:8])
        console.print(f"  turns: {turns}")
    if report.repeated:
        console.print(f"  {report.repeated:9,} repeat an earlier row")
    if report.unread:
        console.print(f"  columns that are not read: {', '.join(name for name, _ in report.unread.most_common(12))}")
    if report.tokens:
        console.print(f"  {count(report.tokens, 'token')}, at most {report.longest:,} in one example")
