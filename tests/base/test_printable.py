"""Nothing foreign that is printed or logged steers a terminal; what people write stays as it is."""

import io
import json
import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from open_exaone.base import output
from open_exaone.base.log import logger
from open_exaone.base.printable import printable
from open_exaone.base.terminal import Console

STEERING = (
    *("\x1b[31mred", "\x1b[2Jgone", "\x1b]52;c;cm0gLXJm\x07", "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\"),
    *("\x9b2J", "\x9d52;c;AA\x9c", "\x90q", "overwritten\rline", "\x08\x08", "\x07", "\x0e", "\x00", "\x7f"),
    *("\u202egpj.exe", "\u2066a\u2069", "\ud800", "\udcff"),
)
ORDINARY = "값은 5시\n\t½ é 🙂 👨‍👩‍👧 ∑ᵢ xᵢ² ≤ ∞ a\r\nb עברית\u200f ١٢٣ \\x1b [31m \u2028"


@given(st.text(st.characters()))
def test_any_text_can_be_written_and_steers_nothing(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert len(shown) == len(text)
    assert not any((ord(sign) < 32 and sign not in "\n\t\r") or 127 <= ord(sign) < 160 for sign in shown)
    assert "\r" not in shown.replace("\r\n", "")
    assert printable(shown) == shown


def test_ordinary_writing_stays() -> None:
    assert printable(ORDINARY) == ORDINARY
    assert printable("a\x1b[2Jb\u202ec\x9b") == "a�[2Jb�c�"
    text = json.dumps({"name": "\x1b]52;c;AA\x07\ud800", "값": [1, "\u202e"]})
    assert printable(text) == text


def steers(text: str) -> bool:
    return printable(text) != text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp949", "utf-8"])
def test_any_terminal_takes_what_is_printed(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(title="값 ½ 🙂")
    table.add_row("✓ — …")
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    console = Console(file=stream, width=60)
    for item in ("값 ½ 🙂", Text("✓ …", style="red"), table):
        console.print(item)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    output.say("값 ½ 🙂 —")
    output.say_error("값 ½ 🙂 —")
    stream.flush()
    shown = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]  # it is a BytesIO
    assert ("값" in shown) == (encoding in ("cp949", "utf-8")) and ("½" in shown) == (encoding != "ascii")


@pytest.mark.parametrize("text", STEERING)
def test_a_console_prints_no_foreign_escapes(text: str) -> None:
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    plain = Console(file=io.StringIO(), width=80)
    for item in (text, Text(text, style="red"), table, f"[bold]{text}[/bold] :smile: [/]"):
        plain.print(item)
    shown = plain.file.getvalue()
    assert not steers(shown) and "[bold]" in shown and ":smile: [/]" in shown
    colored = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    colored.print(Text(f"x{text}", style="red"))
    shown = colored.file.getvalue()
    assert shown.startswith("\x1b[31m") and not steers(shown.replace("\x1b[31m", "").replace("\x1b[0m", ""))


@pytest.mark.parametrize("text", STEERING)
def test_lines_errors_logs_and_warnings_are_printable(text, capsys, caplog, monkeypatch) -> None:
    output.say(text)
    output.say_error(ValueError(text))
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    output.guard_output()
    assert not steers(warnings.formatwarning(UserWarning(text), UserWarning, "file.py", 1))
    sys.excepthook(ValueError, ValueError(text), None)
    captured = capsys.readouterr()
    assert not steers(captured.out + captured.err)
    with caplog.at_level(logging.WARNING):
        logger.warning("%s: %d lines, " + text, text, 3)
        logger.warning("%(a)s", {"a": text})
        logger.warning("%.1f and %s", np.float32(1.25), [text])
        logger.getChild("child").warning("%s", text)
        logger.warning("%d", text)  # a wrong call: no number
        try:
            raise ValueError(text)
        except ValueError:
            logger.exception("broke")
    assert not steers(caplog.text) and "3 lines" in caplog.text and "1.2 and" in caplog.text


def test_a_long_error_is_cut(capsys) -> None:
    output.say_error("x" * 1_000_000)
    assert len(capsys.readouterr().err) < 6_000


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_cannot_be_encoded_raises_nothing(encoding) -> None:
    code = "from open_exaone.base import output; output.guard_output(); output.say('값\\ud800'); print('\\ud800')"
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": encoding}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("can't start new thread"), True),
        (ValueError("memory of the past"), False),
        (KeyError("status"), False),
    ],
)
def test_too_little_memory_is_recognised(error, is_memory) -> None:
    assert (output.memory_error(error) is not None) == is_memory


def test_the_log_of_others_is_left_alone(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        logging.getLogger("another").warning("%s", "\x1b[31m")
    assert caplog.records[0].args == ("\x1b[31m",)
