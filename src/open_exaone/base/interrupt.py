"""Ctrl-C and SIGTERM as a request that long work honours at its next safe point."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_requested = False


class Interrupted(KeyboardInterrupt):
    """Raised at a safe point after Ctrl-C or SIGTERM; what was done so far is saved."""


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Within it the first Ctrl-C or SIGTERM only makes `check` raise; the second stops at once."""
    global _requested
    _requested = False

    def request(number: int, frame: FrameType | None) -> None:
        global _requested
        if _requested:
            raise KeyboardInterrupt
        _requested = True

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def requested() -> bool:
    """Whether an interruption waits to be honoured."""
    return _requested


def check() -> None:
    """A safe point.

    Raises:
        Interrupted: an interruption was requested.
    """
    if _requested:
        raise Interrupted
