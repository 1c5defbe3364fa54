"""How help pages and misused commands are worded, where the library's own words would puzzle."""

from typing import Any

from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError
from cyclopts.help import DefaultFormatter, HelpPanel


class OneParagraph(DefaultFormatter):
    """Help whose texts are one paragraph each, wrapped to the terminal, however they are broken in the code."""

    def __call__(self, console: Any, options: Any, panel: HelpPanel) -> None:
        from rich.text import Text

        for entry in panel.entries:
            text = getattr(entry.description, "primary_renderable", None)
            if isinstance(text, Text) and "\n" in text.plain:
                entry.description.primary_renderable = Text(" ".join(text.plain.split()))
        super().__call__(console, options, panel)


def misuse(error: CycloptsError) -> str:
    """What is wrong with a command line."""
    command = " ".join(("exaone", *(error.command_chain or ())))
    if isinstance(error, UnusedCliTokensError):
        return (
            f"{' '.join(map(str, error.unused_tokens or ()))}: `{command}` takes no such argument; see {command} --help"
        )
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        if error.keyword is None and not error.argument.tokens:
            return f"{error.argument.name} is missing; see {command} --help"
        return f"{error.keyword or error.argument.name}: needs a value; see {command} --help"
    return str(error)
