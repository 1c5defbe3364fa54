"""The fork server, seen from the judge: started when first needed, safe in threads and after forks, ended with us."""

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from open_exaone.base.machine import num_cores
from open_exaone.sandbox import wire

START_TIMEOUT_S = 60.0  # it may import a user's module, on a loaded machine
_MAX_GREETING_BYTES = 4096
_END_TIMEOUT_S = 2.0
_SOURCES = str(Path(__file__).parents[2])  # where the package lies


class Forgetful(Protocol):
    """What holds locks or sockets that are a parent's after a fork."""

    def forget(self) -> None:
        """Lets go of them."""


class Server:
    """One fork server.

    Args:
        function: what it calls; "" for a server of programs.
        confined: whether what it forks is confined, and starts from an empty environment in "/".
        without: mechanisms to leave out, for tests.
    """

    def __init__(self, function: str = "", confined: bool = True, without: tuple[str, ...] = ()) -> None:
        self._setup = {"function": function, "confined": confined, "without": list(without)}
        self.wants_confinement = confined
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._greeting: dict[str, Any] = {}
        _SERVERS.append(self)
        _FORGETFUL.append(self)

    def greeting(self) -> dict[str, Any]:
        """What the server says of itself: "error" for why it cannot serve, "findings", "is_confined"."""
        with self._lock:
            self._start_if_needed()
            return self._greeting

    def connect(self) -> socket.socket | None:
        """A link to a new process of the server's; None where there can be none. `hang_up` ends it."""
        ours, theirs = socket.socketpair()
        _LINKS.add(ours)
        with hung_up_on_interruption(ours), theirs, self._lock:
            self._start_if_needed()
            if self._control is not None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # seen again when an answer is read
                    socket.send_fds(self._control, [b"."], [theirs.fileno()])
                return ours
        hang_up(ours)
        return None

    def _start_if_needed(self) -> None:
        if self._process is not None and self._process.poll() is None and self._control is not None:
            return
        if self._greeting.get("error"):
            return
        self.stop()
        try:
            self._greeting = self._start()
        except BaseException:  # such as Ctrl-C: half a start is none
            self.stop()
            raise
        if self._greeting["error"]:
            self.stop()

    def _start(self) -> dict[str, Any]:
        """Starts the process; returns what it says of itself, or why it says nothing."""
        try:
            self._control, self._process = self._open()
            wire.send(self._control, {**self._setup, "path": self._path()})
            received = wire.receive(self._control, time.monotonic() + START_TIMEOUT_S)
            self._control.settimeout(None)
            problem = "its process ended at once"
        except (BrokenPipeError, ConnectionResetError):
            received, problem = None, "its process ended at once"
        except TimeoutError:
            received, problem = None, f"it was not ready after {START_TIMEOUT_S:g} seconds"
        except OSError as error:  # such as an interpreter that may not be run
            received, problem = None, f"{type(error).__name__}: {error}"
        return received[0] if received else {"error": problem, "findings": [], "is_confined": False}

    def _open(self) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
        ours, theirs = socket.socketpair()
        with theirs, hung_up_on_interruption(ours):
            return ours, subprocess.Popen(
                [sys.executable, "-P", "-s", "-X", "utf8", "-m", "open_exaone.sandbox.server"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno() if self.wants_confinement else 2,  # what a user's function prints is shown
                stderr=subprocess.DEVNULL if self.wants_confinement else None,
                env=self._environment(),
                cwd="/" if self.wants_confinement else None,
                start_new_session=True,  # the terminal's Ctrl-C is for the judge
            )

    def _path(self) -> list[str]:
        """Where modules lie besides: for functions wherever the judge finds some, for programs only packages."""
        places = [os.path.abspath(place) for place in sys.path if place and os.path.isdir(place)]
        is_package = ("site-packages", "dist-packages")
        return [place for place in places if self._setup["function"] or os.path.basename(place) in is_package]

    def _environment(self) -> dict[str, str]:
        """Nothing of the user's for a server that confines; else all of it, and where the judge finds modules."""
        if self.wants_confinement:
            return {"PYTHONPATH": _SOURCES, "PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8:strict"}
        one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # threads of a module's do not live through a fork
        return {**one, **os.environ, "PYTHONPATH": os.pathsep.join([_SOURCES, *filter(None, sys.path)])}

    def stop(self) -> None:
        """Ends the server, and with it whatever it runs."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def end(self, why: str) -> None:
        """Stops it for good: what threads still ask of it is refused."""
        self.stop()
        self._greeting = {"error": why, "findings": [], "is_confined": False}

    def discard(self) -> None:
        """Stops it for good, and leaves no trace of it."""
        with self._lock:
            self.end("Its file has changed.")
        _SERVERS.remove(self)
        _FORGETFUL.remove(self)

    def forget(self) -> None:
        """Lets go of a parent's server, in a process that was just forked."""
        self._lock = threading.Lock()
        self._greeting = {}
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.returncode = 0  # not ours to wait for
            self._process = None


@dataclass
class Link:
    """A connection to one keeper or worker."""

    socket: socket.socket
    num_uses: int = 0


class Pool:
    """Keepers or workers of one kind: taken, used by one thread at a time, and given back or ended.

    Args:
        memory_bytes: what a worker may allocate.
        file_bytes: the size of the folder that programs may write to.
    """

    def __init__(self, server: Server, memory_bytes: int, file_bytes: int) -> None:
        self.server = server
        self.turns = Turns()
        self.is_over = False
        self._setup = {"memory_bytes": memory_bytes, "file_bytes": file_bytes}
        self._idle: deque[Link] = deque()
        _FORGETFUL.append(self)

    def take(self) -> Link | str:
        """One that waits for work, or a new one; or why there can be none."""
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        link = self.server.connect()
        if link is None:
            return "The server cannot start again."
        why = "It ended at once."
        with hung_up_on_interruption(link):
            try:
                wire.send(link, self._setup)
                link.settimeout(START_TIMEOUT_S)
                if greeting := link.recv(_MAX_GREETING_BYTES):
                    why = json.loads(greeting)["why"]
            except (TimeoutError, BrokenPipeError, ConnectionResetError) as error:
                why = f"{type(error).__name__} while it was starting."
        if why:
            hang_up(link)
        return why or Link(link)

    def give_back(self, link: Link) -> None:
        """Keeps it for the next."""
        if self.is_over:
            hang_up(link.socket)
        else:
            self._idle.append(link)

    def discard(self) -> None:
        """Ends all that wait, and leaves no trace of them."""
        self.is_over = True
        self.clear()
        _FORGETFUL.remove(self)
        _FORGETFUL.remove(self.turns)

    def clear(self) -> None:
        """Ends all that wait: their server has died."""
        with contextlib.suppress(IndexError):
            while True:
                hang_up(self._idle.pop().socket)

    def forget(self) -> None:
        """Lets go of a parent's, in a process that was just forked."""
        self._idle = deque()


class Turns:
    """Lets as many through at once as there are cores; others wait. Whole again after a fork."""

    def __init__(self) -> None:
        self.forget()
        _FORGETFUL.append(self)

    def __enter__(self) -> None:
        self._semaphore.acquire()

    def __exit__(self, *_: object) -> None:
        self._semaphore.release()

    def forget(self) -> None:
        """Lets go of what threads of a parent hold."""
        self._semaphore = threading.BoundedSemaphore(num_cores())


def hang_up(link: socket.socket) -> None:
    """Ends a job, and lets go of its socket."""
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
    link.close()
    _LINKS.discard(link)


@contextlib.contextmanager
def hung_up_on_interruption(*links: socket.socket) -> Iterator[None]:
    """Ends these jobs where an interruption, such as Ctrl-C, leaves nobody to wait for them."""
    try:
        yield
    except BaseException:
        for link in links:
            hang_up(link)
        raise


_SERVERS: list[Server] = []
_FORGETFUL: list[Forgetful] = []  # what must be reset after a fork
_LINKS: set[socket.socket] = set()  # to jobs under way


def _forget_all() -> None:
    for thing in _FORGETFUL:
        thing.forget()
    for link in list(_LINKS):
        link.close()
    _LINKS.clear()


def _stop_all() -> None:
    for link in list(_LINKS):
        hang_up(link)
    for server in _SERVERS:
        server.end("The judge is ending.")


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_stop_all)
