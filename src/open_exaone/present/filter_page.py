"""report.html of a filter that is no stage of a run: one page that loads nothing and runs nothing."""

import base64
import hashlib
from pathlib import Path

from open_exaone.base.files import write_text
from open_exaone.present.filtered import Found, section
from open_exaone.present.page_parts import TEMPLATES, template


def write_filter_page(folder: Path, name: str, found: Found) -> Path:
    """Writes `report.html`; returns its path.

    Args:
        name: the heading, such as the name of the model.
        found: what filter.json holds.
    """
    path = folder / "report.html"
    write_text(path, render(name, found))
    return path


def render(name: str, found: Found) -> str:
    """The page as text; the same numbers give the same bytes."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    page: str = template("filter.html.jinja").render(
        name=name,
        found=found,
        section=section(name, found),
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    return page
