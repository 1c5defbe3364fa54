"""How long training examples are, shown: a table for the terminal, a plot by domain, a page with both."""

import base64
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from open_exaone.base.errors import ConfigError
from open_exaone.base.files import write_json, write_text
from open_exaone.base.records import mode_label
from open_exaone.base.terminal import Console
from open_exaone.base.text import count
from open_exaone.data.lengths import LengthGroup, LengthStatistics, Spread
from open_exaone.present import formatting
from open_exaone.present.page_parts import TEMPLATES, template
from open_exaone.present.plots import Frame, caption, drawing, line_path
from open_exaone.present.terminal import rich_table

BINS_PER_DOUBLING = 4
ROW, RISE = 58, 44  # height of a domain's row, and of its highest bin
LEFT, RIGHT, TOP = 184, 520, 8
MAX_DOMAINS = 24  # drawn; the table has all
ALL = "all"
MODE = "· "  # begins a mode's row, below its domain's
DROPPED_FIRST = ("99%", "thought mean", "answer mean", "90%", "thought median", "share", "answer median", "longest")
PLOT_RULES = (".grid", ".bar", ".dot", ".ridge", "svg text", "svg .name", "svg .value")
PAGE = """
body { max-width: 80rem; }
figure { max-width: 56rem; }
.closing td:nth-child(2), .closing th:nth-child(2) { text-align: right; }
.closing .mode th { padding-left: 1.4rem; color: var(--soft); font-weight: 400; }
"""
RIDGE = (
    ".ridge { fill: var(--accent); fill-opacity: .22; stroke: var(--accent); stroke-width: 1.5; "
    "stroke-linejoin: round; }"
)
Column = tuple[str, Callable[[LengthGroup], str]]


def print_lengths(stats: LengthStatistics, console: Console | None = None) -> None:
    """Prints the table, and how many tokens are in reasoning mode for one that is not."""
    console = console or Console()
    if not stats.groups:
        console.print("No examples.")
        return
    shown = rich_table(*table(stats), console.width, DROPPED_FIRST)
    shown.columns[0].justify = "left"
    console.print(shown)
    for sentence in notes(stats):
        console.print(sentence)


def write_lengths(stats: LengthStatistics, path: Path) -> None:
    """Writes the statistics: as a page (`.html`), as the plot alone (`.svg`) or as numbers (`.json`).

    Raises:
        ConfigError: the path ends otherwise.
        RunFolderError: the file cannot be written.
    """
    if path.suffix == ".json":
        write_json(path, stats.as_json())
    elif path.suffix == ".svg":
        write_text(path, standalone(plot(stats)))
    elif path.suffix == ".html":
        write_text(path, render(stats))
    else:
        raise ConfigError(f"{path}: ends in none of .html (a page), .svg (the plot), .json (the numbers)")


def table(stats: LengthStatistics) -> tuple[list[str], list[list[str]]]:
    """The groups as texts: headings, and a row for each; modes, thoughts and answers where there are any."""
    shown = [group for group in stats.groups if group.mode is None or len(stats.modes) > 1]
    whole = sum(group.tokens.total for group in stats.domains)
    columns: list[Column] = [
        ("domain", _name),
        ("examples", lambda group: f"{group.tokens.count:,}"),
        ("tokens", lambda group: formatting.number(group.tokens.total)),
        ("share", lambda group: formatting.percent(group.tokens.total / whole if whole else None)),
        ("mean", lambda group: _tokens(group.tokens.mean)),
        ("median", lambda group: _tokens(group.tokens.median)),
        ("90%", lambda group: _tokens(group.tokens.p90)),
        ("99%", lambda group: _tokens(group.tokens.p99)),
        ("longest", lambda group: _tokens(group.tokens.max)),
        *_part_columns("thought", lambda group: group.thought, stats),
        *_part_columns("answer", lambda group: group.answer, stats),
    ]
    return [title for title, _ in columns], [[read(group) for _, read in columns] for group in shown]


def _name(group: LengthGroup) -> str:
    """The domain; a mode's row stands below its domain's, and names the mode."""
    if group.mode is not None:
        return MODE + _mode(group)
    return ALL if group.domain is None else formatting.short_name(group.domain)


def _mode(group: LengthGroup) -> str:
    return mode_label(formatting.short_name(group.mode or ""))


def _tokens(number: float) -> str:
    return formatting.number(round(number))


def _part_columns(name: str, part: Callable[[LengthGroup], Spread | None], stats: LengthStatistics) -> list[Column]:
    if not any(part(group) for group in stats.groups):
        return []
    return [
        (f"{name} mean", lambda group: _tokens(spread.mean) if (spread := part(group)) else formatting.NONE),
        (f"{name} median", lambda group: _tokens(spread.median) if (spread := part(group)) else formatting.NONE),
    ]


def notes(stats: LengthStatistics) -> list[str]:
    """What the numbers say in words, where there is something to say."""
    ratio, modes = stats.reasoning_ratio, [_mode(group) for group in stats.modes]
    if ratio:
        return [f"Tokens, reasoning : non-reasoning = {ratio:.2f} : 1 (EXAONE 4.0's SFT set: 1.5 : 1)."]
    return [f"All of them: {modes[0]}."] if len(modes) == 1 else []


def plot(stats: LengthStatistics) -> str:
    """How lengths are distributed, a row for each domain, on a scale of doublings; its median as a bar, its mean a dot.

    Each row's height is its own: its highest bin fills it, however many examples the domain has.
    """
    shown = stats.domains[:MAX_DOMAINS]
    ends = [max(1, length) for group in shown for length in group.counts] or [1]
    first = math.floor(math.log2(min(ends)))
    last = max(first + 1, math.floor(math.log2(max(ends))) + 1)
    bottom = TOP + ROW * max(1, len(shown))
    frame = Frame(LEFT, TOP, RIGHT, bottom, (first, last), (0, 1))
    parts = []
    for tick in range(first, last + 1, max(1, -(-(last - first) // 7))):
        x = frame.x(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(caption(x, bottom + 17, power_name(tick), "tick", "middle"))
    for row, group in enumerate(shown):
        parts.append(_ridge(frame, group, TOP + ROW * (row + 1)))
    parts.append(caption((LEFT + RIGHT) / 2, bottom + 36, "tokens of an example", "tick", "middle"))
    label = "; ".join(
        f"{group.domain}: {count(group.tokens.count, 'example')}, median {_tokens(group.tokens.median)}, "
        f"mean {_tokens(group.tokens.mean)}, longest {_tokens(group.tokens.max)}"
        for group in shown
    )
    return drawing(600, bottom + 44, f"Lengths in tokens by domain: {label or 'no examples'}", parts)


def _ridge(frame: Frame, group: LengthGroup, base: float) -> str:
    """One domain's distribution, standing on `base`."""
    bins = histogram(group.counts)
    highest = max(bins.values())
    outline = [(frame.x(min(bins) / BINS_PER_DOUBLING), base)]
    for index in range(min(bins), max(bins) + 1):
        y = base - RISE * bins.get(index, 0) / highest
        outline += [(frame.x(edge / BINS_PER_DOUBLING), y) for edge in (index, index + 1)]
    outline.append((outline[-1][0], base))
    median, mean = (frame.x(math.log2(max(1.0, value))) for value in (group.tokens.median, group.tokens.mean))
    return "".join(
        [
            f'<path class="grid" d="M{frame.left:.1f} {base:.1f}H{frame.right:.1f}"/>',
            line_path(outline, "ridge"),
            f'<path class="bar" d="M{median:.1f} {base:.1f}v-{RISE}"/>',
            f'<circle class="dot" cx="{mean:.1f}" cy="{base:.1f}" r="4"/>',
            caption(LEFT - 10, base - 18, formatting.short_name(group.domain or ""), "name", "end"),
            caption(
                LEFT - 10,
                base - 2,
                f"{formatting.number(group.tokens.count)} {'example' if group.tokens.count == 1 else 'examples'}",
                "tick",
                "end",
            ),
            caption(RIGHT + 8, base - 4, _tokens(group.tokens.median), "value", "start"),
        ]
    )


def histogram(counts: Mapping[int, int]) -> dict[int, int]:
    """How many examples have a length in each quarter of a doubling: by floor(4 log2 length); 0 tokens as 1."""
    bins: dict[int, int] = {}
    for length, number in counts.items():
        index = math.floor(BINS_PER_DOUBLING * math.log2(max(1, length)))
        bins[index] = bins.get(index, 0) + number
    return bins


def power_name(power: int) -> str:
    """2 to this power as a label: 512, 4K, 1M."""
    return f"{2 ** (power - 20)}M" if power >= 20 else f"{2 ** (power - 10)}K" if power >= 10 else str(2**power)


def render(stats: LengthStatistics) -> str:
    """The page as text, which loads nothing and runs nothing; the same statistics give the same bytes."""
    css = style()
    page: str = template("lengths.html.jinja").render(
        domains=stats.domains,
        total=next((group.tokens for group in stats.groups if group.domain is None), None),
        table=table(stats),
        mode_sign=MODE,
        notes=notes(stats),
        plot=plot(stats),
        num_left_out=max(0, len(stats.domains) - MAX_DOMAINS),
        style=css,
        style_hash=base64.b64encode(hashlib.sha256(css.encode()).digest()).decode(),
    )
    return page


def style() -> str:
    """The style sheet of a page that shows lengths."""
    return _css() + PAGE + RIDGE + "\n"


def standalone(svg: str) -> str:
    """A drawing as a file of its own: in the page's light colours, written out, for viewers that know no variables."""
    css = _css()
    colours = dict(re.findall(r"(--[\w-]+): ([^;]+);", css[: css.index("}")]))
    rules = [line for line in [*css.splitlines(), RIDGE] if line.startswith(PLOT_RULES)]
    rules_text = re.sub(r"var\((--[\w-]+)\)", lambda match: colours[match[1]], "\n".join(rules))
    head, shape, rest = re.split(r'(viewBox="0 0 \d+ \d+">)', svg, maxsplit=1)
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    paper = f'<rect width="100%" height="100%" fill="{colours["--paper"]}"/>'
    return f"{head}{shape}<style>{rules_text}</style>{paper}{rest}\n"


def _css() -> str:
    return (TEMPLATES / "report.css").read_text(encoding="utf-8")
