"""The pages in docs/reference, from the code. Run as a script it writes them anew."""

import io
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from rich.console import Console

import reference_python
import reference_settings
from open_exaone.cli.main import app

FOLDER = Path(__file__).parents[1] / "reference"
WIDTH = 80  # columns
CLI_HEAD = """# Reference: command line

Each command's help, as `exaone COMMAND --help` prints it. `python docs/site/generate_reference.py` writes this page.

A command exits with 0 when it is done, 1 when it failed, 2 when its arguments or settings are wrong, and 130 when it
was interrupted.
"""


def command_page() -> str:
    """The page of commands."""
    parts = [CLI_HEAD]
    for path in commands():
        parts.append(f"## {' '.join(['exaone', *path])}\n\n```text\n{help_of(path)}\n```\n")
    return "\n".join(parts)


def commands(path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Each command's words, a group before what it holds."""
    here = app
    for word in path:
        here = here[word]
    yield path
    if path and here.default_command:
        return
    for name in sorted(set(here) - {*here.help_flags, *here.version_flags}):
        yield from commands((*path, name))


def help_of(path: tuple[str, ...]) -> str:
    """A command's help, without colours and without spaces at the ends of lines."""
    output = io.StringIO()
    console = Console(file=output, width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    app.help_print(list(path), console=console)
    return "\n".join(line.rstrip() for line in output.getvalue().strip().splitlines())


PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": command_page,
    "settings.md": reference_settings.page,
    "python.md": reference_python.page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
