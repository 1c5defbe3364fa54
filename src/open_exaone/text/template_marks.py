"""Private-use characters that stand nowhere in a conversation, put into its texts to find them again when rendered.

Around and inside the name of a marker in a text that isn't the format's: the template can't take it for a marker,
and the tokenizer reads it as plain text. At the edge of a text that could make up a marker together with
its neighbour: there the rendered text is cut. Around the parts of a reply: they show what is learned.
"""

import functools
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from open_exaone.base.errors import DataError
from open_exaone.text.chat import THOUGHT_TAGS, Message, Segment

_PRIVATE = [chr(code) for code in range(0xE000, 0xF900)]
_USED = re.compile("[\ue000-\uf8ff]")
_ESCAPED = re.compile(r"\\u(e[0-9a-f]{3}|f[0-8][0-9a-f]{2})", re.IGNORECASE)  # one of them in JSON of ASCII only
# Keys that templates look up in messages and tools: they stay as they are.
_LOOKED_UP = frozenset(
    ("role", "content", "reasoning_content", "thinking", "tool_calls", "function", "name", "arguments", "parameters")
) | {"description", "type", "id"}
_PLAIN = {"role", "content"}
MAX_DEPTH = 200  # of what a conversation holds; Python's own limit depends on who calls
THOUGHT_MARKERS = frozenset(f"<{slash}{tag}>" for slash in ("", "/") for tag in THOUGHT_TAGS)

_random = random.SystemRandom()  # a template can't guess what will be drawn


class Marks(NamedTuple):
    """One conversation's marks, a character each."""

    start: str  # before a broken marker's name,
    middle: str  # behind its first character,
    end: str  # and behind it
    edge: str  # where a text begins or ends with part of a marker's name
    thought: str  # before and behind the reply's thought
    answer: str  # before and behind its answer
    call: str  # before and behind the name of each function it calls
    opens: str  # where a `{% generation %}` block begins
    closes: str  # and where it ends

    @classmethod
    def draw(cls, texts: str) -> "Marks":
        """Draws characters that stand nowhere in `texts`, neither as they are nor escaped.

        Raises:
            DataError: all private-use characters stand there.
        """
        used = {*_USED.findall(texts), *(chr(int(code, 16)) for code in _ESCAPED.findall(texts))}
        free = [mark for mark in _PRIVATE if mark not in used] if used else _PRIVATE
        if len(free) < len(cls._fields):
            raise DataError("messages: hold every private-use character there is (U+E000 to U+F8FF); take some out")
        return cls(*_random.sample(free, len(cls._fields)))

    def break_markers(self, text: str, markers: Sequence[str]) -> str:
        """Breaks every marker's name in a text."""
        found = sorted((marker for marker in markers if marker in text), key=len, reverse=True)
        if not found:
            return text
        names = "|".join(map(re.escape, found))
        return re.sub(names, lambda match: self.broken(match[0]), text)

    def broken(self, name: str) -> str:
        """Breaks a whole text: the tokenizer is to read all of it as plain."""
        return f"{self.start}{name[:1]}{self.middle}{name[1:]}{self.end}"

    def with_edges(self, text: str, markers: Sequence[str], normalize: Callable[[str], str] = str) -> str:
        """Marks the edges of a text, inside the white space around it, where it may be part of a marker."""
        body = text.strip()
        bodies = {body, normalize(body)} if markers else set()
        before = self.edge if any(_may_end(form, marker) for form in bodies for marker in markers) else ""
        behind = self.edge if any(_may_begin(form, marker) for form in bodies for marker in markers) else ""
        return text.replace(body, f"{before}{body}{behind}", 1) if body and (before or behind) else text

    def segments(self, rendered: str, is_learned: bool, markers: Sequence[str] | None) -> Iterator[Segment]:
        """Cuts at broken markers, whose names are content; a lone piece of one only cuts.

        Args:
            markers: an edge cuts where one of these stands across it; None: every edge cuts.
        """
        if not any(mark in rendered for mark in self[:4]):  # as most texts
            yield Segment(rendered, True, is_learned)
            return
        rendered = self._without_whole_edges(rendered, markers)
        others = f"[^{self.start}{self.middle}{self.end}{self.edge}]*"
        lone = f"[{self.start}{self.middle}{self.end}{self.edge}]"
        broken = f"{self.start}({others}){self.middle}({others}){self.end}|{lone}"
        done = 0
        for match in re.finditer(broken, rendered):
            yield Segment(rendered[done : match.start()], True, is_learned)
            if match[1] is not None:
                yield Segment(match[1] + match[2], False, is_learned)
            done = match.end()
        yield Segment(rendered[done:], True, is_learned)

    def _without_whole_edges(self, rendered: str, markers: Sequence[str] | None) -> str:
        """Takes out the edges that no marker stands across: the text there is tokenised in one piece."""
        if markers is None or self.edge not in rendered:
            return rendered
        pieces = rendered.split(self.edge)
        plain = "".join(pieces)
        found = [marker for marker in markers if marker in plain]
        kept, place = [pieces[0]], len(pieces[0])
        for piece in pieces[1:]:
            is_across = any(m in plain[max(0, place - len(m) + 1) : place + len(m) - 1] for m in found)
            kept += [self.edge, piece] if is_across else [piece]
            place += len(piece)
        return "".join(kept)

    def around_reply(self, message: Message, tag: str) -> dict[str, Any]:
        """Puts marks around the parts of a reply, inside the white space around them.

        Args:
            tag: what a thought inside the content stands in.
        """
        marked = dict(message)
        if message.get("reasoning_content"):
            marked["reasoning_content"] = _around(message["reasoning_content"], self.thought)
        if message.get("content"):
            inline, close, answer = message["content"].rpartition(f"</{tag}>")
            before, opens, thought = inline.partition(f"<{tag}>") if f"<{tag}>" in inline else ("", "", inline)
            marked["content"] = before + opens + _around(thought, self.thought) + close + _around(answer, self.answer)
        if message.get("tool_calls"):
            marked["tool_calls"] = [self._around_name(call) for call in message["tool_calls"]]
        return marked

    def _around_name(self, call: Mapping[str, Any]) -> dict[str, Any]:
        inner = call.get("function") or call
        marked = {**inner, "name": _around(inner["name"], self.call)}
        return {**call, "function": marked} if call.get("function") else marked


def mapped_texts(value: Any, change: Callable[[str], str], depth: int = 0) -> Any:
    """A JSON value with all its texts changed, most keys too; mappings become dicts, so that it can be written.

    Raises:
        DataError: the value is nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise DataError(f"messages or tools: are nested more than {MAX_DEPTH} deep; make them flatter")
    match value:
        case str():
            return change(value)
        case Mapping():
            return {
                change(key) if isinstance(key, str) and key not in _LOOKED_UP else key: mapped_texts(
                    item, change, depth + 1
                )
                for key, item in value.items()
            }
        case list() | tuple():
            return [mapped_texts(item, change, depth + 1) for item in value]
        case _:
            return value


def plain_texts(messages: Sequence[Message]) -> str | None:
    """All texts of messages that hold a role and a content alone, as most do; None where there is something else."""
    if any(message.keys() != _PLAIN or type(message["content"]) is not str for message in messages):
        return None
    return "\n".join(message["content"] for message in messages)


def holds_private(text: str) -> bool:
    """Whether a character that may be a mark stands in a text, as it is or escaped."""
    return bool(_USED.search(text) or _ESCAPED.search(text))


def may_touch(text: str, markers: tuple[str, ...]) -> bool:
    """Whether a text may make up a marker with its neighbours."""
    body = text.strip()
    suffixes, prefixes, longest = _edges(markers)
    is_part = len(body) < longest and any(body in marker for marker in markers)
    return is_part or body.startswith(suffixes) or body.endswith(prefixes)


def find_any(markers: Sequence[str]) -> re.Pattern[str]:
    """Finds the first marker's name in JSON with all its characters as they are, or as JSON escapes them."""
    names = {form for marker in markers for form in (marker, json.dumps(marker, ensure_ascii=False)[1:-1])}
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")


def _may_end(text: str, marker: str) -> bool:
    """Whether a marker may begin before a text and end in it, or behind it."""
    return text in marker[1:] or text.startswith(_suffixes(marker))


def _may_begin(text: str, marker: str) -> bool:
    """Whether a marker may begin in a text, or before it, and end behind it."""
    return text in marker[:-1] or text.endswith(_prefixes(marker))


@functools.lru_cache(maxsize=256)
def _edges(markers: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    suffixes = tuple(suffix for marker in markers for suffix in _suffixes(marker))
    prefixes = tuple(prefix for marker in markers for prefix in _prefixes(marker))
    return suffixes, prefixes, max(map(len, markers), default=0)


@functools.lru_cache(maxsize=4096)
def _suffixes(marker: str) -> tuple[str, ...]:
    return tuple(marker[cut:] for cut in range(1, len(marker)))


@functools.lru_cache(maxsize=4096)
def _prefixes(marker: str) -> tuple[str, ...]:
    return tuple(marker[:cut] for cut in range(1, len(marker)))


def _around(text: str, mark: str) -> str:
    body = text.strip()
    if not body:
        return text
    begins = text.index(body)
    return f"{text[:begins]}{mark}{body}{mark}{text[begins + len(body) :]}"
