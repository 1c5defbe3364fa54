"""The forms of tests."""

import base64
import json
import pickle
import zlib
from typing import Any

import pytest

from open_exaone.verify.code.forms import Calls, Runs, Script, read_tests

F = frozenset({"f"})
RUN = {"input": "1 2\n", "output": "3\n", "testtype": "stdin"}
CALL = {"input": "[1, 2]\n3", "output": "[1]", "testtype": "functional"}
HUMANEVAL = {"prompt": "def f(x):\n", "test": "def check(c):\n    pass\n", "entry_point": "f"}


def private(cases: list[Any]) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


def row(public: list[Any], hidden: list[Any], **about: str) -> dict[str, Any]:
    """A row as LiveCodeBench has them."""
    texts = {"public_test_cases": json.dumps(public), "private_test_cases": private(hidden)}
    return {**texts, "metadata": json.dumps(about), "starter_code": ""}


@pytest.mark.parametrize(
    ("tests", "read"),
    [
        ([RUN], Runs((("1 2\n", "3\n"),))),
        ([{"input": "1", "output": "2"}], Runs((("1", "2"),))),
        ({"inputs": ["1 2\n"], "outputs": ["3\n"]}, Runs((("1 2\n", "3\n"),))),
        ({"inputs": [["1", "2"]], "outputs": [["3"]], "fn_name": None}, Runs((("1\n2", "3"),))),
        (row([RUN], [RUN, RUN]), Runs((("1 2\n", "3\n"),) * 3)),
        (row([CALL], [CALL], func_name="f"), Calls("f", (([[1, 2], 3], [1]),) * 2)),
        ([CALL | {"fn_name": "f"}], Calls("f", (([[1, 2], 3], [1]),))),
        ([{"input": [[1, 2], "a"], "output": [1], "fn_name": "f"}], Calls("f", (([[1, 2], "a"], [1]),))),
        ({"inputs": [[1, 2]], "outputs": [[3]], "fn_name": "f"}, Calls("f", (([1, 2], [3]),), unwraps=True)),
        (HUMANEVAL, Script((HUMANEVAL["test"] + "\n\ncheck(f)\n",), ("def f(x):\n",), F, "def f(x):\n", "f")),
        ({"test_list": ["assert f(1) == 2"]}, Script(("assert f(1) == 2",), names=F)),
        (
            {"test_list": ["assert f(1)"], "test_setup_code": "x = 1", "test_imports": ["import math"]},
            Script(("assert f(1)",), ("import math", "x = 1"), F),
        ),
        ({"test_list": ["assert sum(1, 2) == 3", "assert sum(2, 2) == 4"]},
         Script(("assert sum(1, 2) == 3", "assert sum(2, 2) == 4"), names=frozenset({"sum"}), entry_point="sum")),
        ({"test_list": ["assert sorted(f(1)) == 2"]}, Script(("assert sorted(f(1)) == 2",), names=F)),
    ],
)  # fmt: skip
def test_each_form_is_read_from_metadata_and_from_gold(tests: Any, read: object) -> None:
    assert read_tests("", {"tests": tests}) == read
    assert read_tests("", {"tests": json.dumps(tests)}) == read
    assert read_tests(json.dumps(tests), {}) == read


@pytest.mark.parametrize(
    ("tests", "fault"),
    [
        ("{", "tests: not JSON"),
        ("[" * 100_000, "tests: not JSON"),
        (7, "tests: not tests in a known form; the forms are a LiveCodeBench row"),
        ({"input": "1", "output": "2"}, "tests: not tests in a known form"),
        ([], "tests: .* found no tests"),
        ([7], r"tests\[0\]: a test must have the fields input and output"),
        ([RUN, {"input": "1"}], r"tests\[1\]: a test must have"),
        ([RUN, CALL], "found functional, stdin"),
        ([RUN | {"testtype": "gui"}], "found gui"),
        ([RUN | {"input": 7}], r"tests\[0\].input: must be text, not int"),
        ([CALL], "need the name of one function"),
        ([CALL | {"fn_name": "f"}, CALL | {"fn_name": "g"}], r"found \['f', 'g'\]"),
        ([CALL | {"fn_name": "f", "output": "x"}], r"tests\[0\].output: not JSON"),
        ([CALL | {"fn_name": "f", "input": "x"}], r"tests\[0\].input: not JSON"),
        ([CALL | {"fn_name": "f", "input": 7}], r"tests\[0\].input: must be text with one JSON value to a line"),
        ({"inputs": ["1"], "outputs": []}, "tests: inputs and outputs must be lists of the same length"),
        ({"inputs": [1], "outputs": ["1"]}, "tests.inputs: without fn_name"),
        ({"inputs": [1], "outputs": [1], "fn_name": "f"}, "tests.inputs: with fn_name"),
        (HUMANEVAL | {"prompt": None}, "tests.prompt: must be text, not NoneType"),
        (HUMANEVAL | {"test": "assert f(1)"}, "tests.test: must define check"),
        (HUMANEVAL | {"entry_point": "f(1) or f"}, "tests.entry_point: .* is not the name"),
        ({"test_list": "assert f(1)"}, "tests.test_list: must be a list"),
        ({"test_list": []}, "tests.test_list: holds no tests"),
        ({"test_list": ["assert f(1) =="]}, r"tests.test_list\[0\]: not valid Python"),
        ({"test_list": ["assert f(1)"], "test_imports": "import math"}, "tests.test_imports: must be a list"),
        (row([RUN], [RUN]) | {"private_test_cases": "?"}, "tests.private_test_cases: neither JSON nor"),
        (row([RUN], [RUN]) | {"public_test_cases": "?"}, "tests.public_test_cases: not JSON"),
        (row([RUN], [RUN]) | {"public_test_cases": '"x"'}, "tests.public_test_cases: must hold a list"),
        (row([RUN], [RUN]) | {"metadata": "?"}, "tests.metadata: not JSON"),
        (row([CALL], [CALL]), "need the name of one function, as func_name"),
    ],
)
def test_broken_tests_name_the_field(tests: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_tests("", {"tests": tests})


def test_gold_is_named_where_the_tests_are_there() -> None:
    with pytest.raises(ValueError, match="gold: not JSON"):
        read_tests("7 =", {})
