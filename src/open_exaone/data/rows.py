"""What is wrong with some rows, and the examples that the others become.

    Row(file, number, value) ── RowParser(format, source).parse(row) ──► Example(content, id, domain) | RowError
    Example.content: Conversation | Pair | Problem | Text

docs/data.md lists the formats, and the names of columns that are known.
"""

import contextlib
import gc
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from open_exaone.base.records import Problem
from open_exaone.base.tables import Row, RowError

_OBJECTS_AT_HAND = 100_000
Turn = Mapping[str, Any]  # a message of `text.chat`; one with "train": False is left out of the loss


_FIXES = {  # by reason, where nothing more fitting is written beside it
    "empty": "write it, or take the row out",
    "not read": "take it out",
    "not Unicode": "write the whole character, or take it out",
    "no thought": 'give its reply one, or set the source\'s mode to "auto"',
    "same replies": "take the pair out",
    "unclosed thought": "close it, or take the row out",
}


class BadRow(Exception):
    """Raised while a row is parsed, caught where its file and line are known; never leaves this room."""

    def __init__(self, field: str, reason: str, why: str, fix: str = "") -> None:
        super().__init__(why)
        self.field, self.reason, self.why, self.fix = field, reason, why, fix or _FIXES.get(reason, "")

    def at(self, row: Row) -> RowError:
        return RowError(row.file, row.number, self.field, self.reason, self.why, self.fix, row.unit)


class Conversation(NamedTuple):
    """Turns that end in a reply."""

    messages: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] | None = None
    label: bool | None = None  # of an unpaired preference: whether the reply is wanted

    @property
    def has_thought(self) -> bool:
        return bool(self.messages[-1].get("reasoning_content"))

    @property
    def values(self) -> list[Any]:
        """What is rendered besides texts: tools, calls, and results that are no texts."""
        return _values(self.messages, self.tools)


class Pair(NamedTuple):
    """A prompt with a reply that is wanted and one that is not."""

    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] | None = None

    @property
    def has_thought(self) -> bool:
        return any(turns[-1].get("reasoning_content") for turns in (self.chosen, self.rejected))

    @property
    def values(self) -> list[Any]:
        """What is rendered besides texts: tools, calls, and results that are no texts."""
        return _values((*self.prompt, *self.chosen, *self.rejected), self.tools)


class Text(NamedTuple):
    """Plain text."""

    text: str

    @property
    def has_thought(self) -> bool:
        return False


Content = Conversation | Pair | Problem | Text


class Example(NamedTuple):
    """A row that can be used."""

    content: Content
    id: str | None = None  # as its file gives it
    domain: str | None = None

    @property
    def has_thought(self) -> bool:
        content = self.content
        return bool(content.thought) if isinstance(content, Problem) else content.has_thought

    def renamed(self, id: str) -> "Example":
        """The same with another id."""
        content = replace(self.content, id=id) if isinstance(self.content, Problem) else self.content
        return self._replace(content=content, id=id)

    @property
    def prompt(self) -> str:
        """What the user asks before the first reply; "" where nothing is asked."""
        content = self.content
        match content:
            case Text():
                return ""
            case Problem():
                return content.question
            case Pair():
                turns: Sequence[Turn] = content.prompt
            case Conversation():
                turns = list(itertools.takewhile(lambda turn: turn["role"] != "assistant", content.messages))
        return _join([turn.get("content") for turn in turns if turn["role"] == "user"])

    @property
    def text(self) -> str:
        """All that it says, a blank line between its parts: what is searched for benchmark items."""
        content = self.content
        if type(content) is Conversation:
            return _join(_texts_of(content.messages))
        if type(content) is Problem:
            return _join([content.question, content.thought, content.reply or content.answer])
        if type(content) is Pair:
            return _join(_texts_of((*content.prompt, *content.chosen, *content.rejected)))
        return content.text if isinstance(content, Text) else ""


@contextlib.contextmanager
def fewer_collections() -> Iterator[None]:
    """While rows are read by the chunk: Python looks for cycles of objects only where more objects are kept than chunks
    hold. A row makes none; looking for them several times a chunk, over all that a program holds, took a quarter of
    the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _OBJECTS_AT_HAND) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _values(messages: Sequence[Turn], tools: Sequence[Mapping[str, Any]] | None) -> list[Any]:
    found: list[Any] = list(tools or ())
    for turn in messages:
        if not isinstance(turn["content"], str):
            found.append(turn["content"])
        if "tool_calls" in turn:
            found.append(turn["tool_calls"])
    return found


def _texts_of(messages: Sequence[Turn]) -> list[Any]:
    found = []
    for message in messages:
        if "reasoning_content" in message:
            found.append(message["reasoning_content"])
        found.append(message["content"])
    return found


def _join(parts: Sequence[Any]) -> str:
    return "\n\n".join([part for part in parts if type(part) is str and part])
