"""A card as Markdown, with the block of metadata that the Hugging Face hub reads."""

import re
from collections.abc import Sequence

from open_exaone.base.printable import printable
from open_exaone.present.card import ENGLISH, sections, title
from open_exaone.present.card_facts import Facts
from open_exaone.present.card_hub import metadata_block
from open_exaone.present.card_parts import Code, Section, Table
from open_exaone.present.localized import Texts

_MARKS = re.compile(r"([\\`*_\[\]|~$#!{}])")
_LIST = re.compile(r"^(?:[-+=]|\d{1,9}(?=[.)](?:\s|$)))")  # what opens a list, or makes a heading of the line above
_MAIL = re.compile(r"@(?=[\w-]+\.)")
_SCHEME = re.compile(r"(?i)\b(https?|ftp|mailto|www)([:.])")


def markdown(facts: Facts, texts: Texts = ENGLISH) -> str:
    """The whole card in one language; the same facts give the same bytes."""
    parts = [metadata_block(facts), f"# {inert(title(facts, texts))}"]
    parts += [part for section in sections(facts, texts) for part in _section(section)]
    return "\n\n".join(parts) + "\n"


def inert(value: object) -> str:
    """A text that Markdown shows as it is: it opens no tag, link, image, code or heading, and ends no cell.

    Addresses are not turned into links either: a reader of GitHub or the hub would follow a model's text.
    """
    text = " ".join(printable(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _MARKS.sub(r"\\\1", text)
    text = _LIST.sub(lambda found: f"\\{found[0]}" if found[0] in "-+=" else f"{found[0]}\\", text)
    text = _MAIL.sub("&#64;", text)
    return _SCHEME.sub(lambda found: f"{found[1]}{'&#58;' if found[2] == ':' else '&#46;'}", text)


def _section(section: Section) -> list[str]:
    parts = [f"## {inert(section.title)}"]
    for block in section.blocks:
        if isinstance(block, str):
            parts.append(inert(block))
        elif isinstance(block, Table):
            parts.append(_table(block))
        elif isinstance(block, Code):
            parts.append(f"```{block.language}\n{block.text.rstrip()}\n```")
        else:
            parts.append("\n".join(f"- {inert(line)}" for line in block))
    return [part for part in parts if part]


def _table(table: Table) -> str:
    lines: list[Sequence[str]] = [table.titles, ["---"] * len(table.titles), *table.rows]
    rule = "| " + " | ".join(lines[1]) + " |"
    rows = ["| " + " | ".join(inert(cell) for cell in line) + " |" for line in (lines[0], *lines[2:])]
    return "\n".join([rows[0], rule, *rows[1:]]) if table.rows else ""
