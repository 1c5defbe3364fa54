"""Programs run as python runs them, within limits."""

import dataclasses
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from open_exaone.sandbox import keeper, programs
from open_exaone.sandbox.client import Server
from open_exaone.sandbox.programs import Limits, ProgramStatus, run_pair, run_program

needs_confinement = pytest.mark.skipif(
    not programs.server().greeting()["is_confined"], reason="programs cannot be confined on this machine"
)
SHORT = Limits(time_s=0.3, memory_bytes=1 << 28, output_bytes=1 << 16, file_bytes=1 << 20)

FAST_OUTPUT = """
import os, sys
from io import BytesIO, IOBase
class FastIO(IOBase):
    def __init__(self, file):
        self.fd, self.buffer = file.fileno(), BytesIO()
        self.write = self.buffer.write
    def flush(self):
        os.write(self.fd, self.buffer.getvalue())
        self.buffer.truncate(0), self.buffer.seek(0)
class Wrapper(IOBase):
    def __init__(self, file):
        self.buffer = FastIO(file)
        self.flush = self.buffer.flush
        self.write = lambda text: self.buffer.write(text.encode())
sys.stdout = Wrapper(sys.stdout)
print(7)
"""  # such as many contestants bring
LIKE_PYTHON = {
    "a stdout of its own": FAST_OUTPUT,
    "the first stdout": "import sys, io\nold = sys.stdout\nsys.stdout = io.StringIO()\nprint(7)\n"
    "old.write(sys.stdout.getvalue())",
    "a file in a ring": "class W:\n    def __init__(self):\n        self.me, self.file = self, open(1, 'w')\n"
    "        self.file.write('7')\nw = W()",
    "stdout by name": "with open('/dev/stdout', 'w') as file: file.write('7')",
    "stdin by name": "import fileinput, pathlib\nprint(open('/dev/stdin').readline())\n"
    "print(pathlib.Path('/proc/self/fd/0').read_bytes()[:0], *fileinput.input('/dev/fd/0'))",
    "nothing": "import os\nprint(7, file=open(os.devnull, 'w'))\nprint(8)",
    "a larger stack": "import resource\nresource.setrlimit(resource.RLIMIT_STACK, (1 << 28, -1))",
    "sixteen threads": "import threading as t\nwait = t.Barrier(17).wait\n"
    "for _ in range(16): t.Thread(target=wait).start()\nwait()\nprint('all')",
    "input and output": "a, b = map(int, input().split())\nprint(a + b)",
    "all of stdin": "import sys\nprint(sys.stdin.read().split()[::-1])",
    "lines": "import sys\nfor line in sys.stdin: print(line.strip() + '!')",
    "open(0)": "print(open(0).read())",
    "bytes": "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())",
    "end of input": "input()\ninput()\ninput()",
    "main": "def main(): print(__name__)\nif __name__ == '__main__': main()",
    "arguments": "import sys\nprint(sys.argv)",
    "exit code": "import sys\nprint(1)\nsys.exit(7)",
    "exit text": "raise SystemExit('가나다')",
    "exit nothing": "raise SystemExit",
    "exit negative": "raise SystemExit(-1)",
    "an error": "def f(x):\n    return 1 / x\nf(0)",
    "an error in an error": "try: 1 / 0\nexcept ZeroDivisionError: int('x')",
    "a syntax error": "print('a')\nx = (1,\nprint(",
    "an assertion": "assert 1 == 2, 'different'",
    "a group of errors": "raise ExceptionGroup('two', [ValueError(1), KeyError(2)])",
    "atexit": "import atexit\natexit.register(print, 'bye')\nprint('hello')",
    "threads end": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
    "threads": "from threading import Thread\nt = Thread(target=lambda: 1)\nt.start(); t.join(); print(t.is_alive())",
    "pools": "from concurrent.futures import ThreadPoolExecutor as P\nwith P(3) as p: print(*p.map(abs, [-1, -2]))",
    "asyncio": "import asyncio\nasync def f(): await asyncio.sleep(0.01); print('done')\nasyncio.run(f())",
    "destructors": "class A:\n    def __del__(self): print('gone')\na = A()",
    "recursion": "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(50000))",
    "recursion error": "def f(): f()\ntry: f()\nexcept RecursionError: print('too deep')",
    "unicode": "print('정답은 4', input())",
    "files": "open('x.txt', 'w').write('a')\nprint(open('x.txt').read())",
    "temporary files": "import tempfile\nwith tempfile.NamedTemporaryFile() as f: f.write(b'x'); print(f.tell())",
    "source": "import inspect\ndef f(): return 1\nprint(inspect.getsource(f))",
    "dataclasses": "from dataclasses import dataclass\n@dataclass\nclass P: x: int = 1\nprint(P())",
    "pickle": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))))",
    "imports": "import numpy, decimal, statistics, hashlib, queue, uuid, sqlite3\nprint(numpy.arange(3).sum())",
    "excepthook": "import sys\nsys.excepthook = lambda *a: print('mine', a[0].__name__)\n1 / 0",
    "coding": "# coding: latin-1\nprint('x')",
    "future": "from __future__ import annotations\ndef f(x: nothing): pass\nprint(f.__annotations__)",
    "stdout closed": "import sys\nprint('a')\nsys.stdout.flush()\nsys.stdout.close()",
}


@needs_confinement
@pytest.mark.parametrize("name", LIKE_PYTHON)
def test_as_python_does(name: str, tmp_path: Path) -> None:
    stdin = "3 4\n둘째 줄\n"
    (tmp_path / "main.py").write_text(LIKE_PYTHON[name], encoding="utf-8")
    plain = subprocess.run(
        [sys.executable, "-X", "utf8", "main.py"], input=stdin.encode(), capture_output=True, cwd=tmp_path, check=False
    )
    result = run_program(LIKE_PYTHON[name], stdin)
    assert result.stdout == plain.stdout.decode()
    assert result.exit_code == plain.returncode
    assert (result.status == ProgramStatus.OK) == (plain.returncode == 0)
    stderr = plain.stderr.decode().replace(str(tmp_path) + "/", "")
    assert result.stderr.splitlines()[-1:] == stderr.splitlines()[-1:]
    assert ('File "main.py", line' in result.stderr) == ('File "main.py", line' in stderr)


@needs_confinement
@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("while True: pass", ProgramStatus.TIMEOUT),
        ("import time\ntime.sleep(99)", ProgramStatus.TIMEOUT),
        (
            "import threading\nfor _ in range(4): threading.Thread(target=sum, args=(iter(int, 1),)).start()",
            ProgramStatus.TIMEOUT,
        ),
        ("x = bytearray(1 << 30)", ProgramStatus.MEMORY),
        ("print('x' * 100_000)", ProgramStatus.OUTPUT),
        ("1 / 0", ProgramStatus.FAILED),
        ("import os\nos.abort()", ProgramStatus.FAILED),
        ("open('f', 'w').write('x' * (2 << 20))", ProgramStatus.FAILED),
    ],
)
def test_limits(source: str, status: ProgramStatus) -> None:
    result = run_program(source, limits=SHORT)
    assert result.status == status and result.why.endswith(".")


def test_a_program_that_ran_out_of_time_did_whoever_heard_of_it_first(tmp_path: Path) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open(tmp_path / "nothing", "w+b") as file:
        found = [keeper._judge(reason, -signal.SIGPROF, usage, [file.fileno()] * 4, SHORT) for reason in ("", "judge")]
    assert [status for status, _ in found] == ["timeout", "timeout"]


@needs_confinement
def test_limits_leave_room() -> None:
    limits = dataclasses.replace(SHORT, time_s=10)  # of processor time, which a slow machine needs more of
    assert run_program("x = bytearray(200 << 20)\nprint(len(x))", limits=limits).status == "ok"
    assert run_program("print('x' * 65_000)", limits=limits).status == "ok"
    assert run_program("open('f', 'w').write('x' * 900_000)", limits=limits).status == "ok"
    assert run_program("import time\ntime.sleep(2 * 0.3)", limits=SHORT).seconds >= 2 * SHORT.time_s


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Limits)])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_limits_that_are_none(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})


@needs_confinement
def test_no_program_finds_files_of_another() -> None:
    assert run_program("open('left', 'w').write('x')").status == "ok"
    for _ in range(4):
        assert run_program("import os\nprint(os.listdir('.'))").stdout == "[]\n"


@needs_confinement
def test_programs_find_packages_where_the_judge_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_without: Callable[..., Server]
) -> None:
    for folder in ("site-packages", "mine"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"in_{folder[:4]}.py").write_text("x = 7\n")
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    (tmp_path / "site-packages" / "enum.py").write_text("1 / 0\n")
    use_without()
    assert run_program("import in_site, enum\nprint(in_site.x)").stdout == "7\n"
    assert "ModuleNotFoundError" in run_program("import in_mine").stderr


@needs_confinement
def test_each_program_has_its_own_chance() -> None:
    drawn = {run_program("import random\nprint(random.random())").stdout for _ in range(6)}
    assert len(drawn) == 6
    orders = {run_program("print(list({'a', 'b', 'c', 'd', 'e'}))").stdout for _ in range(6)}
    assert len(orders) == 1  # or verdicts on programs that lean on it would not repeat


ASK = "import os\nlink = os.fdopen(3, 'r+b', 0)\nlink.write(b'2 + 2\\n')\nprint(link.readline().decode().strip())\n"
ANSWER = "import os\nlink = os.fdopen(3, 'r+b', 0)\nlink.readline()\nlink.write(b'4\\n')\n"


@needs_confinement
def test_a_pair_talks() -> None:
    for _ in range(3):
        tester, candidate = run_pair(ASK, ANSWER)
        assert (tester.status, tester.stdout) == ("ok", "4\n")
        assert candidate.stdout == ""


@needs_confinement
@pytest.mark.parametrize(
    ("candidate", "tester_status"),
    [
        (ANSWER + "import time\ntime.sleep(99)", "ok"),
        ("import socket\nlink = socket.socket(fileno=3)\nlink.recv(9)\nlink.sendall(b'4\\n')", "ok"),
        ("1 / 0", "failed"),
        ("import os\nos.close(3)", "failed"),
        ("while True: pass", "failed"),
        ("import os\nos.kill(1, 9); os.kill(-1, 9)", "failed"),
        ("import os\nwhile True: os.write(3, b'x' * 65536)", "timeout"),
    ],
)
def test_a_pair_ends_with_its_tester(candidate: str, tester_status: str) -> None:
    source = ASK + "assert True"
    tester, other = run_pair(source, candidate, SHORT)
    assert max(tester.seconds, other.seconds) < SHORT.clock_s + 1
    if tester_status == "failed":  # the tester sees that the other end is closed
        assert tester.status == "failed" or tester.stdout == "\n"
    else:
        assert tester.status.value == tester_status
    assert other.status != ProgramStatus.REFUSED
    assert run_pair(ASK, ANSWER)[0].stdout == "4\n"


@needs_confinement
def test_a_pair_shares_nothing_else() -> None:
    look = "import os\nprint(sorted(os.listdir('.')))\nopen('f', 'w').close()\n"
    tester, candidate = run_pair(look + ASK, look + ANSWER)
    assert tester.stdout.startswith("[]\n") and candidate.stdout.startswith("[]\n")


@needs_confinement
def test_a_killed_keeper_is_replaced() -> None:
    assert run_program("print(1)").status == "ok"
    process = programs.server()._process
    assert process is not None
    process.kill()
    process.wait()
    assert [run_program("print(1)").stdout for _ in range(3)] == ["1\n"] * 3


def test_refused_where_nothing_confines(use_without: Callable[..., Server]) -> None:
    use_without("seccomp")
    result = run_program("print(1)")
    assert result.status == ProgramStatus.REFUSED and "exaone doctor" in result.why
    assert run_pair(ASK, ANSWER)[0].status == ProgramStatus.REFUSED


def test_unsafe_runs_where_nothing_confines(use_without: Callable[..., Server]) -> None:
    use_without("seccomp")
    assert run_program("print(int(input()) + 1)", "41\n", unsafe=True).stdout == "42\n"
    assert run_program("while True: pass", limits=SHORT, unsafe=True).status == "timeout"
    assert run_program("open('f', 'w').close()\nimport os\nprint(os.listdir('.'))", unsafe=True).stdout == "['f']\n"
    assert run_program("import subprocess\nsubprocess.Popen(['sleep', '99'])", unsafe=True).status == "ok"
    assert run_pair(ASK, ANSWER, unsafe=True)[0].stdout == "4\n"


@pytest.mark.parametrize("missing", ["namespaces", "landlock"])
def test_one_mechanism_is_enough(missing: str, use_without: Callable[..., Server]) -> None:
    if not use_without(missing).greeting()["is_confined"]:
        pytest.skip(f"without {missing} this machine confines nothing")
    assert run_program("print(int(input()) + 1)", "41\n").stdout == "42\n"
    for source in (
        "import os\nos.fork()",
        "open('/etc/passwd')",
        "import os\nos.listdir('/')\nos.listdir('/etc')",
        "import socket\nsocket.socket()",
        "import os\nos.kill(os.getppid(), 9)",
        "open('/tmp/escaped', 'w')\nimport os\nos.chmod('/etc', 0o755)",
        "import os\nopen(f'/proc/{os.getppid()}/environ')",
    ):
        assert run_program(source, limits=SHORT).status == ProgramStatus.FAILED, source
    assert run_program("while True: pass", limits=SHORT).status == ProgramStatus.TIMEOUT
    assert run_program("import numpy, uuid\nprint(numpy.ones(2).sum())").stdout == "2.0\n"


@needs_confinement
def test_what_was_written_to_stderr_without_a_line_end_is_kept() -> None:
    assert run_program("import sys; sys.stderr.write('half a line')").stderr == "half a line"


@needs_confinement
@pytest.mark.parametrize("ring", ["", "f.me = f", "g = lambda: f"])
def test_a_file_of_the_programs_own_ends_while_its_modules_are_there(ring: str) -> None:
    source = f"import io, os\nclass F(io.IOBase):\n def flush(s): os.write(1, b'7')\nf = F()\n{ring}\n"
    plain = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout
    assert run_program(source).stdout == plain == "7"
