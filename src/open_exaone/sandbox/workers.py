"""Calling a function in a process that may be killed: hard limits on code that is trusted, but not to end."""

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal

from open_exaone.base.machine import CLOCK_FACTOR
from open_exaone.sandbox import wire
from open_exaone.sandbox.client import Link, Pool, Server, hang_up, hung_up_on_interruption
from open_exaone.sandbox.limits import too_long, too_long_by_the_clock

_FILE_BYTES = 1 << 20  # that a confined worker may write; it has no need to
MAX_CALLS = 5000  # that one worker answers, so that what leaks in it is bounded
_MAX_REPLY_BYTES = 64 << 20
_OUT_OF_TIME = (-signal.SIGPROF, -signal.SIGXCPU)  # how a worker ends that used up its processor time


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a call came to.

    Args:
        status: "timeout" where the function used up its processor time; "clock" where it did not, and never returned:
            it waits for something, or the machine has no time for it.
        value: what the function returned; None unless the status is "ok".
        why: one sentence on a status that is not "ok".
    """

    status: Literal["ok", "timeout", "clock", "memory", "failed"]
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
        time_limit_s: seconds of processor time; by the clock, `CLOCK_FACTOR` times as much.
        memory_bytes: bytes that the worker may allocate.
        confined: whether the worker loses network, files and environment once its module is loaded.
        unsafe: call it even where workers cannot be confined.
    """
    for _ in range(2):
        pool = _pool(function, memory_bytes, confined)
        with pool.turns:
            result, may_be_chance = _try_once(pool, arguments, time_limit_s, unsafe or not confined)
        if result.status != "failed" or not (may_be_chance or pool.is_over):
            break
    return result


def _try_once(pool: Pool, arguments: tuple[Any, ...], time_limit_s: float, unsafe: bool) -> tuple[CallResult, bool]:
    """The answer of one worker; and whether it may have died while it waited, which says nothing of this call."""
    link = _take(pool, unsafe)
    if isinstance(link, CallResult):
        return link, False
    was_fresh = link.num_uses == 0
    with hung_up_on_interruption(link.socket):
        result, has_died = _ask(link, arguments, time_limit_s)
    if result.status in ("ok", "failed") and not has_died and link.num_uses < MAX_CALLS:
        pool.give_back(link)
    else:
        hang_up(link.socket)
    if may_be_chance := has_died and not was_fresh:
        pool.clear()
    return result, may_be_chance


def warm(function: str, *, memory_bytes: int, confined: bool = True) -> str:
    """Starts now what the first call would have to wait for; returns what keeps it from starting, "" for nothing."""
    pool = _pool(function, memory_bytes, confined)
    with pool.turns:
        link = _take(pool, True)
        if isinstance(link, CallResult):
            return link.why
        pool.give_back(link)
        return ""


def _take(pool: Pool, unsafe: bool) -> Link | CallResult:
    greeting = pool.server.greeting()
    if greeting["error"]:
        return _failed(greeting["error"])
    if not greeting["is_confined"] and not unsafe:
        return _failed("Workers cannot be confined on this machine; `exaone doctor` says how to fix it.")
    link = pool.take()
    return _failed(f"A worker cannot start: {link}") if isinstance(link, str) else link


def _ask(link: Link, arguments: tuple[Any, ...], time_limit_s: float) -> tuple[CallResult, bool]:
    """The answer of a worker, and whether it died instead."""
    link.num_uses += 1
    clock_s = CLOCK_FACTOR * time_limit_s
    deadline = time.monotonic() + clock_s
    try:
        link.socket.settimeout(clock_s)
        wire.send(link.socket, {"arguments": arguments, "time_limit_s": time_limit_s})
        received = wire.receive(link.socket, deadline, _MAX_REPLY_BYTES)
        if received is None:
            return _failed("The process ended by itself."), True
        header, blobs = received
        if header.get("exit_code") in _OUT_OF_TIME:
            return CallResult("timeout", None, too_long(time_limit_s)), False
        if "exit_code" in header:
            return _failed(f"The process ended by itself ({_ending(header['exit_code'])})."), True
        return CallResult(header["status"], json.loads(blobs[0]), str(header["why"])), False
    except TimeoutError:
        return CallResult("clock", None, too_long_by_the_clock(time_limit_s)), False
    except OSError:
        return _failed("The process ended by itself."), True
    except (ValueError, KeyError, TypeError, RecursionError, wire.TooLongError) as error:
        link.num_uses = MAX_CALLS
        return _failed(f"The process gave no answer that can be read: {type(error).__name__}."), False


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _failed(why: str) -> CallResult:
    return CallResult("failed", None, why)


Version = tuple[int, int] | None  # distinguishes a user's file from the same file after an edit

Name = tuple[str, bool, Version]

_SERVERS: dict[Name, Server] = {}
_POOLS: dict[tuple[str, bool, Version, int], Pool] = {}
_LOCK: threading.Lock


def _pool(function: str, memory_bytes: int, confined: bool) -> Pool:
    place, _, called = function.rpartition(":")
    if place.endswith(".py"):
        function = f"{os.path.abspath(place)}:{called}"
    name = (function, confined, _version(place))
    key = (*name, memory_bytes)
    with _LOCK:
        if key not in _POOLS:
            _discard_others(name)
            if name not in _SERVERS:
                _SERVERS[name] = Server(function, confined)
            _POOLS[key] = Pool(_SERVERS[name], memory_bytes, _FILE_BYTES)
        return _POOLS[key]


def _discard_others(name: Name) -> None:
    """Ends what an older version of the same file has started."""
    for pool in [key for key in _POOLS if key[:2] == name[:2] and key[2] != name[2]]:
        _POOLS.pop(pool).discard()
    for server in [key for key in _SERVERS if key[:2] == name[:2] and key[2] != name[2]]:
        _SERVERS.pop(server).discard()


def _version(place: str) -> Version:
    if not place.endswith(".py") or not os.path.isfile(place):
        return None
    found = os.stat(place)
    return found.st_mtime_ns, found.st_size


def _renew_lock() -> None:
    global _LOCK
    _LOCK = threading.Lock()


_renew_lock()
os.register_at_fork(after_in_child=_renew_lock)
