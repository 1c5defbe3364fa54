"""The page docs/reference/python.md: the public Python API, from its signatures and docstrings."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import open_exaone
from open_exaone.base.config import Config
from open_exaone.base.records import Completion, Verdict
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.evaluate import Choices
from open_exaone.sandbox.programs import ProgramResult
from open_exaone.text.tokenizer import Tokenizer
from reference_settings import plain, table

HEAD = """# Reference: Python

What `import open_exaone as ox` offers, from the signatures and docstrings in the code.
`python docs/site/generate_reference.py` writes this page. These names are kept; what else the package holds may change.
Names load what they need when they are first used, so `ox.judge` and `ox.run_program` need no torch. Errors that you
can fix are `ValueError` or one of the classes in `open_exaone.base.errors`, with the file, the field and what to do.
"""
RETURNED = (Choices, LanguageModel, Tokenizer, Completion, Verdict, ProgramResult)
SECTION = re.compile(r"^ *(Args|Returns|Raises|Yields):[ \n]", re.MULTILINE)


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Functions\n", "## Classes\n", "## What these take and return\n"]
    for name in open_exaone.__all__:
        value = getattr(open_exaone, name)
        parts[2 if inspect.isclass(value) else 1] += "\n" + entry(f"ox.{name}", value)
    parts[3] += "\n" + "\n".join(entry(value.__name__, value) for value in RETURNED)
    return "\n".join(parts)


def entry(name: str, value: Any) -> str:
    """One function or class, with its methods."""
    text = f"### {name}\n\n```python\n{signature(name, value)}\n```\n\n{documented(inspect.getdoc(value) or '')}\n"
    if not inspect.isclass(value):
        return text
    if issubclass(value, Config):
        return f"{text}\n{table(value)}"
    if is_dataclass(value):
        return f"{text}\n{_fields_table(value)}"
    init = getattr(vars(value).get("__init__"), "__doc__", None)
    text += f"\n{documented(init)}\n" if init else ""
    return text + "".join(_method(value, method) for method in public_methods(value))


def public_methods(value: type) -> Iterator[str]:
    """The methods and properties that a class defines itself and documents, in order."""
    for name, member in vars(value).items():
        member = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.getdoc(getattr(value, name)) and callable(member):
            yield name


def _method(owner: type, name: str) -> str:
    member = inspect.getattr_static(owner, name)
    if isinstance(member, property):
        return f"\n`{name}`: {documented(inspect.getdoc(member) or '')}\n"
    value = getattr(owner, name)
    return f"\n```python\n{signature(f'.{name}', value)}\n```\n\n{documented(inspect.getdoc(value) or '')}\n"


def signature(name: str, value: Any) -> str:
    """A call as it is written, one parameter a line where it is long."""
    if inspect.isclass(value) and issubclass(value, Config):
        return f"{name}(**settings)"
    found = inspect.signature(value.__init__ if inspect.isclass(value) else value)
    given = [each for each in found.parameters.values() if each.name not in ("self", "cls")]
    returns = (
        "" if found.return_annotation in (inspect.Signature.empty, None) else f" -> {_type(found.return_annotation)}"
    )
    parts, star = [], False
    for each in given:
        if each.kind is each.KEYWORD_ONLY and not star:
            parts, star = [*parts, "*"], True
        prefix = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        default = "" if each.default is each.empty else f" = {_value(each.default)}"
        parts.append(f"{prefix}{each.name}: {_type(each.annotation)}{default}")
    line = f"{name}({', '.join(parts)}){returns}"
    return line if len(line) <= 100 else f"{name}(\n    " + ",\n    ".join(parts) + f",\n){returns}"


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text)
    text = re.sub(r"^Optional\[(.*)\]$", r"\1 | None", text)
    return text.replace("'", '"') if "Literal" in text else text.replace("'", "")


def _value(value: Any) -> str:
    if callable(value) or repr(value) == "<factory>":
        return "…"
    return '"' + value + '"' if isinstance(value, str) else repr(value)


def documented(text: str) -> str:
    """A docstring in Google's style as Markdown: its paragraphs, then a list for each section."""
    text = inspect.cleandoc(text)
    pieces = SECTION.split(text)
    parts = [_paragraphs(pieces[0])]
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        word = {"Args": "Arguments"}.get(title, title)
        items = _items(body)
        parts.append(
            f"{word}:\n\n" + "\n".join(f"- {item}" for item in items)
            if title in ("Args", "Raises")
            else f"{word}: {plain(body)}"
        )
    return "\n\n".join(part for part in parts if part)


def _paragraphs(text: str) -> str:
    """Paragraphs as prose, what is indented as it stands."""
    blocks = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(
        f"```text\n{block}\n```" if block.startswith("    ") else plain(block) for block in blocks if block
    )


def _items(body: str) -> Iterator[str]:
    """The entries of a section: each begins with `name:` at the least indentation."""
    lines = [line for line in body.splitlines() if line.strip()]
    least = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    entries: list[list[str]] = []
    for line in lines:
        begins = len(line) - len(line.lstrip()) == least and re.match(r"[\w*, ]+: ", line.strip())
        if begins or not entries:
            entries.append([])
        entries[-1].append(line.strip())
    for found in entries:
        name, _, help_text = " ".join(found).partition(": ")
        yield f"`{name}`: {plain(help_text)}"


def _fields_table(record: type) -> str:
    """The fields of a dataclass, whose help is the comment beside each."""
    source = inspect.getsource(record)
    rows = ["| field | type | default | what it is |", "|---|---|---|---|"]
    for field in fields(record):
        value = field.default if field.default_factory is MISSING else field.default_factory()
        default = "required" if value is MISSING else f"`{_value(value)}`"
        comment = re.search(rf"^ +{field.name}: [^#\n]*#\s*(.*)$", source, re.MULTILINE)
        cells = (f"`{_type(field.type)}`", default, plain(comment[1]) if comment else "")
        rows.append(f"| `{field.name}` | " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"
