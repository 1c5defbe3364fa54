"""Public names, commands and flags change on purpose only: here, and in the changelog."""

from collections.abc import Iterator
from types import ModuleType

import pytest
from cyclopts import App

import open_exaone
import open_exaone.api.compute
import open_exaone.api.judging
from open_exaone.cli.main import app

PUBLIC_NAMES = [
    "Engine",
    "JudgeSettings",
    "Sampling",
    "convert",
    "evaluate",
    "judge",
    "load_model",
    "load_tokenizer",
    "run_program",
    "run_recipe",
    "run_training",
]
OF_SAMPLING = (
    *("--max-new-tokens", "--temperature", "--top-p", "--top-k", "--min-p", "--presence-penalty"),
    *("--frequency-penalty", "--repetition-penalty", "--logit-bias", "--stop-ids", "--stop", "--seed"),
)
OF_MACHINE = ("--device", "--dtype", "--unsafe-code-execution")
COMMANDS = {
    "card": ["FOLDER", "--name", "--licence", "--data-licence", "--evaluation", "--watts", "--source-url", "--out"],
    "chat": [
        *("MODEL", "--thinking", "--no-thinking", "--budget", "--system", "--thoughts", "--history", "--no-history"),
        *("--engine", *OF_SAMPLING, "--engine-option", "--device", "--dtype"),
    ],
    "convert": [
        *("SOURCE", "TARGET", "--to", "--dtype", "--adapter", "--response-template", "--no-response-template"),
    ],
    "data check": [
        *(
            "SOURCES",
            "--format",
            "--field",
            "--ignore",
            "--config",
            "--split",
            "--tokenizer",
            "--max-tokens",
            "--limit",
            "--all",
        ),
        "--out",
    ],
    "data build": [
        *("TEACHER", "SOURCES", "--out", "--samples", "--keep", "--min-distance", "--mode", "--reasoning-ratio"),
        *("--max-tokens", *OF_SAMPLING, "--stage"),
        *("--engine", "--engine-option", "--concurrency", "--ranks", "--format", "--field", "--ignore", "--domain"),
        *("--config", "--split", "--settings", *OF_MACHINE),
    ],
    "data decontaminate": [
        *("SOURCE", "--against", "--out", "--rows", "--report", "--seed", "--samples", "--config", "--split"),
    ],
    "data filter": [
        *("MODEL", "SOURCES", "--out", "--samples", "--min-correct", "--max-correct"),
        *("--mode", *OF_SAMPLING, "--stage", "--engine", "--engine-option", "--concurrency", "--ranks"),
        *("--format", "--field", "--ignore", "--domain", "--config", "--split", "--settings", *OF_MACHINE),
    ],
    "data stats": [
        *(
            "SOURCES",
            "--tokenizer",
            "--format",
            "--field",
            "--ignore",
            "--domain",
            "--config",
            "--split",
            "--limit",
            "--out",
        ),
    ],
    "doctor": [],
    "eval": [
        *("MODEL", "--suite", "--stage", "--engine", "--engine-option", "--samples", "--limit", "--budget", "--mode"),
        *(*OF_SAMPLING, "--rows", "--skip-missing", "--changed"),
        *("--until-width", "--faithfulness", "--compare", "--concurrency", "--ranks", "--against", "--shared-only"),
        *("--rescore", "--kind", "--out", "--settings", *OF_MACHINE),
    ],
    "fetch": ["BENCHMARK", "--rows", "--out", "--changed"],
    "leaderboard": ["FOLDERS", "--out"],
    "judge": ["FILE", "--kind", "--out", "--settings", "--unsafe-code-execution"],
    "models": [],
    "plan": [
        *("RECIPE", "--gpus", "--gpu", "--parallel", "--sampler-gpus", "--set", "--mfu", "--bandwidth-share"),
        *("--memory-share", "--node-gpus", "--network", "--price", "--power", "--json", "--out", "--write", "--shared"),
    ],
    "serve": [
        *("MODEL", "--host", "--port", "--name", "--api-key", "--cors-origin", "--allowed-host", "--thinking"),
        *("--no-thinking", "--lora", "--limit", "--engine-option", "--quiet", "--device", "--dtype"),
    ],
    "suites": [],
    "verify-real": ["MODEL", "--out", "--rows", "--problems", "--samples", "--rl-steps", *OF_MACHINE],
    "run": [
        *("RECIPE", "--out", "--set", "--quick", "--dry-run", "--until", "--ablate", "--controls", "--seeds"),
        *("--jobs", "--from", "--ranks", "--restarts", *OF_MACHINE),
    ],
    "train": ["FILE", "--out", "--set", "--ranks", "--restarts", *OF_MACHINE],
    "watch": ["RUN", "--port", "--once"],
}


def commands(app: App, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Each command, with the names of its arguments and flags in order of the signature."""
    if path and app.default_command:
        arguments = app.assemble_argument_collection()
        yield path, [name for argument in arguments for name in argument.names if name != "*"]
    for name in sorted(set(app) - {*app.help_flags, *app.version_flags}):
        yield from commands(app[name], f"{path} {name}".strip())


def test_public_names_are_frozen() -> None:
    assert sorted(open_exaone.__all__) == PUBLIC_NAMES


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_every_public_name_is_there(name: str) -> None:
    """And is not hidden by a room of the same name, which Python binds to the package when it is imported."""
    assert not isinstance(getattr(open_exaone, name), ModuleType)
    owners = [module for module in (open_exaone.api.compute, open_exaone.api.judging) if name in module.__all__]
    assert [getattr(module, name) for module in owners] == [getattr(open_exaone, name)]
    assert name in dir(open_exaone)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = open_exaone.no_such_name


def test_commands_and_flags_are_frozen() -> None:
    assert dict(commands(app)) == COMMANDS


def test_the_walk_sees_every_flag() -> None:
    toy, inner = App(name="toy"), App(name="inner")
    toy.command(inner)

    @toy.command
    def run(recipe: str = "", /, *, out: str = "", quick: bool = False) -> None: ...

    @inner.command
    def check(*, strict: int = 0) -> None: ...

    assert dict(commands(toy)) == {"inner check": ["--strict"], "run": ["RECIPE", "--out", "--quick", "--no-quick"]}
