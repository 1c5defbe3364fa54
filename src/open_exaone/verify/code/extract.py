"""Finding the program in a reply: the last fenced block that may be Python."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})([^\n]*)")
_PYTHON = re.compile(r"[{.\s]*(?:python|pypy|py)[\d.]*(?![\w+#-])", re.IGNORECASE)  # of an info string: ```python3
_STRINGS = re.compile(r"#[^\n]*|'''|\"\"\"|'(?:[^'\\\n]|\\.)*+'?|\"(?:[^\"\\\n]|\\.)*+\"?", re.DOTALL)
_MAX_PARSED_CHARS = 100_000  # of a text without a language's name, which has to prove that it is Python
_TELLING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.For, ast.While)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    info: str  # what follows the opening fence, such as "python"
    text: str  # its lines, without the indentation of its fence
    closed: bool


def find_program(answer: str) -> str | None:
    """The program that a reply ends with, or None.

    It is the last fenced block that is marked as Python. Without a mark a block counts where no block of the reply has
    one, or where it parses as Python and defines, imports, loops or prints something. A reply that stops inside a
    block was cut and has no program. A reply without any fence is itself the program where it passes the same test.
    Linear in the length of the reply.
    """
    blocks = list(fenced_blocks(answer.replace("\r\n", "\n")))
    if not blocks:
        return answer if is_clearly_python(answer) else None
    if not blocks[-1].closed:
        return None
    is_marked = any(_PYTHON.match(block.info) for block in blocks)
    for block in reversed(blocks):
        if _PYTHON.match(block.info) or (not block.info and (not is_marked or is_clearly_python(block.text))):
            return block.text if block.text.strip() else None
    return None


def fenced_blocks(text: str) -> Iterator[Block]:
    """Every fenced block, as CommonMark has them; a fence inside a triple-quoted string is part of the program."""
    last = {quote: text.rfind(quote) for quote in ("'''", '"""')}  # a string that never ends holds no fence
    block: tuple[str, str, str] | None = None  # its indentation, fence and info
    lines: list[str] = []
    quote, place = "", 0
    for line in text.split("\n"):
        place += len(line) + 1
        fence = _FENCE.fullmatch(line)
        if block is None:
            if fence and not (fence[2][0] == "`" and "`" in fence[3]):
                block, lines, quote = (fence[1], fence[2], fence[3].strip()), [], ""
        elif fence and _closes(fence, block[1]) and not (quote and last[quote] >= place):
            yield Block(block[2], "\n".join(lines) + "\n", closed=True)
            block = None
        else:
            lines.append(_dedent(line, len(block[0])))
            quote = _open_string(line, quote) if _may_be_python(block[2]) else ""
    if block is not None:
        yield Block(block[2], "\n".join(lines), closed=False)


def is_clearly_python(text: str) -> bool:
    """Whether a text that nobody calls a program is one: it parses, and does what prose cannot."""
    if len(text) > _MAX_PARSED_CHARS:
        return False
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return any(isinstance(node, _TELLING) or _is_print(node) for node in body)


def _is_print(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"


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
