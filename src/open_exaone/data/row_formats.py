"""The formats that rows come in: found out from their columns, and parsed.

    detect_format(value, fields) -> RowFormat | None
    parse_row(row, format, source) -> Example | RowError

A thought that stands inside a reply as `<think>…</think>` or `<thought>…</thought>` is split off.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from open_exaone.base.config import short
from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem
from open_exaone.base.tables import Row, RowError, encodable
from open_exaone.data.config import SourceConfig
from open_exaone.data.problems import find_answer, find_options
from open_exaone.data.rows import BadRow, Content, Conversation, Example, Pair, Text, Turn
from open_exaone.data.turns import check_order, read_turns, reply_turn
from open_exaone.text.chat import check_messages, check_tools
from open_exaone.verify.judge import find_judge
from open_exaone.verify.own import check_kind_of_row, file_of, is_own

RowFormat = Literal["messages", "prompt_completion", "pairs", "problems", "text"]

# The names that columns have in the field, the usual one first.
KNOWN: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation"),
    "tools": ("tools",),
    "prompt": ("prompt", "instruction"),
    "completion": ("completion", "response", "output"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "question": ("question", "problem"),
    "answer": ("answer", "final_answer", "ground_truth"),
    "solution": ("solution", "worked_solution"),
    "thought": ("thought", "thinking", "reasoning_content", "reasoning"),
    "options": ("options", "choices"),
    "text": ("text",),
    "reply": ("reply",),
    "verifier": ("verifier",),
    "language": ("language",),
    "task": ("task",),
    "metadata": ("metadata",),
    "id": ("id", "uuid", "unique_id"),
    "domain": (),
}
# What a row of each format needs, any of the alternatives; the first format that a row's columns make is its format.
NEEDS: dict[RowFormat, tuple[tuple[str, ...], ...]] = {
    "pairs": (("chosen", "rejected"),),
    "messages": (("messages",),),
    "prompt_completion": (("prompt", "completion"),),
    "problems": (("question", "answer"), ("question", "solution")),
    "text": (("text",),),
}
_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}")  # such as "en"
MAX_CHARACTERS = 4_000_000  # of a row: a tokenizer takes some hundred bytes of memory for each
_ABSENT = object()
_NESTED = (dict, list, tuple)
_MAX_DEPTH = 100  # of values within values: what copies or writes a row calls itself that often


class Columns(NamedTuple):
    """A row, looked at by our names."""

    value: Mapping[str, Any]
    fields: Mapping[str, str]  # which column holds what, where the configuration names it

    def name(self, field: str) -> str | None:
        """The column that holds a field; None where the row has none."""
        if field in self.fields:
            return None if _look_up(self.value, self.fields[field]) is _ABSENT else self.fields[field]
        for name in KNOWN[field]:
            if name in self.value:
                return name
        return None

    def get(self, field: str) -> Any:
        """A field's value; None where it is missing or null."""
        name = self.name(field)
        return None if name is None else _look_up(self.value, name)

    def column_name(self, field: str) -> str:
        """What to call a field in an error."""
        return self.name(field) or self.fields.get(field) or KNOWN[field][0]

    def text(self, field: str) -> str:
        """A field that must be a text with something in it."""
        value, name = self.get(field), self.column_name(field)
        if value is None:
            raise BadRow(name, "missing field", "is missing", f"name its column in fields: {{{field} = …}}")
        return _text(value, name)


def _look_up(value: Any, name: str) -> Any:
    if name in value:
        return value[name]
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadRow(name, "wrong type", f"must be a text, not {short(value)}")
    if not value.strip():
        raise BadRow(name, "empty", "is empty")
    return value


def detect_format(value: Any, fields: Mapping[str, str]) -> RowFormat | None:
    """The format that a row's columns make, None where they make none; a column that is null is none."""
    if not isinstance(value, dict):
        return None
    columns = Columns(value, fields)
    for format, alternatives in NEEDS.items():
        if any(all(columns.get(field) is not None for field in needed) for needed in alternatives):
            return format
    return None


def used_columns(value: Mapping[str, Any], fields: Mapping[str, str]) -> set[str]:
    """The columns of a row that are known; the others are left alone, or are a problem's metadata."""
    columns = Columns(value, fields)
    names = {columns.name(field) for field in KNOWN}
    return {name.split(".")[0] if name not in value else name for name in names if name is not None}


def parse_row(row: Row, format: RowFormat, source: SourceConfig) -> Example | RowError:
    """What a row says.

    Args:
        format: of the source; a row of another one is a bad row.
        source: its `fields`, `mode` and `verifier` count here.
    """
    try:
        value = row.value
        _check_depth(value)
        if not isinstance(value, dict):
            raise BadRow("", "wrong type", f"must be an object with named fields, not {short(value)}")
        columns = Columns(value, source.fields)
        _check_format(columns, format)
        content = PARSERS[format](columns, row, source)
        example = Example(content, _id(columns), _domain(columns, source))
        if source.mode == "reasoning" and not example.has_thought:
            raise BadRow("", "no thought", "has no thought, and its source is in reasoning mode")
        if len(example.text) > MAX_CHARACTERS:
            why = f"has {len(example.text):,} characters, more than {MAX_CHARACTERS:,}"
            raise BadRow("", "too large", why, "split it into several rows")
        _check_unicode(example)
        return example
    except BadRow as error:
        return error.at(row)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, _NESTED))
        level = [item for items in inner for item in items if isinstance(item, _NESTED)]
        if not level:
            return
    raise BadRow("", "too deep", f"holds values within values more than {_MAX_DEPTH} deep", "leave that column out")


def _check_format(columns: Columns, format: RowFormat) -> None:
    found = detect_format(columns.value, columns.fields)
    if found == format or (found is not None and format == "text" and columns.get("text") is not None):
        return
    if found is None:
        has = ", ".join(map(str, list(columns.value)[:8])) or "none"
        needed = " or ".join(" and ".join(columns.column_name(field) for field in needed) for needed in NEEDS[format])
        raise BadRow(needed, "missing field", f"is missing or null (the row has {has})", "name its column in fields")
    if all(columns.get(field) is None for needed in NEEDS[format] for field in needed):
        why = f"is of the format {found}, where the source is of the format {format}"
        raise BadRow("", "mixed schema", why, "put it into a source of its own")


def _check_unicode(example: Example) -> None:
    try:
        example.text.encode()
    except UnicodeEncodeError as error:
        raise BadRow("", "not Unicode", f"holds half of a surrogate pair, {error.object[error.start]!r}") from error


def _id(columns: Columns) -> str | None:
    value = columns.get("id")
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _domain(columns: Columns, source: SourceConfig) -> str | None:
    value = columns.get("domain") if "domain" in source.fields else None
    return source.domain if value is None else encodable(str(value)[:100])


def _messages(columns: Columns, row: Row, source: SourceConfig) -> Conversation:
    turns = read_turns(columns.get("messages"), columns.column_name("messages"))
    check_order(turns, columns.column_name("messages"), ends_in_reply=True)
    return Conversation(_checked(turns, columns.column_name("messages")), _tools(columns))


def _prompt_completion(columns: Columns, row: Row, source: SourceConfig) -> Conversation:
    prompt = _prompt(columns)
    reply = _reply(columns.get("completion"), columns, "completion")
    turns = (*prompt, *reply)
    check_order(turns, columns.column_name("prompt"), ends_in_reply=True)
    return Conversation(_checked(turns, columns.column_name("prompt")), _tools(columns))


def _pairs(columns: Columns, row: Row, source: SourceConfig) -> Pair:
    chosen = _reply(columns.get("chosen"), columns, "chosen")
    rejected = _reply(columns.get("rejected"), columns, "rejected")
    if chosen[0]["role"] != "assistant" or rejected[0]["role"] != "assistant":  # whole conversations
        shared = _num_shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt:
            raise BadRow(columns.column_name("chosen"), "wrong role", "and rejected begin with different prompts")
    else:
        prompt = _prompt(columns)
    for field, reply in (("chosen", chosen), ("rejected", rejected)):
        check_order((*prompt, *reply), columns.column_name(field), ends_in_reply=True)
        _checked((*prompt, *reply), columns.column_name(field))
    if chosen == rejected:
        raise BadRow(columns.column_name("rejected"), "same replies", "is the same text as chosen")
    return Pair(prompt, chosen, rejected, _tools(columns))


def _num_shared(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> int:
    """How many turns two conversations share; the last of each is its own."""
    shared = 0
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        shared += 1
    return shared


def _problems(columns: Columns, row: Row, source: SourceConfig) -> Problem:
    question = _question(columns)
    options = find_options(columns.get("options"), columns.column_name("options"))
    found = find_answer(
        columns.get("answer"), columns.get("solution"), options, columns.column_name("answer"), source.first_option
    )
    used = used_columns(columns.value, columns.fields)
    metadata = {str(name): value for name, value in columns.value.items() if name not in used and value is not None}
    metadata |= _metadata(columns)
    thought, reply = columns.get("thought"), columns.get("reply")
    if found.worked is not None and reply is None:
        turn = reply_turn(found.worked, columns.column_name("solution"), thought)
        thought, reply = turn.get("reasoning_content"), str(turn["content"])
    if options is not None:
        question = options.ask(question)
        metadata |= {"options": list(options.texts), "labels": list(options.labels)}
    task, language = columns.get("task"), columns.get("language")
    is_code = isinstance(language, str) and _LANGUAGE_CODE.fullmatch(language) is not None
    if language is not None and not is_code:
        metadata[columns.column_name("language")] = language  # a programming language, say
    is_korean = any("가" <= character <= "힣" for character in question)
    return Problem(
        id=_id(columns) or f"{row.file}:{row.number}",
        task=source.domain or (task if isinstance(task, str) and task else "problems"),
        language=str(language) if is_code else "ko" if is_korean else "en",
        question=question,
        answer=found.answer,
        verifier=_verifier(columns, source) or ("choice" if options is not None else source.verifier),
        thought=thought if isinstance(thought, str) else None,
        reply=reply if isinstance(reply, str) else None,
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
    kind, name = columns.get("verifier"), columns.column_name("verifier")
    if kind is None:
        return None
    if not isinstance(kind, str):
        raise BadRow(name, "wrong type", f"must be a text, not {short(kind)}")
    try:
        find_judge(kind)
        if is_own(kind) and file_of(kind) not in source.code:
            check_kind_of_row(kind, "as the source's verifier, or list its file in the source's `code`")
    except DataError as error:
        raise BadRow(name, "unknown verifier", f"is wrong: {error}") from error
    return kind


def _question(columns: Columns) -> str:
    """A text, or the one turn of the user's that some sets for online RL hold instead."""
    value, name = columns.get("question"), columns.column_name("question")
    if not isinstance(value, list):
        return columns.text("question")
    turns = read_turns(value, name)
    if [turn["role"] for turn in turns] != ["user"]:
        raise BadRow(name, "wrong role", "must be a text, or a single turn of the user's")
    return str(turns[0]["content"])


def _plain(columns: Columns, row: Row, source: SourceConfig) -> Text:
    return Text(columns.text("text"))


def _prompt(columns: Columns) -> tuple[Turn, ...]:
    """A text is the user's turn, with what Alpaca calls its input behind it."""
    value, name = columns.get("prompt"), columns.column_name("prompt")
    if isinstance(value, str) or value is None:
        more = columns.value.get("input") if name == "instruction" else None
        text = columns.text("prompt")
        return ({"role": "user", "content": f"{text}\n\n{more}" if isinstance(more, str) and more.strip() else text},)
    turns = read_turns(value, name)
    check_order(turns, name, ends_in_reply=False)
    return turns


def _reply(value: Any, columns: Columns, field: str) -> tuple[Turn, ...]:
    name = columns.column_name(field)
    if isinstance(value, str):
        return (reply_turn(_text(value, name), name, columns.get("thought") if field == "completion" else None),)
    return read_turns([value] if isinstance(value, Mapping) else value, name)


def _tools(columns: Columns) -> tuple[Mapping[str, Any], ...] | None:
    value = columns.get("tools")
    if not value:
        return None
    try:
        check_tools(value)
    except DataError as error:
        raise BadRow(columns.column_name("tools"), "wrong type", str(error)) from error
    return tuple(value)


def _checked(turns: tuple[Turn, ...], name: str) -> tuple[Turn, ...]:
    """Turns as every chat format takes them; `text.chat` looks at contents and calls."""
    try:
        check_messages(turns)
    except DataError as error:
        field, _, why = str(error).partition(": ")
        raise BadRow(field.replace("messages", name, 1), "malformed turn", why) from error
    return turns


PARSERS: Mapping[RowFormat, Callable[[Columns, Row, SourceConfig], Content]] = {
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "pairs": _pairs,
    "problems": _problems,
    "text": _plain,
}
