"""Private-use characters that stand nowhere in a conversation, put into its texts to find them again when rendered.

Around and inside the name of a marker in a text that isn't the format's: the template can't take it for a marker,
and the tokenizer is told to read it as plain text. Around the parts of a reply: they show what is learned.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from open_exaone.base.errors import DataError
from open_exaone.text.chat import THOUGHT_TAGS, Message, Segment

_PRIVATE = [chr(code) for code in range(0xE000, 0xF900)]
_ESCAPED = re.compile(r"\\u(e[0-9a-f]{3}|f[0-8][0-9a-f]{2})", re.IGNORECASE)  # one of them in JSON of ASCII only
THOUGHT_MARKERS = frozenset(f"<{slash}{tag}>" for slash in ("", "/") for tag in THOUGHT_TAGS)

_random = random.SystemRandom()  # a template can't guess what will be drawn


class Marks(NamedTuple):
    """One conversation's marks, a character each."""

    start: str  # before a broken marker's name,
    middle: str  # behind its first character,
    end: str  # and behind it
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
        used = {*texts, *(chr(int(code, 16)) for code in _ESCAPED.findall(texts))}
        free = [mark for mark in _PRIVATE if mark not in used]
        if len(free) < len(cls._fields):
            raise DataError("messages: hold every private-use character there is (U+E000 to U+F8FF); take some out")
        return cls(*_random.sample(free, len(cls._fields)))

    def restore(self, rendered: str) -> str:
        """Undoes what a template's `tojson(ensure_ascii=True)` does to marks."""
        for mark in self:
            for escape in (f"\\u{ord(mark):04x}", f"\\u{ord(mark):04X}"):
                rendered = rendered.replace(escape, mark)
        return rendered

    def break_markers(self, text: str, markers: Sequence[str]) -> str:
        """Breaks every marker's name in a text."""
        found = sorted((marker for marker in markers if marker in text), key=len, reverse=True)
        if not found:
            return text
        names = "|".join(map(re.escape, found))
        return re.sub(names, lambda match: self._broken(match[0]), text)

    def break_all(self, text: str) -> str:
        """Breaks a whole text: the tokenizer is to read all of it as plain."""
        return self._broken(text)

    def _broken(self, name: str) -> str:
        return f"{self.start}{name[:1]}{self.middle}{name[1:]}{self.end}"

    def segments(self, rendered: str, is_learned: bool) -> Iterator[Segment]:
        """Cuts at broken markers, whose names are content; a lone piece of one only cuts."""
        others = f"[^{self.start}{self.middle}{self.end}]*"
        broken = f"{self.start}({others}){self.middle}({others}){self.end}|[{self.start}{self.middle}{self.end}]"
        done = 0
        for match in re.finditer(broken, rendered):
            yield Segment(rendered[done : match.start()], True, is_learned)
            if match[1] is not None:
                yield Segment(match[1] + match[2], False, is_learned)
            done = match.end()
        yield Segment(rendered[done:], True, is_learned)

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
        if call.get("function"):
            return {**call, "function": self._around_name(call["function"])}
        return {**call, "name": _around(call["name"], self.call)}


def mapped_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with all its texts changed, keys too; mappings become dicts, so that it can be written.

    Raises:
        RecursionError: the value is nested too deeply.
    """
    match value:
        case str():
            return change(value)
        case Mapping():
            return {
                change(key) if isinstance(key, str) else key: mapped_texts(item, change) for key, item in value.items()
            }
        case list() | tuple():
            return [mapped_texts(item, change) for item in value]
        case _:
            return value


def _around(text: str, mark: str) -> str:
    body = text.strip()
    if not body:
        return text
    begins = text.index(body)
    return f"{text[:begins]}{mark}{body}{mark}{text[begins + len(body) :]}"
