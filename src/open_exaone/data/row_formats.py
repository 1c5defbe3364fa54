"""The formats that rows come in, parsed; `columns` finds out which one a row has.

    RowParser(format, source).parse(row) -> Example | RowError

A thought that stands inside a reply as `<think>…</think>` or `<thought>…</thought>` is split off.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from open_exaone.base.config import short
from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem
from open_exaone.base.tables import Row, RowError, encodable
from open_exaone.data.columns import (
    NEEDS,
    Columns,
    Layout,
    RowFormat,
    check_unread,
    format_of,
    is_empty,
    layout_of,
)
from open_exaone.data.config import SourceConfig
from open_exaone.data.pairs import read_pair
from open_exaone.data.problems import find_answer, find_options, thought_of
from open_exaone.data.prompts import behind_system, checked, read_prompt, read_question, read_reply, tools_of
from open_exaone.data.rows import BadRow, Content, Conversation, Example, Pair, Text
from open_exaone.data.tools import as_json, check_depth
from open_exaone.data.turns import check_order, plain_turns, read_turns, reply_turn, unread_keys
from open_exaone.verify.judge import find_judge
from open_exaone.verify.own import check_kind_of_row, file_of, is_own

_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}")  # such as "en"
_HANGUL = re.compile("[가-힣]")
MAX_CHARACTERS = 4_000_000  # of a row: a tokenizer takes some hundred bytes of memory for each
_OF_TURNS = ("messages", "prompt", "history", "completion", "chosen", "rejected")
_MAX_LAYOUTS = 1000  # that are kept: a file may give each row columns of its own


class RowParser:
    """Parses the rows of one source.

    Args:
        format: of the source; a row of another one is a bad row.
        source: its `fields`, `ignore`, `mode` and `verifier` count here.
        asked: its problems are asked, not learned: in reasoning mode they need no thought of their own.
    """

    def __init__(self, format: RowFormat, source: SourceConfig, *, asked: bool = False) -> None:
        self._format, self._source, self._parse = format, source, PARSERS[format]
        self._layouts: dict[tuple[Any, ...], Layout] = {}
        self._unread = Counter[str]()
        self._needs_thought = source.mode == "reasoning" and not (asked and format == "problems")

    def parse(self, row: Row) -> tuple[Example | RowError, str]:
        """What a row says, and `Example.text`, which is "" of a bad row."""
        try:
            return self._plain(row) or self._example(row)
        except BadRow as error:
            return error.at(row), ""

    def _example(self, row: Row) -> tuple[Example, str]:
        if type(row.value) is not dict:
            raise BadRow("", "wrong type", f"must be an object with named fields, not {short(row.value)}")
        layout = self._layouts.get(key := tuple(row.value)) or self._new(key)
        columns, names = Columns(row.value, layout), layout.names
        if format_of(columns) != self._format:
            _check_format(columns, self._format)
        if layout.watched or layout.rivals:
            check_unread(columns, self._format)
        content = self._parse(columns, row, self._source)
        id = _id(columns) if "id" in names else None
        domain = _domain(columns, self._source) if "domain" in names else self._source.domain
        example = Example(content, id, domain)
        if self._needs_thought and not example.has_thought:
            raise BadRow("", "no thought", "has no thought, and its source is in reasoning mode")
        text = example.text
        _check_text(content, text)
        self._count_unread(layout, row.value)
        if isinstance(content, Conversation | Pair):
            self._count_unread_of_turns(columns)
        return example, text

    def _plain(self, row: Row) -> tuple[Example, str] | None:
        """The same of a conversation whose turns need nothing but to be taken, as most do; None of all others."""
        value = row.value
        layout = self._layouts.get(tuple(value)) if type(value) is dict else None
        if layout is None or layout.turns is None or self._needs_thought:
            return None
        if (turns := plain_turns(value[layout.turns])) is None:
            return None
        text = "\n\n".join([turn["content"] for turn in turns])
        if len(text) > MAX_CHARACTERS or not _is_unicode(text):
            return None
        id, domain = None, self._source.domain
        if "id" in layout.names or "domain" in layout.names:
            columns = Columns(value, layout)
            id, domain = _id(columns), _domain(columns, self._source)
        if layout.unread:
            self._count_unread(layout, value)
        return Example(Conversation(turns), id, domain), text

    def _count_unread(self, layout: Layout, value: Mapping[str, Any]) -> None:
        for name in layout.unread if self._format != "problems" else ():
            if not is_empty(value[name]):
                self._count(name)

    def _count_unread_of_turns(self, columns: Columns) -> None:
        for field in _OF_TURNS:
            if field in columns.layout.names and not isinstance(held := columns.get(field), str):
                for key in unread_keys(held):
                    self._count(f"{columns.column_name(field)}[].{key}")

    def _count(self, name: str) -> None:
        if name in self._unread or len(self._unread) < _MAX_LAYOUTS:
            self._unread[name] += 1

    @property
    def unread(self) -> Counter[str]:
        """The columns, and keys of turns, that nothing reads, by the good rows in which they are not empty; a problem's
        columns are its metadata."""
        return self._unread

    def _new(self, key: tuple[Any, ...]) -> Layout:
        if len(self._layouts) >= _MAX_LAYOUTS:
            self._layouts.clear()
        layout = self._layouts[key] = layout_of(key, self._source, self._format)
        return layout


def _check_format(columns: Columns, format: RowFormat) -> None:
    found = format_of(columns)
    needs = [needed for known, needed in NEEDS if known == format]
    if any(all(columns.get(field) is not None for field in needed) for needed in needs):  # of both formats
        return
    if found is None:
        has = ", ".join(map(str, list(columns.value)[:8])) or "none"
        needed = " or ".join(" and ".join(columns.column_name(field) for field in needed) for needed in needs)
        raise BadRow(needed, "missing field", f"is missing or null (the row has {has})", "name its column in fields")
    shared = {field for known, needed in NEEDS if known == found for field in needed}
    if all(columns.get(field) is None for needed in needs for field in needed if field not in shared):
        why = f"is of the format {found}, where the source is of the format {format}"
        raise BadRow("", "mixed schema", why, "put it into a separate source")


def _check_text(content: Content, text: str) -> None:
    size = len(text)
    if isinstance(content, Conversation | Pair):
        values = list(map(as_json, content.values))
        size += sum(map(len, values))
        text += "".join(values)
    if size > MAX_CHARACTERS:
        why = f"has {size:,} characters, more than {MAX_CHARACTERS:,}"
        raise BadRow("", "too large", why, "split it into several rows")
    if not _is_unicode(text):
        half = next(sign for sign in text if "\ud800" <= sign <= "\udfff")
        raise BadRow("", "not Unicode", f"holds half of a surrogate pair, {half!r}")


def _is_unicode(text: str) -> bool:
    """Whether a text can be written: half of a surrogate pair cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _id(columns: Columns) -> str | None:
    value = columns.get("id")
    if type(value) is str:
        return value or None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _domain(columns: Columns, source: SourceConfig) -> str | None:
    value = columns.get("domain")
    return source.domain if value is None else encodable(str(value)[:100])


def _messages(columns: Columns, row: Row, source: SourceConfig) -> Conversation:
    name = columns.column_name("messages")
    turns = behind_system(read_turns(columns.get("messages"), name), columns)
    check_order(turns, name, ends_in_reply=True)
    return Conversation(checked(turns, name), tools_of(columns))


def _prompt_completion(columns: Columns, row: Row, source: SourceConfig) -> Conversation:
    prompt = read_prompt(columns)
    reply = read_reply(columns.get("completion"), columns, "completion")
    turns, name = (*prompt, *reply), columns.column_name("prompt")
    check_order(turns, name, ends_in_reply=True)
    return Conversation(checked(turns, name), tools_of(columns))


def _pairs(columns: Columns, row: Row, source: SourceConfig) -> Pair:
    return read_pair(columns)


def _unpaired(columns: Columns, row: Row, source: SourceConfig) -> Conversation:
    label, name = columns.get("label"), columns.column_name("label")
    if not isinstance(label, bool):
        raise BadRow(name, "wrong type", f"must be true (wanted) or false (not), not {short(label)}")
    is_whole = columns.get("messages") is not None
    read = (_messages if is_whole else _prompt_completion)(columns, row, source)
    if "train" in read.messages[-1]:
        field = columns.column_name("messages" if is_whole else "completion")
        raise BadRow(field, "not read", "has a reply that is left out of the loss, and a label that learns it")
    return read._replace(label=label)


def _problems(columns: Columns, row: Row, source: SourceConfig) -> Problem:
    check_depth(columns.value)
    question = read_question(columns)
    names = columns.layout.names
    options = find_options(columns.get("options"), columns.column_name("options")) if "options" in names else None
    found = find_answer(
        columns.get("answer"), columns.get("solution"), options, columns.column_name("answer"), source.first_option
    )
    metadata = {name: value for name in columns.layout.unread if (value := columns.value[name]) is not None}
    if "metadata" in names:
        metadata |= _metadata(columns)
    thought, reply = _text_or_none(columns, "thought"), _text_or_none(columns, "reply")
    if source.solution_as == "thought" and reply is None and thought is None:
        thought, reply = thought_of(found, columns.column_name("answer")), f"\\boxed{{{found.answer}}}"
    elif found.worked is not None and reply is None:
        turn = reply_turn(found.worked, columns.column_name("solution"), thought)
        thought, reply = turn.get("reasoning_content"), str(turn["content"])
    if options is not None:
        question = options.ask(question)
        metadata |= {"options": list(options.texts), "labels": list(options.labels)}
    task, language = columns.get("task"), columns.get("language")
    domain = _domain(columns, source) if "domain" in names else source.domain
    is_code = isinstance(language, str) and _LANGUAGE_CODE.fullmatch(language) is not None
    if language is not None and not is_code:
        metadata[columns.column_name("language")] = language  # a programming language, say
    is_korean = not question.isascii() and _HANGUL.search(question) is not None
    return Problem(
        id=_id(columns) or f"{row.file}:{row.number}",
        task=domain or (task if isinstance(task, str) and task else "problems"),
        language=str(language) if is_code else "ko" if is_korean else "en",
        question=question,
        answer=found.answer,
        verifier=_verifier(columns, source) or ("choice" if options is not None else source.verifier),
        thought=thought,
        reply=reply,
        metadata=metadata,
    )


def _metadata(columns: Columns) -> dict[str, Any]:
    """What the verifier needs besides the answer, where a column `metadata` holds it as an object."""
    value = columns.get("metadata")
    if value is None:
        return {}
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {"metadata": value}


def _verifier(columns: Columns, source: SourceConfig) -> str | None:
    """The verifier that a row names; a function in a file only where the source's `code` lists the file."""
    if (kind := columns.get("verifier")) is None:
        return None
    name = columns.column_name("verifier")
    if not isinstance(kind, str):
        raise BadRow(name, "wrong type", f"must be a text, not {short(kind)}")
    try:
        find_judge(kind)
        if is_own(kind) and file_of(kind) not in source.code:
            check_kind_of_row(kind, "as the source's verifier, or list its file in the source's `code`")
    except DataError as error:
        raise BadRow(name, "unknown verifier", f"is wrong: {error}") from error
    return kind


def _text_or_none(columns: Columns, field: str) -> str | None:
    value = columns.get(field)
    if value is not None and not isinstance(value, str):
        raise BadRow(columns.column_name(field), "wrong type", f"must be a text, not {short(value)}")
    return value


def _plain(columns: Columns, row: Row, source: SourceConfig) -> Text:
    return Text(columns.text("text"))


PARSERS: Mapping[RowFormat, Callable[[Columns, Row, SourceConfig], Content]] = {
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "pairs": _pairs,
    "unpaired": _unpaired,
    "problems": _problems,
    "text": _plain,
}
