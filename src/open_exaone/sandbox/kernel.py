"""The system calls of Linux that Python has no names for. Each raises OSError with the name of what failed."""

import contextlib
import ctypes
import os
import platform
import struct
from collections.abc import Callable, Iterable
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000

_MNT_DETACH = 2
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_M_ARENA_MAX = -8
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR, _CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 442, 444, 445, 446  # the same on every machine

# The rights that each version of Landlock can forbid (linux/landlock.h), by how many bits of them it knows.
_NUM_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_READ_RIGHTS = 0b1101  # execute (which covers loading libraries), read files, read folders
_NO_FOLDER_RIGHTS = 0b1100000000000111  # the rights that a rule on a file, not a folder, may name


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _syscall(name: str, number: int, *arguments: Any) -> int:
    return _checked(name, _LIBC.syscall(ctypes.c_long(number), *arguments))


def unshare(flags: int) -> None:
    """Moves this process, or its children to be, into namespaces of their own."""
    _checked("unshare", _LIBC.unshare(flags))


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    result = _LIBC.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _checked(f"mount {target}", result)


def detach(target: str) -> None:
    """Takes a mount, and all that is below it, out of sight."""
    _checked(f"umount {target}", _LIBC.umount2(target.encode(), _MNT_DETACH))


def make_read_only(target: str) -> None:
    """Makes a bind mount, and all that is below it, read-only."""
    attributes = struct.pack("QQQQ", MS_RDONLY | MS_NOSUID, 0, 0, 0)
    _syscall(
        f"mount_setattr {target}",
        _MOUNT_SETATTR,
        ctypes.c_int(_AT_FDCWD),
        target.encode(),
        ctypes.c_uint(_AT_RECURSIVE),
        attributes,
        ctypes.c_size_t(len(attributes)),
    )


def pivot_root(new_root: str, old_root: str) -> None:
    """Makes `new_root` the root, and hangs the old one at `old_root`."""
    _syscall("pivot_root", _PIVOT_ROOT[platform.machine()], new_root.encode(), old_root.encode())


def die_with_parent() -> None:
    """Has the kernel kill this process when its parent ends."""
    _checked("PR_SET_PDEATHSIG", _LIBC.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0))


def be_dumpable() -> None:
    """Gives this process its own files in /proc again, which a change of user takes away."""
    _checked("PR_SET_DUMPABLE", _LIBC.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))


def forgo_privileges() -> None:
    """No program that this process starts may have more rights than it has."""
    _checked("PR_SET_NO_NEW_PRIVS", _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def drop_capabilities() -> None:
    """Gives up every right beyond those of an ordinary user."""
    header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    _checked("capset", _LIBC.capset(header, nothing))


class _Filter(ctypes.Structure):
    _fields_ = (("num_steps", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def ready_filter() -> Callable[[bytes], None]:
    """What installs a seccomp filter, an array of `struct sock_filter`, on the process that calls it."""
    program = _Filter()
    address = ctypes.addressof(program)

    def install(steps: bytes) -> None:
        program.num_steps, program.steps = len(steps) // 8, steps
        _checked("seccomp", _LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, address, 0, 0))

    return install


def use_one_arena() -> None:
    """Has threads share one heap: glibc otherwise reserves 64 MiB of address space for each."""
    with contextlib.suppress(AttributeError):  # other C libraries need no call
        _LIBC.mallopt(_M_ARENA_MAX, 1)


def landlock_version() -> int:
    """The version of Landlock that the kernel offers."""
    return _syscall("Landlock", _CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))


def landlock(version: int, readable: Iterable[str], writable: Iterable[str]) -> None:
    """Forbids this process every file that is not below one of these paths, TCP, and signals to others."""
    all_rights = (1 << _NUM_FILE_RIGHTS.get(version, 16)) - 1
    attributes = struct.pack("QQQ", all_rights, 0b11, 0b11)[: {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}.get(version, 24)]
    rules = _syscall("Landlock", _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    try:
        for paths, rights in ((readable, _READ_RIGHTS), (writable, all_rights)):
            for path in paths:
                _allow(rules, path, rights & all_rights)
        _syscall("Landlock", _RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint(0))
    finally:
        os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= _NO_FOLDER_RIGHTS
        rule = struct.pack("=Qi", rights, place)
        _syscall(f"Landlock {path}", _ADD_RULE, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint(0))
    finally:
        os.close(place)
