"""All that is printed passes `printable`: `say` and `Console` of base/ print, and nothing else does."""

import ast
from pathlib import Path

import pytest

from import_graph import SOURCE

# Each is a program of its own, whose output another process of ours captures and reads; none reaches a terminal.
CAPTURED = {
    "sandbox/program.py": {"print"},  # the reply's program: what it exits with, as Python itself prints it
    "sandbox/harness_tester.py": {"print"},  # the report on a reply's function, for the judge
    "evaluation/languages.py": {"sys.stdout.write"},  # a row of 0 and 1, for the evaluation
}
WRITERS = {"sys.stdout.write", "sys.stderr.write", "sys.__stdout__.write", "sys.__stderr__.write"}


def printing_lines(root: Path) -> list[str]:
    """Every use of a printer that does not escape, as "file:line: what"; base/, which escapes, is left out."""
    faults = []
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] == "base":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
            if what := _printer(node):
                faults.append(f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}: {what}")
    return faults


def _printer(node: ast.AST) -> str | None:
    if isinstance(node, ast.ImportFrom):
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        return min(names & {"rich.console.Console", "rich.print", "rich.get_console", "rich.console"}, default=None)
    if isinstance(node, ast.Import):
        return next((alias.name for alias in node.names if alias.name in ("rich", "rich.console")), None)
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        return called if called == "print" or called in WRITERS else None
    return None


def test_everything_printed_is_printable() -> None:
    found = printing_lines(SOURCE)
    assert [line for line in found if line.partition(":")[0] not in CAPTURED] == []
    used: dict[str, set[str]] = {name: set() for name in CAPTURED}
    for line in found:
        used[line.partition(":")[0]].add(line.rsplit(": ", 1)[1])
    assert used == CAPTURED


@pytest.mark.parametrize(
    "code",
    [
        "print(reply)",
        "import sys\nsys.stdout.write(reply)",
        "from rich.console import Console",
        "from rich import print",
        "import rich.console",
    ],
)
def test_a_bare_printer_is_found(code: str, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    for name in ("module.py", "base/module.py"):
        (tmp_path / name).write_text(code)
    [fault] = printing_lines(tmp_path)
    assert fault.startswith("module.py:")
