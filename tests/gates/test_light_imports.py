"""What must start fast loads nothing heavy."""

import importlib.util
import os
import subprocess
import sys

import pytest

from import_graph import SOURCE, modules_of

HEAVY = (
    "torch",
    "transformers",
    "reasoning_gym",
    "matplotlib",
    "numpy",
    "scipy",
    "sympy",
    "tokenizers",
    "huggingface_hub",
    "httpx2",
)
LIGHT_ROOMS = (
    *("base", "sandbox", "remote", "text", "verify", "rewards", "data", "tasks", "rollout", "evaluation", "serve"),
    *("present", "pipeline", "audit", "cli"),
)
# Wire the trainers and the engine; imported when a stage begins.
HEAVY_MODULES = {
    f"open_exaone.pipeline.{name}" for name in ("chat_markers", "stage", "learner", "stage_measure", "pairs", "engine")
}
LIGHT_MODULES = ("open_exaone.engine.request", "open_exaone.engine.scheduler", "open_exaone.rollout.config")

WHICH_WERE_LOADED = """
import sys
{code}
print(*[name for name in {names!r} if name in sys.modules], file=sys.stderr)
"""
HELP = """
sys.argv = ["exaone", "--help"]
from open_exaone.cli.main import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""


def loaded(code: str, names: tuple[str, ...] = HEAVY) -> list[str]:
    """Which of the named modules are loaded after `code` ran in a fresh interpreter."""
    script = WHICH_WERE_LOADED.format(code=code, names=names)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr.splitlines()[-1].split()


def test_import_alone_is_light() -> None:
    assert loaded("import open_exaone") == []


def test_help_is_light() -> None:
    assert loaded(HELP) == []


@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_light_rooms_load_no_torch(room: str) -> None:
    modules = [name for name in modules_of(SOURCE) if f"{name}.".startswith(f"open_exaone.{room}.")]
    assert modules
    light = [name for name in modules if name not in HEAVY_MODULES]
    assert loaded(f"import {', '.join(light)}", ("torch", "transformers")) == []


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_bookkeeping_of_the_engine_loads_no_torch(module: str) -> None:
    assert importlib.util.find_spec(module)
    assert loaded(f"import {module}", ("torch",)) == []


def test_the_gate_can_fail() -> None:
    assert loaded("import json, numpy", ("json", "numpy", "wave")) == ["json", "numpy"]
