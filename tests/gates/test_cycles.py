"""No file imports itself by a detour, lazily or for types either."""

from pathlib import Path

from import_graph import SOURCE, imports_of


def cycles(root: Path) -> list[str]:
    """Each cycle that a walk over the imports meets, as "a -> b -> a"."""
    targets: dict[str, list[str]] = {}
    for item in imports_of(root):
        targets.setdefault(item.source, []).append(item.target)
    found: list[str] = []
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            found.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for target in targets.get(module, []):
                walk(target, (*path, module))
            done.add(module)

    for module in sorted(targets):
        walk(module, ())
    return found


def test_no_file_cycles() -> None:
    assert cycles(SOURCE) == []


def test_the_gate_can_fail(tmp_path: Path) -> None:
    package = tmp_path / "open_exaone"
    package.mkdir()
    (package / "a.py").write_text("from open_exaone.b import f")
    (package / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .c import g")
    (package / "c.py").write_text("def g():\n    import open_exaone.a")
    assert cycles(package) == ["open_exaone.a -> open_exaone.b -> open_exaone.c -> open_exaone.a"]
    (package / "c.py").write_text("")
    assert cycles(package) == []
