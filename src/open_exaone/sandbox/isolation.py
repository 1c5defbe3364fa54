"""What this machine offers for confining generated programs, as found out by trying it."""

from dataclasses import dataclass
from typing import Literal

from open_exaone.sandbox import programs

Finding = tuple[Literal["ok", "missing", "note"], str, str]

_FIX = (
    "run on Linux 5.13 or newer with user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0; in Docker "
    "--security-opt seccomp=unconfined) or with Landlock; or give --unsafe-code-execution, and trust the programs"
)


@dataclass(frozen=True, slots=True)
class Isolation:
    """What there is for confining programs.

    Args:
        is_enough: whether generated programs can be judged here.
        notes: each mechanism with what was found out: "no: " and why, or what it is.
        error: why nothing could be tried; "" where it could.
    """

    is_enough: bool
    notes: tuple[tuple[str, str], ...]
    error: str


def isolation() -> Isolation:
    """What this machine offers; starts the server of programs, which tries it once."""
    greeting = programs.server().greeting()
    notes = tuple((str(name), str(text)) for name, text in greeting["findings"])
    return Isolation(bool(greeting["is_confined"]), notes, str(greeting["error"]))


def findings() -> list[Finding]:
    """Rows for `exaone doctor`."""
    found = isolation()
    rows: list[Finding] = []
    for name, text in found.notes:
        rows.append(("note" if text.startswith("no: ") else "ok", name, text.removeprefix("no: ")))
    if found.error:
        rows.append(("note", "generated programs", f"cannot be judged here: {found.error}"))
    elif not found.is_enough:
        rows.append(("note", "generated programs", f"cannot be judged here: {_FIX}"))
    else:
        rows.append(("ok", "generated programs", "can be judged here"))
    return rows
