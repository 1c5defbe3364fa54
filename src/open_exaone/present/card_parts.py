"""What a card is made of: sections of plain texts, lists, tables and code, for any format."""

from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Headings and rows of texts; the first column names the row."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


class Code(NamedTuple):
    """Commands or a program."""

    language: str
    text: str


Block = str | tuple[str, ...] | Table | Code


class Section(NamedTuple):
    """A heading, and what stands below it: paragraphs as texts, lists as tuples of texts, tables and code."""

    title: str
    blocks: Sequence[Block]
