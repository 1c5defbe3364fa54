"""Splits a reply into thought, answer and tool calls as it streams; a whole reply is a fold over the stream.

Four modes, each left at its tag: the start, the thought until its *first* closing tag, the answer, and in it tool
calls. Tags behind the end of the thought, other than tool calls, are the answer's own text; so are all of them
when no thought was opened. (A stream can't know the last `</think>`. Chat history, where the text is whole, is
split at the last one, as the published template does.)
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from open_exaone.base.records import Reply, ToolCall
from open_exaone.text.chat import CALL_CLOSE, CALL_OPEN, THOUGHT_TAGS


class Part(StrEnum):
    """What a piece of a reply belongs to."""

    THOUGHT = "thought"
    ANSWER = "answer"
    TOOL_CALL = "tool_call"


class Piece(NamedTuple):
    """A piece of a reply: some more of the thought or the answer, or one whole tool call's raw JSON text."""

    part: Part
    text: str


# What comes behind the tag that ends a part.
_NEXT = {Part.THOUGHT: Part.ANSWER, Part.ANSWER: Part.TOOL_CALL, Part.TOOL_CALL: Part.ANSWER}


class ReplySplitter:
    """Takes a reply in chunks cut anywhere and gives its pieces as soon as they are certain.

    Held back: a tag's beginning, a call until it closes, and newlines until more of the same part follows, since
    the newlines around thought and answer are the format's. A call that never closes is given as answer, with
    its tag: nothing is dropped.

    Args:
        thinking: the prompt has opened the thought; a reply may also open its thought itself.
        thought_tags: what a thought may stand in. One that the reply opened ends at its own closing tag, one that
            the prompt opened at the first of any.
    """

    def __init__(self, *, thinking: bool, thought_tags: Sequence[str] = THOUGHT_TAGS) -> None:
        self._opens = {f"<{tag}>": f"</{tag}>" for tag in thought_tags}
        self._tags: dict[Part, tuple[str, ...]] = {}  # at which each part ends,
        self._ends: dict[Part, re.Pattern[str]] = {}  # and how they are found
        self._end_at(Part.THOUGHT, list(self._opens.values()))
        self._end_at(Part.ANSWER, [CALL_OPEN])
        self._end_at(Part.TOOL_CALL, [CALL_CLOSE])
        self._after_start = Part.THOUGHT if thinking else Part.ANSWER
        self._part: Part | None = None  # None at the start: a reply may open its thought itself
        self._held = ""  # not yet certain: shorter than a tag
        self._call: list[str] = []  # the open tool call so far
        self._has_text = False  # whether the part at hand has given any text
        self._num_newlines = 0  # held back since
        self._pieces: list[Piece] = []  # certain, not yet given

    @property
    def finished(self) -> bool:
        """Whether the thought, if one was opened, was closed."""
        return (self._part or self._after_start) is not Part.THOUGHT

    def feed(self, chunk: str) -> list[Piece]:
        """Takes the next chunk; returns what has become certain."""
        text, start = self._held + chunk, 0
        if self._part is None:
            text = text.lstrip("\n")
            if any(text != tag and tag.startswith(text) for tag in self._opens):
                self._held = text
                return []
            start = self._begin(text)
        while True:
            assert self._part is not None
            found = self._ends[self._part].search(text, start)
            if found is None:
                break
            self._take(self._part, text[start : found.start()])
            self._turn(self._part)
            start = found.end()
        certain = _num_certain(text, self._tags[self._part])
        self._take(self._part, text[start:certain])
        self._held = text[certain:]
        return self._give()

    def finish(self) -> list[Piece]:
        """Returns what was held back, at the end of the reply."""
        self._part = self._part or self._after_start
        if self._part is Part.TOOL_CALL:
            self._part = Part.ANSWER
            self._take(Part.ANSWER, CALL_OPEN + "".join(self._call))
        self._take(self._part, self._held)
        self._held = ""
        return self._give()

    def _end_at(self, part: Part, tags: Sequence[str]) -> None:
        """Says at which tags a part ends."""
        self._tags[part] = tuple(tags)
        self._ends[part] = re.compile("|".join(map(re.escape, tags)))

    def _begin(self, text: str) -> int:
        """Leaves the start; returns where the first part's text begins."""
        self._part = self._after_start
        for tag, closing in self._opens.items():
            if text.startswith(tag):
                self._part = Part.THOUGHT
                self._end_at(Part.THOUGHT, [closing])
                return len(tag)
        return 0

    def _turn(self, part: Part) -> None:
        """Leaves a part at its tag."""
        if part is Part.TOOL_CALL:
            self._pieces.append(Piece(part, "".join(self._call).strip()))
            self._call = []
        elif part is Part.THOUGHT:
            self._has_text, self._num_newlines = False, 0
        self._part = _NEXT[part]

    def _take(self, part: Part, text: str) -> None:
        """Takes certain text of a part, less the newlines around the whole part."""
        if part is Part.TOOL_CALL:
            self._call.append(text)
            return
        if not self._has_text:
            text = text.lstrip("\n")
        body = text.rstrip("\n")
        if body:
            self._pieces.append(Piece(part, "\n" * self._num_newlines + body))
            self._has_text, self._num_newlines = True, 0
        self._num_newlines += len(text) - len(body)

    def _give(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces


def split_reply(text: str, *, thinking: bool, thought_tags: Sequence[str] = THOUGHT_TAGS) -> Reply:
    """Splits a whole reply, its end-of-turn token left out.

    Args:
        thinking: the prompt has opened the thought.
        thought_tags: what a thought may stand in.
    """
    if not thinking and "<" not in text:
        return Reply("", text.strip("\n"))  # no tag, no parts: what the splitter would find
    splitter = ReplySplitter(thinking=thinking, thought_tags=thought_tags)
    pieces = splitter.feed(text) + splitter.finish()
    return join_pieces(pieces, finished=splitter.finished)


def join_pieces(pieces: Iterable[Piece], *, finished: bool) -> Reply:
    """Folds all pieces of a stream to the whole reply.

    Args:
        finished: what the splitter says at the end.
    """
    texts: dict[Part, list[str]] = {part: [] for part in Part}
    for part, text in pieces:
        texts[part].append(text)
    calls = tuple(map(read_tool_call, texts[Part.TOOL_CALL]))
    return Reply("".join(texts[Part.THOUGHT]), "".join(texts[Part.ANSWER]), calls, finished)


def read_tool_call(text: str) -> ToolCall:
    """Reads a call's JSON text. Whatever is wrong with it stands in the record's `error`; nothing is raised."""
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        return ToolCall(text, error="The JSON is nested too deeply.")
    except json.JSONDecodeError as error:
        return ToolCall(text, error=f"This is not valid JSON: {error}.")
    except ValueError:
        return ToolCall(text, error="The JSON holds NaN, an infinite number, or one of thousands of digits.")
    if not isinstance(value, dict):
        return ToolCall(text, error=f"The JSON must be an object with 'name' and 'arguments', not {_kind(value)}.")
    name, arguments = value.get("name"), value.get("arguments", {})
    if not isinstance(name, str):
        fault = f"must be a text, not {_kind(name)}" if "name" in value else "is missing"
        return ToolCall(text, error=f"The function's 'name' {fault}.")
    if not isinstance(arguments, dict):
        return ToolCall(text, error=f"The 'arguments' must be an object, not {_kind(arguments)}.")
    return ToolCall(text, name, arguments)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


def _kind(value: Any) -> str:
    """JSON's word for a value's kind."""
    kinds = {
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), "null")


def _num_certain(text: str, tags: Sequence[str]) -> int:
    """How much of `text` stands before a beginning of a tag at its end; a tag has its only "<" in front."""
    last = text.rfind("<")
    return last if last >= 0 and any(tag.startswith(text[last:]) for tag in tags) else len(text)
