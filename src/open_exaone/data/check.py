"""What is wrong with the rows of a source, and what the others are.

    check(source, *, limit=None, tokenizer=None, max_tokens=None, turns="each", on_bad=None) -> CheckReport

`exaone data check FILE` prints the report and ends with 1 where a row is bad.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Problem
from open_exaone.base.tables import RowError
from open_exaone.data.columns import RowFormat, unread
from open_exaone.data.config import SourceConfig
from open_exaone.data.examples import Parsed, open_examples
from open_exaone.data.render import Fitted, Refused, fit, render_batch
from open_exaone.data.repeats import Repeats
from open_exaone.data.rows import Conversation, Example
from open_exaone.data.store import Kind
from open_exaone.text.tokenizer import Tokenizer

MAX_KEPT = 10_000  # bad rows that a report holds; all are counted
KIND_OF: Mapping[RowFormat, Kind] = {
    "messages": "sft",
    "prompt_completion": "sft",
    "pairs": "preference",
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
    modes: Counter[str] = field(default_factory=Counter)  # with a thought, without
    turns: Counter[int] = field(default_factory=Counter)  # of conversations
    domains: Counter[str] = field(default_factory=Counter)
    with_reply: int = 0  # problems that have a worked solution
    unused: Counter[str] = field(default_factory=Counter)  # columns that nothing reads, by the rows that have them
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
    on_bad: Callable[[RowError], None] | None = None,
) -> CheckReport:
    """Reads every row.

    Args:
        limit: only so many rows.
        tokenizer: counts tokens; texts of a single one are then found exactly.
        max_tokens: with a tokenizer, a row of which a reply has more, with what stands before it, is a bad one.
        turns: which replies of a conversation are learned, as `DataConfig.turns`.
        on_bad: called with every bad row.

    Raises:
        DataError: the source cannot be opened, or no row has a format that is known.
        ConfigError: `max_tokens` without a tokenizer.
    """
    if max_tokens is not None and tokenizer is None:
        raise ConfigError("max_tokens: tokens are counted by a tokenizer; give one too")
    source = SourceConfig(path=source) if isinstance(source, str) else source
    examples = open_examples(source, limit)
    report = CheckReport(source.path, examples.format, examples.formats)
    contents = Repeats()
    unused: dict[tuple[str, ...], list[str]] = {}
    for chunk in examples.chunks:
        if tokenizer is not None:
            chunk = _counted(chunk, report, source, tokenizer, max_tokens, turns)
        for parsed in chunk:
            _count(parsed, report, source, on_bad, unused)
        good = [parsed for parsed in chunk if isinstance(parsed.result, Example)]
        texts = [parsed.result.text for parsed in good if isinstance(parsed.result, Example)]
        report.repeated += sum(first is not None for first in contents.first(texts, [p.place for p in good]))
    return report


def _count(
    parsed: Parsed,
    report: CheckReport,
    source: SourceConfig,
    on_bad: Callable[[RowError], None] | None,
    unused: dict[tuple[str, ...], list[str]],
) -> None:
    """Counts one row.

    Args:
        unused: of the sets of columns that were seen, those that nothing reads.
    """
    result = parsed.result
    report.rows += not (isinstance(result, RowError) and result.number == 0)
    if isinstance(result, RowError):
        report.reasons[result.reason] += 1
        if len(report.bad) < MAX_KEPT:
            report.bad.append(result)
        if on_bad is not None:
            on_bad(result)
        return
    report.good += 1
    report.modes["reasoning" if result.has_thought else "non_reasoning"] += 1
    if result.domain is not None:
        report.domains[result.domain] += 1
    content = result.content
    if isinstance(content, Conversation):
        report.turns[len(content.messages)] += 1
    if isinstance(content, Problem):
        report.with_reply += content.reply is not None
    elif parsed.row is not None:
        columns = tuple(parsed.row.value)
        if columns not in unused:
            unused[columns] = sorted(unread(parsed.row.value, report.format, source))
        report.unused.update(unused[columns])


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
