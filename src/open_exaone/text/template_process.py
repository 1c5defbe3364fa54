"""The process that renders a checkpoint's templates, seen from outside: started late, limited, ended with us."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_exaone.base.errors import CheckpointError, DataError
from open_exaone.base.machine import CLOCK_FACTOR

MEMORY_BYTES = 1 << 30  # of address space; Python and jinja2 take a tenth of it
MAX_CHARS = 8_000_000  # that one conversation may be rendered to
TIMEOUT_S = 10.0  # of processor time, that one conversation may take
START_TIMEOUT_S = 60.0  # the first one starts Python too, perhaps on a loaded machine
_MAX_REPLY_BYTES = 12 * MAX_CHARS + 1000  # JSON writes a character in at most 12 bytes
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_TIME", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH")

_FIX = "fix the file, or name one of Open-EXAONE's own formats with chat_format=..."

# Errors that are the template's own fault, whatever the conversation.
_FAULTS = ("syntax", "security", "recursion", "memory", "length")


_LIVE: "weakref.WeakSet[TemplateProcess]" = weakref.WeakSet()
_INHERITED: list[object] = []  # a parent's pipes, never to be closed here: a thread that is gone may hold their locks


class TemplateProcess:
    """Renders the templates of one checkpoint. Safe to use from several threads, and after a fork.

    Args:
        sources: the templates by name.
        paths: the file that each comes from, for errors.
    """

    def __init__(self, sources: Mapping[str, str], paths: Mapping[str, Path]) -> None:
        self._sources = dict(sources)
        self._paths = dict(paths)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        _LIVE.add(self)

    def render(self, name: str, variables: Mapping[str, Any], generation: tuple[str, str] | None = None) -> str:
        """The text of one conversation.

        Args:
            generation: marks to put around what `{% generation %}` blocks print.

        Raises:
            DataError: the template refuses the conversation, or fails on it.
            CheckpointError: the template is broken, reaches for what is forbidden, or exceeds a limit.
        """
        request = {"template": name, "variables": variables, "generation": generation}
        with self._lock:
            reply = self._ask(name, json.dumps(request).encode() + b"\n")
        if "text" in reply:
            return str(reply["text"])
        path, message = self._paths[name], reply["message"]
        if reply["error"] == "refused":
            raise DataError(f"{path}: the chat template refuses this conversation: {message}")
        if reply["error"] in _FAULTS:
            raise CheckpointError(f"{path}: the chat template cannot be used: {message}; {_FIX}")
        raise DataError(f"{path}: the chat template fails on this conversation: {message}; {_FIX}")

    def _ask(self, name: str, request: bytes) -> dict[str, Any]:
        """Sends a request and waits, not for ever, for the reply."""
        is_fresh = self._process is None or self._process.poll() is not None
        if is_fresh:
            request = self._start() + request
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        timer = threading.Timer(CLOCK_FACTOR * TIMEOUT_S + START_TIMEOUT_S * is_fresh, process.kill)
        timer.daemon = True
        timer.start()
        line = b""
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(request)
                process.stdin.flush()
                line = process.stdout.readline(_MAX_REPLY_BYTES)
        finally:
            timer.cancel()
            if not line.endswith(b"\n"):
                self._stop()
        if not line.endswith(b"\n"):
            return {"error": "length" if line else "memory", "message": _how_it_ended(process.returncode)}
        reply: dict[str, Any] = json.loads(line)
        if reply.get("error") in ("memory", "recursion"):
            self._stop()  # the next conversation gets a process that is whole
        return reply

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
        limits = {"memory_bytes": MEMORY_BYTES, "max_chars": MAX_CHARS, "timeout_s": TIMEOUT_S}
        return json.dumps({"templates": self._sources, **limits}).encode() + b"\n"

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
