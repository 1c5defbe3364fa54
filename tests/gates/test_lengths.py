"""Modules and functions stay short enough to be read at one go."""

import ast
from pathlib import Path

from import_graph import SOURCE

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60


def too_long(root: Path) -> list[str]:
    """Every module and function over the limit."""
    faults = []
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(root)
        if (lines := len(text.splitlines())) > MAX_MODULE_LINES:
            faults.append(f"{name}: {lines} lines; at most {MAX_MODULE_LINES}")
        for node in ast.walk(ast.parse(text, filename=str(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    faults.append(f"{name}:{node.lineno}: {node.name} has {lines} lines; at most {MAX_FUNCTION_LINES}")
    return faults


def test_modules_and_functions_are_short() -> None:
    assert too_long(SOURCE) == []


def test_the_gate_can_fail(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("x = 1\n" * 401)
    (tmp_path / "function.py").write_text("class A:\n    async def f(self):\n" + "        x = 1\n" * 60)
    assert too_long(tmp_path) == [
        "function.py:2: f has 61 lines; at most 60",
        "module.py: 401 lines; at most 400",
    ]
    (tmp_path / "module.py").write_text("x = 1\n" * 400)
    (tmp_path / "function.py").write_text("def f():\n" + "    x = 1\n" * 59)
    assert too_long(tmp_path) == []
