"""The forms in which tests come, read into one of three records. docs/judging-code.md lists them."""

import ast
import builtins
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.verify.code.livecodebench import decode_private_tests
from open_exaone.verify.code.pieces import Piece

FORMS = """a LiveCodeBench row (public_test_cases, private_test_cases, metadata); \
a list of {input, output[, testtype, fn_name]}; {inputs, outputs[, fn_name]}; \
a HumanEval row (prompt, test, entry_point); an MBPP row (test_list[, test_setup_code, test_imports])"""


@dataclass(frozen=True, slots=True)
class Runs:
    """A whole program, run once for each case: text to stdin, text from stdout."""

    cases: tuple[tuple[str, str], ...]  # input, expected output


@dataclass(frozen=True, slots=True)
class Calls:
    """A function, or a method of `class Solution`, called once for each case."""

    function: str
    cases: tuple[tuple[Sequence[object], object], ...]  # arguments, expected result: JSON values
    unwraps: bool = False  # an expected [x] also stands for x, as in the {inputs, outputs} form


@dataclass(frozen=True, slots=True)
class Script:
    """Test code that calls what the program defines."""

    tests: tuple[str, ...]  # each passes by running to its end
    setup: tuple[str, ...] = ()  # run before them, where the tests run
    names: frozenset[str] = frozenset()  # what they call of the program
    prompt: str = ""  # HumanEval's: the beginning of the program, which the reply may continue
    entry_point: str | None = None  # the program's function, whatever else bears its name


Tests = Runs | Calls | Script


def read_tests(gold: str, metadata: Mapping[str, object]) -> Tests:
    """The tests of a problem: `metadata["tests"]`, or else `gold` as JSON.

    Raises:
        ValueError: they are in none of the forms; names the field.
    """
    field, tests = ("gold", gold) if metadata.get("tests") is None else ("tests", metadata["tests"])
    if isinstance(tests, str):
        tests = _json(tests, field)
    if isinstance(tests, Mapping):
        for key, read in _ROWS.items():
            if key in tests:
                return read(tests, field)
    elif isinstance(tests, Sequence):
        return _from_list(tests, field, None)
    raise DataError(f"{field}: not tests in a known form; the forms are {FORMS}")


def _livecodebench(row: Mapping[str, Any], field: str) -> Tests:
    about = row.get("metadata") or {}
    about = _json(about, f"{field}.metadata") if isinstance(about, str) else about
    name = about.get("func_name") if isinstance(about, Mapping) else None
    public: Any = row.get("public_test_cases") or []
    public = _json(public, f"{field}.public_test_cases") if isinstance(public, str) else public
    private: Any = row.get("private_test_cases") or []
    if isinstance(private, str):
        try:
            private = decode_private_tests(private)
        except ValueError as error:
            raise DataError(f"{field}.private_test_cases: {error}") from None
    for key, cases in (("public_test_cases", public), ("private_test_cases", private)):
        if not isinstance(cases, list):
            raise DataError(f"{field}.{key}: must hold a list of tests")
    return _from_list([*public, *private], field, name)


def _from_list(cases: Sequence[Any], field: str, name: object) -> Tests:
    """Cases of {input, output, testtype, fn_name}; `name` is the function's where the row names it."""
    kinds, names = set(), {str(name)} if name else set()
    for number, case in enumerate(cases):
        if not isinstance(case, Mapping) or "input" not in case or "output" not in case:
            raise DataError(f"{field}[{number}]: a test must have the fields input and output")
        names |= {str(case["fn_name"])} if case.get("fn_name") else set()
        kinds.add(str(case.get("testtype") or ("functional" if case.get("fn_name") else "stdin")))
    if kinds == {"stdin"}:
        return Runs(tuple((_text(c, "input", f"{field}[{i}]"), _text(c, "output", f"{field}[{i}]"))
                          for i, c in enumerate(cases)))  # fmt: skip
    if kinds != {"functional"}:
        found = ", ".join(sorted(kinds)) or "no tests"
        raise DataError(f"{field}: the tests must all be of testtype stdin, or all functional; found {found}")
    if len(names) != 1:
        raise DataError(f"{field}: functional tests need the name of one function, as func_name in the row's metadata"
                         f" or fn_name in each test; found {sorted(names)}")  # fmt: skip
    return Calls(names.pop(), tuple(_call(case, f"{field}[{i}]") for i, case in enumerate(cases)))


def _call(case: Mapping[str, Any], field: str) -> tuple[list[object], object]:
    """One call: its arguments as JSON, one to a line (or a list of values), and the JSON that it should return."""
    given, expected = case["input"], case["output"]
    if isinstance(given, str):
        given = [_json(line, f"{field}.input") for line in given.split("\n") if line.strip()]
    elif not isinstance(given, list):
        raise DataError(f"{field}.input: must be text with one JSON value to a line, or a list of arguments")
    return given, _json(expected, f"{field}.output") if isinstance(expected, str) else expected


def _from_columns(row: Mapping[str, Any], field: str) -> Tests:
    inputs, outputs, name = row["inputs"], row.get("outputs"), row.get("fn_name")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs) or not inputs:
        raise DataError(f"{field}: inputs and outputs must be lists of the same length, at least 1")
    if name is None:
        return Runs(tuple((_joined(i, f"{field}.inputs"), _joined(o, f"{field}.outputs"))
                          for i, o in zip(inputs, outputs, strict=True)))  # fmt: skip
    if not all(isinstance(arguments, list) for arguments in inputs):
        raise DataError(f"{field}.inputs: with fn_name each must be a list of arguments")
    return Calls(str(name), tuple(zip(inputs, outputs, strict=True)), unwraps=True)


def _humaneval(row: Mapping[str, Any], field: str) -> Script:
    prompt, test, name = (_text(row, key, field) for key in ("prompt", "test", "entry_point"))
    if not name.isidentifier():
        raise DataError(f"{field}.entry_point: {name!r} is not the name of a function")
    if not re.search(r"^def check\(", test, re.MULTILINE):
        raise DataError(f"{field}.test: must define check(candidate)")
    return Script((f"{test}\n\ncheck({name})\n",), (prompt,), frozenset({name}), prompt, name)


def _mbpp(row: Mapping[str, Any], field: str) -> Script:
    tests, imports = row["test_list"], row.get("test_imports") or []
    setup = _text(row, "test_setup_code", field) if row.get("test_setup_code") else ""
    for key, lines in (("test_list", tests), ("test_imports", imports)):
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise DataError(f"{field}.{key}: must be a list of lines of Python")
    if not tests:
        raise DataError(f"{field}.test_list: holds no tests")
    before = tuple(filter(None, ("\n".join(imports), setup)))
    names, entry_point = _called([*tests], "\n".join(before), field)
    return Script(tuple(tests), before, names, entry_point=entry_point)


def _called(tests: Sequence[str], setup: str, field: str) -> tuple[frozenset[str], str | None]:
    """What tests call of a program; and the built-in function that every test calls, where they use no other name.

    MBPP has one that asks for `sum`. Any other built-in name in tests means what it always means, or a program could
    bring its own `sorted`.
    """
    used, called = set[str](), list[set[str]]()
    for number, test in enumerate(tests):
        try:
            nodes = list(ast.walk(ast.parse(test)))
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise DataError(f"{field}.test_list[{number}]: not valid Python ({error})") from None
        used |= {node.id for node in nodes if isinstance(node, ast.Name)}
        called.append(
            {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        )
    common = set.intersection(*called)
    if len(common) == 1 and all(hasattr(builtins, name) for name in used):
        return frozenset(common), next(iter(common))
    ours = {*vars(builtins), *Piece("\n".join([setup, *tests])).by_name}
    return frozenset(set.union(*called) - ours), None


_ROWS: Mapping[str, Callable[[Mapping[str, Any], str], Tests]] = {  # the field by which a row is known
    "private_test_cases": _livecodebench,
    "public_test_cases": _livecodebench,
    "inputs": _from_columns,
    "entry_point": _humaneval,
    "test_list": _mbpp,
}


def _json(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{field}: not JSON ({error}); the forms of tests are {FORMS}") from None


def _text(row: Mapping[str, Any], key: str, field: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f"{field}.{key}: must be text, not {type(value).__name__}")
    return value


def _joined(value: object, field: str) -> str:
    """Text, or the list of its lines."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    if not isinstance(value, str):
        raise DataError(f"{field}: without fn_name each must be text, or a list of its lines")
    return value
