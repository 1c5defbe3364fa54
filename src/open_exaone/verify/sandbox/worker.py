"""One worker, in its own process: answers calls of one function, one after the other."""

import importlib
import importlib.util
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from open_exaone.verify.sandbox import wire
from open_exaone.verify.sandbox.confine import Confinement, become_keeper, kernel_limits, ready_programs, set_limits
from open_exaone.verify.sandbox.limits import Limits

Function = Callable[..., Any]


def load(function: str) -> Function:
    """The function named "package.module:function" or "path/to/file.py:function", ready to be called.

    A module that has a function `preload` has it called, for what it imports late.

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
    calls: socket.socket, confinement: Confinement | None, memory_bytes: int, function: Function, place: str
) -> NoReturn:
    """Answers calls until nobody calls."""
    if confinement:
        become_keeper(confinement)
    else:
        os.setsid()
    limits = Limits(memory_bytes=memory_bytes, file_bytes=1 << 40)
    set_limits(kernel_limits(limits, confinement, is_program=False))
    if confinement:
        ready_programs(confinement)()
    calls.sendall(json.dumps({"why": ""}).encode())
    while True:
        received = wire.receive(calls)
        if received is None:
            os._exit(0)
        status, why, value = _answer(function, received[0]["arguments"], place)
        wire.send(calls, {"status": status, "why": why}, value)


def _answer(function: Function, arguments: list[Any], place: str) -> tuple[str, str, bytes]:
    """How the call went, why, and what it returned, as JSON."""
    try:
        return "ok", "", json.dumps(function(*arguments)).encode()
    except MemoryError:
        return "memory", "It needed more memory than it may have.", b"null"
    except BaseException as error:
        return "failed", f"{explain(error, place)}.", b"null"
