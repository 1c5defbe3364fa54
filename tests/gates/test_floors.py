"""Imports go down only: every room has a floor, and rooms on one floor do not meet."""

from pathlib import Path

import pytest

from import_graph import SOURCE, imports_of

# From the ground up; a room imports from itself and from lower floors. The top floor (the command
# line and the public API) imports everything, and nothing imports it.
FLOORS = (
    ("base",),
    ("kernels", "sandbox", "remote"),
    ("text", "model", "verify"),
    ("data", "tasks", "engine", "learn", "checkpoint", "rewards"),
    ("rollout",),
    ("train", "evaluation", "serve", "present"),
    ("pipeline",),
    ("audit",),
    ("cli", "api", "__init__", "__main__"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
TOP = len(FLOORS) - 1
FOLDERS_WITHOUT_CODE = {"models", "recipes"}


def room_of(module: str) -> str:
    """The room of "open_exaone.text.chat" is "text"; the package itself is "__init__"."""
    return [*module.split("."), "__init__"][1]


def broken_floors(root: Path) -> list[str]:
    """What is wrong with the package in folder `root`, one line a fault."""
    faults = []
    for path in sorted(root.iterdir()):
        if path.suffix == ".py" and path.stem not in FLOOR_OF:
            faults.append(f"{path.name}: code belongs in a room")
        files = [file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc"]
        has_code = any(file.suffix == ".py" for file in files)
        if files and path.name not in (FLOOR_OF if has_code else FOLDERS_WITHOUT_CODE):
            faults.append(f"{path.name}/: not in the table of floors")
    for item in imports_of(root):
        source, target = room_of(item.source), room_of(item.target)
        if source == target or source not in FLOOR_OF or target not in FLOOR_OF:
            continue
        if FLOOR_OF[source] < TOP and FLOOR_OF[source] <= FLOOR_OF[target]:
            faults.append(
                f"{item.place}: {source} (floor {FLOOR_OF[source]}) imports {item.target} (floor {FLOOR_OF[target]})"
            )
    return faults


def test_imports_go_down() -> None:
    assert broken_floors(SOURCE) == []


def build(root: Path, files: dict[str, str]) -> Path:
    package = root / "open_exaone"
    for name, text in {"__init__.py": "", "base/__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("base/files.py", "from open_exaone.text import chat"),
        ("base/files.py", "import open_exaone.text.chat"),
        ("base/files.py", "from ..text.chat import render"),
        ("base/files.py", "from .. import text"),
        ("base/files.py", "def f():\n    from open_exaone.text.chat import render"),
        ("base/files.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import open_exaone.text"),
        ("base/files.py", "import importlib\nimportlib.import_module('open_exaone.text.chat')"),
        ("base/files.py", "import importlib\nimportlib.import_module('..text', __package__)"),
        ("base/__init__.py", "_LAZY = {'render': 'open_exaone.text.chat'}"),
        ("base/__init__.py", "_LAZY = {'render': 'open_exaone.text.chat:render'}"),
        ("base/__init__.py", "def f(name): return f'open_exaone.text.{name}'"),
        ("base/files.py", "from open_exaone import __version__"),
        ("model/rope.py", "from open_exaone.text import chat"),  # siblings
        ("pipeline/run.py", "from open_exaone.cli import main"),
        ("shed/tool.py", ""),
        ("shed/data.csv", ""),
        ("stray.py", ""),
    ],
)
def test_the_gate_can_fail(tmp_path: Path, name: str, code: str) -> None:
    files = {"text/__init__.py": "", "text/chat.py": "", "cli/__init__.py": "", "cli/main.py": "", name: code}
    assert len(broken_floors(build(tmp_path, files))) == 1


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    files = {
        "__init__.py": "_LAZY = {'run': 'open_exaone.pipeline.run'}",
        "__main__.py": "from open_exaone.cli.main import main",
        "cli/main.py": "def run():\n    from open_exaone.pipeline.run import run",
        "pipeline/run.py": "from open_exaone.base.errors import ConfigError\nfrom .told import tell\nimport json",
        "pipeline/told.py": "NAME = 'open_exaone'\nFOLDER = 'open_exaone.recipes'",
        "base/errors.py": "",
        "recipes/nano.toml": "",
    }
    assert broken_floors(build(tmp_path, files)) == []
