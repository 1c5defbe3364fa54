"""Splits a reply into thought, answer and tool calls as it streams; a whole reply is a fold over the stream.

Four modes, each left at its tag: the start, the thought until the *first* `</think>`, the answer, and in it tool
calls. Tags behind the end of the thought, other than tool calls, are the answer's own text; so are all of them
when no thought was opened. (A stream can't know the last `</think>`. Chat history, where the text is whole, is
split at the last one, as the published template does.)
"""

from enum import StrEnum
from typing import NamedTuple

from open_exaone.base.records import Reply
from open_exaone.text.chat import CALL_CLOSE, CALL_OPEN, THINK_CLOSE, THINK_OPEN


class Part(StrEnum):
    """What a piece of a reply belongs to."""

    THOUGHT = "thought"
    ANSWER = "answer"
    TOOL_CALL = "tool_call"


class Piece(NamedTuple):
    """A piece of a reply: some more of the thought or the answer, or one whole tool call's raw JSON text."""

    part: Part
    text: str


# At which tag a part ends, and what comes behind it.
_TURNS = {
    Part.THOUGHT: (THINK_CLOSE, Part.ANSWER),
    Part.ANSWER: (CALL_OPEN, Part.TOOL_CALL),
    Part.TOOL_CALL: (CALL_CLOSE, Part.ANSWER),
}


class ReplySplitter:
    """Takes a reply in chunks cut anywhere and gives its pieces as soon as they are certain.

    Held back: a tag's beginning, a call until it closes, and newlines until more of the same part follows, since
    the newlines around thought and answer are the format's. A call that never closes is given as answer, with
    its tag: nothing is dropped.

    Args:
        thinking: the prompt has opened the thought; a reply may also open its thought itself.
    """

    def __init__(self, *, thinking: bool) -> None:
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
            if len(text) < len(THINK_OPEN) and THINK_OPEN.startswith(text):
                self._held = text
                return []
            start = self._begin(text)
        while True:
            assert self._part is not None
            tag, next_part = _TURNS[self._part]
            found = text.find(tag, start)
            if found < 0:
                break
            self._take(self._part, text[start:found])
            self._turn(self._part, next_part)
            start = found + len(tag)
        certain = _num_certain(text, tag)
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

    def _begin(self, text: str) -> int:
        """Leaves the start; returns where the first part's text begins."""
        opens_itself = text.startswith(THINK_OPEN)
        self._part = Part.THOUGHT if opens_itself else self._after_start
        return len(THINK_OPEN) if opens_itself else 0

    def _turn(self, part: Part, next_part: Part) -> None:
        """Leaves a part at its tag."""
        if part is Part.TOOL_CALL:
            self._pieces.append(Piece(part, "".join(self._call).strip()))
            self._call = []
        elif part is Part.THOUGHT:
            self._has_text, self._num_newlines = False, 0
        self._part = next_part

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


def split_reply(text: str, *, thinking: bool) -> Reply:
    """Splits a whole reply, its end-of-turn token left out.

    Args:
        thinking: the prompt has opened the thought.
    """
    splitter = ReplySplitter(thinking=thinking)
    texts: dict[Part, list[str]] = {part: [] for part in Part}
    for part, piece in splitter.feed(text) + splitter.finish():
        texts[part].append(piece)
    thought, answer = "".join(texts[Part.THOUGHT]), "".join(texts[Part.ANSWER])
    return Reply(thought, answer, tuple(texts[Part.TOOL_CALL]), splitter.finished)


def _num_certain(text: str, tag: str) -> int:
    """How much of `text` stands before a beginning of `tag` at its end; a tag has its only "<" in front."""
    last = text.rfind("<")
    return last if last >= 0 and tag.startswith(text[last:]) else len(text)
