"""Finding the program in a reply."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.verify.code.extract import fenced_blocks, find_program

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


def test_a_stray_quote_does_not_swallow_the_reply() -> None:
    assert find_program(f"```python\nx = '''\n```\nNo:\n```python\n{CODE}```") == CODE
    assert find_program(f"```text\n'''\n```\n```python\nx = ''' '''\n{CODE}```") == f"x = ''' '''\n{CODE}"
    assert find_program("```python\nx = \"don't '''\" # '''\n```\n'''") == "x = \"don't '''\" # '''\n"


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
