"""The commands and Python that README and docs/ show, and what can be checked of them without running them."""

import ast
import functools
import importlib
import inspect
import json
import re
import shlex
import subprocess
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import CycloptsError, MissingArgumentError

import open_exaone
from open_exaone.base.errors import OpenExaoneError
from open_exaone.cli.main import app
from open_exaone.cli.run import _check_flags

ROOT = Path(__file__).parents[2]
PAGES = (
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "benchmarks/gpu/README.md")
    ),
    *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.stem != "decisions"),  # which names what once was
    *sorted((ROOT / "src/open_exaone/models").glob("*/README.md")),
)
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
SHELL = ("sh", "bash", "console", "shell")
OURS = re.compile(r"(?:[A-Z_]+=\S+ )*(?:exaone [a-z]|make [a-z]|python (?:benchmarks|docs|examples|ship_model)|\.ci/)")
RECIPES = {  # files of a reader's own that pages name and do not show: a file of the same kind
    "mine.toml": "examples/finetune/lora.toml",
    "sft.toml": "examples/finetune/full.toml",
    "my.toml": "nano/exaone-deep",
}
FORMER = frozenset({"exaone story"})  # named as what it is now called
PLAIN = frozenset({"cat", "cd", "curl", "docker", "echo", "git", "ls", "npm", "source", "systemctl"})
CLUSTER = frozenset({"kubectl", "sbatch", "sky", "vllm"})


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    """The line of its fence, from 1."""
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One simple command of a shell block or of a code span: what a shell would start as one process."""

    place: str
    page: Path
    words: tuple[str, ...]
    is_whole: bool
    """False for a code span, which may leave out what the command needs."""


@functools.cache
def blocks(page: Path) -> tuple[Block, ...]:
    """The fenced blocks of a page, from top to bottom."""
    text = page.read_text(encoding="utf-8")
    return tuple(
        Block(page, text.count("\n", 0, found.start()) + 1, found[2], textwrap.dedent(found[3]))
        for found in FENCE.finditer(text)
    )


def lines_of(text: str) -> list[str]:
    """The whole commands of a shell block: a line that ends in a backslash or a pipe goes on in the next one."""
    return [line for line in re.sub(r"\\\n\s*|(?<=\|)\n\s*", " ", text).splitlines() if line.strip()]


def unread_commands(page: Path) -> Iterator[str]:
    """The project's commands in code that nothing checks: an indented block, or a fence that names no language."""
    language: str | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if fence := re.match(r" *```(\w*)", line):
            language = fence[1] if language is None else None
        elif (language in ("", "text") or (language is None and line.startswith("    "))) and OURS.match(line.strip()):
            yield f"line {number}: {line.strip()}"


def simple_commands(line: str) -> Iterator[tuple[str, ...]]:
    """The words of each command of a line, without comments, redirections and settings of the environment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) - set("|;&"):
            words.append(token)
            continue
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words.pop(0)
        if words:
            yield tuple(words[: next((at for at, word in enumerate(words) if word in ("<", ">", ">>")), len(words))])
        words = []


def commands() -> Iterator[Command]:
    """Every command of every page: those of shell blocks, and the project's own in code spans."""
    for page in PAGES:
        for block in blocks(page):
            for line in lines_of(block.text) if block.language in SHELL else ():
                for words in simple_commands(line):
                    yield Command(block.place, page, words, is_whole=True)
        prose = FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8"))
        for span in SPAN.finditer(prose):
            if OURS.match(span[1]) and span[1] not in FORMER:
                place = f"{page.relative_to(ROOT)}:{prose.count(chr(10), 0, span.start()) + 1}"
                for words in simple_commands(span[1]):
                    yield Command(place, page, words, is_whole=False)


def faults(command: Command, folder: Path) -> Iterator[str]:
    """What is wrong with a command, found without running it.

    Args:
        command: the command.
        folder: where the recipes that the pages show are written.
    """
    program, *rest = command.words
    if program == "torchrun":
        place = rest.index("-m")
        program, rest = "exaone", rest[place + 2 :]
    if program == "exaone":
        yield from _exaone_faults(command, rest, folder)
    elif program == "make":
        yield from _make_faults(rest)
    elif program == "python":
        yield from _script_faults(rest)
    elif program == "pip":
        yield from _extra_faults(rest)
    elif program == "curl":
        yield from _request_faults(rest)
    elif program.startswith(".ci/"):
        if not (ROOT / program).is_file():
            yield f"{program} is not in the repository"
    elif program not in PLAIN | CLUSTER:
        yield f"{program}: nothing checks this program; add a check, or its name to PLAIN"


def _exaone_faults(command: Command, words: list[str], folder: Path) -> Iterator[str]:
    if not command.is_whole:  # a span may be a synopsis, as in `exaone plan RECIPE --gpus N [--out FILE]`
        words = [{"N": "1", "K": "1", "…": "MODEL"}.get(word, word) for word in (each.strip("[]") for each in words)]
    try:
        called, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        named = called.__name__
        bound.apply_defaults()
        if named in ("run", "train", "plan") and bound.args:
            _check_recipe(named, str(bound.args[0]), bound.arguments.get("args"), command.page, folder)
        elif named == "eval_":
            _check_evaluation(bound.arguments.get("args"), command.page)
    except MissingArgumentError as error:
        if command.is_whole:
            yield str(error)
    except (CycloptsError, OpenExaoneError) as error:
        yield " ".join(str(error).split())


def _check_recipe(named: str, source: str, args: Any, page: Path, folder: Path) -> None:
    """Raises what is wrong with a recipe's name, its changed keys, its stages and ablations."""
    from open_exaone.pipeline.ablation_arms import load_ablation
    from open_exaone.pipeline.recipe import load_recipe, part_of

    if re.match("[A-Z]+(/|$)", source):  # a placeholder
        return
    if named == "run" and args is not None:
        _check_flags(args)
    quick, changes = getattr(args, "quick", False), getattr(args, "set_", None) or []
    source = str(_recipe(source, page, folder))
    if name := getattr(args, "ablate", None) or ("controls" if getattr(args, "controls", False) else None):
        if not re.fullmatch("[A-Z]+", name):
            load_ablation(name, source, changes, quick=quick)
        return
    changes = [text for text in changes if "…" not in text and not re.match("[A-Z]", text)]
    part_of(load_recipe(source, changes, quick=quick), getattr(args, "until", None))


def _recipe(source: str, page: Path, folder: Path) -> Path | str:
    """The recipe that a page means: the one it shows under this name, else one of the same kind, else what is named."""
    if source not in RECIPES:
        return source if not source.endswith(".toml") else ROOT / source
    shown = [block.text for block in blocks(page) if block.language == "toml" and "\n[[stages]]" in block.text]
    whole = [text for text in shown if re.match("name = ", text)]
    if not whole:
        return ROOT / RECIPES[source] if RECIPES[source].endswith(".toml") else RECIPES[source]
    path = folder / f"{page.stem}-{source}"
    path.write_text(whole[0], encoding="utf-8")
    return path


def _check_evaluation(args: Any, page: Path) -> None:
    """Raises what is wrong with a suite's name or a flag's value."""
    from open_exaone.evaluation.suite import load_suite

    if args is None:
        return
    args.choices()
    for name in (args.suite or "").split(","):
        is_own_set = name in ("", "test", "validation") or re.search(r"\.(toml|jsonl|py)\b", name)
        if not is_own_set and not re.fullmatch(r"[A-Z|]+|…", name):
            load_suite(name)


def _make_faults(words: list[str]) -> Iterator[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, is_variable, _ = word.partition("=")
        if is_variable and f"$({name})" not in makefile and not re.search(rf"\b{name}\b", makefile):
            yield f"the Makefile does not use {name}"
        elif not is_variable and not re.search(rf"^{re.escape(word)}:", makefile, flags=re.MULTILINE):
            yield f"make {word}: there is no such target"


def _script_faults(words: list[str]) -> Iterator[str]:
    path = ROOT / words[0]
    if not path.is_file():
        yield f"{words[0]} is not in the repository"
        return
    known = flags_in(path)
    for word in words[1:]:
        if word.startswith("--") and word.partition("=")[0] not in known:
            yield f"{words[0]} has no flag {word}"


@functools.cache
def flags_in(path: Path) -> frozenset[str]:
    """The flags that a script, or a module beside it that it imports, names in a string."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and re.match("--[a-z]", str(node.value))
    }
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    beside = [path.with_name(f"{name}.py") for name in imported if name and "." not in name]
    return frozenset(found).union(*(flags_in(module) for module in beside if module.is_file() and module != path))


def _extra_faults(words: list[str]) -> Iterator[str]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for word in words:
        named = re.search(r"\[([\w,]+)\]", word)
        yield from (
            f"there is no extra {name}" for name in (named[1].split(",") if named else ()) if name not in extras
        )


def _request_faults(words: list[str]) -> Iterator[str]:
    """A request to the server has a path that it serves, and a body that it accepts."""
    from open_exaone.serve.errors import ApiError, parsed
    from open_exaone.serve.routes.table import ROUTES

    [url] = [word for word in words if word.startswith("http")]
    path = "/" + url.split("/", 3)[3]
    routes = [route for route in ROUTES if route.path == path]
    if not routes:
        yield f"the server has no path {path}"
    elif "-d" in words and (record := routes[0].record):
        try:
            parsed(record, words[words.index("-d") + 1].encode())
        except ApiError as error:
            yield str(error)


def shell_faults(block: Block) -> Iterator[str]:
    """What bash does not accept about a block."""
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    if done.returncode:
        yield done.stderr.strip()


def python_faults(block: Block) -> Iterator[str]:
    """A block's syntax, its imports, the names of `ox` that it uses, and their arguments."""
    try:
        tree = ast.parse(block.text)
    except SyntaxError as error:
        yield f"line {error.lineno}: {error.msg}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("open_exaone"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                if not hasattr(module, alias.name):
                    yield f"{node.module} has no {alias.name}"
        elif isinstance(node, ast.Call):
            yield from _call_faults(node)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ox":
            yield from () if hasattr(open_exaone, node.attr) else (f"open_exaone has no {node.attr}",)


def _call_faults(node: ast.Call) -> Iterator[str]:
    """A call of `ox.NAME(...)` with arguments that it does not take."""
    if not (isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)):
        return
    called = (
        getattr(importlib.import_module("open_exaone"), node.func.attr, None) if node.func.value.id == "ox" else None
    )
    if called is not None:
        try:
            inspect.signature(called).bind(*node.args, **{word.arg: word.value for word in node.keywords if word.arg})
        except TypeError as error:
            yield f"ox.{node.func.attr}: {error}"


def toml_faults(block: Block) -> Iterator[str]:
    """A block's syntax, and those of its keys that a recipe has; lines that set one key again are alternatives."""
    from pydantic import TypeAdapter, ValidationError

    from open_exaone.pipeline.config import Recipe
    from open_exaone.pipeline.recipe import load_recipe

    try:
        tomllib.loads(block.text)
        texts = [block.text]
    except tomllib.TOMLDecodeError as error:
        texts = re.split(r"^(?=\w+ = )", block.text, flags=re.MULTILINE) if "overwrite" in str(error) else [block.text]
    for text in texts:
        try:
            values = tomllib.loads(text)
            if {"name", "data", "stages"} <= set(values):
                load_recipe(values)
                continue
            if "sources" in values:
                values = {"data": {"any": values}}
            for key in set(values) & {"data", "evaluation", "judge", "engine", "parallel", "stages"}:
                if not isinstance(values[key], str):  # a benchmark's description has a word of this name
                    TypeAdapter(Recipe.model_fields[key].annotation).validate_json(json.dumps(values[key]))
        except (tomllib.TOMLDecodeError, ValidationError, OpenExaoneError) as error:
            yield " ".join(str(error).split())
