"""Calling a function in a process that may be killed: hard limits on code that is trusted, but not to end."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from open_exaone.verify.sandbox import wire
from open_exaone.verify.sandbox.client import Link, Pool, Server, hang_up

_FILE_BYTES = 1 << 20  # that a confined worker may write; it has no need to
MAX_CALLS = 5000  # that one worker answers, so that what leaks in it is bounded
_MAX_REPLY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a call came to.

    Args:
        value: what the function returned; None unless the status is "ok".
        why: one sentence on a status that is not "ok".
    """

    status: Literal["ok", "timeout", "memory", "failed"]
    value: Any
    why: str


def call(
    function: str,
    *arguments: Any,
    time_limit_s: float,
    memory_bytes: int,
    confined: bool = True,
    unsafe: bool = False,
) -> CallResult:
    """Calls a function in a worker that is kept for the next call, and killed when it overruns.

    Waiting for a worker does not count against the limit.

    Args:
        function: "package.module:function" or "path/to/file.py:function"; it takes JSON values and returns one. A
            file that has changed since is loaded anew.
        arguments: what it takes.
        time_limit_s: seconds by the clock.
        memory_bytes: bytes that the worker may allocate.
        confined: whether the worker loses network, files and environment once its module is loaded.
        unsafe: call it even where workers cannot be confined.
    """
    pool = _pool(function, memory_bytes, confined)
    with pool.turns:
        result, was_fresh = _try_once(pool, arguments, time_limit_s, unsafe or not confined)
        if result is None and not was_fresh:  # it may have died while it waited, which says nothing of this call
            pool.clear()
            result, _ = _try_once(pool, arguments, time_limit_s, unsafe or not confined)
    return result or _failed("The process died: it needed more memory than it may have, or recursed too deep.")


def _try_once(
    pool: Pool, arguments: tuple[Any, ...], time_limit_s: float, unsafe: bool
) -> tuple[CallResult | None, bool]:
    """The answer of one worker, None where it died, and whether it was a fresh one."""
    link = _take(pool, unsafe)
    if isinstance(link, CallResult):
        return link, True
    was_fresh = link.num_uses == 0
    result = _ask(link, arguments, time_limit_s)
    if result is not None and result.status in ("ok", "failed") and link.num_uses < MAX_CALLS:
        pool.give_back(link)
    else:
        hang_up(link.socket)
    return result, was_fresh


def warm(function: str, *, memory_bytes: int, confined: bool = True) -> None:
    """Starts now what the first call would have to wait for."""
    pool = _pool(function, memory_bytes, confined)
    with pool.turns:
        link = _take(pool, True)
        if not isinstance(link, CallResult):
            pool.give_back(link)


def _take(pool: Pool, unsafe: bool) -> Link | CallResult:
    greeting = pool.server.greeting()
    if greeting["error"]:
        return _failed(greeting["error"])
    if not greeting["is_confined"] and not unsafe:
        return _failed("Workers cannot be confined on this machine; `exaone doctor` says how to mend it.")
    link = pool.take()
    return _failed(f"A worker cannot start: {link}") if isinstance(link, str) else link


def _ask(link: Link, arguments: tuple[Any, ...], time_limit_s: float) -> CallResult | None:
    """The answer of a worker; None where it died."""
    link.num_uses += 1
    deadline = time.monotonic() + time_limit_s
    try:
        link.socket.settimeout(time_limit_s)
        wire.send(link.socket, {"arguments": arguments})
        received = wire.receive(link.socket, deadline, _MAX_REPLY_BYTES)
        if received is None:
            return None
        header, (value,) = received
        return CallResult(header["status"], json.loads(value), str(header["why"]))
    except TimeoutError:
        return CallResult("timeout", None, f"It took longer than {time_limit_s:g} seconds.")
    except (BrokenPipeError, ConnectionResetError):
        return None
    except (ValueError, KeyError, TypeError, RecursionError, wire.TooLongError) as error:
        link.num_uses = MAX_CALLS
        return _failed(f"The process gave no answer that can be read: {type(error).__name__}.")


def _failed(why: str) -> CallResult:
    return CallResult("failed", None, why)


Version = tuple[int, int] | None  # tells a user's file from the same file after an edit

_SERVERS: dict[tuple[str, bool, Version], Server] = {}
_POOLS: dict[tuple[str, bool, Version, int], Pool] = {}


def _pool(function: str, memory_bytes: int, confined: bool) -> Pool:
    name = (function, confined, _version(function))
    key = (*name, memory_bytes)
    if key not in _POOLS:
        server = _SERVERS.get(name) or _SERVERS.setdefault(name, Server(function, confined))
        _POOLS.setdefault(key, Pool(server, memory_bytes, _FILE_BYTES))
    return _POOLS[key]


def _version(function: str) -> Version:
    place = Path(function.rpartition(":")[0])
    if place.suffix != ".py" or not place.is_file():
        return None
    found = place.stat()
    return found.st_mtime_ns, found.st_size
