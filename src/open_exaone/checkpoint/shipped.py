"""The small trained model that comes with the package: found by its name, each file held to its checksum."""

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from open_exaone.base.errors import CheckpointError
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.base.records import Problem

SHIPPED = "pebble-0.9m"
MODELS = Path(str(resources.files("open_exaone"))) / "models"
SUMS = "SHA256SUMS"  # beside the files that it is of; `sha256sum -c` reads it too
FACTS = "model.json"  # how it was made and what it scored; the card says the same in words
PROBLEMS = "problems.jsonl"  # that the chat offers
FILES = (
    *("LICENSE", "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"),
    *(FACTS, PROBLEMS, "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"),
)
REPAIR = "reinstall with `pip install --force-reinstall open-exaone`"


def shipped_model() -> Path:
    """The shipped model's folder, with every file as it was shipped.

    Raises:
        CheckpointError: a file is missing, cannot be read, or is another one; names it.
    """
    folder = MODELS / SHIPPED
    for name, wanted in _sums(folder).items():
        if hashlib.sha256(_content(folder / name)).hexdigest() != wanted:
            raise _damaged(folder / name, f"is not the file that was shipped, by its checksum in {SUMS}")
    return folder


def is_shipped(folder: Path) -> bool:
    """Whether a model's folder is the shipped model's."""
    return folder == MODELS / SHIPPED


def shipped_facts() -> dict[str, Any]:
    """What `model.json` of the shipped model holds; raises what `shipped_model` does."""
    facts: dict[str, Any] = read_json(shipped_model() / FACTS)
    return facts


def shipped_problems() -> list[Problem]:
    """Test problems that the shipped model solved when it was measured; raises what `shipped_model` does."""
    return [Problem(**row) for row in read_jsonl(shipped_model() / PROBLEMS)]


def introduction(command: str) -> tuple[str, ...]:
    """What a user should know of the shipped model before talking to it, a sentence each.

    Args:
        command: with which a model of the user's own is opened, such as "exaone chat".

    Raises:
        CheckpointError: see `shipped_model`.
    """
    facts = shipped_facts()
    *kinds, last = (name.replace("_", " ") for name in facts["families"])
    return (
        f"This is {facts['name']}, the small model that comes with Open-EXAONE: {facts['num_parameters']:,} "
        f"parameters, trained from random weights by `exaone run {facts['recipe']}`.",
        f"It solves small problems of {len(facts['families'])} kinds, most of them in English and Korean, and is no "
        "general assistant.",
        f"The kinds are {', '.join(kinds)} and {last}.",
        f"For a run of your own: `{command} runs/{facts['recipe'].replace('/', '-')}`.",
    )


def _sums(folder: Path) -> dict[str, str]:
    """File name -> checksum, of all files."""
    text = _content(folder / SUMS).decode(errors="replace")
    sums = {name: wanted for wanted, _, name in (line.partition("  ") for line in text.splitlines())}
    if sums.keys() != set(FILES) or not text.endswith("\n"):
        raise _damaged(folder / SUMS, "does not list the files that were shipped")
    return sums


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise _damaged(path, "is missing")
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path}: {why}, so the model that comes with Open-EXAONE is damaged: {REPAIR}")
