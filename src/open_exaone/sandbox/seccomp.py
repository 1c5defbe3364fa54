"""The system calls that a generated program may make, as two filters for the kernel, both of which must agree.

The long one is installed once, in the keeper that forks the programs, because the kernel takes half a millisecond to
take it in. All that it does not name is answered "no such call": sockets to anywhere, other programs, tracing, mounts,
keys, io_uring, and whatever later kernels invent. The short one is each program's own, and takes away what its keeper
still needed, such as starting processes. Numbers are from the kernel's tables for x86_64 and aarch64.
"""

import errno
import struct
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

_ALLOWED = """
read 0 63 | write 1 64 | readv 19 65 | writev 20 66 | pread64 17 67 | pwrite64 18 68 | preadv 295 69
pwritev 296 70 | preadv2 327 286 | pwritev2 328 287 | close 3 57 | close_range 436 436 | lseek 8 62 | stat 4 -
lstat 6 - | fstat 5 80 | newfstatat 262 79 | statx 332 291 | statfs 137 43 | fstatfs 138 44 | access 21 -
faccessat 269 48 | faccessat2 439 439 | readlink 89 - | readlinkat 267 78 | getdents 78 - | getdents64 217 61
getcwd 79 17 | chdir 80 49 | fchdir 81 50 | umask 95 166 | flock 73 32 | fadvise64 221 223 | sendfile 40 71
copy_file_range 326 285 | fsync 74 82 | fdatasync 75 83 | mmap 9 222 | mprotect 10 226 | munmap 11 215
mremap 25 216 | madvise 28 233 | brk 12 214 | msync 26 227 | mincore 27 232 | membarrier 324 283 | poll 7 -
ppoll 271 73 | select 23 - | pselect6 270 72 | epoll_create 213 - | epoll_create1 291 20 | epoll_ctl 233 21
epoll_wait 232 - | epoll_pwait 281 22 | epoll_pwait2 441 441 | eventfd 284 - | eventfd2 290 19
timerfd_create 283 85 | timerfd_settime 286 86 | timerfd_gettime 287 87 | signalfd 282 - | signalfd4 289 74
pipe 22 - | pipe2 293 59 | dup 32 23 | dup2 33 - | dup3 292 24 | recvfrom 45 207 | shutdown 48 210
getsockname 51 204 | getpeername 52 205 | getsockopt 55 209 | getpid 39 172 | gettid 186 178 | getppid 110 173
getuid 102 174 | geteuid 107 175 | getgid 104 176 | getegid 108 177 | getresuid 118 148 | getresgid 120 150
getgroups 115 158 | getpgrp 111 - | getpgid 121 155 | getsid 124 156 | uname 63 160 | capget 125 90
sysinfo 99 179 | times 100 153 | getrusage 98 165 | getrlimit 97 163 | getpriority 140 141 | getcpu 309 168
time 201 - | gettimeofday 96 169 | clock_gettime 228 113 | clock_getres 229 114 | clock_nanosleep 230 115
nanosleep 35 101 | getitimer 36 102 | setitimer 38 103 | alarm 37 - | pause 34 - | rt_sigaction 13 134
rt_sigprocmask 14 135 | rt_sigreturn 15 139 | rt_sigsuspend 130 133 | rt_sigpending 127 136
rt_sigtimedwait 128 137 | sigaltstack 131 132 | restart_syscall 219 128 | sched_yield 24 124
sched_getaffinity 204 123 | sched_getparam 143 121 | sched_getscheduler 145 120 | sched_get_priority_max 146 125
sched_get_priority_min 147 126 | sched_rr_get_interval 148 127 | futex 202 98 | futex_waitv 449 449
set_robust_list 273 99 | set_tid_address 218 96 | rseq 334 293 | arch_prctl 158 - | exit 60 93
exit_group 231 94 | getrandom 318 278 | wait4 61 260 | waitid 247 95
"""

# Allowed only where the one folder that can be written to is the program's own: Landlock does not guard them all.
_ALLOWED_ON_FILES = """
truncate 76 45 | ftruncate 77 46 | fallocate 285 47 | rename 82 - | renameat 264 38 | renameat2 316 276
mkdir 83 - | mkdirat 258 34 | rmdir 84 - | link 86 - | linkat 265 37 | symlink 88 - | symlinkat 266 36
unlink 87 - | unlinkat 263 35 | chmod 90 - | fchmod 91 52 | fchmodat 268 53 | utime 132 - | utimes 235 -
utimensat 280 88 | futimesat 261 -
"""

# What a keeper may do besides; no program may.
_ONLY_KEEPERS = """
memfd_create 319 279 | pidfd_open 434 434 | recvmsg 47 212 | fork 57 -
"""

_CLONE_THREAD = 0x10000
_NEW_NAMESPACES = 0x7E020000
_O_ACCMODE_AND_TRUNC = 0o1003
_O_TRUNC = 0o1000
_OWN_PID = 0x7FFFFFFE  # stands for the number of the process that installs the filter; no process has it

_Test = Literal["is", "is a thread", "masked is not"]


class _Rule(NamedTuple):
    """A call that a program may make only where one argument is right.

    Args:
        x86_64: its number there; None where it has none.
        argument: which one, from 0.
        test: "is" one of `values`; "masked is not": (mask, value).
        error: what the call answers otherwise.
    """

    x86_64: int | None
    aarch64: int | None
    argument: int
    test: _Test
    values: tuple[int, ...]
    error: int = errno.EPERM

    def number(self, column: int) -> int | None:
        """Its number on the processor of that column."""
        return (self.x86_64, self.aarch64)[column]


_RULES = (
    _Rule(56, 220, 0, "is a thread", ()),  # clone: no processes; C libraries ask for it when clone3 is unknown
    _Rule(2, None, 1, "masked is not", (_O_ACCMODE_AND_TRUNC, _O_TRUNC)),  # open
    _Rule(257, 56, 2, "masked is not", (_O_ACCMODE_AND_TRUNC, _O_TRUNC)),  # openat: old Landlock lets emptying
    _Rule(62, 129, 0, "is", (_OWN_PID,)),  # kill
    _Rule(234, 131, 0, "is", (_OWN_PID,)),  # tgkill: abort and pthread_kill
    _Rule(302, 261, 0, "is", (0,)),  # prlimit64: of this process, which cannot grow
    _Rule(157, 167, 0, "is", (3, 15, 16, 0x53564D41)),  # prctl: PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
    # ioctl: TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
    _Rule(16, 29, 1, "is", (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451), errno.ENOTTY),
    # fcntl: no owners and signals (F_SETOWN, F_SETSIG), no leases, no notices
    _Rule(72, 25, 1, "is", (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1031, 1032)),
    _Rule(53, 199, 0, "is", (1,)),  # socketpair: AF_UNIX, which asyncio wakes itself by
    _Rule(44, 206, 4, "is", (0,)),  # sendto: to the other end only
)

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # (AUDIT_ARCH_*, column of the tables)
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000  # what a filter may return; _FAIL takes an errno
_LOAD, _EQUAL, _ANY, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06  # the kernel's codes for the steps
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # where in what the kernel shows

_Step = tuple[int, int, int, int]  # (code, steps to skip if true, if false, constant): struct sock_filter


def has_filter(machine: str) -> bool:
    """Whether there are tables for this kind of processor."""
    return machine in _ARCHITECTURES


def keeper_filter(machine: str, may_write: bool) -> bytes:
    """The long filter, as the kernel takes it.

    Args:
        machine: as `platform.machine()` names it.
        may_write: whether programs have a folder of their own to write to.
    """
    architecture, column = _ARCHITECTURES[machine]
    steps: list[_Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),  # 32-bit calls have other numbers
        (_LOAD, 0, 0, _NUMBER),
    ]
    named = [*_numbers(_ALLOWED, column), *_numbers(_ONLY_KEEPERS, column)]
    named += _numbers(_ALLOWED_ON_FILES, column) if may_write else []
    for number in (*named, *[number for rule in _RULES if (number := rule.number(column)) is not None]):
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    return _packed([*steps, (_RETURN, 0, 0, _FAIL | errno.ENOSYS)])  # x32 too: its numbers have a bit more


def program_filter(machine: str) -> Callable[[int], bytes]:
    """The short filter, as the kernel takes it, for a process of a given number."""
    _, column = _ARCHITECTURES[machine]
    steps: list[_Step] = [(_LOAD, 0, 0, _NUMBER)]
    for number in _numbers(_ONLY_KEEPERS, column):
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _FAIL | errno.ENOSYS)]
    for rule in _RULES:
        test = [*_test(rule), (_RETURN, 0, 0, _FAIL | rule.error)]
        number_here = rule.number(column)
        steps += [] if number_here is None else [(_EQUAL, 0, len(test), number_here), *test]
    before, between, after = _packed([*steps, (_RETURN, 0, 0, _ALLOW)]).split(struct.pack("I", _OWN_PID))
    return lambda pid: struct.pack("I", pid).join((before, between, after))


def _packed(steps: list[_Step]) -> bytes:
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _numbers(table: str, column: int) -> Iterator[int]:
    for entry in table.replace("\n", "|").split("|"):
        if entry.strip():
            number = entry.split()[1 + column]
            if number != "-":
                yield int(number)


def _test(rule: _Rule) -> list[_Step]:
    """Steps that allow the call if the argument is right, and else go on behind their end."""
    low = _ARGUMENTS + 8 * rule.argument
    if rule.test == "is a thread":
        return [
            (_LOAD, 0, 0, low),
            (_ANY, 2, 0, _NEW_NAMESPACES),
            (_ANY, 0, 1, _CLONE_THREAD),
            (_RETURN, 0, 0, _ALLOW),
        ]
    if rule.test == "masked is not":
        mask, value = rule.values
        return [(_LOAD, 0, 0, low), (_AND, 0, 0, mask), (_EQUAL, 1, 0, value), (_RETURN, 0, 0, _ALLOW)]
    steps: list[_Step] = [(_LOAD, 0, 0, low)]
    for value in rule.values:
        steps += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    if rule.argument == 4:  # a pointer: its upper half counts too
        steps = [(_LOAD, 0, 0, low + 4), (_EQUAL, 0, len(steps), 0), *steps]
    return steps
