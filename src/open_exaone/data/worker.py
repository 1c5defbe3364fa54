"""Renders and tokenises rows in a process of its own: `python -m open_exaone.data.worker`, which `workers` starts.

Over the socket on stdin come the tokenizer, for which it answers True, and then one chunk after the other; each is
answered with what `fitted` makes of it, or with None where that fails: whoever asked then does the same and sees why.
The end of stdin ends the process, whatever became of the one that started it.
"""

import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

from open_exaone.data.config import SourceConfig
from open_exaone.data.render import Fitted, Refused, fit, render_batch
from open_exaone.data.rows import Example, fewer_collections
from open_exaone.data.store import Kind
from open_exaone.text.tokenizer import Tokenizer


class Chunk(NamedTuple):
    """Rows, and how they are rendered."""

    examples: Sequence[Example]
    source: SourceConfig
    kind: Kind
    turns: str
    max_tokens: int
    too_long: str


def fitted(chunk: Chunk, tokenizer: Tokenizer) -> list[Fitted]:
    """What is left of each example.

    Raises:
        CheckpointError: the tokenizer has no chat template, or a broken one, or names no end token.
    """
    rendered = render_batch(chunk.examples, tokenizer, chunk.kind, chunk.source, chunk.turns)
    return [
        Fitted([], False, [item])
        if isinstance(item, Refused)
        else fit(item, chunk.max_tokens, chunk.too_long, chunk.kind)
        for item in rendered
    ]


def main() -> None:
    """Answers until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the process that asks
    connection = Connection(os.dup(0))
    try:
        tokenizer = connection.recv()
        connection.send(True)
        with fewer_collections():
            while True:
                connection.send(_answer(connection.recv(), tokenizer))
    except (EOFError, ConnectionError):  # nobody asks any more
        return


def _answer(chunk: Chunk, tokenizer: Tokenizer) -> list[Fitted] | None:
    try:
        return [one._replace(kept=[item.packed() for item in one.kept]) for one in fitted(chunk, tokenizer)]
    except Exception:  # the border of the process
        return None


if __name__ == "__main__":
    main()
