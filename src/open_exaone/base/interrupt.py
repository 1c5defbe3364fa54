"""Ctrl-C, SIGTERM and a closed terminal as a request that long work honours at its next safe point."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_requested = False
_is_deferred = False
_is_held = False
_own = threading.local()  # `event`: what stops this thread alone


class Interrupted(KeyboardInterrupt):
    """Raised at a safe point after Ctrl-C or SIGTERM; what was done so far is saved."""


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Within it the first Ctrl-C, SIGTERM or SIGHUP only makes `check` raise; a second Ctrl-C or SIGTERM stops at once.

    A closed terminal sends SIGHUP, mostly twice; what is printed from then on is dropped. Where SIGHUP is ignored, as
    under nohup, it stays so.

    Within another one, or in a thread other than the main one, which gets no signals, it changes nothing.
    """
    global _requested, _is_deferred
    if _is_deferred or threading.current_thread() is not threading.main_thread():
        yield
        return
    _requested, _is_deferred = False, True
    hangup, terminals = _hangup(), [file for file in (1, 2) if os.isatty(file)]

    def request(number: int, frame: FrameType | None) -> None:
        global _requested
        if number == hangup:
            _silence(terminals)
        elif _requested:
            raise KeyboardInterrupt
        _requested = True

    numbers = (signal.SIGINT, signal.SIGTERM, *(() if hangup is None else (hangup,)))
    previous = {number: signal.signal(number, request) for number in numbers}
    try:
        yield
    finally:
        _requested = _is_deferred = False
        for number, handler in previous.items():
            signal.signal(number, handler)


def _hangup() -> signal.Signals | None:
    """The signal of a closed terminal; None on Windows, which has none, and where it is ignored."""
    number: signal.Signals | None = getattr(signal, "SIGHUP", None)
    return None if number is None or signal.getsignal(number) in (signal.SIG_IGN, None) else number


def _silence(files: list[int]) -> None:
    """Sends what is written to a terminal that is closed nowhere, as writing there would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for file in files:
        os.dup2(nowhere, file)
    os.close(nowhere)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within it none is honoured: for what several ranks must do to its end together."""
    global _is_held
    _is_held = True
    try:
        yield
    finally:
        _is_held = False


@contextlib.contextmanager
def stopped_by(event: threading.Event) -> Iterator[None]:
    """Within it, and in this thread alone, an event that is set is an interruption too."""
    _own.event = event
    try:
        yield
    finally:
        _own.event = None


def requested() -> bool:
    """Whether an interruption waits to be honoured."""
    event: threading.Event | None = getattr(_own, "event", None)
    return (_requested and not _is_held) or (event is not None and event.is_set())


def check() -> None:
    """A safe point.

    Raises:
        Interrupted: an interruption was requested.
    """
    if requested():
        raise Interrupted
