"""Ctrl-C and SIGTERM as a request that long work honours at its next safe point."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_requested = False
_is_deferred = False


class Interrupted(KeyboardInterrupt):
    """Raised at a safe point after Ctrl-C or SIGTERM; what was done so far is saved."""


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Within it the first Ctrl-C or SIGTERM only makes `check` raise; the second stops at once.

    Within another one, or in a thread other than the main one, which gets no signals, it changes nothing.
    """
    global _requested, _is_deferred
    if _is_deferred or threading.current_thread() is not threading.main_thread():
        yield
        return
    _requested, _is_deferred = False, True

    def request(number: int, frame: FrameType | None) -> None:
        global _requested
        if _requested:
            raise KeyboardInterrupt
        _requested = True

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        _requested = _is_deferred = False
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
