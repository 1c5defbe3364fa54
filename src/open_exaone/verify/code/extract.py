"""Finding the program in a reply: the last of its blocks that is the program which the tests need."""

import re
from dataclasses import dataclass

from open_exaone.verify.code.fences import fenced_blocks, split_head
from open_exaone.verify.code.pieces import Piece, continuation, joined, reads_stdin

_MAX_PARSED_CHARS = 100_000  # of a piece; of all of them four times as much
_MAX_PIECES = 64  # of a reply, its last
_BEGIN = re.compile(r"^\[(?:BEGIN|PYTHON|CODE)\][ \t]*\n", re.MULTILINE)  # the marks of MBPP's prompt, and of Llama
_DONE = re.compile(r"\n\[(?:DONE|/PYTHON|/CODE)\][ \t]*(?:\n|$)")
_LOOSE = re.compile(r"\bdef\s+\w+|\s+")  # what does not tell an excerpt: `main()` is none of `def main():`


@dataclass(frozen=True, slots=True)
class Asked:
    """What the tests need of a program."""

    names: frozenset[str] = frozenset()  # what they call; none for a program from stdin to stdout
    prompt: str = ""  # HumanEval's: the beginning of the function, which a reply may go on with


def find_program(answer: str, asked: Asked = Asked()) -> str | None:
    """The program of a reply, or None.

    Its pieces are the fenced blocks that are marked as Python. Without a mark a block counts where no block of the
    reply has one, or where it parses as Python and defines, imports, loops or prints something. The program is the
    last piece that defines a name which the tests call, or goes on with the prompt, or (without such names) reads the
    standard input and is no excerpt of a piece before it; else the last piece. What it needs of other pieces is joined
    to it. A reply that stops inside a block was cut and has no program. Code before any fence is a piece where it
    passes the same test. Linear in the length of the reply.
    """
    text = _BEGIN.split(_DONE.split(answer.replace("\r\n", "\n"), maxsplit=1)[0], maxsplit=1)[-1]
    pieces = _pieces(text, asked)
    pieces = [piece for piece in pieces or () if piece.text.strip()]
    pieces = [piece for piece in pieces if not piece.is_empty] or pieces
    if not pieces:
        return None
    chosen = (_defining(pieces, asked) if asked.names else _running(pieces)) or pieces[-1]
    return chosen.text if _goes_on(chosen, asked) else joined(chosen, pieces, asked.names)


def _pieces(text: str, asked: Asked) -> list[Piece] | None:
    """The pieces of a reply that may be its program; None where it stops inside a block."""
    head, rest = split_head(text)
    pieces = [piece] if (piece := _bare(head, asked)) else []
    if pieces and re.match(r"[ \t]*(?:```+|~~~+)[ \t]*(?:\n|$)", rest):  # it closes what the prompt has opened
        rest = rest.partition("\n")[2]
    blocks = list(fenced_blocks(rest))
    if blocks and not blocks[-1].closed:
        return None
    is_marked = any(block.is_marked for block in blocks)
    left = 4 * _MAX_PARSED_CHARS
    found = list[Piece]()
    for block in reversed(blocks):
        if len(found) == _MAX_PIECES:
            break
        left -= len(block.text)
        piece = Piece(block.text, is_parsed=len(block.text) <= _MAX_PARSED_CHARS and left >= 0)
        if block.is_marked or (not block.info and (not is_marked or piece.is_telling)):
            found.append(_continued(piece, asked) or piece)
    return [*pieces, *reversed(found)]


def _bare(text: str, asked: Asked) -> Piece | None:
    """A text without a fence, where it is a program or goes on with the prompt."""
    if not text.strip() or len(text) > _MAX_PARSED_CHARS:
        return None
    piece = Piece(text)
    return _continued(piece, asked) or (piece if piece.is_telling and piece.flush_text == text else None)


def _continued(piece: Piece, asked: Asked) -> Piece | None:
    if not asked.prompt or not piece.is_parsed or piece.defined(asked.names):
        return None
    bodies = (continuation(piece.text, asked.prompt, name) for name in asked.names)
    return next((Piece(body) for body in bodies if body), None)


def _defining(pieces: list[Piece], asked: Asked) -> Piece | None:
    defining = [piece for piece in pieces if piece.defined(asked.names)]
    return next(reversed(defining or [piece for piece in pieces if _goes_on(piece, asked)]), None)


def _goes_on(piece: Piece, asked: Asked) -> bool:
    return bool(asked.prompt) and piece.text[:1] in (" ", "\t") and not piece.defined(asked.names)


def _running(pieces: list[Piece]) -> Piece | None:
    """The last piece that reads the standard input, be it by what it calls of the others, and is no excerpt."""
    texts = [_LOOSE.sub("", piece.text) for piece in pieces]
    for place in reversed(range(len(pieces))):
        is_excerpt = any(texts[place] in text and texts[place] != text for text in texts[:place])
        if not is_excerpt and reads_stdin(pieces[place], pieces):
            return pieces[place]
    return None
