"""Finding out what this machine offers, by really trying it in processes that are thrown away."""

import _thread
import os
import platform
import socket
import sys
from collections.abc import Callable, Sequence

from open_exaone.sandbox import kernel
from open_exaone.sandbox.confine import (
    Confinement,
    address_bytes,
    become_keeper,
    enter_namespaces,
    kernel_limits,
    most_processes,
    ready_programs,
    set_limits,
)
from open_exaone.sandbox.limits import Limits
from open_exaone.sandbox.seccomp import has_filter

_ALONE = "seccomp and Landlock alone"
Note = tuple[str, str]  # (mechanism, what it is good for here; or, after "no: ", why there is none)


def find_confinement(readable: Sequence[str], without: Sequence[str] = ()) -> tuple[Confinement | None, list[Note]]:
    """The best confinement that works here, None where none is enough, and what was found out on the way.

    Args:
        readable: what programs may read.
        without: mechanisms to leave out: "namespaces", "landlock", "seccomp".
    """
    if sys.platform != "linux":
        return None, [("system", f"no: {sys.platform} has neither namespaces nor seccomp; Linux has")]
    if not has_filter(platform.machine()) or "seccomp" in without:
        return None, [("seccomp", f"no: there is no filter for {platform.machine()}")]
    version, why_no_landlock = _landlock_version(without)
    notes = [("Landlock", f"version {version}" if version else f"no: {why_no_landlock}")]
    most = most_processes()
    ways = [("namespaces", True, 0), (_ALONE, False, most), *([(_ALONE, False, 0)] if most else [])]
    for name, has_namespaces, num_processes in ways:
        if name in without or (not has_namespaces and not version):
            continue
        confinement = Confinement(has_namespaces, version, tuple(readable), address_bytes(), num_processes)
        problem = _in_a_child(lambda confinement=confinement: _try(confinement))  # type: ignore[misc]
        notes.append((name, f"no: {problem}" if problem else "work here" if has_namespaces else _less(num_processes)))
        if not problem:
            return confinement, notes
    return None, notes


def _less(num_processes: int) -> str:
    bound = "their threads are bounded by memory only; " * (not num_processes)
    return f"work here: programs have no folder to write to; {bound}`stat` and `readlink` answer for names they guess"


def _landlock_version(without: Sequence[str]) -> tuple[int, str]:
    if "landlock" in without:
        return 0, "left out"
    try:
        return kernel.landlock_version(), ""
    except OSError as error:
        return 0, str(error)


def _in_a_child(action: Callable[[], None]) -> str:
    """Does it in a process of its own; returns what went wrong, "" for nothing."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        problem = ""
        try:
            action()
        except BaseException as error:
            problem = str(error) or type(error).__name__
        os.write(writing, problem.encode()[:1000])
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        problem = file.read().decode(errors="replace")
    status = os.waitpid(pid, 0)[1]
    return problem or ("" if status == 0 else f"its process ended with status {status}")


def _try(confinement: Confinement) -> None:
    if confinement.namespaces:
        enter_namespaces(confinement.readable, Limits().file_bytes)
    problem = _in_a_child(lambda: _try_as_keeper(confinement))
    if problem:
        raise OSError(problem)


def _try_as_keeper(confinement: Confinement) -> None:
    become_keeper(confinement)
    problem = _in_a_child(lambda: _try_as_program(confinement))
    if problem:
        raise OSError(problem)


def _try_as_program(confinement: Confinement) -> None:
    """Becomes a program, and looks whether it can do what it must and cannot do what it must not."""
    set_limits(kernel_limits(Limits(), confinement, is_program=True))
    ready_programs(confinement)()
    _thread.start_new_thread(os.getpid, ())
    os.listdir(os.path.dirname(os.__file__))
    for forbidden in (
        os.fork,
        socket.socket,
        lambda: os.open("/proc/self/environ", os.O_RDONLY),
        lambda: os.listdir("/etc"),
    ):
        try:
            forbidden()
        except OSError:
            continue
        raise OSError("a program could still start processes, open sockets or see files")
