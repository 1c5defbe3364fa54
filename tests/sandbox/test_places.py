"""The same results from wherever the judge is called."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from open_exaone.sandbox import programs
from open_exaone.sandbox.programs import Limits, run_program
from open_exaone.sandbox.workers import call

pytestmark = pytest.mark.skipif(
    not programs.server().greeting()["is_confined"], reason="programs cannot be confined on this machine"
)
SOURCES = ["print(input())", "1 / 0", "while True: pass", "x = bytearray(1 << 40)", "import os\nos.fork()"]
EXPECTED = [("ok", "7\n"), ("failed", ""), ("timeout", ""), ("memory", ""), ("failed", ""), 120]


def judge_all(_: Any = None) -> list[Any]:
    """What the judge says of a few programs, and of a call."""
    results = [run_program(source, "7\n", Limits(time_s=0.5)) for source in SOURCES]
    value = call("math:factorial", 5, time_limit_s=2, memory_bytes=1 << 28).value
    return [*((result.status.value, result.stdout) for result in results), value]


def test_from_here() -> None:
    assert judge_all() == EXPECTED


def test_from_threads() -> None:
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(judge_all, range(6))) == [EXPECTED] * 6


def test_from_a_thread_that_ends_before_its_server() -> None:
    programs.server().stop()
    for _ in range(2):
        thread = threading.Thread(target=judge_all)
        thread.start()
        thread.join()
    assert judge_all() == EXPECTED


def test_from_asyncio() -> None:
    async def all_of_them() -> list[Any]:
        direct = judge_all()
        return [direct, *await asyncio.gather(*[asyncio.to_thread(judge_all) for _ in range(3)])]

    assert asyncio.run(all_of_them()) == [EXPECTED] * 4


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_from_daemon_processes(method: str) -> None:
    context = multiprocessing.get_context(method)
    judge_all()
    with context.Pool(2, initializer=_find_tests, initargs=(str(Path(__file__).parent),)) as pool:
        assert pool.map(judge_all, range(2)) == [EXPECTED] * 2
    assert judge_all() == EXPECTED


def _find_tests(folder: str) -> None:
    sys.path.insert(0, folder)


def test_after_a_fork_parent_and_child_have_servers_of_their_own() -> None:
    judge_all()
    process = programs.server()._process
    assert process is not None
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            is_right = judge_all() == EXPECTED and programs.server()._process.pid != process.pid  # type: ignore[union-attr]
            os.write(writing, b"right" if is_right else b"wrong")
            programs.server().stop()
        finally:
            os._exit(0)
    assert judge_all() == EXPECTED  # at the same time
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() == b"right"
    os.waitpid(pid, 0)
    assert process.poll() is None


def run_judge(text: str) -> "subprocess.Popen[str]":
    """A judge of its own, which runs this text."""
    source = "from open_exaone.sandbox.programs import *\n" + textwrap.dedent(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def wait_until_gone(pids: set[int]) -> set[int]:
    """Waits for processes to end; returns those that do not."""
    for _ in range(1200):
        left = {pid for pid in pids if Path(f"/proc/{pid}").exists()}
        if not left:
            break
        time.sleep(0.05)
    return left


INTERRUPTED = """
import os, signal, sys
from open_exaone.sandbox import client
from open_exaone.sandbox.workers import call
class Interruption(BaseException): pass
def interrupt(*_): raise Interruption
signal.signal(signal.SIGALRM, interrupt)
def attempt(seconds, function, *args, **kwargs):
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        function(*args, **kwargs)
    except Interruption:
        return "interrupted"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_a_start_that_is_interrupted_is_none() -> None:
    judge = run_judge(
        INTERRUPTED
        + """for seconds in (0.001, 0.02, 0.05, 0.1):
    attempt(seconds, run_program, "print(1)")
    print(run_program("print(7)").stdout.strip(), flush=True)
    client._SERVERS[0].stop()
"""
    )
    assert judge.communicate()[0] == "7\n" * 4 and judge.returncode == 0


def test_interrupted_verdicts_leave_nothing() -> None:
    judge = run_judge(
        INTERRUPTED
        + """sleep = "import time; time.sleep(9)"
limits = Limits(time_s=9)
def links():
    return len(client._LINKS), len(os.listdir("/proc/self/fd"))
run_pair("1", "1"), call("time:sleep", 0, time_limit_s=9, memory_bytes=1 << 28)
before = links()
for _ in range(3):
    print(attempt(0.1, run_program, sleep, limits=limits))
    print(attempt(0.1, run_pair, sleep, sleep, limits))
    print(attempt(0.1, call, "time:sleep", 9, time_limit_s=9, memory_bytes=1 << 28))
run_pair("1", "1"), call("time:sleep", 0, time_limit_s=9, memory_bytes=1 << 28)
print(all(now <= then for now, then in zip(links(), before)) or (links(), before))
"""
    )
    assert judge.communicate()[0] == "interrupted\n" * 9 + "True\n"


def test_signals_that_the_judge_blocks_or_ignores_do_not_matter() -> None:
    judge = run_judge(
        """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGCHLD, signal.SIGTERM})
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        alarm = "import signal, time\\nsignal.alarm(1)\\ntime.sleep(5)"
        print(run_program(alarm).exit_code)
        """
    )
    assert judge.communicate()[0] == "-14\n"


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_all_ends_with_the_judge(how: str, descendants: Callable[[int], set[int]]) -> None:
    judge = run_judge(
        """
        import os, threading, time
        print(run_program("print('ready')").stdout, flush=True)
        if os.fork() == 0:
            time.sleep(99)  # holds on to whatever it inherited
        threading.Thread(target=run_program, args=("while True: pass", "", Limits(time_s=60)), daemon=True).start()
        time.sleep(0.3)
        print("running", flush=True)
        input()
        """
        if how == "kill"
        else """
        print(run_program("print('ready')").stdout, flush=True)
        """
    )
    assert judge.stdout is not None and judge.stdin is not None
    assert judge.stdout.readline() == "ready\n"
    below: set[int] = set()
    if how == "kill":
        judge.stdout.readline(), judge.stdout.readline()
        for _ in range(1200):  # until the program is under way
            below = descendants(judge.pid)
            if len(below) >= 4:
                break
            time.sleep(0.05)
        assert len(below) >= 4
        sleeper = {pid for pid in below if b"sandbox.server" not in Path(f"/proc/{pid}/cmdline").read_bytes()}
        judge.kill()
        judge.wait()
        assert wait_until_gone(below - sleeper) == set()
        for pid in sleeper:
            os.kill(pid, 9)
    else:
        assert judge.wait() == 0
    judge.stdout.close()
    judge.stdin.close()
