"""A model as a double for chats; run as a program, an interactive chat with it in this terminal.

It says what it was asked backwards, behind a thought. Asked "wait", it goes on until it is stopped; asked "fail", it
breaks off midway; asked "steer", it sends control characters.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from open_exaone.base import interrupt
from open_exaone.base.errors import DataError
from open_exaone.base.records import StopReason
from open_exaone.serve.session import End, Events, Message, Note, Settings
from open_exaone.text.split import Part, Piece, join_pieces

STEERING = "\x1b[2J\x1b]0;title\x07\rgone\x9b31m[bold]x[/bold]"


class MadeUp:
    """Remembers what it was asked."""

    name = "made-up"

    def __init__(self) -> None:
        self.asked: list[tuple[list[Message], Settings, int]] = []
        self.is_closed = False

    def stream(self, messages: Sequence[Message], settings: Settings, turn: int) -> Events:
        self.asked.append((list(messages), Settings(settings.thinking, settings.budget, settings.system), turn))
        text = messages[-1]["content"]
        pieces = [Piece(Part.THOUGHT, "hm, "), Piece(Part.THOUGHT, "so")] if settings.thinking else []
        pieces += [Piece(Part.ANSWER, text[::-1][:2]), Piece(Part.ANSWER, text[::-1][2:])]
        if text == "fail at once":
            raise DataError("it cannot")
        if text == "steer":
            pieces = [Piece(Part.THOUGHT, STEERING), Piece(Part.ANSWER, STEERING)]
        if text == "call":
            pieces += [Piece(Part.TOOL_CALL, '{"name": "roll", "arguments": {}}'), Piece(Part.TOOL_CALL, "{")]
        if text == "open":
            pieces = [Piece(Part.THOUGHT, "never closed")]
        with interrupt.deferred_interrupts():
            for place, piece in enumerate(pieces):
                if text == "fail" and place == 3:
                    raise DataError("the connection broke in the middle of the reply")
                yield piece
            while text == "wait" and not interrupt.requested():
                time.sleep(0.01)
            if text == "note":
                yield Note("the first 2 turns are left out")
            stop = StopReason.CANCELLED if interrupt.requested() else StopReason.END
        yield End(join_pieces(pieces, finished=text != "open"), StopReason.LENGTH if text in ("open", "long") else stop)

    def close(self) -> None:
        self.is_closed = True


def main(history: str) -> None:
    from open_exaone.base.output import guard_output
    from open_exaone.base.terminal import Console
    from open_exaone.serve.session import Session
    from open_exaone.serve.terminal import Chat
    from open_exaone.serve.terminal_input import line_editing, typed
    from open_exaone.serve.terminal_view import View

    guard_output()
    model = MadeUp()
    with line_editing(Path(history)):
        Chat(Session(model), View(Console(width=200))).run(buffer=typed)
    print(f"left after {len(model.asked)}")


if __name__ == "__main__":
    main(sys.argv[1])
