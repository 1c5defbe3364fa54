"""card.html: a card on one page that stands alone: no scripts, no external loads, safe for any text."""

import base64
import hashlib

from open_exaone.base.records import mode_label
from open_exaone.present import evaluation_plots, formatting
from open_exaone.present.card import last_results, result_name, sections, title
from open_exaone.present.card_facts import Facts
from open_exaone.present.card_parts import Code, Table
from open_exaone.present.plots import Point
from open_exaone.present.report import TEMPLATES, template


def page(facts: Facts) -> str:
    """The page as text; the same facts give the same bytes."""
    style = style_of("report.css", "card.css")
    text: str = template("card.html.jinja").render(
        facts=facts,
        title=title(facts),
        parts=[
            (f"part-{number}", section.title, [(_kind(block), block) for block in section.blocks])
            for number, section in enumerate(sections(facts), start=1)
        ],
        scores=_scores(facts),
        number=formatting.billions,
        style=style,
        style_hash=digest(style),
    )
    return text


def style_of(*names: str) -> str:
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def digest(text: str) -> str:
    """As a content security policy names what it lets through."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _kind(block: object) -> str:
    if isinstance(block, str):
        return "text"
    return "table" if isinstance(block, Table) else "code" if isinstance(block, Code) else "list"


def _scores(facts: Facts) -> str | None:
    """The model's own results with their intervals, drawn."""
    points = []
    for result in last_results(facts):
        low = result.low.value if result.low else result.value.value
        high = result.high.value if result.high else result.value.value
        name = result_name(result) + ("" if result.mode != "non_reasoning" else f", {mode_label(result.mode)}")
        points.append(Point(name, result.value.value, low, high))
    return evaluation_plots.scores(points) if points else None
