"""Judging a reply that should hold a program."""

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.sandbox.programs import ProgramResult, ProgramStatus
from open_exaone.verify.code import judge as module
from open_exaone.verify.code.judge import MAX_PROGRAM_CHARS, judge_code
from open_exaone.verify.settings import JudgeSettings

pytestmark = pytest.mark.usefixtures("sandbox")
SETTINGS = JudgeSettings(program_time_limit_s=2.0)
ADD = [{"input": "3 4\n", "output": "7\n"}, {"input": "1 1\n", "output": "2\n"}]
CALLS = [{"input": "[3, 1, 2]\n2", "output": "[1, 2]", "fn_name": "smallest"}]
PROMPT = 'from typing import List\n\ndef twice(x):\n    return 2 * x\n\ndef f(xs: List[int]) -> int:\n    """Sums."""\n'
HUMANEVAL = {
    "prompt": PROMPT,
    "entry_point": "f",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([twice(5)]) == 10\n",
}


def judge(program: str, tests: Any, settings: JudgeSettings = SETTINGS) -> Verdict:
    return judge_code(f"답:\n```python\n{program}\n```\n", "", {"tests": tests}, settings)


def mbpp(*tests: str, setup: str = "") -> dict[str, Any]:
    return {"test_list": list(tests), "test_setup_code": setup}


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("a, b = map(int, input().split())\nprint(a + b)", ADD),
        ("import sys\nprint(sum(map(int, sys.stdin.read().split())))\nsys.exit(0)", ADD),
        ("if __name__ == '__main__':\n    print(sum(map(int, stdin.readline().split())))", ADD),
        ("print(f'{int(input()) / 3:.10f}')", [{"input": "1", "output": "0.333333333"}]),
        ("from __future__ import annotations\nx: List[int] = list(map(int, input().split()))\nprint(sum(x))", ADD),
        ("from __future__ import (\n    annotations,  # all\n)\ndef f(x: Nothing): return x\nprint(f(7))",
         [{"input": "", "output": "7"}]),
        ("from __future__ import \\\n    annotations\nprint(7)", [{"input": "", "output": "7"}]),
        ("print(input())", [{"input": "가나다\r\n", "output": "가나다"}]),
        ("class Solution:\n    def smallest(self, xs: List[int], k: int) -> List[int]:\n"
         "        return tuple(sorted(xs)[:k])", CALLS),
        ("def smallest(xs, k):\n    return heapq.nsmallest(k, xs)", CALLS),
        ("def smallest(xs, k):\n    print('debugging')\n    xs.sort()\n    return xs[:k]", CALLS),
        ("def f(xs):\n    return sum(xs)", HUMANEVAL),
        ("def f(xs: List[int]) -> int:\n    return sum(xs)", HUMANEVAL),
        ("    return sum(xs)", HUMANEVAL),
        ("    total = 0\n    for x in xs:\n        total += x\n    return total\n\ndef g():\n    pass", HUMANEVAL),
        (PROMPT + "    return sum(xs)", HUMANEVAL),
        ("from __future__ import annotations\ndef f(xs): return sum(xs)", HUMANEVAL | {"prompt": "\n\ndef f(xs):\n"
         "    ''''''\n", "test": "def check(c):\n    assert c([1, 2]) == 3\n"}),
        ("f = sum", HUMANEVAL),
        ("  def f(xs):\n      return sum(xs)", HUMANEVAL),
        ("from __future__ import annotations\ndef f(xs: Unknown):\n    return sum(xs) * (twice(1) == 2)", HUMANEVAL),
        ("  def f(x):\n\n      return x + 1", mbpp("print('x', end='')\nassert f(1) == 2")),
        ("  a, b = map(int, input().split())\n\n  print(a + b)", ADD),
        ("def f(x):\n    return x + 1\nif __name__ == '__main__':\n    assert False", mbpp("assert f(1) == 2")),
    ],
)  # fmt: skip
def test_right_programs_are_correct(program: str, tests: Any) -> None:
    verdict = judge(program, tests)
    assert verdict.correct, verdict.why
    assert verdict.extracted == program + "\n"


PAIRS = [[i, i + 1] for i in range(100_000)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return x", PAIRS),
        ("x.sort(reverse=True)\n    return x", PAIRS[::-1]),
        ("return [[b, a] for a, b in x]", [[b, a] for a, b in PAIRS]),
    ],
)
def test_what_crosses_the_wire_is_not_the_programs_loss(body: str, expected: Any) -> None:
    tests = {"inputs": [[PAIRS]], "outputs": [expected], "fn_name": "f"}
    verdict = judge(f"def f(x):\n    {body}", tests)
    assert verdict.correct, verdict.why


def test_much_to_print_is_not_too_much_where_it_is_right() -> None:
    long = "x" * (9 << 20)
    assert judge("print('x' * (9 << 20))", [{"input": "", "output": long}]).correct
    assert judge("print('x' * (9 << 20))", [{"input": "", "output": "x"}]).why.startswith("Test 1 of 1: It printed")


@pytest.mark.parametrize(
    ("program", "tests", "why"),
    [
        ("print(7)", ADD, "Test 2 of 2: expected '2', got '7'."),
        ("print(7 / 0)", ADD, "Test 1 of 2: It ended with code 1 (ZeroDivisionError: division by zero)."),
        ("print(7", ADD, "Test 1 of 2: It ended with code 1 (SyntaxError: '(' was never closed)."),
        ("x = [0] * 10**10", ADD, "Test 1 of 2: It needed more than 1024 MiB."),
        ("while True: print('x' * 10**6)", ADD, "Test 1 of 2: It printed more than 8388608 bytes."),
        ("def smallest(xs, k):\n    return xs", CALLS, "Test 1 of 1: expected [1, 2], got [3, 1, 2]."),
        ("def smallest(xs, k):\n    return xs[9]", CALLS, "Test 1 of 1: IndexError: list index out of range."),
        ("def smallest(xs, k):\n    return ['x' * 1000] * 40_000", CALLS,
         "Test 1 of 1: what the program sent is no answer (ValueError: a frame of 40160067 bytes)."),
        ("def other(xs, k):\n    return xs", CALLS, "Test 1 of 1: NameError: name 'smallest' is not defined."),
        ("def f(xs):\n    return 3", HUMANEVAL,
         "Test 1 of 1: assert candidate([twice(5)]) == 10; the last call gave 3."),
        ("def g(xs):\n    return sum(xs)", HUMANEVAL,
         "Test 1 of 1: NameError: name 'f' is not defined; check(f)."),
        ("x = 1", HUMANEVAL, "Test 1 of 1: NameError: name 'f' is not defined; check(f)."),
        ("    pass", HUMANEVAL, "Test 1 of 1: assert candidate([1, 2]) == 3; the last call gave None."),
        ("def f(xs:", HUMANEVAL, "Before the tests: SyntaxError: '(' was never closed (solution.py, line 7)."),
    ],
)  # fmt: skip
def test_wrong_programs_say_why(program: str, tests: Any, why: str) -> None:
    verdict = judge(program, tests)
    assert (verdict.status, verdict.why) == (VerdictStatus.WRONG, why)


@pytest.mark.parametrize("tests", [ADD, CALLS, HUMANEVAL, mbpp("assert f(1) == 2")])
def test_a_program_without_end_is_a_timeout(tests: Any) -> None:
    verdict = judge("while True:\n    pass", tests, JudgeSettings(program_time_limit_s=0.5))
    assert verdict.status is VerdictStatus.TIMEOUT
    assert "0.5 s" in verdict.why


def test_the_limit_is_for_each_test_not_for_all() -> None:
    calls = [{"input": str(i), "output": str(i), "fn_name": "f"} for i in range(5)]
    now = "from time import process_time as now, sleep\n"
    program = now + "def f(x):\n    end = now() + 0.15\n    while now() < end: pass\n    return x"
    settings = JudgeSettings(program_time_limit_s=0.3)
    assert judge(program, calls, settings).correct
    for wait, why in (("pass", "longer than 0.3 seconds of"), ("sleep(9)", "not end within 3 seconds by the clock")):
        verdict = judge(f"{now}def f(x):\n    while x == 3: {wait}\n    return x", calls, settings)
        assert verdict.status is VerdictStatus.TIMEOUT
        assert verdict.why.startswith("Test 4 of 5: It") and why in verdict.why


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("return range(9)", VerdictStatus.CORRECT),
        ("import array; return array.array('i', range(9))", VerdictStatus.CORRECT),
        ("yield 0", VerdictStatus.WRONG),
    ],
)
def test_what_a_program_returns_can_be_sliced(body: str, status: VerdictStatus) -> None:
    assert judge(f"def f():\n    {body}", mbpp("assert list(f()[1:-2:3]) == [1, 4]")).status is status


def test_the_first_failure_is_the_last_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = []

    def run(source: str, given: str, *args: Any, **kwargs: Any) -> ProgramResult:
        inputs.append(given)
        return ProgramResult(ProgramStatus.OK, given, "", 0, 0.0, "")

    monkeypatch.setattr(module, "run_program", run)
    assert judge("x", [{"input": str(i), "output": str(min(i, 3))} for i in range(9)]).why.startswith("Test 5 of 9:")
    assert inputs == ["0", "1", "2", "3", "4"]


def test_what_the_sandbox_refuses_is_an_error_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ProgramResult(ProgramStatus.REFUSED, "", "", None, 0.0, "Programs cannot be confined; do this")
    monkeypatch.setattr(module, "run_program", lambda *args, **kwargs: refused)
    monkeypatch.setattr("open_exaone.verify.code.pair.run_pair", lambda *args, **kwargs: (refused, refused))
    for tests in (ADD, CALLS, HUMANEVAL):
        verdict = judge("def f(): pass", tests)
        assert (verdict.status, verdict.why) == (VerdictStatus.ERROR, "Programs cannot be confined; do this.")


def test_tests_that_a_program_has_crash_are_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = ProgramResult(ProgramStatus.FAILED, "", "", -11, 0.0, "It was ended by signal 11.")
    ended = ProgramResult(ProgramStatus.OK, "", "", -9, 0.0, "")
    monkeypatch.setattr("open_exaone.verify.code.pair.run_pair", lambda *args, **kwargs: (crashed, ended))
    assert judge("def f(): pass", HUMANEVAL).status is VerdictStatus.WRONG


@pytest.mark.parametrize("answer", ["", "The answer is 3.", "```python\ndef f(x):\n    return", "```cpp\nint x;\n```"])
def test_without_a_program_nothing_is_parsed(answer: str) -> None:
    verdict = judge_code(answer, "", {"tests": ADD}, SETTINGS)
    assert (verdict.status, verdict.extracted) == (VerdictStatus.UNPARSED, None)


@pytest.mark.parametrize("answer", ["x", "```\nx\n```"])
def test_broken_tests_raise_whatever_the_answer(answer: str) -> None:
    with pytest.raises(ValueError, match="tests: not tests in a known form"):
        judge_code(answer, "", {"tests": {}}, SETTINGS)


@pytest.mark.parametrize(
    "tests",
    [
        HUMANEVAL | {"test": "def check(c):\n    assert c([1) == 1\n"},
        mbpp("assert f(1) == 2", setup="x = (1"),
    ],
)
def test_tests_that_cannot_work_raise(tests: Any) -> None:
    with pytest.raises(ValueError, match=r"^tests: "):
        pytest.fail(str(judge("def f(x):\n    return x", tests)))


@pytest.mark.parametrize("program", ["def f(x):\n    return x", "def f(x):\n    return 2\nPair = zip"])
def test_what_cannot_cross_to_the_program_is_an_error(program: str) -> None:
    for test in ("assert f(lambda: 1) == 2", "assert f(Pair(1, 2)) == 2"):
        assert judge(program, mbpp(test)).status in (VerdictStatus.ERROR, VerdictStatus.WRONG)
    verdict = judge(program, mbpp("assert f(lambda: 1) == 2"))
    told = "Test 1 of 1: the tests pass an object of type function, which cannot cross to the program."
    assert (verdict.status, verdict.why) == (VerdictStatus.ERROR, told)


def test_a_very_long_program_is_wrong_and_cut() -> None:
    verdict = judge("x = 1\n" * MAX_PROGRAM_CHARS, ADD)
    assert verdict.status is VerdictStatus.WRONG
    assert verdict.extracted is not None and len(verdict.extracted) <= 10_000


def test_a_verdict_is_one_line_that_can_be_written() -> None:
    for program in (
        "def smallest(xs, k):\n    raise ValueError('\\ud800\\n' * 999)",
        "x = '\ud800'\ndef smallest(xs, k):\n    return '\\ud800\\n' * 999",
        "class E(Exception): pass\nE.__name__ = '\\n' * 999\ndef smallest(xs, k):\n    raise E('x')",
    ):
        verdict = judge(program, CALLS)
        assert verdict.status is VerdictStatus.WRONG
        assert "\n" not in verdict.why and len(verdict.why) < 400
        assert f"{verdict.extracted}{verdict.why}".encode()


@settings(max_examples=30)
@given(st.text())
def test_no_program_makes_it_raise(text: str) -> None:
    for tests in (ADD, CALLS, HUMANEVAL):
        verdict = judge(text, tests)
        assert not verdict.correct and verdict.why.endswith(".")


NODE = """
class Node:
    def __init__(self, value):
        self.value, self.left, self.right = value, None, None
    def __repr__(self):
        return f"Node({self.value})"
    def __iter__(self):
        yield self.value
        for side in (self.left, self.right):
            if side:
                yield from side
    def __len__(self):
        return sum(1 for _ in self)
    def __getitem__(self, place):
        return list(self)[place]
class Empty(Exception): pass
def total(node):
    if node is None:
        raise Empty("no tree")
    return sum(node)
def same(node): return node
def change(xs, table, seen):
    xs[0].append(4); table["new"] = xs[0]; seen.add(7); xs.sort()
    return xs[0]
def keywords(*args, **kwargs): return args, kwargs
def count():
    yield 1
    yield [2]
"""
SETUP = "root = Node(1)\nroot.left = Node(2)\nroot.right = Node(3)"


@pytest.mark.parametrize(
    "test",
    [
        "assert total(root) == 6",
        "root.left.left = Node(9)\nassert total(root) == 15 and root.left.left.value == 9",
        "assert same(root) is root and same(root) == root and same(root) != root.left",
        "assert repr(root) == 'Node(1)' and str(root.left) == 'Node(2)' and len(root) == 3 and bool(root)",
        "assert list(root) == [1, 2, 3] and root[1] == 2 and 3 in root and sorted(root, reverse=True)[0] == 3",
        "assert same([root, {'x': root}])[1]['x'] is root",
        "try:\n    total(None)\nexcept Exception as e:\n    assert str(e) == 'no tree'\nelse:\n    assert False",
        "try:\n    root[9]\nexcept IndexError:\n    pass\nelse:\n    assert False",
        "try:\n    root.no\nexcept AttributeError:\n    pass\nelse:\n    assert False",
        "try:\n    missing\nexcept NameError:\n    pass\nelse:\n    assert False",
        "xs, table, seen = [[3], [1]], {}, {1}\nfirst = xs[0]\nresult = change(xs, table, seen)\n"
        "assert xs == [[1], [3, 4]] and xs[1] is first and table['new'] is first and seen == {1, 7}\n"
        "assert result is xs[0]",
        "assert keywords(1, b=(2,), *[3]) == ((1, 3), {'b': (2,)})",
        "assert list(count()) == [1, [2]]",
        "import random\nassert all(same(x) == x for x in (random.random() for _ in range(20)))",
        "assert math.isclose(total(root), 6.0)",
        "assert not hasattr(root, '__array_interface__')",
        "assert same(int) is int and isinstance(same(True), bool)",
    ],
)
def test_tests_see_what_they_would_in_one_python(test: str) -> None:
    verdict = judge(NODE, mbpp(test, setup=SETUP))
    assert verdict.correct, verdict.why
    together = "\n".join(["import math", NODE, SETUP, test])
    assert judge(f"{together}\nprint('end')", [{"input": "", "output": "end"}]).correct  # and in one Python too


def test_a_builtin_name_is_the_programs_only_where_it_is_what_is_tested() -> None:
    assert judge("def sum(a, b):\n    return a + b", mbpp("assert sum(1, 2) == 3")).correct
    assert not judge(
        "def f(x):\n    return 1\ndef sorted(x):\n    return [1, 2]", mbpp("assert sorted(f(1)) == [1, 2]")
    ).correct


def test_verdicts_are_the_same_from_threads() -> None:
    programs = {"def f(x):\n    return x + 1": True, "def f(x):\n    return x": False}
    found: list[bool] = []

    def check() -> None:
        found.extend(judge(program, mbpp("assert f(1) == 2")).correct is right for program, right in programs.items())

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    judge("open('x', 'w').write('x')\ndef f(x):\n    return x + 1", mbpp("assert f(1) == 2"))
    assert not list(tmp_path.iterdir())
