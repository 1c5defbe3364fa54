"""Scripts of benchmarks/ import what the package has: most of them are run by hand only."""

import ast
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("script", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_exists(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "open_exaone":
            module = importlib.import_module(str(node.module))
            missing = [alias.name for alias in node.names if not _has(module, alias.name)]
            assert not missing, f"{script.name}, line {node.lineno}: {node.module} has no {', '.join(missing)}"


def _has(module: ModuleType, name: str) -> bool:
    """Whether it is there, or is a module within."""
    within = hasattr(module, "__path__") and importlib.util.find_spec(f"{module.__name__}.{name}") is not None
    return hasattr(module, name) or within
