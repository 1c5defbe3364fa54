"""Processes that compute nothing and keep cores busy, for measurements beside them."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

SPIN = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"


@contextmanager
def spinning(number: int, minutes: float) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes that compute nothing; they stand still until `beside` wants them.

    Args:
        minutes: after which they end, whatever becomes of this process.
    """
    made = [subprocess.Popen([sys.executable, "-c", SPIN, str(60 * minutes)]) for _ in range(number)]
    for process in made:
        process.send_signal(signal.SIGSTOP)
    try:
        yield made
    finally:
        for process in made:
            process.kill()
            process.wait()


@contextmanager
def beside(processes: Sequence[subprocess.Popen[bytes]], number: int) -> Iterator[None]:
    """Lets so many of them spin."""
    for process in processes[:number]:
        process.send_signal(signal.SIGCONT)
    time.sleep(0.05)
    try:
        yield
    finally:
        for process in processes[:number]:
            process.send_signal(signal.SIGSTOP)
