"""OpenAI's and Anthropic's own JavaScript clients against the server: their streams, tool runners and parsers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from doubles import TINY, make_model, make_tokenizer
from open_exaone.engine.engine import Engine
from open_exaone.serve.service import Served

from .conftest import running

HERE = Path(__file__).parent / "js"
NODE = shutil.which("node")
MISSING = [name for name in ("openai", "@anthropic-ai/sdk", "zod") if not (HERE / "node_modules" / name).is_dir()]


@pytest.fixture(scope="module")
def spacious():
    """A server whose model holds conversations with tools."""
    model = make_model(TINY.model_copy(update={"max_positions": 4096}))
    with running(models=[Served("tiny", Engine(model, make_tokenizer(), num_slots=4))]) as one:
        yield one


@pytest.mark.skipif(NODE is None, reason="there is no Node.js here")
@pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}: npm ci --prefix tests/serve/js")
@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.mjs")), ids=lambda path: path.name.split(".")[0])
def test_the_client_works(spacious, file: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", ""), "SERVER": spacious.url}
    ran = subprocess.run(
        [NODE, "--test", "--test-reporter=spec", file], capture_output=True, text=True, timeout=1500, env=environment
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert "ℹ skipped 0" in ran.stdout and "ℹ todo 0" in ran.stdout


def test_the_packages_are_pinned() -> None:
    """What CI installs is what the lock file says, from the public registry."""
    lock = (HERE / "package-lock.json").read_text("utf-8")
    assert all(f'"node_modules/{name}"' in lock for name in ("openai", "@anthropic-ai/sdk", "zod"))
    assert lock.count('"integrity"') == lock.count('"node_modules/')
