"""The fenced blocks of a reply, as CommonMark has them, and as models write them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})([^\n]*)")
_PYTHON = re.compile(r"[{.\s]*(?:python|pypy|py)[\d.]*(?![\w+#-])", re.IGNORECASE)  # of an info string: ```python3
_PYTHON_INFO = re.compile(r"[ \t]*((?:python|py)3?)[ \t]*", re.IGNORECASE)
_STRINGS = re.compile(r"#[^\n]*|'''|\"\"\"|'(?:[^'\\\n]|\\.)*+'?|\"(?:[^\"\\\n]|\\.)*+\"?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    info: str  # what follows the opening fence, such as "python"
    text: str  # its lines, without the indentation of its fence
    closed: bool

    @property
    def is_marked(self) -> bool:
        """Whether its info string names Python."""
        return bool(_PYTHON.match(self.info))


def split_head(text: str) -> tuple[str, str]:
    """What stands before the first fence, and the rest, which begins with the fence."""
    place = 0
    for line in text.split("\n"):
        if _opened_by(line):
            return text[:place], text[place:]
        place += len(line) + 1
    return text, ""


def fenced_blocks(text: str) -> Iterator[Block]:
    """Every fenced block; a fence inside a triple-quoted string is part of the program.

    Beyond CommonMark, a fence may be glued to the last line of a program, and one that names Python may end a line of
    prose.
    """
    last = {quote: text.rfind(quote) for quote in ("'''", '"""')}  # a string that never ends holds no fence
    block: tuple[str, str, str] | None = None  # its indentation, fence and info
    lines: list[str] = []
    quote, place = "", 0
    for line in text.split("\n"):
        place += len(line) + 1
        if block is None:
            block, lines, quote = _opened_by(line), [], ""
            continue
        fence = _FENCE.fullmatch(line)
        is_open = bool(quote) and last[quote] >= place
        if fence and _closes(fence, block[1]) and not is_open:
            yield Block(block[2], "\n".join(lines) + "\n", closed=True)
            block = None
            continue
        if _may_be_python(block[2]):
            glued = line.rstrip().removesuffix(block[1])
            if (
                glued.strip()
                and glued[-1] != block[1][0]
                and len(glued) < len(line.rstrip())
                and not _open_string(glued, quote if is_open else "")
            ):
                yield Block(block[2], "\n".join([*lines, _dedent(glued, len(block[0]))]) + "\n", closed=True)
                block = None
                continue
            quote = _open_string(line, quote)
        lines.append(_dedent(line, len(block[0])))
    if block is not None:
        yield Block(block[2], "\n".join(lines), closed=False)


def _opened_by(line: str) -> tuple[str, str, str] | None:
    """The indentation, fence and info of the block that a line opens."""
    fence = _FENCE.fullmatch(line)
    if fence and not (fence[2][0] == "`" and "`" in fence[3]):
        return fence[1], fence[2], fence[3].strip()
    prose, mark, info = line.rpartition("```")
    is_glued = mark and prose.strip() and not {"`", "~"} & set(prose) and _PYTHON_INFO.fullmatch(info)
    return ("", mark, info.strip()) if is_glued else None


def _may_be_python(info: str) -> bool:
    return not info or bool(_PYTHON.match(info))


def _closes(fence: re.Match[str], opening: str) -> bool:
    return fence[2].startswith(opening) and not fence[3].strip()


def _dedent(line: str, num_chars: int) -> str:
    """The line without the indentation of its block; one that is indented less loses what it has."""
    indented = len(line) - len(line.lstrip(" \t"))
    return line[min(indented, num_chars) :]


def _open_string(line: str, quote: str) -> str:
    """Which triple quote is open after a line, when `quote` ("" for none) was open before it."""
    start = 0
    while quote or "'''" in line or '"""' in line:
        if quote:
            end = line.find(quote, start)
            if end < 0:
                return quote
            quote, start = "", end + 3
        found = next((hit for hit in _STRINGS.finditer(line, start) if hit[0] in ("'''", '"""')), None)
        if found is None:
            return ""
        quote, start = found[0], found.end()
    return ""
