"""What is wrong with the rows of a source, and what the others are.

    check(source, *, limit=None, tokenizer=None, max_tokens=None, turns="each", asked=False, on_bad=None)
        -> CheckReport

`exaone data check FILE` prints the report and ends with 1 where a row is bad.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Problem
from open_exaone.base.tables import RowError
from open_exaone.data.columns import RowFormat
from open_exaone.data.config import SourceConfig
from open_exaone.data.examples import Examples, Parsed, open_examples
from open_exaone.data.render import Fitted, Refused, fit, render_batch
from open_exaone.data.repeats import Repeats
from open_exaone.data.rows import Conversation, Example, fewer_collections
from open_exaone.data.store import Kind
from open_exaone.text.tokenizer import Tokenizer

MAX_KEPT = 10_000  # bad rows that a report holds; all are counted
KIND_OF: Mapping[RowFormat, Kind] = {
    "messages": "sft",
    "prompt_completion": "sft",
    "pairs": "preference",
    "unpaired": "preference",
    "problems": "rl",
    "text": "pretrain",
}  # what a format is looked at as where tokens are counted


@dataclass
class CheckReport:
    """What a source holds."""

    path: str
    format: RowFormat
    formats: Counter[str]  # of the first rows; more than one: mixed schemas
    rows: int = 0
    good: int = 0
    bad: list[RowError] = field(default_factory=list)  # the first of them
    reasons: Counter[str] = field(default_factory=Counter)  # of all bad rows
    repeated: int = 0  # rows equal to an earlier row; they are not bad rows
    modes: Counter[str] = field(default_factory=Counter)  # of learning or asking; "auto": that of the stage
    turns: Counter[int] = field(default_factory=Counter)  # of conversations
    domains: Counter[str] = field(default_factory=Counter)
    with_reply: int = 0  # problems that have a worked solution
    unread: Counter[str] = field(default_factory=Counter)  # columns that nothing reads, by the rows that have them
    tokens: int = 0  # of good rows, where a tokenizer counted
    longest: int = 0

    @property
    def num_bad(self) -> int:
        return sum(self.reasons.values())


def check(
    source: SourceConfig | str,
    *,
    limit: int | None = None,
    tokenizer: Tokenizer | None = None,
    max_tokens: int | None = None,
    turns: str = "each",
    asked: bool = False,
    on_bad: Callable[[RowError], None] | None = None,
) -> CheckReport:
    """Reads every row.

    Args:
        limit: only so many rows.
        tokenizer: counts tokens; texts of a single one are then found exactly.
        max_tokens: with a tokenizer, a row of which a reply has more, with what stands before it, is a bad one.
        turns: which replies of a conversation are learned, as `DataConfig.turns`.
        asked: problems are asked, not learned: in reasoning mode they need no thought of their own.
        on_bad: called with every bad row.

    Raises:
        DataError: the source cannot be opened, or no row has a format that is known.
        ConfigError: `max_tokens` without a tokenizer.
    """
    if max_tokens is not None and tokenizer is None:
        raise ConfigError("max_tokens: tokens are counted by a tokenizer; give one too")
    source = SourceConfig(path=source) if isinstance(source, str) else source
    examples = open_examples(source, limit, asked=asked)
    report = CheckReport(source.path, examples.format, examples.formats)
    with fewer_collections():
        _read(examples, report, source, tokenizer, max_tokens, turns, on_bad)
    if asked and report.format == "problems" and source.mode == "auto":
        report.modes = Counter({"auto": report.good})
    report.unread = examples.parser.unread
    return report


def _read(
    examples: Examples,
    report: CheckReport,
    source: SourceConfig,
    tokenizer: Tokenizer | None,
    max_tokens: int | None,
    turns: str,
    on_bad: Callable[[RowError], None] | None,
) -> None:
    contents = Repeats()
    for chunk in examples.chunks:
        if tokenizer is not None:
            chunk = _counted(chunk, report, source, tokenizer, max_tokens, turns)
        good = []
        for parsed in chunk:
            if type(parsed.result) is Example:
                good.append(parsed)
            else:
                _count_bad(parsed.result, report, on_bad)  # type: ignore[arg-type]  # what is no example is an error
        _count([parsed.result for parsed in good], source, report)  # type: ignore[misc]  # they are examples
        first = contents.first([parsed.text for parsed in good], [parsed.place for parsed in good])
        report.repeated += len(first) - first.count(None)


def _count_bad(error: RowError, report: CheckReport, on_bad: Callable[[RowError], None] | None) -> None:
    report.rows += error.number > 0  # else it is an empty file
    report.reasons[error.reason] += 1
    if len(report.bad) < MAX_KEPT:
        report.bad.append(error)
    if on_bad is not None:
        on_bad(error)


def _count(examples: Sequence[Example], source: SourceConfig, report: CheckReport) -> None:
    report.rows += len(examples)
    report.good += len(examples)
    contents = [example.content for example in examples]
    report.modes.update([source.mode_of(example.has_thought) for example in examples])
    report.domains.update([example.domain for example in examples if example.domain is not None])
    report.turns.update([len(content.messages) for content in contents if type(content) is Conversation])
    report.with_reply += sum([content.reply is not None for content in contents if type(content) is Problem])


def _counted(
    chunk: list[Parsed],
    report: CheckReport,
    source: SourceConfig,
    tokenizer: Tokenizer,
    max_tokens: int | None,
    turns: str,
) -> list[Parsed]:
    """The chunk, with errors in the places of rows of which anything does not fit; the others' tokens are counted."""
    kind = KIND_OF[report.format]
    results = [parsed.result for parsed in chunk]
    good = [result for result in results if isinstance(result, Example)]
    rendered = iter(render_batch(good, tokenizer, kind, source, turns))
    limit = max_tokens or 1 << 62
    counted = []
    for parsed in chunk:
        if isinstance(parsed.result, Example) and parsed.row is not None:
            item = next(rendered)
            fitted = Fitted([], False, [item]) if isinstance(item, Refused) else fit(item, limit, "drop", kind)
            if fitted.lost:
                row, lost = parsed.row, fitted.lost[0]
                parsed = parsed._replace(
                    result=RowError(row.file, row.number, "", lost.reason, fitted.why(lost), unit=row.unit)
                )
            else:
                sizes = [len(ids) for one in fitted.kept for ids, _ in one.documents]
                report.tokens += sum(sizes)
                report.longest = max(report.longest, *sizes)
        counted.append(parsed)
    return counted
