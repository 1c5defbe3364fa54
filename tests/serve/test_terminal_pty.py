"""The interactive chat in a pseudo-terminal: keys go in, and what a user would see comes out."""

import codecs
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("made_up.py")
CTRL_C, CTRL_D, UP = b"\x03", b"\x04", b"\x1b[A"


class Terminal:
    """What a test does with a chat; reading waits for a text, however long that takes."""

    def __init__(self, descriptor: int, process: "subprocess.Popen[bytes]") -> None:
        self._descriptor, self.process = descriptor, process
        self.seen = ""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")  # a read may end within a character

    def send(self, keys: str | bytes) -> None:
        """Sends keys once the chat sleeps: Python loses a Ctrl-C that comes between two waits of readline."""
        state = Path(f"/proc/{self.process.pid}/stat")
        while state.exists() and state.read_text().rpartition(")")[2].split()[0] == "R":
            time.sleep(0.01)
        os.write(self._descriptor, keys.encode() if isinstance(keys, str) else keys)

    def until(self, text: str) -> str:
        """What is shown up to a text, which must come."""
        begun = len(self.seen)
        while text not in self.seen[begun:]:
            chunk = self._read()
            assert chunk, f"the chat ended without {text!r}: {self.seen[begun:]!r}"
            self.seen += chunk
        return self.seen[begun:]

    def rest(self) -> str:
        begun = len(self.seen)
        while chunk := self._read():
            self.seen += chunk
        return self.seen[begun:]

    def _read(self) -> str:
        text = ""
        while not text:
            try:
                text = self._utf8.decode(os.read(self._descriptor, 65536))
            except OSError:  # the other side is closed
                return ""
        return text


@contextmanager
def chatting(history: Path) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "LANG": "C.UTF-8", "INPUTRC": "/dev/null"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(history)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(theirs)
    terminal = Terminal(ours, process)
    watchdog = threading.Timer(120, process.kill)  # what hangs fails
    watchdog.start()
    try:
        terminal.until("> ")
        yield terminal
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        os.close(ours)


def _take_terminal() -> None:
    """Makes the terminal the one that Ctrl-C reaches."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # where the tests run in the background, it is ignored
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "state" / "chat_history"


def plain(text: str) -> str:
    """Without colours and the line editor's own sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_a_reply_streams_its_thought_dimmed_and_korean_is_typed_as_it_is(history: Path) -> None:
    with chatting(history) as terminal:
        terminal.send("한국어 값\r")
        shown = terminal.until("> ")
        assert "\x1b[2mhm, \x1b[0m\x1b[2mso\x1b[0m" in shown
        assert "값 어국한" in plain(shown)
        terminal.send(CTRL_D)
        assert "left after 1" in terminal.rest() and terminal.process.wait() == 0


def test_ctrl_c_stops_a_reply_keeps_what_came_and_the_chat_goes_on(history: Path) -> None:
    with chatting(history) as terminal:
        terminal.send("wait\r")
        terminal.until("tiaw")  # the whole reply, which then waits
        terminal.send(CTRL_C)
        assert "stopped; the text so far is kept" in terminal.until("> ")
        terminal.send("next\r")
        assert "txen" in plain(terminal.until("> "))
        terminal.send("/undo\r")
        assert "Taken back: next" in terminal.until("> ")
        terminal.send("/undo\r")
        assert "Taken back: wait" in terminal.until("> ")


def test_ctrl_c_drops_a_line_and_leaves_where_nothing_is_typed(history: Path) -> None:
    with chatting(history) as terminal:
        terminal.send("half a line")
        terminal.until("half a line")
        terminal.send(CTRL_C)
        terminal.until("> ")
        terminal.send(CTRL_C)
        assert "left after 0" in terminal.rest() and terminal.process.wait() == 0


def test_a_message_has_several_lines(history: Path) -> None:
    with chatting(history) as terminal:
        terminal.send("ab\\\r")
        terminal.until("… ")
        terminal.send("cd\r")
        assert "dc" in plain(terminal.until("> "))
        terminal.send('"""\r')
        terminal.until("… ")
        terminal.send("/ef\r")
        terminal.until("… ")
        terminal.send('gh"""\r')
        assert "fe/" in plain(terminal.until("> "))


def test_history_is_kept_over_chats_for_the_user_alone(history: Path) -> None:
    with chatting(history) as terminal:
        terminal.send("remembered\r")
        terminal.until("> ")
        terminal.send(CTRL_D)
        terminal.rest()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700
    history.chmod(0o644)
    with chatting(history) as terminal:
        terminal.send(UP)
        terminal.until("remembered")
        terminal.send("\r")
        assert "derebmemer" in plain(terminal.until("> "))
        terminal.send(CTRL_D)
        terminal.rest()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_a_reply_cannot_steer_the_terminal(history: Path) -> None:
    with chatting(history) as terminal:
        terminal.send("steer\r")
        shown = terminal.until("> ")
        assert shown.count("[bold]x[/bold]") == 2
        assert not re.search(r"\x1b\[2J|\x1b\]|\x07|\x9b|\rgone", shown)
