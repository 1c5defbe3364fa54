"""Signals as requests that wait for a safe point, in processes of their own."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from open_exaone.base.interrupt import Interrupted, check, deferred_interrupts, held, requested

HANGUPS = """
import os, signal
from open_exaone.base.interrupt import Interrupted, check, deferred_interrupts
with deferred_interrupts():
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)
    print("a line", flush=True)
    try:
        check()
    except Interrupted:
        os.write(KEPT, b"saved")
"""


def run(script, *, stdout, kept, before=None):
    command = [sys.executable, "-c", script.replace("KEPT", str(kept))]
    return subprocess.run(command, stdout=stdout, pass_fds=[kept], preexec_fn=before, check=False).returncode


@pytest.fixture
def kept():
    """The two ends of a pipe: what a process wrote there is read from the first."""
    read, write = os.pipe()
    yield read, write
    os.close(read)


def text_of(kept):
    os.close(kept[1])
    return os.read(kept[0], 99)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_waits_for_a_safe_point_and_the_handlers_are_put_back(number):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with deferred_interrupts():
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted):
            check()
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    check()


def test_a_second_ctrl_c_stops_at_once_and_a_second_hangup_does_not():
    with deferred_interrupts():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_what_is_printed_to_a_closed_terminal_is_dropped(kept):
    """Writing there would be an error, before the state is saved."""
    main, terminal = pty.openpty()
    script = HANGUPS.replace("os.kill", f"os.close({main}); os.kill", 1)
    command = [sys.executable, "-c", script.replace("KEPT", str(kept[1]))]
    process = subprocess.Popen(command, stdout=terminal, pass_fds=[kept[1], main])
    os.close(main)
    os.close(terminal)
    assert process.wait() == 0
    assert text_of(kept) == b"saved"


def test_under_nohup_a_hangup_changes_nothing(kept):
    ignored = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    assert run(HANGUPS, stdout=subprocess.DEVNULL, kept=kept[1], before=ignored) == 0
    assert text_of(kept) == b""


def test_one_is_held_until_what_ranks_do_together_is_done():
    with deferred_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        with held():
            check()
            assert not requested()
        with pytest.raises(Interrupted):
            check()
