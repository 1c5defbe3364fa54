"""What scorers may evaluate of a reply is arithmetic; reasoning-gym's verdicts are what they were, and nothing runs."""

import ast
import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.records import VerdictStatus
from open_exaone.verify import judge as judge_module
from open_exaone.verify.expression import RefusedError, evaluate
from open_exaone.verify.judge import judge_answer
from open_exaone.verify.settings import JudgeSettings

PACKAGE = Path(importlib.util.find_spec("reasoning_gym").submodule_search_locations[0])  # type: ignore[union-attr,index]

ATTACKS = [
    "__import__('os').system('touch {canary}')",
    "[x for x in ().__class__.__base__.__subclasses__()]",
    "(lambda: open('{canary}', 'w'))()",
    "open('{canary}', 'w')",
    "exec('open(chr(47))')",
    "eval('1')",
    "print(1)",
    "getattr(1, 'real')",
    "(1).real",
    "[1][0]",
    "f'{1}'",
    "(x := 1)",
    "1 if 2 else 3",
    "*(1, 2),",
    "Symbol('x', positive=True)",
    "sqrt('open')",
    "Function('f')('x')('y')",
    "breakpoint()",
    "globals()",
    "vars()",
    "__builtins__",
    "_",
    "Integer",
    "1;2",
    "import os",
    "yield 1",
    "await f()",
    "'" * 3,
]


@given(st.recursive(st.integers(-99, 99).map(str), lambda inner: st.tuples(inner, st.sampled_from("+-*|&^"), inner).map(
    lambda parts: f"({parts[0]}{parts[1]}{parts[2]})")))  # fmt: skip
def test_arithmetic_is_what_python_says(text: str) -> None:
    assert evaluate(text) == eval(text)


@pytest.mark.parametrize(
    "text", ["[1, 'a', (2.5, None), {'k': {3}}]", "-0x3a24 >> 3", "1 < 2 <= 3", "not True or False"]
)
def test_literals_are_what_python_says(text: str) -> None:
    assert evaluate(f" {text}\n") == eval(text)


@pytest.mark.parametrize("text", ATTACKS)
def test_code_is_refused(text: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with pytest.raises((RefusedError, SyntaxError, NameError)):
        evaluate(text.replace("{canary}", str(canary)))
    assert not canary.exists()


@pytest.mark.parametrize("source", [b"1", ast.parse("1", mode="eval"), compile("1", "", "eval"), "1+" * 10_000 + "1"])
def test_what_is_no_text_and_what_is_too_long_is_refused(source: Any) -> None:
    with pytest.raises(RefusedError):
        evaluate(source)


def test_no_scorer_evaluates_in_another_way() -> None:
    """A new reasoning-gym may have found another function; then `gym_score.preload` must know it."""
    evaluating = {"eval", "exec", "compile", "__import__", "literal_eval", "sympify", "parse_latex", "system", "Popen"}
    called = set[str]()
    for path in PACKAGE.rglob("*.py"):
        if "contrib" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called.add(ast.unparse(node.func).rpartition(".")[2])
    assert called & evaluating <= {"eval", "exec", "literal_eval", "compile"}  # re.compile


def gym(name: str, answer: str, entry: dict[str, Any]) -> VerdictStatus:
    metadata = {"source_dataset": name, "entry": entry}
    return judge_answer("reasoning_gym", rf"\boxed{{{answer}}}", "", metadata, JudgeSettings(time_limit_s=1.0)).status


SCORERS: dict[str, dict[str, Any]] = {  # they evaluate an answer, and take the one in front
    "countdown": {"1+2*3": {"answer": "", "metadata": {"numbers": [1, 2, 3], "target": 7}}},
    "puzzle24": {"(1+2+5)*3": {"answer": "", "metadata": {"numbers": [1, 2, 5, 3]}}},
    "simple_integration": {"x**2/2+C": {"answer": "", "metadata": {"variable": "x", "integrand": "x"}}},
    "intermediate_integration": {"sin(x)+C": {"answer": "", "metadata": {"variable": "x", "integrand": "cos(x)"}}},
    "polynomial_multiplication": {"x**2-1": {"answer": "x**2 - 1", "metadata": {"variables": ["x"]}}},
    "string_insertion": {"ABC": {"answer": "ABC", "metadata": {}}},
    "spiral_matrix": {"1 2 3": {"answer": "1 2 3", "metadata": {}}},
    "binary_matrix": {"0 1": {"answer": "0 1", "metadata": {}}},
    "n_queens": {"Q": {"answer": "Q", "metadata": {"valid_answers": ["Q"]}}},
}


@pytest.mark.parametrize("name", SCORERS)
def test_nothing_that_a_reply_says_runs(name: str, tmp_path: Path) -> None:
    ((right, entry),) = SCORERS[name].items()
    canary = tmp_path / "canary"
    assert gym(name, right, entry) is VerdictStatus.CORRECT
    for attack in (*ATTACKS[:6], "9**9**9**9", "(" * 500 + ")" * 500, "'a'*10**12", "1e400", "factorial(10**9)"):
        said = attack.replace("{canary}", str(canary))
        assert gym(name, said, entry) is not VerdictStatus.CORRECT, said
    assert not canary.exists()
    assert gym(name, right, entry) is VerdictStatus.CORRECT


def test_an_answer_on_which_a_scorer_raises_is_wrong_and_an_item_on_which_it_does_is_an_error() -> None:
    """So a reply cannot have itself left out of RL, nor end a run."""
    entry = {"answer": "2 × 3", "metadata": {"number": 6, "factors": [2, 3]}}
    assert gym("prime_factorization", "2 × 3", entry) is VerdictStatus.CORRECT
    assert gym("prime_factorization", "x", entry) is VerdictStatus.WRONG
    assert gym("prime_factorization", "x", {**entry, "answer": "y"}) is VerdictStatus.ERROR


def test_a_game_of_arithmetic_takes_the_given_numbers_alone() -> None:
    ((right, entry),) = SCORERS["countdown"].items()
    for around in ("sign(pi)*7+(pi-pi)*(1+2+3)", "floor(pi)+1+2+3-2+0", "1+2*3+E-E", "abs(1+2*3)"):
        assert gym("countdown", around, entry) is VerdictStatus.WRONG
    assert gym("countdown", right, entry) is VerdictStatus.CORRECT


def test_a_scorer_that_takes_junk_for_right_is_an_error() -> None:
    entry = {"answer": "1.0 + 2.0i", "metadata": {"result": (1, 2)}}
    assert gym("complex_arithmetic", "1.0 + 2.0i", entry) is VerdictStatus.CORRECT
    assert gym("complex_arithmetic", "nan", entry) is VerdictStatus.ERROR


@pytest.mark.parametrize("error", [AssertionError, AttributeError, ValueError])
def test_a_scorer_that_raises_on_junk_refuses_it(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises: another right answer than the item's own stays right."""
    gym_score = importlib.import_module("open_exaone.verify.gym_score")

    def scorer(answer: str, entry: object) -> float:
        if not answer.isdigit():
            raise error
        return 1.0

    monkeypatch.setattr(gym_score, "_scorer", lambda name: scorer)
    assert gym_score.score("any", "7", {"answer": "07"}) == (1.0, "")


def test_long_answers_are_not_kept() -> None:
    kept = judge_module._gym_score.cache_info().currsize
    assert gym("chain_sum", "9" * 20_000, {"answer": "7", "metadata": {}}) is VerdictStatus.WRONG
    assert judge_module._gym_score.cache_info().currsize == kept


@pytest.mark.parametrize(
    ("name", "answer", "entry"),
    [
        ("number_sorting", "['1']", {"answer": "{attack}", "metadata": {"direction": "ascending"}}),
        ("bitwise_arithmetic", "0x3", {"answer": "3", "metadata": {"problem": "{attack}"}}),
    ],
)
def test_nothing_that_a_row_says_runs(name: str, answer: str, entry: dict[str, Any], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    attack = ATTACKS[0].replace("{canary}", str(canary))
    hostile = json.loads(json.dumps(entry).replace("{attack}", attack))
    assert gym(name, answer, hostile) is not VerdictStatus.CORRECT
    assert not canary.exists()
