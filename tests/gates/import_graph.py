"""Reads every import of a package from its source, without running it; the gates share it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "open_exaone"


@dataclass(frozen=True)
class Import:
    """One module naming another of the same package."""

    source: str  # "open_exaone.text.chat"
    target: str  # "open_exaone.base.errors"
    place: str  # "text/chat.py:7"


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of the package in folder `root`, by dotted name."""
    modules = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imports_of(root: Path) -> list[Import]:
    """Every import between modules of the package.

    Counted alike: plain, relative, inside a function, under TYPE_CHECKING, by `import_module`, and
    any string that is a module's dotted name (or "module:attribute"), as lazy tables hold them.
    """
    modules = modules_of(root)
    found = set()
    for source, path in modules.items():
        package = source if path.name == "__init__.py" else source.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
            for name in _names(node, package):
                target = _longest_module(name, modules)
                if isinstance(node, ast.Constant) and target == root.name:
                    continue  # text such as "open_exaone.recipes", which names no module
                if target and target != source:
                    found.add(Import(source, target, f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"))
    return sorted(found, key=lambda item: item.place)


def _names(node: ast.AST, package: str) -> Iterator[str]:
    """The dotted names that a syntax node may import."""
    top = package.partition(".")[0]
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute("." * node.level + (node.module or ""), package)
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args:
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        first = node.args[0]
        if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
            yield _absolute(str(first.value), package)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        name = node.value.strip().partition(":")[0].rstrip(".")  # an f-string's head ends in a dot
        if re.fullmatch(rf"{top}(\.\w+)+", name):
            yield name


def _absolute(name: str, package: str) -> str:
    dots = len(name) - len(name.lstrip("."))
    if not dots:
        return name
    parents = package.split(".")
    return ".".join([*parents[: len(parents) - dots + 1], *filter(None, [name.lstrip(".")])])


def _longest_module(name: str, modules: dict[str, Path]) -> str | None:
    """`name` itself if it is a module, else the nearest parent that is one: the rest are attributes."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None
