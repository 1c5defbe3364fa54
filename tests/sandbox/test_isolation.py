"""What the machine offers is found out by trying, and told."""

import os
import platform
import resource
import struct
from collections.abc import Callable

import pytest

from open_exaone.sandbox.client import Server
from open_exaone.sandbox.confine import Confinement, is_below, kernel_limits, most_processes, readable_paths
from open_exaone.sandbox.isolation import findings, isolation
from open_exaone.sandbox.limits import Limits
from open_exaone.sandbox.seccomp import has_filter, keeper_filter, program_filter

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _KILL = 0x7FFF0000, 0x80000000


def test_findings_say_whether_programs_can_be_judged() -> None:
    found = isolation()
    rows = findings()
    assert rows[-1][:2] == ("ok" if found.is_enough else "note", "generated programs")
    assert {name for name, _ in found.notes} <= {name for _, name, _ in rows}
    assert isolation() == found


@pytest.mark.parametrize("without", [("namespaces",), ("landlock",), ("namespaces", "landlock"), ("seccomp",)])
def test_what_is_missing_is_told_with_the_mend(without: tuple[str, ...], use_without: Callable[..., Server]) -> None:
    use_without(*without)
    rows = findings()
    is_enough = isolation().is_enough
    assert not is_enough or len(without) == 1
    assert ("cannot be judged" in rows[-1][2]) != is_enough
    assert is_enough or ("namespaces" in rows[-1][2] and "--unsafe-code-execution" in rows[-1][2])


def test_what_is_less_without_namespaces_is_told(use_without: Callable[..., Server]) -> None:
    use_without("namespaces")
    if not isolation().is_enough:
        pytest.skip("without namespaces this machine confines nothing")
    told = dict(isolation().notes)["seccomp and Landlock alone"]
    assert "no folder to write to" in told and "names they guess" in told
    assert ("bounded by memory only" in told) == (os.getuid() == 0)


def test_threads_are_bounded_where_the_kernel_counts_all_of_a_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert most_processes() == 0
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert 1000 <= most_processes() < 1_000_000
    limits = dict(kernel_limits(Limits(), Confinement(False, 1, (), 0, 1234), is_program=True))
    assert 0 < limits[resource.RLIMIT_NPROC] <= 1234


def test_readable_paths_are_few() -> None:
    paths = readable_paths()
    assert not any(is_below(path, folder) for path in paths for folder in ("/etc", "/home", "/proc", "/sys", "/var"))
    assert not any(is_below(a, b) for a in paths for b in paths if a != b)
    assert is_below("/usr/lib/x", "/usr/lib") and not is_below("/usr/libx", "/usr/lib")


def decide(filter_bytes: bytes, machine: str, number: int, *arguments: int) -> int:
    """What the kernel would make of a call: the filter, interpreted as classic BPF is."""
    data = struct.pack("<iIQ6Q", number, _ARCHITECTURES.get(machine, 0), 0, *arguments, *[0] * (6 - len(arguments)))
    steps = list(struct.iter_unpack("HBBI", filter_bytes))
    at = register = 0
    while True:
        code, if_true, if_false, constant = steps[at]
        at += 1
        if code == 0x20:
            (register,) = struct.unpack_from("<I", data, constant)
        elif code == 0x54:
            register &= constant
        elif code == 0x06:
            return constant
        else:
            is_true = register == constant if code == 0x15 else bool(register & constant)
            at += if_true if is_true else if_false


# (call, number on x86_64, number on aarch64, arguments, whether a keeper may, whether a program may)
CALLS = [
    ("read", 0, 63, (), True, True),
    ("a thread", 56, 220, (0x3D0F00,), True, True),
    ("a process", 56, 220, (17,), True, False),
    ("a thread in a new namespace", 56, 220, (0x10010000,), True, False),
    ("clone3", 435, 435, (), False, False),
    ("execve", 59, 221, (), False, False),
    ("socket", 41, 198, (), False, False),
    ("connect", 42, 203, (), False, False),
    ("ptrace", 101, 117, (), False, False),
    ("mount", 165, 40, (), False, False),
    ("memfd_create", 319, 279, (), True, False),
    ("recvmsg", 47, 212, (), True, False),
    ("killing itself", 62, 129, (77, 9), True, True),
    ("killing another", 62, 129, (1, 9), True, False),
    ("killing all", 62, 129, (2**64 - 1, 9), True, False),
    ("reading a file", 257, 56, (0, 0, 0), True, True),
    ("writing a file", 257, 56, (0, 0, 0o1101), True, True),
    ("emptying a file for reading", 257, 56, (0, 0, 0o1000), True, False),
    ("sending to the other end", 44, 206, (3, 0, 0, 0, 0), True, True),
    ("sending elsewhere", 44, 206, (3, 0, 0, 0, 1 << 33), True, False),
    ("sending elsewhere, low", 44, 206, (3, 0, 0, 0, 4096), True, False),
    ("an owner of a descriptor", 72, 25, (3, 8), True, False),
    ("io_uring", 425, 425, (), False, False),
    ("bpf", 321, 280, (), False, False),
    ("read of x32", 0x40000000, 0x40000000, (), False, False),
]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("call", CALLS, ids=[call[0] for call in CALLS])
def test_filters(machine: str, call: tuple[str, int, int, tuple[int, ...], bool, bool]) -> None:
    _, *numbers, arguments, keeper_may, program_may = call
    number = numbers[machine == "aarch64"]
    by_keeper = decide(keeper_filter(machine, may_write=True), machine, number, *arguments)
    by_program = decide(program_filter(machine)(77), machine, number, *arguments)
    assert (by_keeper == _ALLOW) == keeper_may
    assert (by_keeper == by_program == _ALLOW) == program_may


@pytest.mark.parametrize("number", [1, 60, 93])
def test_calls_of_another_architecture_end_the_process(number: int) -> None:
    assert decide(keeper_filter("x86_64", may_write=True), "i386", number) == _KILL


def test_without_a_folder_nothing_changes_files() -> None:
    for number in (76, 82, 90, 92, 87, 280):  # truncate, rename, chmod, chown, unlink, utimensat
        assert decide(keeper_filter("x86_64", may_write=False), "x86_64", number) != _ALLOW


def test_there_is_a_filter_for_machines_that_are_named() -> None:
    assert has_filter("x86_64") and has_filter("aarch64") and not has_filter("riscv64")
    assert not has_filter("") or platform.machine() == ""
