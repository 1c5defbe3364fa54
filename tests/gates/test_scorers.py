"""Other people's scorers see text that a model wrote: they run in worker processes, and nowhere else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from import_graph import SOURCE

LIBRARIES = {"math_verify", "latex2sympy2_extended", "sympy", "reasoning_gym"}
IN_WORKERS = {"verify/gym_score.py", "verify/expression.py", "verify/math/symbolic.py"}  # imported by each other alone
GENERATORS = {"tasks/gym.py", "tasks/benchmarks/gym_set.py"}  # they draw problems, and score nothing
GENERATING = {"reasoning_gym.create_dataset", "reasoning_gym.factory.DATASETS"}
SCORING = {"score_answer", "get_score_answer_fn"}


def faults_of(root: Path) -> list[str]:
    """Every place outside a worker that names a scorer or imports what workers alone may, as "file:line: what"."""
    modules = {f"open_exaone.{name.removesuffix('.py').replace('/', '.')}" for name in IN_WORKERS}
    faults = []
    for path in sorted(root.rglob("*.py")):
        name = str(path.relative_to(root))
        if name in IN_WORKERS:
            continue
        allowed = GENERATING if name in GENERATORS else set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for found in _named(node):
                is_library = found.partition(".")[0] in LIBRARIES and found not in allowed
                if is_library or found in SCORING or any(f"{found}.".startswith(f"{module}.") for module in modules):
                    faults.append(f"{name}:{getattr(node, 'lineno', 0)}: {found}")
    return faults


def _named(node: ast.AST) -> Iterator[str]:
    """What a piece of syntax imports, or calls by name."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called in ("import_module", "__import__"):
            yield str(node.args[0].value)


def test_scorers_are_in_workers_alone() -> None:
    assert faults_of(SOURCE) == []
    assert all((SOURCE / name).is_file() for name in IN_WORKERS | GENERATORS)


@pytest.mark.parametrize(
    "code",
    [
        "import math_verify",
        "from math_verify import parse",
        "def f():\n    from sympy.parsing.sympy_parser import parse_expr",
        "import importlib\nimportlib.import_module('sympy')",
        "from reasoning_gym import create_dataset",
        "data.score_answer(answer, entry)",
        "from open_exaone.verify.gym_score import score",
        "from open_exaone.verify.expression import evaluate",
        "from open_exaone.verify import expression",
    ],
)
def test_the_gate_can_fail(tmp_path: Path, code: str) -> None:
    (tmp_path / "a.py").write_text(code)
    assert len(faults_of(tmp_path)) == 1
