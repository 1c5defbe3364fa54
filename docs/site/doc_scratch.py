"""The folder in which the commands of the documents run: a small run, rows, recipes, and values for placeholders."""

import itertools
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from doc_commands import ROOT, blocks

RECIPE: str = runpy.run_path(str(ROOT / "tests" / "tiny_recipe.py"))["RECIPE"]
START_S = 120.0
"""Seconds that a server may take until it answers."""
RUN = "runs/nano-exaone-deep"
QUICK = f"{RUN}-quick"
COPIES = ("runs/quick", "runs/nano-4", "runs/float32", "runs/mine-lora", "runs/seeds/seed-1", "runs/seeds/seed-2")
"""Names under which pages show runs: each is a copy of the quick one."""
PLACEHOLDERS = {
    r"\bMODEL\b": RUN,
    r"\bTEACHER\b": "pebble-0.9m",
    r"runs/eval/FOLDER": "runs/eval/some-model-exaone-deep",
}
ALTERNATIVES = ("ranks",)
"""Pages that show several ways of one run: each line begins in a folder without that run."""
CLUSTER = ("sbatch", "kubectl", "sky")
"""Programs of which a stand-in checks that the file that they are given is there."""
SHOWS_MINE = ("howto-fine-tune", "training")
"""Pages that show a whole mine.toml."""
SMALL = {r"^exaone data (build|filter) ": " --max-new-tokens 96"}
"""Flags that a command needs because the small model's context is short, where a page has a large model in mind."""
PAIRS = [{"prompt": f"What is {n} + 1?", "chosen": f"It is {n + 1}.", "rejected": f"It is {n}."} for n in range(8)]
REPLIES = [{"reply": r"So it is \boxed{4}.", "gold": "4"}, {"reply": "I do not know.", "gold": "4"}]


def environment(folder: Path) -> dict[str, str]:
    """The environment of the commands: the folder's and this interpreter's programs, and this checkout's package."""
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


def prepare(folder: Path, run: Path | None) -> None:
    """Puts a finished run of the quick recipe, or one that is trained now, under the names that the pages use."""
    for name in ("runs", "bin"):
        (folder / name).mkdir()
    for name in CLUSTER:
        (folder / "bin" / name).write_text('#!/bin/sh\nfor file; do :; done\ntest -s "$file"\n', encoding="utf-8")
        (folder / "bin" / name).chmod(0o755)
    for name in ("examples", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    if run is None:
        print("training the quick recipe, which most of the commands need ...", flush=True)
        subprocess.run(
            ["exaone", "run", "--quick"], cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, check=True
        )
    else:
        shutil.copytree(run, folder / QUICK)
    for name in (RUN, *COPIES):
        shutil.copytree(folder / QUICK, folder / name)
    subprocess.run(
        ["exaone", "eval", QUICK, "--suite", "test", "--limit", "10", "--out", "runs/eval/some-model-exaone-deep"],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        check=True,
    )
    shutil.copytree(ROOT / "src/open_exaone/models/pebble-0.9m", folder / "EXAONE-4.0-1.2B-llama")


def clear(folder: Path) -> None:
    """Removes what the commands of a page left."""
    kept = {
        "runs",
        "bin",
        "examples",
        "benchmarks",
        "EXAONE-4.0-1.2B-llama",
        "eval",
        *(Path(path).parts[1] for path in (RUN, QUICK, *COPIES)),
    }
    for path in [*folder.iterdir(), *(folder / "runs").iterdir()]:
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_files(folder: Path, page: Path) -> None:
    """The files that a page's commands name: those that it shows, and small ones of the same kind."""
    shown = {block.language: block.text for block in reversed(blocks(page))}
    with (folder / RUN / "problems" / "test.jsonl").open(encoding="utf-8") as file:
        lines = list(itertools.islice(file, 24))
    problems, others = "".join(lines[:12]), "".join(lines[12:])
    replied = "".join(block.text for block in blocks(ROOT / "docs" / "howto-fine-tune.md") if block.language == "json")
    files = {
        **dict.fromkeys(("problems.jsonl", "my_problems.jsonl", "mine.jsonl", "test.jsonl"), problems),
        "prompts.jsonl": others,
        **({"mine.jsonl": shown["json"]} if page.stem == "howto-evaluate-endpoint" else {}),
        "rows.jsonl": shown["json"] if page.stem == "howto-fine-tune" else problems,
        "sft.jsonl": replied,
        "pairs.jsonl": "".join(json.dumps(row) + "\n" for row in PAIRS),
        "replies.jsonl": "".join(json.dumps(row) + "\n" for row in REPLIES),
        "mine.toml": shown["toml"].replace("path/to/checkpoint", RUN) if page.stem in SHOWS_MINE else RECIPE,
        "my_rewards.py": (ROOT / "examples" / "own_task" / "my_rewards.py").read_text(encoding="utf-8"),
        "my.toml": _for_ranks(),
        "sft.toml": _one_stage(),
        "mine.py": next((block.text for block in blocks(page) if "def doubles" in block.text), ""),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _for_ranks() -> str:
    """The tiny recipe with heads that two ranks can split, and little of it, as eight ranks train it too.

    It has no preference stage, which a model that has learned so little has no pairs for.
    """
    recipe = re.sub(r"num_epochs = \d+", "num_epochs = 1", RECIPE.replace("num_kv_heads = 1", "num_kv_heads = 2"))
    return re.sub(r'\[\[stages\]\]\nkind = "preference".*?(?=\[\[stages\]\])', "", recipe, flags=re.DOTALL)


def _one_stage() -> str:
    """The recipe of docs/howto-fine-tune.md, for the model that comes with the package."""
    page = ROOT / "docs" / "howto-fine-tune.md"
    [recipe] = [block.text for block in blocks(page) if block.language == "toml"]
    recipe = recipe.replace('name = "mine-lora"', 'name = "sft"').replace("rows.jsonl", "sft.jsonl")
    recipe = re.sub('model = "[^"]+"', 'model = "pebble-0.9m"', recipe)
    return recipe.replace("max_tokens = 1024", "max_tokens = 128")


def filled(text: str, port: int) -> str:
    """A command or a program with small things in place of its placeholders."""
    for placeholder, instead in PLACEHOLDERS.items():
        text = re.sub(placeholder, instead, text)
    for pattern, flags in SMALL.items():
        if re.match(pattern, text):
            text = re.sub(r"(?= #|$)", flags, text, count=1)
    text = text.replace(
        "exaone chat runs/nano-exaone-deep --engine http://…/v1", "exaone chat pebble-0.9m --engine http://…/v1"
    )
    text = text.replace("http://…/v1", "http://localhost:8000/v1").replace("--out /shared/", "--out shared/")
    text = re.sub("^curl ", "curl --silent --show-error --fail-with-body ", text)  # an error of the server is a failure
    return re.sub(r"(localhost|127\.0\.0\.1):8000", rf"\1:{port}", text)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_up(url: str, server: "subprocess.Popen[str]") -> bool:
    """Waits until a server answers at an address; False where it ended or took too long."""
    waited = 0.0
    while waited < START_S and server.poll() is None:
        began = time.monotonic()
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.2)
        waited += min(time.monotonic() - began, 6.0)  # more was a pause of this process
    return False
