"""A model's licence and what follows from it: a notice before use, the licence file copied along, the name kept.

EXAONE models and their tokenizers are LG AI Research's, under agreements of their own; a model trained from scratch
here is under none of them. Each licence is summed up in one line; the agreement itself is what counts.
"""

import functools
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import MAX_CONFIG_BYTES, read_json
from open_exaone.base.links import own_file
from open_exaone.base.log import logger

LICENCE_FILES = ("LICENSE*", "LICENCE*", "NOTICE*")


@dataclass(frozen=True, slots=True)
class Licence:
    """One agreement, and what it requires of those who use, change or distil a model."""

    name: str
    use: str
    training_data: str
    prefix: str = "EXAONE"  # what the name of a derived model must begin with


LG_1_1 = Licence(
    "EXAONE AI Model License Agreement 1.1 - NC",
    "research only, no commercial use",
    "forbids using its output to develop or improve any other model, and its output belongs to LG",
)
LG_1_2 = Licence(
    "EXAONE AI Model License Agreement 1.2 - NC",
    "research and education only, no commercial use",
    "forbids using its output to develop or improve models that compete with LG's",
)
K_EXAONE = Licence(
    "K-EXAONE AI Model License Agreement",
    "commercial use is allowed; passing it on commercially needs an agreement",
    "sets terms of its own for training with its output: read it first",
    prefix="K-EXAONE",
)

# By how a model's name begins.
_BY_NAME = (
    (re.compile(r"k-exaone(?![-_]?2\.)", re.IGNORECASE), K_EXAONE),
    (re.compile(r"exaone[-_]?(3\.|deep)", re.IGNORECASE), LG_1_1),
    (re.compile(r"exaone[-_]?4(\.|-|_|:|$)", re.IGNORECASE), LG_1_2),
)
_LICENCES = (LG_1_1, LG_1_2, K_EXAONE)
# The end of a turn is id 361 in LG's tokenizers of 3.x and 4.0, and in no other.
_LG_END = re.compile(rb'"id":\s*361,\s*"content":\s*"\[\|endofturn\|\]"')
_MAX_TOKENIZER_BYTES = 100_000_000


def licence_of(folder: Path) -> Licence | None:
    """The EXAONE licence that a model's folder is under, or None.

    Judged by its name (the folder's, the hub's, or the one in its config.json), by its LICENSE file, and by
    its tokenizer, which is part of the licensed model.
    """
    if (by_name := licence_by_name(_names(folder))) is not None:
        return by_name
    for path in licence_files(folder):
        with open(path, encoding="utf-8", errors="replace") as text:
            head = " ".join(text.read(2000).split()).lower()
        for licence in _LICENCES:
            if licence.name.lower() in head:
                return licence
    return _by_tokenizer(folder)


def licence_by_name(names: Iterable[str]) -> Licence | None:
    """The licence of the first of the names that is an EXAONE model's; an owner before a slash plays no part."""
    for name in names:
        for pattern, licence in _BY_NAME:
            if pattern.match(name.rpartition("/")[2]):
                return licence
    return None


@functools.cache
def warn_of_licence(licence: Licence | None, name: str) -> None:
    """Says, once in a process, what a model's licence asks for."""
    if licence is not None:
        logger.warning(
            "%s is under the %s: %s. Pass it or a derived model on only with a copy of the agreement, and name a "
            "derived model %s….",
            *(name, licence.name, licence.use, licence.prefix),
        )


@functools.cache
def warn_before_generating(licence: Licence | None, name: str) -> None:
    """Says, once in a process, what a model's licence says of training with what the model writes."""
    if licence is not None:
        logger.warning("Before you train with what %s writes: the %s %s.", name, licence.name, licence.training_data)


def check_derived_name(licence: Licence | None, name: str) -> None:
    """Holds a derived model's name to its licence.

    Raises:
        ConfigError: it does not begin as the licence asks.
    """
    if licence is not None and not name.startswith(licence.prefix):
        raise ConfigError(
            f"{name}: the {licence.name} asks that a derived model's name begin with {licence.prefix}: "
            f"call it {licence.prefix}-{name}"
        )


def licence_files(folder: Path) -> list[Path]:
    """The licence and notice files of a model's folder.

    Raises:
        CheckpointError: one is a link that leads elsewhere.
    """
    found = sorted({path for pattern in LICENCE_FILES for path in folder.glob(pattern)})
    return [own_file(path) for path in found if path.is_symlink() or path.is_file()]


def carry_licence(source: Path, folder: Path, prefix: str = "") -> None:
    """Copies the licence and notice files of a model's folder into one derived from it.

    Args:
        prefix: put before the files' names, where other things stand in the folder too.
    """
    files = licence_files(source)
    for path in files:
        shutil.copyfile(path, folder / f"{prefix}{path.name}")
    if not files and (licence := licence_of(source)) is not None:
        logger.warning(
            "%s holds no LICENSE file: put a copy of the %s into %s before you pass it on.",
            *(source, licence.name, folder),
        )


def model_name(folder: Path) -> str:
    """What to call the model in a folder."""
    return [folder.resolve().name, *_names(folder)][-1]


def _names(folder: Path) -> list[str]:
    """What the model in a folder may be called; in the hub's cache a folder's grandparent is `models--owner--name`.

    A folder's own name counts only in LG's capitals: a run of ours may well be called exaone-deep.
    """
    resolved = folder.resolve()
    names = [name for name in (folder.name, resolved.name) if name.startswith(("EXAONE", "K-EXAONE"))]
    if resolved.parent.name == "snapshots":
        names.append("/".join(resolved.parent.parent.name.split("--")[1:]))
    try:
        named = read_json(own_file(folder / "config.json"), max_bytes=MAX_CONFIG_BYTES).get("_name_or_path")
    except (DataError, AttributeError):
        named = None
    return [named, *names] if isinstance(named, str) and named else names


def _by_tokenizer(folder: Path) -> Licence | None:
    path = own_file(folder / "tokenizer.json")
    if not path.is_file() or path.stat().st_size > _MAX_TOKENIZER_BYTES:
        return None
    text = path.read_bytes()
    if not _LG_END.search(text):
        return None
    return LG_1_2 if b'"<think>"' in text else LG_1_1
