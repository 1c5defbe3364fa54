"""The process that renders a checkpoint's templates, seen from outside: started late, limited, ended with us."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from open_exaone.base.errors import CheckpointError, DataError
from open_exaone.base.machine import CLOCK_FACTOR

MEMORY_BYTES = 1 << 30  # of address space; Python and jinja2 take a tenth of it
MAX_CHARS = 8_000_000  # that one conversation may be rendered to
TIMEOUT_S = 10.0  # of processor time, that one conversation may take
START_TIMEOUT_S = 60.0  # the first one starts Python too, perhaps on a loaded machine
NUM_AT_ONCE = 16  # replies that are written together: a process that wakes for each would do little else
_MAX_REPLY_BYTES = 12 * MAX_CHARS + 1000  # JSON writes a character in at most 12 bytes
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_TIME", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH")

_FIX = "fix the file, or name one of Open-EXAONE's own formats with chat_format=..."

_FAULTS = ("syntax", "security")  # errors that are the template's own, whatever the conversation
_EXHAUSTED = ("recursion", "memory")  # those that end the process, as taking too long does: perhaps the conversation's
MIN_EXHAUSTED, MAX_EXHAUSTED, MAX_SHARE = 3, 30, 0.01  # conversations that may do so: this share, within bounds

_LIVE: "weakref.WeakSet[TemplateProcess]" = weakref.WeakSet()
_INHERITED: list[object] = []  # a parent's pipes, never to be closed here: a thread that is gone may hold their locks


class TemplateProcess:
    """Renders the templates of one checkpoint. Safe to use from several threads, and after a fork.

    Args:
        sources: the templates by name.
        paths: the file that each comes from, for errors.
        now: what `strftime_now` says.
    """

    def __init__(self, sources: Mapping[str, str], paths: Mapping[str, Path], now: datetime | None = None) -> None:
        self._sources = dict(sources)
        self._now = now or datetime.now()
        self._paths = dict(paths)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._num_rendered = self._num_exhausted = 0
        _LIVE.add(self)

    def render(self, name: str, variables: Mapping[str, Any]) -> str:
        """The text of one conversation.

        Raises:
            DataError: the template refuses the conversation, fails on it, or exceeds a limit on it.
            CheckpointError: the template is broken, reaches for what is forbidden, or exceeds limits again and again.
        """
        [reply] = self.render_all([request(name, variables)])
        if isinstance(reply, DataError):
            raise reply
        return str(reply["text"])

    def render_all(self, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | DataError]:
        """What the process answers to each of `requests`, as `template_worker` describes them; an error for each
        conversation that the template refuses, fails on, or that takes too long, too much memory or too much text.

        Raises:
            CheckpointError: the template is broken, reaches for what is forbidden, or exceeds limits again and again.
        """
        lines = [json.dumps(each).encode() + b"\n" for each in requests]
        replies: list[dict[str, Any]] = []
        with self._lock:
            while len(replies) < len(lines):
                rest = lines[len(replies) :]
                replies += self._ask(rest, min(NUM_AT_ONCE, len(rest))) or self._ask(rest, 1)
                self._check_exhausted(requests[len(replies) - 1]["template"], replies[-1])
            self._num_rendered += len(replies)
        return [
            reply if "text" in reply else self._error(each["template"], reply, len(line))
            for each, line, reply in zip(requests, lines, replies, strict=True)
        ]

    def _check_exhausted(self, name: str, last: Mapping[str, str]) -> None:
        """Gives up a template that exceeds limits on one conversation after another: each may take seconds."""
        if last.get("error") not in _EXHAUSTED:
            return
        self._num_exhausted += 1
        if self._num_exhausted > min(max(MIN_EXHAUSTED, MAX_SHARE * self._num_rendered), MAX_EXHAUSTED):
            why = f"on {self._num_exhausted} conversations {last['message']}"
            raise CheckpointError(f"{self._paths[name]}: the chat template cannot be used: {why}; {_FIX}")

    def _error(self, name: str, reply: Mapping[str, str], num_bytes: int) -> DataError:
        path, message = self._paths[name], reply["message"]
        if reply["error"] == "refused":
            return DataError(f"{path}: the chat template refuses this conversation: {message}")
        if reply["error"] == "length" or num_bytes > MAX_CHARS:
            return DataError(f"{path}: this conversation is too long for its chat template: {message}")
        if reply["error"] in _FAULTS:
            raise CheckpointError(f"{path}: the chat template cannot be used: {message}; {_FIX}")
        return DataError(f"{path}: the chat template fails on this conversation: {message}; {_FIX}")

    def _ask(self, lines: Sequence[bytes], num_at_once: int) -> list[dict[str, Any]]:
        """Sends requests and waits, not for ever, for the replies; those behind one that ends the process are left
        out, and that one itself if several were asked for at once: which it is, is not known."""
        is_fresh = self._process is None or self._process.poll() is not None
        setup = self._start() if is_fresh else b""
        process = self._process
        assert process is not None
        replies: list[dict[str, Any]] = []
        is_whole = False
        try:
            with contextlib.closing(_exchange(process, setup, lines, num_at_once)) as received:
                for line in received:
                    replies.append(json.loads(line))
                    if replies[-1].get("error") in _EXHAUSTED:
                        return replies  # the next conversation gets a process that is whole
                is_whole = len(replies) == len(lines)
        finally:
            if not is_whole:
                self._stop()
        if not is_whole and num_at_once == 1:
            replies.append({"error": "memory", "message": _how_it_ended(process.returncode)})
        return replies

    def _start(self) -> bytes:
        """Starts the process; returns the line that sets it up."""
        if self._process is not None:
            self._stop()
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
        command = [sys.executable, "-P", "-m", "open_exaone.text.template_worker"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self._end = weakref.finalize(self, _end, process, os.getpid())
        self._process = process
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        limits = {"memory_bytes": MEMORY_BYTES, "max_chars": MAX_CHARS, "timeout_s": TIMEOUT_S}
        return json.dumps({"templates": self._sources, "now": self._now.isoformat(), **limits}).encode() + b"\n"

    def _forget(self) -> None:
        """Lets go of what belongs to the parent, in a process that was just forked."""
        self._lock = threading.Lock()
        if self._process is not None:
            _INHERITED.append(self._process)
            self._end.detach()
            self._process = None

    def _stop(self) -> None:
        self._end()
        self._process = None


def request(
    name: str, variables: Mapping[str, Any], mask: Mapping[str, Any] | None = None, marks: str = ""
) -> dict[str, Any]:
    """One line for the process, as `template_worker` describes it."""
    return {"template": name, "variables": variables, "marks": marks, "mask": mask}


def _exchange(
    process: "subprocess.Popen[bytes]", setup: bytes, lines: Sequence[bytes], num_at_once: int
) -> Generator[bytes, None, None]:
    """Writes requests and yields the reply to each; ends early where the process ends or a reply does not come."""
    assert process.stdin is not None and process.stdout is not None
    source, target = process.stdout.fileno(), process.stdin.fileno()
    asked = (b"".join(lines[start : start + num_at_once]) for start in range(0, len(lines), num_at_once))
    waiting, received = memoryview(setup + b"".join(part + b"\n" for part in asked)), bytearray()
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(target, select.POLLOUT)
    num_left, limit = len(lines), CLOCK_FACTOR * TIMEOUT_S * num_at_once
    deadline = time.monotonic() + limit + START_TIMEOUT_S * bool(setup)
    while num_left:
        ready = dict(poll.poll(max(0.0, 1000 * (deadline - time.monotonic()))))
        if not ready or len(received) > _MAX_REPLY_BYTES:
            return
        if target in ready:
            try:
                waiting = waiting[os.write(target, waiting) :]
            except OSError:  # it has ended; what it answered before can still be read
                waiting = waiting[:0]
            if not waiting:
                poll.unregister(target)
        if source not in ready:
            continue
        chunk = os.read(source, 1 << 20)
        if not chunk:
            return
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield bytes(received + line)
            received.clear()
            num_left, deadline = num_left - 1, time.monotonic() + limit
        received += rest


def _end(process: "subprocess.Popen[bytes]", owner: int) -> None:
    """Ends the process, unless it is a parent's."""
    if owner != os.getpid():
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # what was not sent any more
            assert pipe is not None
            pipe.close()


def _forget_all() -> None:
    for process in list(_LIVE):
        process._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _how_it_ended(code: int | None) -> str:
    if code == -signal.SIGPROF:
        return f"it takes longer than {TIMEOUT_S:g} seconds"
    if code == -signal.SIGKILL:
        return f"it does not end within {CLOCK_FACTOR * TIMEOUT_S:g} seconds by the clock"
    return f"its process ended with code {code}"
