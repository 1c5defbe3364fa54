"""Every command and every Python block of README and docs/ is one that this version accepts; a script runs them."""

import re
from pathlib import Path

import pytest

import doc_commands
import run_doc_commands
from doc_commands import ROOT, SHELL, Block, Command

PAGES = doc_commands.PAGES


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def shown() -> dict[Path, list[Command]]:
    found: dict[Path, list[Command]] = {page: [] for page in PAGES}
    for command in doc_commands.commands():
        found[command.page].append(command)
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_is_accepted(page: Path, shown, tmp_path) -> None:
    """Flags and their values, recipes, keys of --set, stages, ablations, suites, make's targets, scripts, requests."""
    wrong = {
        f"{command.place}: {' '.join(command.words)}": found
        for command in shown[page]
        if (found := list(doc_commands.faults(command, tmp_path)))
    }
    assert wrong == {}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_is_what_its_fence_says(page: Path) -> None:
    faults = []
    for block in doc_commands.blocks(page):
        if block.language in SHELL:
            faults += doc_commands.shell_faults(block)
        elif block.language == "python":
            faults += doc_commands.python_faults(block)
        elif block.language == "toml":
            faults += doc_commands.toml_faults(block)
    assert faults == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_stands_in_a_block_that_is_checked(page: Path) -> None:
    assert list(doc_commands.unread_commands(page)) == []


@pytest.mark.parametrize(
    "text", ["    exaone watch RUN\n", "```\nexaone eval MODEL\n```\n", "```text\nmake quick\n```\n"]
)
def test_a_command_in_a_block_without_a_language_is_found(text: str, tmp_path) -> None:
    (tmp_path / "page.md").write_text(f"```sh\nexaone doctor\n```\n{text}", encoding="utf-8")
    [found] = doc_commands.unread_commands(tmp_path / "page.md")
    assert found.startswith(("line 4: exaone", "line 5:"))


def test_each_rule_of_what_is_not_run_has_a_command() -> None:
    assert run_doc_commands.unused_rules() == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("exaone run --qick", "--qick"),
        ("exaone run nano/exaone-deap", "nano/exaone-deap"),
        ("exaone run --set rl.group_sise=16", "group_sise"),
        ("exaone run --set rl.group_size=many", "group_size"),
        ("exaone run --set model.depth=3", "depth"),
        ("exaone run --until ppo", "ppo"),
        ("exaone run --ablate temperature", "temperature"),
        ("exaone run --jobs 2", "--jobs"),
        ("exaone train examples/finetune/lora.toml --set sft.epochs=2", "epochs"),
        ("exaone train examples/finetune/qlora.toml", "qlora"),
        ("torchrun --nproc-per-node 8 -m open_exaone run nano/exaone-deep --fsdp", "--fsdp"),
        ("exaone plan exaone-deep-32b --gpus many", "--gpus"),
        ("exaone eval MODEL --suite aime_2035", "aime_2035"),
        ("exaone eval MODEL --samples two", "two"),
        ("exaone eval MODEL --rows math_500", "--rows"),
        ("exaone evaluate MODEL", "evaluate"),
        ("exaone convert MODEL", "target"),
        ("echo x | KEY=1 exaone chat --thought show", "--thought"),
        ("exaone serve && make storey", "storey"),
        ("make story TORCH_INDEKS=x", "TORCH_INDEKS"),
        ("python benchmarks/train.py --no-such-flag", "--no-such-flag"),
        ("python benchmarks/trian.py", "trian"),
        ("pip install 'open-exaone[dta]'", "dta"),
        ("curl http://127.0.0.1:8000/v1/chat/completion -d '{}'", "completion"),
        ("""curl http://127.0.0.1:8000/v1/completions -d '{"model": "x", "prompt": "y", "stopp": 1}'""", "stopp"),
        ("helm install", "helm"),
    ],
)
def test_a_wrong_command_is_found(line: str, fault: str, tmp_path) -> None:
    commands = [Command("x", ROOT / "README.md", words, is_whole=True) for words in doc_commands.simple_commands(line)]
    [found] = [each for command in commands for each in doc_commands.faults(command, tmp_path)]
    assert fault.lower() in found.lower()


@pytest.mark.parametrize(
    ("language", "text", "fault"),
    [
        ("sh", "echo 'x", "quote|EOF"),
        ("python", "print(", "never closed"),
        ("python", "from open_exaone.learn import grpoo", "grpoo"),
        ("python", "import open_exaone as ox\nox.lod_model('x')", "lod_model"),
        ("python", "import open_exaone as ox\nox.load_model('x', precision=1)", "precision"),
        ("toml", "x = ", "line 1"),
        ("toml", '[[stages]]\nkind = "sft"\nname = "a"\ndata = "b"\nnum_epoch = 1', "num_epoch"),
    ],
)
def test_a_wrong_block_is_found(language: str, text: str, fault: str) -> None:
    block = Block(ROOT / "README.md", 1, language, text + "\n")
    check = {"sh": doc_commands.shell_faults, "python": doc_commands.python_faults, "toml": doc_commands.toml_faults}
    found = list(check[language](block))
    assert len(found) == 1 and re.search(fault, found[0])
