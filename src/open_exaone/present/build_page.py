"""report.html of `exaone data build`: one page that loads nothing and runs nothing."""

import base64
import hashlib
from pathlib import Path

from open_exaone.base.files import write_text
from open_exaone.data.lengths import LengthStatistics
from open_exaone.present import built, lengths
from open_exaone.present.page_parts import template


def write_build_page(folder: Path, found: built.Found, stats: LengthStatistics) -> Path:
    """Writes `report.html`; returns its path.

    Args:
        found: what build.json holds.
        stats: how long the kept responses are.
    """
    path = folder / "report.html"
    write_text(path, render(found, stats))
    return path


def render(found: built.Found, stats: LengthStatistics) -> str:
    """The page as text; the same numbers give the same bytes."""
    style = lengths.style()
    page: str = template("build.html.jinja").render(
        found=found,
        sentence=built.sentence(found),
        licence=built.licence_text(found),
        tables=[("Kept", built.domains(found)), ("Dropped", built.reasons(found))],
        lengths_table=lengths.table(stats),
        plot=lengths.plot(stats),
        num_left_out=max(0, len(stats.domains) - lengths.MAX_DOMAINS),
        mode_sign=lengths.MODE,
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    return page
