"""Which code this is."""

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
CODE = frozenset({".py", ".jinja", ".cpp", ".h"})  # kernels are C++
GENERATING = ("engine", "kernels", "model", "rollout/providers", "text")  # the rooms that decide what is generated
JUDGING = ("verify",)  # and what is right


def code_version() -> str:
    """The package's version, and a hash of the code that decides what is generated, such as "0.1.0+3f2a9c01b7de".

    Samples that other code generated are not taken for this code's.
    """
    return f"{metadata.version('open-exaone')}+{_hash(GENERATING)}"


def judging_version() -> str:
    """A hash of the code that judges."""
    return _hash(JUDGING)


@cache
def _hash(rooms: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for room in rooms for path in (PACKAGE / room).rglob("*") if _is_code(path)):
        digest.update(f"{path.relative_to(PACKAGE)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _is_code(path: Path) -> bool:
    return path.suffix in CODE
