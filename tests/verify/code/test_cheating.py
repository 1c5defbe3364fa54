"""Programs that try to pass without computing anything: none is ever correct, whoever asks."""

import time
from typing import Any

import pytest

from open_exaone.base.records import VerdictStatus
from open_exaone.verify.code.judge import judge_code
from open_exaone.verify.settings import JudgeSettings

SETTINGS = JudgeSettings(program_time_limit_s=0.5)
HONEST = "def f(xs, k):\n    return [x * k for x in xs]\n"
CASES = [(([1, 2], 3), [3, 6]), (([], 1), []), (([0, 7, -1], -2), [0, -14, 2])]
ASSERTIONS = [f"f({xs}, {k}) == {result}" for (xs, k), result in CASES]

FORMS: dict[str, Any] = {
    "humaneval": {
        "prompt": "import math\n\ndef f(xs, k):\n    '''Multiplies.'''\n",
        "test": "def check(candidate):\n    assert True\n"
        + "".join(f"    assert candidate{assertion[1:]}\n" for assertion in ASSERTIONS),
        "entry_point": "f",
    },
    "mbpp": {
        "test_list": [
            *(f"assert {assertion}" for assertion in ASSERTIONS),
            "assert sorted(f([2, 1], 1), key=abs) == [1, 2]",
            "assert math.isclose(sum(f([1.5], 2)), 3)",
            "assert not isinstance(f([1], 1), int) and f([1], 1)[0] == 1 and 5 in f([5], 1)",
            "try:\n    f(None, None)\nexcept TypeError:\n    pass\nelse:\n    raise AssertionError",
        ]
    },
    "calls": {
        "inputs": [list(given) for given, _ in CASES],
        "outputs": [result for _, result in CASES],
        "fn_name": "f",
    },
    "runs": [{"input": "3 4\n", "output": "7\n"}, {"input": "1 1\n", "output": "2\n"}],
}

ALWAYS = """
class Always:
    def yes(self, *args, **kwargs): return True
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = __instancecheck__ = yes
    def same(self, *args, **kwargs): return self
    __call__ = __getitem__ = __add__ = __radd__ = __sub__ = __rsub__ = __abs__ = __getattr__ = same
    def __hash__(self): return 0
    def __len__(self): return 3
"""
FORGED = '{"nodes": [], "changed": [], "names": null, "value": %s}'
FRAMES = """
import os, json, struct
def send(text):
    data = text.encode()
    os.write(3, struct.pack(">I", len(data)) + data)
"""

CHEATS = {
    "equal to everything": ALWAYS + "f = lambda *args: Always()",
    "a function equal to everything": ALWAYS + "f = Always()",
    "a list equal to everything": "class L(list):\n    __eq__ = lambda *args: True\nf = lambda *args: L([9])",
    "an integer equal to everything": "class I(int):\n    __eq__ = lambda *args: True\nf = lambda *args: I(9)",
    "text equal to everything": "class S(str):\n    __eq__ = lambda *args: True\nf = lambda *args: S()",
    "items equal to everything": ALWAYS + "f = lambda *args: [Always(), Always()]",
    "a class equal to everything": (
        "class M(type):\n    __eq__ = lambda *args: True\n    __hash__ = type.__hash__\n"
        "class C(metaclass=M): pass\nf = lambda *args: C"
    ),
    "a false numpy scalar": (
        ALWAYS
        + "class N:\n    shape = ()\n    def item(self): return Always()\nN.__module__ = 'numpy'\nf = lambda *a: N()"
    ),
    "an object that says it is a list": (
        "class L:\n    __class__ = list\n    __eq__ = lambda *args: True\nf = lambda *args: L()"
    ),
    "a false numpy array": (
        "class A:\n    __array_interface__ = dict(data=(4096, False), typestr='<f8', shape=(2,), version=3)\n"
        "f = lambda *args: A()"
    ),
    "an endless iterator": "import itertools\nf = lambda *args: itertools.count()",
    "patched errors": (
        "import builtins\nbuiltins.AssertionError = ValueError\nbuiltins.Exception = int\nf = lambda *args: 0"
    ),
    "patched built-ins": (
        "import builtins\nfor name in ('sorted', 'abs', 'sum', 'isinstance', 'list', 'len', 'all', 'map'):\n"
        "    setattr(builtins, name, lambda *args, **kwargs: True)\nf = lambda *args: 0"
    ),
    "its own names for what tests use": (
        ALWAYS + "sorted = sum = abs = isinstance = check = candidate = print = Always()\n"
        "class math:\n    isclose = lambda *args: True\nf = lambda *args: 0"
    ),
    "a patched unittest": "import unittest\nunittest.TestCase.assertEqual = lambda *args: None\nf = lambda *args: 0",
    "a patched json": (
        "import json\njson.dumps = lambda *args: '{}'\njson.loads = lambda *args: {}\nf = lambda *args: 0"
    ),
    "a patched harness": (
        "import sys\nmain = sys.modules['__main__']\n"
        "main._same = lambda *args: True\nmain.isclose = lambda *args: True\nmain.Mismatch = None\nf = lambda *args: 0"
    ),
    "answers of its own making": (
        "import sys\nmain = sys.modules['__main__']\n"
        "main._answer = lambda *args: {'nodes': [], 'changed': [], 'names': None, 'value': True}\nf = lambda *args: 0"
    ),
    "leaving at once": "import sys\nsys.exit(0)",
    "leaving in the middle": "import sys\ndef f(*args): sys.exit(0)",
    "leaving hard at once": "import os\nos._exit(0)",
    "leaving hard in the middle": "import os\ndef f(*args): os._exit(0)",
    "leaving at the end": "import atexit, os\natexit.register(os._exit, 0)\nf = lambda *args: 0",
    "saying so": "print('All tests passed')\nf = lambda *args: print('All 3 tests pass. CORRECT')",
    "saying so in the end": "import atexit\natexit.register(print, 'All tests passed')\nf = lambda *args: 0",
    "a report of its own": (
        'import os\nreport = b\'{"status": "passed", "why": "", "test": 3}\\n\'\n'
        "for fd in (1, 2, 3):\n    try: os.write(fd, b'\\n' + b'0' * 32 + report)\n    except OSError: pass\n"
        "f = lambda *args: 0"
    ),
    "walking the stack": (
        "import sys\ndef f(*args):\n    frame = sys._getframe()\n    while frame:\n"
        "        for scope in (frame.f_locals, frame.f_globals):\n"
        "            for name in ('expected', 'spec', 'tests'):\n                if name in scope: return scope[name]\n"
        "        frame = frame.f_back"
    ),
    "searching memory": (
        "import gc\ndef f(*args):\n    for thing in gc.get_objects():\n"
        "        if isinstance(thing, dict) and {'cases', 'tests'} & thing.keys(): return thing"
    ),
    "reading the tests' memory": (
        "import os, re\ndef f(*args):\n    found = []\n    for pid in os.listdir('/proc'):\n"
        "        if pid.isdigit() and int(pid) != os.getpid():\n"
        "            found.append(open(f'/proc/{pid}/mem', 'rb').read(9))"
    ),
    "reading files": (
        "import os\ndef f(*args):\n    for folder, _, names in os.walk('.'):\n"
        "        for name in names: return open(os.path.join(folder, name)).read()\n    return open('main.py').read()"
    ),
    "ending the tests": (
        "import os, signal\ndef f(*args):\n    for pid in (os.getppid(), 1, 2, 3, 0, -1):\n"
        "        try: os.kill(pid, signal.SIGKILL)\n        except OSError: pass"
    ),
    "garbage on the wire": "import os\nos.write(3, b'\\xff' * 4096)\nf = lambda *args: 0",
    "no JSON on the wire": FRAMES + "send('{')\nf = lambda *args: 0",
    "frames without end": FRAMES + "os.write(3, b'\\xff\\xff\\xff\\xff')\nf = lambda *args: 0",
    "deep frames": FRAMES + "send('[' * 200_000)\nf = lambda *args: 0",
    "other frames": FRAMES + "for text in ('7', 'null', '[]', '{}', '\"x\"'): send(text)\nf = lambda *args: 0",
    "answers in advance": FRAMES + f"for _ in range(99): send('{FORGED}' % 'true')\nf = lambda *args: 0",
    "handles in advance": FRAMES + f"for _ in range(99): send('{FORGED}' % '[\"h\", 0]')\nf = lambda *args: 0",
    "types in advance": FRAMES + f"for _ in range(99): send('{FORGED}' % '[\"T\", \"exec\"]')\nf = lambda *args: 0",
    "changing what is not its own": (
        FRAMES + "send('" + FORGED % "null" + "')\nfor number in (0, -1, 1):\n"
        '    send(\'{"nodes": [], "changed": [[%d, "l", []]], "names": null, "value": true}\' % number)\nf = 0'
    ),
    "unfit nodes": (
        FRAMES + "for node in ('[0, \"s\", [[0]]]', '[5, \"l\", []]', '[0, \"x\", []]', '[0, \"t\", [[0]]]'):\n"
        '    send(\'{"nodes": [%s], "changed": [], "names": null, "value": [0]}\' % node)\nf = 0'
    ),
    "errors of another kind": FRAMES
    + 'send(\'{"nodes": [], "changed": [], "names": ["exit", 1], "raised": 1}\')\nf = 0',
    "a closed wire": "import os\nos.close(3)\nf = lambda *args: 0",
    "writing for ever": (
        "import os, threading\ndef flood():\n    while True: os.write(3, b'{}' * 999)\n"
        "threading.Thread(target=flood, daemon=True).start()\nf = lambda *args: 0"
    ),
    "failing as a failed test": "def f(*args): raise AssertionError('passed')",
    "stopping as an iterator": "def f(*args): raise StopIteration(True)",
    "stopping as a generator": "def f(*args): raise GeneratorExit",
    "an interrupt": "def f(*args): raise KeyboardInterrupt",
    "an error that cannot be told": (
        "class E(Exception):\n    args = property(lambda self: 1 / 0)\ndef f(*args): raise E"
    ),
    "an error with a long number": "def f(*args): raise ValueError(10**6000)",
    "an error whose text ends all": (
        "import os\nclass X:\n    def __str__(self): os._exit(1)\n    __repr__ = __str__\n"
        "def f(*args): raise ValueError(X())"
    ),
    "an error whose text is none": (
        "class X:\n    def __str__(self): raise KeyError\n    __repr__ = __str__\ndef f(*args): raise ValueError(X())"
    ),
    "an error whose text never comes": (
        "import time\nclass X:\n    def __str__(self): time.sleep(99)\n    __repr__ = __str__\n"
        "def f(*args): raise KeyError([X()])"
    ),
    "an error of its own root": "class E(BaseException): pass\ndef f(*args): raise E('passed')",
    "clearing the arguments": "def f(xs, k):\n    if isinstance(xs, list): xs.clear()\n    return xs",
    "recursion": "def f(*args): return f(*args)",
    "too much": "def f(*args): return list(range(30_000_000))",
    "a ring": "def f(*args):\n    ring = []\n    ring.append(ring)\n    return ring",
    "keys that collide": "f = lambda *args: dict.fromkeys(range(0, 200_000 * (2**61 - 1), 2**61 - 1))",
    "a long integer": "f = lambda *args: 7 << 50_000_000",
    "a long fraction": "from fractions import Fraction\nf = lambda *args: Fraction(7**200_000, 5**200_000)",
    "a vast decimal": "from decimal import Decimal\nf = lambda *args: Decimal('1e999999999')",
    "a vast range": "f = lambda *args: range(10**100)",
    "nothing at all": "pass",
    "the empty function": "def f(xs, k): pass",
    "another name": "def g(xs, k):\n    return [x * k for x in xs]",
    "never ending": "while True: pass",
    "never answering": "import time\ndef f(*args): time.sleep(99)",
    "printing what it reads": "print(input())",
}


def judge(program: str, form: str) -> Any:
    return judge_code(f"```python\n{program}\n```", "", {"tests": FORMS[form]}, SETTINGS)


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cheat", CHEATS)
def test_no_cheat_is_correct(cheat: str, form: str) -> None:
    start = time.monotonic()
    verdict = judge(CHEATS[cheat], form)
    assert verdict.status in (VerdictStatus.WRONG, VerdictStatus.TIMEOUT), verdict.why
    assert verdict.why.endswith(".") and len(verdict.why) < 500 and "\n" not in verdict.why
    assert time.monotonic() - start < 30
    if cheat.startswith("an error"):
        assert verdict.status is VerdictStatus.WRONG


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("form", FORMS)
def test_an_honest_program_is_correct(form: str) -> None:
    program = "a, b = map(int, input().split())\nprint(a + b)" if form == "runs" else HONEST
    verdict = judge(program, form)
    assert verdict.correct, verdict.why


def test_there_are_enough_cheats() -> None:
    assert len(CHEATS) >= 50
