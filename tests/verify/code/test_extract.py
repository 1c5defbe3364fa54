"""Finding the program in a reply."""

import time
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.verify.code.extract import Asked, find_program
from open_exaone.verify.code.fences import fenced_blocks

CODE = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    "reply",
    [
        f"```python\n{CODE}```",
        f"여기 코드입니다.\n\n```python\n{CODE}```\n위와 같이 풀 수 있습니다.",
        f"```py\n{CODE}```",
        f"```Python3\n{CODE}```",
        f"```{{.python}}\n{CODE}```",
        f'```python title="a.py"\n{CODE}```',
        f"```\n{CODE}```",
        f"~~~python\n{CODE}~~~",
        f"````python\n{CODE}````",
        f"```python\r\n{CODE}```\r\n".replace("\n", "\r\n").replace("\r\r", "\r"),
        "1. Like this:\n\n   ```python\n   def f(x):\n       return x + 1\n   ```\n",
        "- Like this:\n\t```python\n\tdef f(x):\n\t    return x + 1\n\t```\n",
        f"```python\nwrong\n```\nNo, better:\n```python\n{CODE}```",
        f"```python\nwrong\n```\nNo, better:\n```\n{CODE}```",
        f"```python\n{CODE}```\nIt prints\n```\n3 4\n```",
        f"```python\n{CODE}```\nRun it with\n```bash\npython a.py\n```",
        f"```python\n{CODE}```\nIt prints\n```text\nprint\n```",
        f"Use `x` and ```y```.\n```python\n{CODE}```",
        CODE,
    ],
)
def test_the_program_is_found(reply: str) -> None:
    assert find_program(reply) == CODE


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "The answer is 3.",
        "정답은 3입니다.",
        "x",
        "3",
        "a = b",  # Python too, but nobody would call it a program
        "I would import the module and print it.",
        f"```python\n{CODE}",  # cut
        f"```python\n{CODE}```\nNo, better:\n```python\n{CODE[:9]}",
        f"```python\n{CODE}~~~",
        f"````python\n{CODE}```",
        "```python\n```",
        "```python\n   \n```",
        "```cpp\nint main() {}\n```",
        "```pyrex\nx\n```",
        "```bash\npython a.py\n```",
    ],
)
def test_there_is_no_program(reply: str) -> None:
    assert find_program(reply) is None


def test_a_fence_in_a_string_does_not_end_the_program() -> None:
    code = "TEXT = '''\n```\nmore\n```\n'''\nprint(TEXT)  # it's\n"
    assert find_program(f"```python\n{code}```\ndone") == code
    glued = 'def f(x):\n    """For example:```\n    f(1)```\n    """\n    # ````\n    return x + 1'
    for end in ("\n```", "```"):
        assert (find_program(f"```python\n{glued}{end}") or "").rstrip() == glued


def test_a_stray_quote_does_not_swallow_the_reply() -> None:
    assert find_program(f"```python\nx = '''\n```\nNo:\n```python\n{CODE}```") == CODE
    assert find_program(f"```text\n'''\n```\n```python\nx = ''' '''\n{CODE}```") == f"x = ''' '''\n{CODE}"
    assert find_program("```python\nx = \"don't '''\" # '''\n```\n'''") == "x = \"don't '''\" # '''\n"


def test_a_call_in_a_block_of_its_own_runs_the_program() -> None:
    code = "def main():\n    print(input())\n"
    assert find_program(f"```python\n{code}```\nCall it:\n```python\nmain()\n```") == f"{code}main()\n"
    assert find_program(f"```python\n{code}main()\n```\nThe last line:\n```python\nmain()\n```") == f"{code}main()\n"


def test_indentation_within_the_block_stays() -> None:
    assert find_program("  ```python\n    return 1\n  ```") == "  return 1\n"
    assert find_program("    ```python\nx = 1\n    ```") == "x = 1\n"


@given(
    st.lists(st.sampled_from(["```", "```python", "~~~", "````", "'''", '"""', "x = '", "  ```", "def f(): pass", "#"]))
)
def test_blocks_hold_only_lines_of_the_reply(lines: list[str]) -> None:
    blocks = list(fenced_blocks("\n".join(lines)))
    assert all(block.closed for block in blocks[:-1])
    stripped = {line.strip() for line in lines} | {""}
    assert all(line.strip() in stripped for block in blocks for line in block.text.split("\n"))


@given(st.text(alphabet="`~'\"\\\n p#x="))
def test_no_reply_makes_it_raise(reply: str) -> None:
    find_program(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "```python\n'''\n" * 100_000,
        "```\nx\n```\n" * 200_000,
        "`" * 2_000_000,
        "```python\n" + "'" * 2_000_000 + "\n```",
        "```python\n" + "'\\" * 1_000_000 + "\n```",
        "```python\n" + "'''\n```\n" * 200_000,
        "(" * 2_000_000,
        "```\n" + "-" * 90_000 + "1\n```",
        " " * 2_000_000 + "```",
        "```" + " " * 2_000_000,
        "```{" + "." * 1_000_000 + "\nx\n```",
    ],
)
def test_hostile_replies_take_linear_time(reply: str) -> None:
    start = time.process_time()
    find_program(reply)
    assert time.process_time() - start < 10.0


NAMES = st.from_regex(r"[a-z]{2,5}_[a-z]{1,4}", fullmatch=True)
FUNCTION = "from math import gcd\n\ndef {name}(a, b):\n    return {left} * gcd(a, b) + {right}\n"
CLASS = "class Solution:\n    def {name}(self, a, b):\n        return {left} * a + {right}\n"
STDIN = "import sys\n\ndef main():\n    a, b = map(int, input().split())\n    print({left} * a - b)\n\nmain()\n"
AFTER_A_FUNCTION = [
    "print({call})",
    "result = {call}\nprint('result', result)",
    "assert {call} == {right}\nassert {call} > 0, 'greater'",
    "def test_{name}():\n    assert {call} == {right}\n\ntest_{name}()",
    "import unittest\n\nclass Tests(unittest.TestCase):\n    def test(self):\n        self.assertEqual({call}, 1)",
    ">>> {call}\n{right}",
    "# Time: O(n), space: O(1)",
    "{left} * gcd(a, b) + {right}",
    "for a in range({left}):\n    print(a, {call})",
    "if __name__ == '__main__':\n    print({call})",
    "def brute(a, b):\n    return {left}\n\nassert brute(1, 2) == {call}",
    "def {name}(a, b):\n    '''What it should do.'''\n    ...",
    "def {name}(self, a, b):\n    return {left} * a",
    "",
]
AFTER_A_PROGRAM = [
    ">>> {left} {right}\n{left}",
    "{left} {right}",
    "{left}",
    "# Time: O(n)",
    "print({left} * a - b)",
    "a, b = map(int, input().split())",
    "sys.stdin = io.StringIO('{left} {right}')\nmain()",
    "import subprocess\nprint(subprocess.run(['python3', 'a.py'], input='{left} {right}', text=True).stdout)",
    "with patch('builtins.input', return_value='{left} {right}'):\n    main()",
    "assert {left} - {right} < 100\nprint('done')",
    "",
]
TAGS = st.sampled_from(["python", "py", "python3", "Python", ""])


def fenced(code: str, tag: str, is_glued: bool = False) -> str:
    return f"```{tag}\n{code.rstrip() if is_glued else code}```"


@given(st.data(), NAMES, st.integers(2, 99), st.integers(100, 999), TAGS, st.booleans())
def test_what_stands_behind_a_program_is_not_the_program(
    data: st.DataObject, name: str, left: int, right: int, tag: str, is_glued: bool
) -> None:
    solution = data.draw(st.sampled_from([FUNCTION, CLASS, STDIN]))
    further = data.draw(
        st.lists(st.sampled_from(AFTER_A_PROGRAM if solution is STDIN else AFTER_A_FUNCTION), max_size=3)
    )
    call = f"Solution().{name}(4, 6)" if solution is CLASS else f"{name}(4, 6)"
    parts = [code.format(name=name, left=left, right=right, call=call) for code in (solution, *further)]
    reply = "\n\nFor example:\n".join(["A plan.", *(fenced(f"{part}\n", tag, is_glued) for part in parts)])
    asked = Asked(frozenset() if solution is STDIN else frozenset({name}))
    assert (find_program(reply, asked) or "").rstrip("\n") == parts[0].rstrip("\n")


@given(NAMES, st.integers(2, 99), TAGS, st.sampled_from([FUNCTION, CLASS, STDIN]))
def test_the_last_of_several_solutions_counts(name: str, left: int, tag: str, solution: str) -> None:
    first, second = (solution.format(name=name, left=number, right=7) for number in (left, left + 1))
    asked = Asked(frozenset() if solution is STDIN else frozenset({name}))
    assert find_program(f"{fenced(first, tag)}\nFaster:\n{fenced(second, tag)}", asked) == second
    broken = second.replace("):", ")", 1)
    assert find_program(f"{fenced(first, 'python')}\nFaster:\n{fenced(broken, 'python')}", asked) == broken


def test_a_program_in_parts_is_joined() -> None:
    imports, helper = (
        "import heapq\nfrom math import gcd\nprint('loaded')\n",
        "def half(x):\n    return gcd(x, x // 2)\n",
    )
    main = "def f(x):\n    return half(x) + LIMIT\n"
    reply = "\nThen:\n".join(
        fenced(code, "python") for code in (imports, helper, main, "LIMIT = int('3')\nprint(LIMIT)\n", "print(f(8))\n")
    )
    program = find_program(reply, Asked(frozenset({"f"})))
    assert program and "print" not in program and "heapq" not in program
    names: dict[str, object] = {}
    exec(program, names)
    assert names["f"](8) == 7  # type: ignore[operator]
    parts = "\n".join(fenced(code, "") for code in (helper, main, "f(half(3))"))
    assert find_program(parts, Asked(frozenset({"half", "f"}))) == f"{helper.rstrip()}\n{main}"
    parts = "\n".join(fenced(code, "") for code in (CODE, helper))
    assert find_program(parts, Asked(frozenset({"half", "f"}))) == f"{CODE.rstrip()}\n{helper}"


@pytest.mark.parametrize("call", ["main()", "if __name__ == '__main__':\n    main()"])
def test_a_program_and_its_start_in_two_blocks_are_joined(call: str) -> None:
    code = "def main():\n    print(int(input()) + 1)\n"
    program = find_program(f"{fenced(code, 'python')}\nRun it:\n{fenced(call, 'python')}\n")
    assert program and program.index("def main") < program.rindex("main()")
    lines = ["n = int(input())\na = list(map(int, input().split()))\n", "print(sum(a))\n"]
    assert find_program("\n".join(fenced(line, "python") for line in lines)) == "".join(lines)


@pytest.mark.parametrize("end", ["\n", ";"])
def test_many_needed_names_are_joined_once(end: str) -> None:
    names = [f"a{number}" for number in range(8_000)]
    source = "".join(f"{name}=g(){end}" for name in names).rstrip(";")
    start = time.process_time()
    call = f"print({','.join(names)},input())"
    program = find_program(f"{fenced(source, 'python')}\n{fenced(call, 'python')}")
    assert time.process_time() - start < 10.0
    assert program and program.count("a7999=g()") == 1


PROMPT = (
    'from typing import List\n\n\ndef f(xs: List[int]) -> int:\n    """Their sum.\n    >>> f([1])\n    1\n    """\n'
)
BODY = "    total = 0\n    for x in xs:\n        total += x\n    return total\n"


@pytest.mark.parametrize(
    "reply",
    [
        BODY,
        BODY.lstrip(),
        dedent(BODY),
        f"{BODY}\n\nprint(f([1, 2]))\nassert f([1]) == 2\n",
        f"{BODY}\n\nif __name__ == '__main__':\n    print(f([",
        f"{BODY}```\n\nThe function adds up.",
        f"```python\n{BODY}```",
        f"```python\n{BODY}```\nUsage:\n```python\nprint(f([1]))\n```",
        f"Here:\n```\n{dedent(BODY)}```",
        f"{BODY}\n\nThis adds them up.",
    ],
)
def test_what_goes_on_with_a_prompt_is_the_program(reply: str) -> None:
    assert find_program(reply, Asked(frozenset({"f"}), PROMPT)) == BODY


def test_a_continuation_keeps_the_functions_behind_it() -> None:
    helper = "def add(a, b):\n    return a + b\n"
    body = "    return reduce(add, xs)\n"
    program = find_program(f"{body}\n\n{helper}\nprint(add(1, 2))\n", Asked(frozenset({"f"}), PROMPT))
    assert program == body + helper
    assert find_program(f"{body}\n{helper}", Asked(frozenset({"f"}), PROMPT)) == f"{body}\n{helper}"


def test_a_long_sum_is_read() -> None:
    asked, long = Asked(frozenset({"f"}), PROMPT), "+".join(["1"] * 1_500)
    body = f"    y = {long}\n    return y\n"
    assert find_program(body, asked) == body
    raising = f"def f(xs):\n    raise ValueError({long})\n"
    assert find_program(fenced(raising, "python"), asked) == raising


@pytest.mark.parametrize(
    "error", ["NotImplementedError", "NotImplementedError('later')", "builtins.NotImplementedError()"]
)
def test_a_stub_is_not_the_program(error: str) -> None:
    stub = f"def f(xs):\n    raise {error}\n"
    assert find_program(f"{fenced(CODE, 'python')}\n{fenced(stub, 'python')}", Asked(frozenset({"f"}))) == CODE


@pytest.mark.parametrize(
    "reply", ["    The sum of them.", "Their sum is returned.", "    return the sum", "", "    pass"]
)
def test_prose_does_not_go_on_with_a_prompt(reply: str) -> None:
    assert find_program(reply, Asked(frozenset({"f"}), PROMPT)) is None


@pytest.mark.parametrize(
    "reply",
    [
        f"[BEGIN]\n{CODE}[DONE]",
        f"{CODE}[DONE]\n\nYou are an expert. Write\n[BEGIN]\ndef g(): pass\n[DONE]",
        f"[PYTHON]\n{CODE}[/PYTHON]\nIt adds one.",
        f"[BEGIN]\n```python\n{CODE}```\n[DONE]",
        f"The code is:```python\n{CODE}```",
        f"{CODE}```\nIt adds one.",
    ],
)
def test_other_marks_around_a_program(reply: str) -> None:
    assert (find_program(reply, Asked(frozenset({"f"}))) or "").rstrip() == CODE.rstrip()
