"""Taking rights away from a process: from a keeper once, and from each program that it forks the little that is left.

Where the kernel lets us have namespaces, a keeper lives in some with nothing in them but Python's own files, and a
small folder. Where it does not, Landlock hides the files instead, and there is no folder. Either way filters on system
calls keep programs from starting processes and from reaching others.
"""

import contextlib
import math
import os
import platform
import re
import resource
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from open_exaone.sandbox import kernel
from open_exaone.sandbox.limits import Limits
from open_exaone.sandbox.seccomp import keeper_filter, program_filter

NOBODY = 65534
WORK_FOLDER = "/box"  # of the program, seen from inside
MAX_FILES = 4096
MAX_OPEN_FILES = 256
STACK_BYTES = 64 << 20  # deep recursion through C needs more than the usual 8 MiB; a program may raise it

_SECLUDED = kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP
_NUM_BESIDES = 3  # what the kernel counts with a program's threads: its first, its keeper, and the keeper's parent
_ROOM_FOR_PROCESSES = 1000  # that the user may start after the server; a program's bombs of threads end there
_DEVICES = ("null", "zero", "full", "random", "urandom")
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store")
_READABLE_BESIDES = ("/usr/share/zoneinfo",)


@dataclass(frozen=True, slots=True)
class Confinement:
    """What confines programs here; made by `find_confinement`.

    Args:
        namespaces: programs see only themselves, no network, and no files but those of Python.
        landlock: the version of Landlock that hides files; 0 for none.
        readable: what a program may read.
        address_bytes: the address space that the server takes itself; limits come on top.
        num_processes: how many processes and threads the user may have, where the kernel counts all; 0 for no limit.
    """

    namespaces: bool
    landlock: int
    readable: tuple[str, ...]
    address_bytes: int
    num_processes: int = 0

    @property
    def counts_threads(self) -> bool:
        """Whether the kernel counts threads per user namespace: before 5.14 it counts all of a user's."""
        return self.namespaces and _kernel_version() >= (5, 14)


def _kernel_version() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])


def readable_paths(besides: Sequence[str] = ()) -> tuple[str, ...]:
    """Python's own files, the system's libraries, and harmless devices: what programs may read, no path in another.

    Where a link leads is among them, too: the link may lie in another of these folders.
    """
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    python = [path for name in names if (path := sysconfig.get_path(name))]
    private = [os.path.join(prefix, "lib") for prefix in {sys.prefix, sys.base_prefix} - {"/", "/usr"}]
    devices = [f"/dev/{name}" for name in _DEVICES]
    paths = [path for path in (*_LIBRARIES, *_READABLE_BESIDES, *python, *private, *devices, *besides) if path]
    there = [os.path.abspath(path) for path in paths if os.path.exists(path)]
    wanted = sorted({*there, *map(os.path.realpath, there)})
    return tuple(path for path in wanted if not any(is_below(path, other) for other in wanted if other != path))


def is_below(path: str, folder: str) -> bool:
    """Whether `path` is the folder or in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def enter_namespaces(readable: Sequence[str], file_bytes: int) -> None:
    """Moves this process, for good, to where there is nothing but `readable`, that read-only, and an empty folder.

    Its next child is the first process that there is.

    Args:
        file_bytes: the size of the folder.

    Raises:
        OSError: the kernel, or its settings, forbid it; the process is of no use any more.
    """
    with contextlib.ExitStack() as stack:
        processes = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        stack.callback(os.close, processes)
        is_root = os.geteuid() == 0 and _may_mount()
        if not is_root:
            _become_nobody_in_a_namespace(processes)
        kernel.unshare(kernel.CLONE_NEWNS | _SECLUDED)
        _build_view(readable)
        if is_root:  # root's number has rights of its own, such as any number of threads
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            kernel.be_dumpable()
            _become_nobody_in_a_namespace(processes)
            kernel.unshare(kernel.CLONE_NEWNS)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("tmpfs", WORK_FOLDER, "tmpfs", flags, f"size={file_bytes},nr_inodes={MAX_FILES},mode=700")
    os.chdir(WORK_FOLDER)
    kernel.unshare(kernel.CLONE_NEWPID)


def _may_mount() -> bool:
    """Whether this root is a real one: in containers it mostly is not."""
    pid = os.fork()
    if pid == 0:
        try:
            kernel.unshare(kernel.CLONE_NEWNS)
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _become_nobody_in_a_namespace(processes: int) -> None:
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} {user} 1"),
        ("gid_map", f"{NOBODY} {group} 1"),
    ):
        file = os.open(f"self/{name}", os.O_WRONLY, dir_fd=processes)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)


def _build_view(readable: Sequence[str]) -> None:
    """A root of our own, in memory, with the readable paths bound into it and nothing writable."""
    sources = {path: os.path.realpath(path) for path in readable}
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    os.mkdir("/tmp/old")
    kernel.pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    for path, source in sources.items():
        if os.path.isdir(f"/old{source}"):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        kernel.mount(f"/old{source}", path, flags=kernel.MS_BIND | kernel.MS_REC)
        if not path.startswith("/dev/"):
            kernel.make_read_only(path)
    os.mkdir(WORK_FOLDER)
    if not os.path.exists("/tmp"):
        os.symlink(WORK_FOLDER, "/tmp")
    kernel.detach("/old")
    os.rmdir("/old")
    kernel.mount("none", "/", flags=kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY)


def become_keeper(confinement: Confinement) -> None:
    """Takes from this process all rights that a keeper of programs does not need. It is to do nothing else before.

    Raises:
        OSError: the kernel forbids it.
    """
    kernel.forgo_privileges()
    common = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: MAX_OPEN_FILES}
    set_limits([(name, _within_reach(name, value)) for name, value in common.items()])
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (_within_reach(resource.RLIMIT_STACK, STACK_BYTES), hard))
    kernel.drop_capabilities()
    if confinement.landlock:
        readable, own = (("/",), (WORK_FOLDER,)) if confinement.namespaces else (confinement.readable, ())
        kernel.landlock(confinement.landlock, readable, (*own, os.devnull))
    kernel.die_with_parent()
    kernel.ready_filter()(keeper_filter(platform.machine(), confinement.namespaces))


def ready_programs(confinement: Confinement) -> Callable[[], None]:
    """What a keeper's child is to call, to lose what its keeper could still do; it raises OSError if it cannot.

    All that can be is done here, in the keeper, once: what is written to in a child costs it a copy of the page.
    """
    filter_for, fill = program_filter(platform.machine()), kernel.ready_filter()

    def become_program() -> None:
        kernel.die_with_parent()
        fill(filter_for(os.getpid()))

    return become_program


def kernel_limits(limits: Limits, confinement: Confinement | None, *, is_program: bool) -> list[tuple[int, int]]:
    """The kernel's own limits for one process: pairs of a name and a value, which no later one can raise.

    Args:
        is_program: whether its processor time and its threads are limited too.
    """
    wanted = {
        resource.RLIMIT_AS: limits.memory_bytes + (confinement.address_bytes if confinement else address_bytes()),
        resource.RLIMIT_FSIZE: max(limits.file_bytes, limits.output_bytes + 1),  # what is printed goes to a file
    }
    if is_program:
        wanted[resource.RLIMIT_CPU] = math.ceil(2 * limits.time_s) + 1  # by the kernel's ticks: the keeper's is exact
        if confinement and confinement.counts_threads:
            wanted[resource.RLIMIT_NPROC] = limits.num_threads + _NUM_BESIDES
        elif confinement and confinement.num_processes:
            wanted[resource.RLIMIT_NPROC] = confinement.num_processes
    return [(name, _within_reach(name, value)) for name, value in wanted.items()]


def most_processes() -> int:
    """How many processes and threads are enough for this user, who may start more than now; 0 for root: no limit."""
    if os.getuid() == 0:
        return 0
    num_threads = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            folder = f"/proc/{name}"
            num_threads += os.stat(folder).st_uid == os.getuid() and len(os.listdir(f"{folder}/task"))
    return num_threads + _ROOM_FOR_PROCESSES


def address_bytes() -> int:
    """The address space that this process takes already."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 28  # an interpreter's


def _within_reach(name: int, value: int) -> int:
    hard = resource.getrlimit(name)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def set_limits(limits: Sequence[tuple[int, int]]) -> None:
    """Sets the kernel's limits on this process."""
    for name, value in limits:
        resource.setrlimit(name, (value, value))
