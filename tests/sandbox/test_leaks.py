"""Nothing is left behind: no process, no descriptor, no file, and no memory that grows."""

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from open_exaone.sandbox import programs
from open_exaone.sandbox.programs import Limits, run_pair, run_program
from open_exaone.sandbox.workers import call

pytestmark = pytest.mark.skipif(
    not programs.server().greeting()["is_confined"], reason="programs cannot be confined on this machine"
)


def judge_some(count: int) -> None:
    """Programs and calls of every kind."""
    limits = Limits(time_s=0.2)
    for _ in range(count):
        run_program("print(input())", "1\n")
        run_program("open('f', 'w').write('x')")
        run_program("1 / 0")
        run_pair("import os\nos.write(3, b'x')", "import os\nos.read(3, 1)")
        call("math:factorial", 5, time_limit_s=1, memory_bytes=1 << 28)
    run_program("while True: pass", limits=limits)
    call("math:factorial", 10**8, time_limit_s=0.1, memory_bytes=1 << 28)


def temporary_files() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("tmp*"))


def test_nothing_is_left(descendants: Callable[[int], set[int]]) -> None:
    judge_some(5)
    files = temporary_files()
    before = len(os.listdir("/proc/self/fd")), len(descendants(os.getpid()))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        judge_some(20)
    run_program("print(1)")
    call("math:factorial", 5, time_limit_s=1, memory_bytes=1 << 28)
    after = len(os.listdir("/proc/self/fd")), len(descendants(os.getpid()))
    assert after[0] <= before[0] + 2 and after[1] <= before[1] + 3  # one more pair of keepers may wait
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 8 << 10  # KiB
    for path in temporary_files() - files:  # other judges on this machine have some for a moment
        for _ in range(600):
            if not path.exists():
                break
            time.sleep(0.05)
        assert not path.exists()
