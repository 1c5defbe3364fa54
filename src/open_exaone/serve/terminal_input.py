"""What a user types: lines with editing and a history that is kept, and messages of several lines."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_HISTORY = 1000  # lines that are kept
_BLOCK = '"""'
_PROMPT, _CONTINUED = "> ", "… "


def history_file() -> Path:
    """Where what was typed is kept, in the user's state folder."""
    base = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state"
    return folder / "open-exaone" / "chat_history"


@contextlib.contextmanager
def line_editing(history: Path | None) -> Iterator[None]:
    """Within it `input` edits lines, and knows those of earlier chats; where Python has no readline, it does without.

    Args:
        history: a file that the user alone may read, made if need be; None keeps nothing. One that cannot be read or
            written is done without.
    """
    try:
        import readline
    except ImportError:
        yield
        return
    readline.clear_history()
    readline.set_history_length(MAX_HISTORY)
    if history is not None:
        with contextlib.suppress(OSError):
            history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(history, os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW, 0o600))
            readline.read_history_file(history)
    try:
        yield
    finally:
        if history is not None:
            with contextlib.suppress(OSError):
                readline.write_history_file(history)
                history.chmod(0o600)


def typed() -> str:
    """What stands in the line that is being edited."""
    try:
        import readline
    except ImportError:
        return ""
    return readline.get_line_buffer().strip("\n")


def read_message(read_line: Callable[[str], str] = input) -> str:
    """The next message. A line that ends in a backslash goes on in the next; so does all between two lines of \"\"\".

    Raises:
        EOFError: the input has ended.
    """
    line = read_line(_PROMPT)
    if line.strip().startswith(_BLOCK):
        return _block(line.strip().removeprefix(_BLOCK), read_line)
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        try:
            lines.append(read_line(_CONTINUED))
        except EOFError:
            break
    return "\n".join(lines)


def _block(first: str, read_line: Callable[[str], str]) -> str:
    lines, line = list[str](), first
    with contextlib.suppress(EOFError):
        while not line.rstrip().endswith(_BLOCK):
            lines.append(line)
            line = read_line(_CONTINUED)
        lines.append(line.rstrip().removesuffix(_BLOCK))
    return "\n".join(lines).strip("\n")
