"""The keeper of programs: runs one after the other, each forked from it, watched and ended by it.

A keeper is as confined as its programs, but for what it takes to fork and kill them. In its namespace it is the first
process: what it ends, or what ends it, leaves nothing behind. What a program reads and writes is in files without
names that come from the judge, and no byte of them ever is in the keeper's memory, of which each program has a copy.
"""

import contextlib
import gc
import json
import math
import mmap
import os
import re
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from open_exaone.sandbox.confine import Confinement, become_keeper, kernel_limits, ready_programs, set_limits
from open_exaone.sandbox.limits import Limits, too_long, too_long_by_the_clock
from open_exaone.sandbox.program import run_as_main

MAX_MESSAGE_BYTES = 4096
_LINK = 3  # the descriptor that joins a program with another
_MAX_OPEN = 1 << 20
_LOOK_MS = 20  # how often to look after a child where the system sends no event
_LOOK_AGAIN_S = 0.01  # the least time between two looks at a program's processor time
_CLOCK_TICK_S = 0.01  # file systems distinguish times that are further apart than this
_LAST_LINE_SAYS_MEMORY = re.compile(rb"(?:^|\n)[\w.]*MemoryError\b[^\n]*\n*\Z")


def keep_programs(jobs: socket.socket, confinement: Confinement | None) -> NoReturn:
    """Runs the programs that come, until nobody sends any.

    A program runs on top of this frame, because to unwind it would cost a copy of a hundred pages.

    A job is one message: limits, whether another message will end it, and four or five descriptors: the source,
    stdin, stdout, stderr, and what joins it with another program.

    Args:
        confinement: None to run them without, each in a group of processes.
    """
    become_program: Callable[[], None] = os.setsid
    if confinement:
        become_keeper(confinement)
        become_program = ready_programs(confinement)
    is_ready = mmap.mmap(-1, 1)  # shared with one program at a time, until it is confined
    time.sleep(_CLOCK_TICK_S)
    folder_since_ns = os.stat(".").st_ctime_ns
    keeper = os.getpid()
    known, limits, own_limits = None, Limits(), kernel_limits(Limits(), confinement, is_program=True)
    gc.disable()
    gc.freeze()
    _report(jobs, {"why": ""})
    while True:
        message, files, _, _ = socket.recv_fds(jobs, MAX_MESSAGE_BYTES, 5)
        if not message:
            os._exit(0)
        values, is_ended = json.loads(message)
        if values != known:
            limits, known = Limits(*values), values
            own_limits = kernel_limits(limits, confinement, is_program=True)
        folder = None if confinement else _new_folder()
        is_ready[0] = 0
        pid = os.fork()
        if pid == 0:
            source = _take_files(files)
            _become_program(own_limits, become_program, folder)
            if os.getppid() != keeper:  # it died before the kernel could signal it
                os._exit(1)
            is_ready[0] = 1
            is_ready.close()
            run_as_main(source)
        for file in files[4:]:
            os.close(file)
        report = _watch(pid, jobs, files, limits, is_ended, is_group=confinement is None)
        if not is_ready[0]:
            report |= {"status": "refused", "why": "The program could not be confined."}
        for file in files[:4]:
            os.close(file)
        is_last = _is_used(folder_since_ns) if confinement and confinement.namespaces else False
        if folder:
            _remove(folder)
        _report(jobs, {**report, "is_last": is_last})
        if is_last:
            os._exit(0)


def _report(jobs: socket.socket, report: dict[str, Any]) -> None:
    try:
        jobs.sendall(json.dumps(report).encode())
    except OSError:  # the judge has gone
        os._exit(0)


def _is_used(since_ns: int) -> bool:
    """Whether the programs' folder is not as it was: no later program may see what this one left."""
    try:
        return os.stat(".").st_ctime_ns != since_ns or bool(os.listdir("."))
    except OSError:  # the program has locked it, or put another in its place
        return True


def _new_folder() -> str:
    import tempfile  # here, because it and what it imports would be copied with every fork

    return tempfile.mkdtemp()


def _remove(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _take_files(files: Sequence[int]) -> bytes:
    """Puts the program's descriptors in their places, and closes all others; returns the source."""
    source = os.pread(files[0], os.fstat(files[0]).st_size, 0)
    for target, file in enumerate(files[1:]):
        os.dup2(file, target)
    os.closerange(len(files) - 1, _MAX_OPEN)
    return source


def _become_program(limits: Sequence[tuple[int, int]], confine: Callable[[], None], folder: str | None) -> None:
    """Gives up what is the keeper's; where that fails, the program never says that it is ready."""
    try:
        if folder is not None:
            os.chdir(folder)
        set_limits(limits)
        confine()
    except OSError as error:
        os.write(2, str(error).encode())
        os._exit(1)
    gc.enable()


def ending_of(pid: int) -> int | None:
    """A descriptor that can be read from once this child has ended; None where the system has no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _watch(
    pid: int, jobs: socket.socket, files: Sequence[int], limits: Limits, is_ended: bool, *, is_group: bool
) -> dict[str, Any]:
    """Waits until the program has ended, one way or the other, and ends what is left of it.

    Args:
        is_ended: whether the judge sends a byte when the program is to end.
        is_group: whether the program is a group of processes, and not all there are.
    """
    start = time.monotonic()
    reason = _wait(pid, jobs, limits, start + limits.clock_s)
    if reason:
        _kill(pid, is_group)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - start
    if is_group:
        _kill(pid, is_group)
    _end_survivors()
    if is_ended and reason != "judge":
        jobs.recv(1)
    code = os.waitstatus_to_exitcode(status)
    result, why = _judge(reason, code, usage, files, limits)
    return {"status": result, "why": why, "exit_code": code, "seconds": seconds}


def _end_survivors() -> None:
    """Ends what a program has started and left to us: filters forbid it to, but nobody has to trust them."""
    try:
        while True:
            os.waitpid(-1, os.WNOHANG)
            if os.getpid() == 1:
                os.kill(-1, signal.SIGKILL)
    except (ChildProcessError, ProcessLookupError):  # there is none
        pass


def _wait(pid: int, jobs: socket.socket, limits: Limits, deadline: float) -> str:
    """Waits for the program's end, or for a reason to end it, which it returns: "timeout", "clock" or "judge"."""
    ending = ending_of(pid)
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    poll = select.poll()
    poll.register(jobs.fileno(), select.POLLIN)
    if ending is not None:
        poll.register(ending, select.POLLIN)
    try:
        while (clock_left_s := deadline - time.monotonic()) > 0:
            if (left_s := limits.time_s - _cpu_s(pid)) <= 0:
                return "timeout"
            wait_s = min(clock_left_s, max(left_s / num_cores, _LOOK_AGAIN_S))
            events = [descriptor for descriptor, _ in poll.poll(math.ceil(wait_s * 1000) if ending else _LOOK_MS)]
            if ending in events or (ending is None and os.waitid(os.P_PID, pid, _LOOK)):
                return ""
            if events:
                if not jobs.recv(1):
                    os._exit(0)  # and with us the program
                return "judge"
        return "clock"
    finally:
        if ending is not None:
            os.close(ending)


def _cpu_s(pid: int) -> float:
    """The processor time of a child and all its threads; 0 where the system does not say.

    The clock's number is what clock_getcpuclockid(3) computes; Python has no name for that.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def _kill(pid: int, is_group: bool) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if is_group else os.kill)(pid, signal.SIGKILL)


def _judge(
    reason: str, code: int, usage: resource.struct_rusage, files: Sequence[int], limits: Limits
) -> tuple[str, str]:
    """The status of a program that has ended, and why."""
    cpu_s = usage.ru_utime + usage.ru_stime
    is_killed = code in (-signal.SIGKILL, -signal.SIGXCPU) and reason != "clock"
    if code == -signal.SIGPROF or (is_killed and cpu_s >= limits.time_s):
        return "timeout", too_long(limits.time_s)
    if reason == "judge":
        return "ok", "It was ended with the program that tests it."
    if max(os.fstat(file).st_size for file in files[2:4]) > limits.output_bytes:
        return "output", f"It printed more than {limits.output_bytes} bytes."
    if reason == "timeout":
        return "timeout", too_long(limits.time_s)
    if reason == "clock":
        return "timeout", too_long_by_the_clock(limits.time_s)
    is_large = usage.ru_maxrss * (1024 if sys.platform == "linux" else 1) > limits.memory_bytes / 2
    if (code == -signal.SIGKILL and is_large) or (code and _says_memory(files[3])):
        return "memory", f"It needed more than {limits.memory_bytes >> 20} MiB."
    if code < 0:
        return "failed", f"It was ended by signal {-code}."
    return ("failed", f"It ended with code {code}.") if code else ("ok", "It ended by itself.")


def _says_memory(stderr: int) -> bool:
    end = os.pread(stderr, 1000, max(0, os.fstat(stderr).st_size - 1000))
    return _LAST_LINE_SAYS_MEMORY.search(end) is not None
