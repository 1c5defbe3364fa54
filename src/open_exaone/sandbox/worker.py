"""One worker, in its own process: answers calls of one function, one after the other."""

import contextlib
import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from open_exaone.sandbox import wire
from open_exaone.sandbox.confine import Confinement, become_keeper, kernel_limits, ready_programs, set_limits
from open_exaone.sandbox.limits import Limits

Function = Callable[..., Any]


def load(function: str) -> Function:
    """The function named "package.module:function" or "path/to/file.py:function", ready to be called.

    A module that has a function `preload` has it called, for what it imports late; and again in each worker once that
    is confined, where what it raises, and what it then cannot import, keeps the worker from starting.

    Raises:
        Exception: whatever the module raises.
    """
    place, _, name = function.rpartition(":")
    if place.endswith(".py"):
        sys.path.insert(0, os.path.dirname(os.path.abspath(place)))
        if not os.path.isfile(place):
            raise FileNotFoundError(f"there is no file {place}")
        stem = os.path.basename(place)[:-3]
        spec = importlib.util.spec_from_file_location(f"_{stem}" if stem in sys.modules else stem, place)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    getattr(module, "preload", lambda: None)()
    found = getattr(module, name, None)
    if not callable(found):
        raise NameError(f"{place} has no function {name!r}")
    return found


def explain(error: BaseException, place: str = "") -> str:
    """One line that says what was raised, and in which line of which file.

    Args:
        place: the file that the user knows; the innermost line of it is named, or else the innermost of all.
    """
    import traceback

    ours = os.path.dirname(__file__)
    if place.endswith(".py"):
        with contextlib.suppress(OSError):  # the current folder may be gone
            place = min(place, os.path.relpath(place), key=len)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if os.path.dirname(frame.filename) != ours]
    own = [frame for frame in frames if place and os.path.abspath(frame.filename) == os.path.abspath(place)]
    where = ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}, line {error.lineno}: "
    elif frames:
        frame = (own or frames)[-1]
        where = f"{place if own else frame.filename}, line {frame.lineno}: "
    return f"{where}{type(error).__name__}: {str(error)[:300]}"


def work(
    confinement: Confinement | None,
    function: Function,
    place: str,
    hidden: "Hidden",
    calls: socket.socket,
    memory_bytes: int,
    alarm: int,
) -> NoReturn:
    """Answers calls until nobody calls.

    Args:
        alarm: where to write a byte once a call has used up its processor time: whoever reads it ends this process.
    """
    is_out_of_time = _report_the_timer(alarm) if confinement else lambda: False
    if confinement:
        sys.meta_path.append(hidden)
        become_keeper(confinement)
    else:
        os.setsid()
    limits = Limits(memory_bytes=memory_bytes, file_bytes=1 << 40)
    set_limits(kernel_limits(limits, confinement, is_program=False))
    why = ""
    if confinement:
        ready_programs(confinement)()
        _, why, _ = _answer(getattr(sys.modules.get(place), "preload", lambda: None), [], place, hidden)
    calls.sendall(json.dumps({"why": why}).encode())
    while True:
        received = wire.receive(calls)
        if received is None:
            os._exit(0)
        signal.setitimer(signal.ITIMER_PROF, received[0]["time_limit_s"])
        status, why, value = _answer(function, received[0]["arguments"], place, hidden)
        signal.setitimer(signal.ITIMER_PROF, 0)
        while is_out_of_time():  # an answer now would leave the end to the next call
            signal.pause()
        wire.send(calls, {"status": status, "why": why}, value)


def _report_the_timer(alarm: int) -> Callable[[], bool]:
    """Has the timer's signal heard outside. By itself it does nothing to the first process of a namespace.

    The byte is written as the signal comes, in C, however long the code that runs then holds on.

    Returns:
        whether the signal has come.
    """
    signals: list[int] = []
    os.set_blocking(alarm, False)
    signal.signal(signal.SIGPROF, lambda number, _: signals.append(number))
    signal.set_wakeup_fd(alarm)
    return lambda: bool(signals)


class Hidden:
    """Asked last for a module, it notes those that confinement may hide: libraries like to swallow such errors.

    Made before confinement, it knows which folders there are.
    """

    def __init__(self) -> None:
        self.folders = list(filter(os.path.isdir, sys.path))
        self.names: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None, _: object = None) -> None:
        """Finds nothing."""
        folders = self.folders if path is None else list(path)
        if not all(map(_can_list, folders)):
            self.names.append(name)


def _can_list(folder: str) -> bool:
    try:
        os.scandir(folder).close()
        return True
    except OSError:
        return False


class _NotPlainError(Exception):
    """A value that JSON cannot hold."""


def _answer(function: Function, arguments: list[Any], place: str, hidden: Hidden) -> tuple[str, str, bytes]:
    """How the call went, why, and what it returned, as JSON."""
    hidden.names.clear()
    try:
        value = json.dumps(function(*arguments), default=_plain).encode()
    except MemoryError:
        return "memory", "It needed more memory than it may have.", b"null"
    except _NotPlainError as error:
        return "failed", str(error), b"null"
    except BaseException as error:
        return "failed", f"{explain(error, place)}.", b"null"
    if hidden.names:
        return "failed", f"In its confinement it cannot import {hidden.names[0]}.", b"null"
    return "ok", "", value


def _plain(value: Any) -> Any:
    """What stands for a value that JSON does not know: of numpy's and torch's scalars the number, of iterators a list.

    Raises:
        _NotPlainError: nothing does.
    """
    if callable(getattr(value, "item", None)):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):  # it holds more than one
            return value.item()
    if isinstance(value, Iterator):
        return list(value)
    raise _NotPlainError(f"It returned {_a(type(value).__name__)}, and not what JSON can hold.")


def _a(name: str) -> str:
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
