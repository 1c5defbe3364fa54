"""card.html: a card on one page that stands alone: no scripts, no external loads, safe for any text."""

import base64
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from open_exaone.present import evaluation_plots, formatting
from open_exaone.present.card import ENGLISH, last_results, mode_text, result_name, sections, title
from open_exaone.present.card_facts import Facts
from open_exaone.present.card_parts import Block, Code, Section, Table
from open_exaone.present.localized import Texts
from open_exaone.present.page_parts import read_templates, template
from open_exaone.present.plots import Point


class Link(NamedTuple):
    """What a link says, and where it leads."""

    text: str
    href: str


def page(facts: Facts, texts: Texts = ENGLISH, elsewhere: str = "card.ko.html", back: Sequence[Link] = ()) -> str:
    """The page in one language as text; the same facts give the same bytes.

    Args:
        elsewhere: where the page in the other language is, seen from this one.
        back: the pages that this one belongs to.
    """
    style = read_templates("report.css", "card.css", "print.css")
    text: str = template("card.html.jinja").render(
        facts=facts,
        t=texts,
        elsewhere=elsewhere,
        back=back,
        notes=[texts.said(note) for note in facts.notes],
        title=title(facts, texts),
        parts=[
            (f"part-{number}", section.title, _labelled(section))
            for number, section in enumerate(sections(facts, texts), start=1)
        ],
        scores=_scores(facts, texts),
        number=formatting.billions,
        style=style,
        style_hash=digest(style),
    )
    return text


def digest(text: str) -> str:
    """As a content security policy names what it lets through."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _labelled(section: Section) -> list[tuple[str, Block, str]]:
    """Each block with its kind and what it is called: the line above it where that ends with a colon."""
    found, label = [], section.title
    for block in section.blocks:
        found.append((_kind(block), block, label))
        label = f"{section.title}: {block[:-1]}" if isinstance(block, str) and block.endswith(":") else section.title
    return found


def _kind(block: object) -> str:
    if isinstance(block, str):
        return "text"
    return "table" if isinstance(block, Table) else "code" if isinstance(block, Code) else "list"


def _scores(facts: Facts, texts: Texts) -> str | None:
    """The model's own results with their intervals, drawn."""
    points = []
    for result in last_results(facts):
        low = result.low.value if result.low else result.value.value
        high = result.high.value if result.high else result.value.value
        mode = f", {mode_text(result.mode, texts)}" if result.mode == "non_reasoning" else ""
        name = result_name(result, texts) + mode
        points.append(Point(name, result.value.value, low, high))
    return evaluation_plots.scores(points) if points else None
