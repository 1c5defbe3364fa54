"""Nothing in the package runs code that came with data: no pickle, eval, exec or remote code."""

import ast
from pathlib import Path

import pytest

from import_graph import SOURCE, imports_of

MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {"torch.load", "torch.hub.load", "numpy.load", "np.load", "yaml.load"}  # each reads pickles or builds objects

# Running a program is their whole purpose: they are read as text, run inside the sandbox, and imported by nobody.
SANDBOXED = {"sandbox/harness_candidate.py", "sandbox/harness_tester.py"}
EVALUATES = "verify/expression.py"  # arithmetic alone, in worker processes: test_scorers.py


def unsafe_lines(root: Path) -> list[str]:
    """Every use of a loader that can run code, as "file:line: what"."""
    faults = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
            if what := _unsafe(node):
                faults.append(f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}: {what}")
    return faults


def _unsafe(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import):
        return next((alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES), None)
    if isinstance(node, ast.ImportFrom):
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        return node.module if (node.module or "").partition(".")[0] in MODULES else min(names & CALLS, default=None)
    if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle"):
        off = isinstance(node.value, ast.Constant) and node.value.value is False
        return None if off else node.arg
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        return called if called in CALLS | BUILTINS else None
    return None


def test_no_code_comes_in_with_data() -> None:
    assert [line for line in unsafe_lines(SOURCE) if line.partition(":")[0] not in SANDBOXED | {EVALUATES}] == []
    lines = [line for line in unsafe_lines(SOURCE) if line.partition(":")[0] == EVALUATES]
    assert {line.rsplit(": ", 1)[1] for line in lines} == {"eval", "compile"} and len(lines) == 2


def test_what_runs_programs_is_never_imported() -> None:
    used = {line.rsplit(": ", 1)[1] for line in unsafe_lines(SOURCE) if line.partition(":")[0] in SANDBOXED}
    assert used == {"exec", "compile"}
    modules = {f"open_exaone.{name.removesuffix('.py').replace('/', '.')}" for name in SANDBOXED}
    assert not [found for found in imports_of(SOURCE) if found.target in modules]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('weights.pt', weights_only=True)",
        "from torch import load",
        "import numpy as np\nnp.load('x.npy')",
        "open_file(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)",
        "eval('1 + 1')",
        "def f(text):\n    exec(text)",
    ],
)
def test_the_gate_can_fail(tmp_path: Path, code: str) -> None:
    (tmp_path / "a.py").write_text(code)
    assert len(unsafe_lines(tmp_path)) == 1


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import re\nmodel.eval()\nre.compile('x')\nAutoModel.from_pretrained(name, trust_remote_code=False)\n"
        "text = 'torch.load and pickle'  # eval(\n"
    )
    assert unsafe_lines(tmp_path) == []
