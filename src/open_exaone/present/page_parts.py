"""What pages that stand alone are made of: templates, packed texts, and a policy that lets nothing else act."""

import base64
import hashlib
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from open_exaone.base.printable import printable
from open_exaone.base.text import count
from open_exaone.present import formatting

TEMPLATES = Path(__file__).parent / "templates"
NUMBER = re.compile(r"[+−-]?[\d.](?!\S{30})")  # the beginning of a number, its unit or interval; not of a hash
MARKS = {"correct": "✓", "wrong": "✗", "truncated": "…", "unparsed": "?"}


def read_templates(*names: str) -> str:
    """The texts of styles or scripts, one after another."""
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def template(name: str) -> Any:
    """A page's template; text that is put in is escaped, and rid of what could steer or reorder."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    def clean(value: Any) -> Any:
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=formatting.percent,
        interval=formatting.interval,
        number=formatting.number,
        duration=formatting.duration,
        size=formatting.size,
        sides=sides,
        words=formatting.words,
        count=count,
        language_code=language_code,
        mark=lambda status: MARKS.get(status, "!"),
        svg=Markup,
    )
    return environment.get_template(name)


def sides(rows: Sequence[Sequence[str]]) -> list[str]:
    """The class of each column's cells: "word" where a cell holds words, which stand to the left; numbers do not."""
    columns = zip(*rows, strict=False)
    return [
        "" if all(cell in ("", formatting.NONE) or NUMBER.match(cell) for cell in column) else "word"
        for column in columns
    ]


def language_code(value: object) -> str:
    """A language of the data for an attribute `lang`; `und`, not determined, for what is no code."""
    return value if isinstance(value, str) and re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", value) else "und"


def digest(text: str) -> str:
    """A style's or a script's SHA-256 in base64, as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def policy(style: str, scripts: tuple[str, ...] = (), others: str = "") -> str:
    """A content security policy: this style and these scripts by their hashes, and nothing else.

    Args:
        others: further directives, such as "connect-src 'self'".
    """
    hashes = " ".join(f"'sha256-{digest(script)}'" for script in scripts)
    allowed = [f"script-src {hashes}"] if scripts else []
    more = [others] if others else []
    directives = ["default-src 'none'", *allowed, f"style-src 'sha256-{digest(style)}'", *more]
    return "; ".join([*directives, "base-uri 'none'", "form-action 'none'"])


def element(kind: str, text: str, level: int) -> bytes:
    """An element of the page that holds a text, packed. Half a surrogate pair is read back as U+FFFD.

    Args:
        level: zlib's, from 1 (quick) to 9 (small).
    """
    packed = zlib.compress(text.encode("utf-8", "surrogatepass"), level, wbits=31)
    body = base64.b64encode(packed)
    return b'<script type="application/octet-stream" data-kind="%s">%s</script>\n' % (kind.encode(), body)
