"""Running generated Python programs where they can do no harm."""

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum

from open_exaone.sandbox.client import Link, Pool, Server, hang_up, hung_up_on_interruption
from open_exaone.sandbox.limits import Limits, too_long_by_the_clock

__all__ = ["Limits", "ProgramResult", "ProgramStatus", "run_pair", "run_program"]

_DEFAULT = Limits()
_GRACE_S = 10.0  # how much later than a program's keeper the judge stops waiting
_LAST_WORDS_S = 0.15  # for the report on a program that was ended
_MAX_REPORT_BYTES = 4096
_FIX = (
    "`exaone doctor` says what is missing and how to fix it; with unsafe_code_execution programs run unconfined, "
    "and may do whatever you may"
)


class ProgramStatus(StrEnum):
    """How a program ended."""

    OK = "ok"  # by itself, with code 0
    FAILED = "failed"  # with another code, or by a signal
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"  # it printed too much
    REFUSED = "refused"  # it was not run, or not for long: nothing is known of it


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """What a program did.

    Args:
        stdout: decoded as UTF-8, what is none replaced; cut at the limit.
        exit_code: as Python's subprocess has it, -9 for signal 9; None where it was not run.
        seconds: how long it ran, by the clock.
        why: one sentence on the status.
    """

    status: ProgramStatus
    stdout: str
    stderr: str
    exit_code: int | None
    seconds: float
    why: str


def run_program(source: str, stdin: str = "", limits: Limits = _DEFAULT, *, unsafe: bool = False) -> ProgramResult:
    """Runs a program as `python main.py` would, confined, and within limits.

    Args:
        source: the program.
        stdin: what it may read.
        unsafe: run it even where it cannot be confined.
    """
    pool = _pool(limits)
    with pool.turns:
        for _ in range(2):  # a keeper that was killed, by hand or for want of memory, is replaced
            with _files(source, stdin) as files:
                link = _take(pool, unsafe)
                if isinstance(link, ProgramResult):
                    return link
                with hung_up_on_interruption(link.socket):
                    _send(link, files, limits)
                    result = _finish(pool, link, files, limits, time.monotonic() + limits.clock_s + _GRACE_S)
            if result is not None:
                return result
            pool.clear()
    return _LOST


def run_pair(
    tester: str, candidate: str, limits: Limits = _DEFAULT, *, unsafe: bool = False
) -> tuple[ProgramResult, ProgramResult]:
    """Runs two programs, each confined by itself, that are joined by a socket: descriptor 3 of both.

    When the tester ends, the candidate is ended.

    Args:
        tester: the program whose result counts.
        candidate: the program that is tested.
        limits: of each of the two.
        unsafe: run them even where they cannot be confined.
    """
    pool = _pool(limits)
    with pool.turns, _files(tester, "") as tester_files, _files(candidate, "") as candidate_files:
        first = _take(pool, unsafe)
        if isinstance(first, ProgramResult):
            return first, first
        with hung_up_on_interruption(first.socket):
            second = _take(pool, unsafe)
        if isinstance(second, ProgramResult):
            pool.give_back(first)
            return second, second
        with hung_up_on_interruption(second.socket):
            with hung_up_on_interruption(first.socket):
                one, other = socket.socketpair()
                with one, other:
                    _send(second, [*candidate_files, other.fileno()], limits, is_ended=True)
                    _send(first, [*tester_files, one.fileno()], limits)
                deadline = time.monotonic() + limits.clock_s + _GRACE_S
                result = _finish(pool, first, tester_files, limits, deadline)
            with contextlib.suppress(OSError):
                second.socket.send(b".")
            deadline = max(deadline, time.monotonic() + _LAST_WORDS_S)
            other_result = _finish(pool, second, candidate_files, limits, deadline)
        if result is None or other_result is None:
            pool.clear()
        return result or _LOST, other_result or _LOST


def server() -> Server:
    """The server of programs, not necessarily started."""
    return _SERVER


def _pool(limits: Limits) -> Pool:
    key = limits.file_bytes
    return _POOLS.get(key) or _POOLS.setdefault(key, Pool(_SERVER, 1, key))


def _take(pool: Pool, unsafe: bool) -> Link | ProgramResult:
    """A keeper; a result where programs are refused."""
    greeting = _SERVER.greeting()
    if greeting["error"]:
        return _refused(f"The server that runs programs cannot start: {greeting['error']}")
    if not greeting["is_confined"] and not unsafe:
        return _refused(f"Generated programs cannot be confined on this machine; {_FIX}.")
    link = pool.take()
    return _refused(f"A keeper of programs cannot start: {link}") if isinstance(link, str) else link


@contextlib.contextmanager
def _files(source: str, stdin: str) -> Iterator[list[int]]:
    """What a program reads and writes: its source, stdin, stdout and stderr, as files without names."""
    files: list[int] = []
    try:
        for text in (source, stdin, "", ""):
            files.append(_new_file())
            _fill(files[-1], text.encode(errors="surrogatepass"))
        yield files
    finally:
        for file in files:
            os.close(file)


def _new_file() -> int:
    """A file without a name: in memory where Python and the kernel can, else in the folder for temporary files."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # an old kernel has no such call, a container may forbid it
            return os.memfd_create("program", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _fill(file: int, data: bytes) -> None:
    """Writes all of it, and leaves the file at its start, sealed against writing where the kernel can."""
    if not data:
        return
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)
    if hasattr(fcntl, "F_ADD_SEALS"):
        with contextlib.suppress(OSError):  # only files in memory can be sealed
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)


def _send(link: Link, files: Sequence[int], limits: Limits, *, is_ended: bool = False) -> None:
    """Sends a job; where nobody takes it any more, that is seen when the report is read."""
    with contextlib.suppress(OSError):
        link.socket.settimeout(None)
        socket.send_fds(link.socket, [json.dumps([astuple(limits), is_ended]).encode()], files)


def _finish(pool: Pool, link: Link, files: Sequence[int], limits: Limits, deadline: float) -> ProgramResult | None:
    """The result of a job; None where its keeper died without a report."""
    report = b""
    try:
        link.socket.settimeout(max(deadline - time.monotonic(), 0.001))
        report = link.socket.recv(_MAX_REPORT_BYTES)
        outcome = json.loads(report) if report else None
        outcome = outcome if outcome is None or "status" in outcome else None  # then its keeper failed, and says why
    except TimeoutError:
        why = too_long_by_the_clock(limits.time_s)
        outcome = {"status": "timeout", "exit_code": None, "seconds": limits.clock_s, "why": why}
    except OSError:  # it died, or the judge is ending
        outcome = None
    if outcome is None or outcome.pop("is_last", True):
        hang_up(link.socket)
    else:
        pool.give_back(link)
    if outcome is None:
        return None
    stdout, stderr = (_read(file, limits.output_bytes) for file in files[2:4])
    return ProgramResult(
        ProgramStatus(outcome["status"]), stdout, stderr, outcome["exit_code"], outcome["seconds"], outcome["why"]
    )


def _read(file: int, max_bytes: int) -> str:
    data = bytearray()
    while len(data) < max_bytes and (chunk := os.pread(file, max_bytes - len(data), len(data))):
        data += chunk
    return data.decode(errors="replace")


def _refused(why: str) -> ProgramResult:
    return ProgramResult(ProgramStatus.REFUSED, "", "", None, 0.0, why)


_SERVER = Server()
_POOLS: dict[int, Pool] = {}  # by the size of the folder
_LOST = _refused("Its keeper was killed.")
