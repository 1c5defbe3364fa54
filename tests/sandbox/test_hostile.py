"""Nothing that a program does reaches what is not its own, and the judge answers in time."""

import importlib.util
import os
import platform
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from open_exaone.sandbox import programs
from open_exaone.sandbox.programs import Limits, run_program

_SPEC = importlib.util.spec_from_file_location("hostile", Path(__file__).with_name("hostile.py"))
assert _SPEC is not None and _SPEC.loader is not None
hostile = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hostile)

LIMITS = Limits(time_s=10, memory_bytes=1 << 28, output_bytes=1 << 20, file_bytes=8 << 20)
SECRET = "SECRET-" + "73519"
CASES = hostile.HOSTILE + (hostile.X86_64 if platform.machine() == "x86_64" else [])

pytestmark = pytest.mark.skipif(
    not programs.server().greeting()["is_confined"], reason="programs cannot be confined on this machine"
)


@dataclass
class Judge:
    """What a program must not reach."""

    canary: Path
    listener: socket.socket

    def fill(self, source: str) -> str:
        """The source, with what it is to attack."""
        places = {"canary": self.canary, "port": self.listener.getsockname()[1], "pid": os.getpid()}
        for name, value in places.items():
            source = source.replace("{" + name + "}", str(value))
        return source


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    """A judge with a file, a port and a secret, and a server of programs that was started beside all of them."""
    canary = tmp_path_factory.mktemp("judge") / "canary.txt"
    canary.write_text(SECRET)
    os.environ["OPEN_EXAONE_TEST_SECRET"] = SECRET
    programs.server().stop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield Judge(canary, listener)
    del os.environ["OPEN_EXAONE_TEST_SECRET"]


def test_there_are_enough() -> None:
    names = [name for name, _, _ in CASES]
    assert len(names) >= 100 and len(set(names)) == len(names)


@pytest.mark.parametrize(("name", "source", "statuses"), CASES, ids=[name for name, _, _ in CASES])
def test_hostile_program(judge: Judge, name: str, source: str, statuses: set[str]) -> None:
    run_program("token = 'EARLIER-PROGRAM' * 3\nprint(token)", "EARLIER-PROGRAM")
    # Only a program that may end by its time gets little of it: how fast the processor is decides no other verdict.
    limits = replace(LIMITS, time_s=0.3) if hostile.TIMEOUT in statuses else LIMITS
    result = run_program(judge.fill(source), "some input\n", limits)
    said = result.stdout + result.stderr.replace("print('ESCAPED", "")
    assert SECRET not in said
    assert "ESCAPED" not in result.stdout
    assert result.status.value in statuses, (result.status, result.why, result.stdout[:300], result.stderr[-300:])
    assert result.seconds < limits.clock_s + 1  # that it takes no longer is the keeper's doing
    assert len(result.stdout) <= LIMITS.output_bytes and len(result.stderr) <= LIMITS.output_bytes
    assert judge.canary.read_text() == SECRET
    with pytest.raises(BlockingIOError):
        judge.listener.accept()
    assert run_program("print(input())", "next\n", LIMITS).stdout == "next\n"
