"""Formulas in pages: the web chat's converter of LaTeX to MathML (Temml), packed, and the script that draws with it.

A text that may hold formulas has the attribute `data-latex` in its page, and holds its source: without scripts it stays
as it was written.
"""

import json
import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from markupsafe import Markup

from open_exaone.present.page_parts import TEMPLATES, element, read_templates

OPENINGS = ("\\(", "\\[", "\\boxed{")
WEB = TEMPLATES.parents[1] / "serve" / "web"


class Drawing(NamedTuple):
    """What a page needs to draw formulas; all empty where it has none."""

    style: str = ""
    script: str = ""
    converter: str = ""  # a second script, which the first one unpacks: the policy must name it too
    packed: Markup = Markup()  # the converter's element

    @property
    def scripts(self) -> tuple[str, ...]:
        """What the content security policy lets run."""
        return (self.script, self.converter) if self.script else ()


def may_hold_formulas(text: str) -> bool:
    """Whether a text has what could begin a formula."""
    return text.count("$") > 1 or any(opening in text for opening in OPENINGS)


def drawing(texts: Iterable[str], *scripts: str) -> Drawing:
    """What a page with these texts needs.

    Args:
        scripts: names of the page's own scripts, behind the one that draws; by default one that draws all texts.
    """
    if not any(map(may_hold_formulas, texts)):
        return Drawing()
    return Drawing(style(), read_templates("formulas.js", *(scripts or ("draw_all.js",))), converter(), packed())


@cache
def converter() -> str:
    """The script that defines `drawFormulas`: the web chat's modules in one scope of their own."""
    modules = "".join((WEB / name).read_text(encoding="utf-8") for name in ("dom.js", "inline.js", "math.js"))
    scope = re.sub(r"^(import .*\n|export )", "", modules, flags=re.MULTILINE) + read_templates("draw_formulas.js")
    temml = (WEB / "vendor" / "temml.min.js").read_text(encoding="utf-8")
    return f'"use strict";\n{temml}\nglobalThis.drawFormulas = (() => {{\n{scope}return drawFormulas;\n}})();\n'


@cache
def packed() -> Markup:
    """The converter's element."""
    return Markup(element("formulas", json.dumps(converter()), level=9).decode())


@cache
def style() -> str:
    """The look of formulas: Temml's, without the font that it loads."""
    temml = (WEB / "vendor" / "temml.css").read_text(encoding="utf-8")
    return re.sub(r"@font-face \{[^}]*\}\n", "", temml) + read_templates("formulas.css")
