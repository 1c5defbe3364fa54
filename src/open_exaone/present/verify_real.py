"""verify-real.md and verify-real.html: the check of a published model as a page; both files stand alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_json, write_text
from open_exaone.base.printable import printable
from open_exaone.present import formatting, plots

REPORT, MARKDOWN, PAGE = "verify-real.json", "verify-real.md", "verify-real.html"
CSS = Path(__file__).parent / "templates" / "report.css"
TITLES = {
    "logits": "Logits beside transformers",
    "math_500": "MATH-500 beside the published numbers",
    "rl": "Steps of online RL",
}
MARKS = {True: "✓", False: "✗", None: "–"}
WORDS = {"passed": "passed", "failed": "failed", "error": "could not be done", "skipped": "left out"}
SERIES = {
    "reward_mean": "mean reward",
    "loss": "loss",
    "entropy": "entropy (nats per token)",
    "mean_logprob_gap": "mean gap to the engine (nats)",
    "mean_reply_tokens": "reply length (tokens)",
    "tokens_per_second": "tokens per second",
}
NEAREST = 6  # published numbers that are shown


@dataclass(frozen=True, slots=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Line:
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Plot:
    title: str
    svg: str


Block = Heading | Line | Table | Plot


def write_pages(folder: Path) -> tuple[Path, Path]:
    """Writes both pages from `verify-real.json`; returns their paths.

    Raises:
        DataError: the report is missing, is not JSON, or is no such report.
    """
    report = read_json(folder / REPORT)
    try:
        blocks = list(report_blocks(report))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder / REPORT}: is no report of verify-real: {error!r}: run `exaone verify-real` again"
        ) from error
    markdown, page = folder / MARKDOWN, folder / PAGE
    write_text(markdown, "\n\n".join(filter(None, map(_markdown, blocks))) + "\n")
    write_text(page, _page(report["model"]["name"], blocks))
    return markdown, page


def terminal_lines(report: Mapping[str, Any], folder: Path) -> list[str]:
    """What the terminal shows of a report whose pages were written into `folder`; safe to print.

    Each part with its checks, the nearest published numbers, and where the pages are.
    """
    lines = []
    for name, part in report["parts"].items():
        lines.append(f"{TITLES[name]}: {WORDS[part['status']]}" + (f": {part['why']}" if part.get("why") else ""))
        lines += [f"  {MARKS[check['passed']]} {check['name']}: {check['detail']}" for check in part["checks"]]
        if name == "math_500" and part["figures"]:
            for row in nearest(part["figures"]):
                beside = f"{row['percent']}%, ours {100 * row['difference']:+.1f} points"
                lines.append(f"    published of {row['model']}: {beside}")
    lines.append(f"The report, to share: {folder / MARKDOWN}; as a page: {folder / PAGE}")
    return [" ".join(printable(line).splitlines()) for line in lines]


def nearest(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The published numbers to show beside MATH-500's: the model's own, then the nearest ones."""
    own = [row for row in part["beside"] if part["published"] and row["model"] == part["published"]["model"]]
    return own + [row for row in part["beside"] if row not in own][: NEAREST - len(own)]


def report_blocks(report: Mapping[str, Any]) -> Iterator[Block]:
    """The report as blocks, in the order in which they are read."""
    model, machine = report["model"], report["machine"]
    yield Heading(f"{model['name']}: {'every check passed' if report['passed'] else 'not everything passed'}", 1)
    yield Line(
        f"Open-EXAONE's check of {model['name']} ({formatting.number(model['num_parameters'])} parameters) on "
        f"{machine.get('gpu') or machine['processor']}, begun {report['started']}, "
        f"{formatting.duration(report['seconds'])} in this sitting."
    )
    yield Table(
        ("part", "outcome", "time", "peak memory"),
        [
            (
                TITLES[name],
                WORDS[part["status"]],
                formatting.duration(part["seconds"]),
                formatting.size(part["peak_memory_bytes"] or None),
            )
            for name, part in report["parts"].items()
        ],
    )
    for name, part in report["parts"].items():
        yield Heading(TITLES[name])
        yield from _part(name, part)
    yield Heading("What was checked, and where")
    yield Table(("", ""), list(_about(report)))
    if model["licence"]:
        yield Line(f"Licence of the model: {model['licence']}.")
    yield Line("Open-EXAONE is independent of LG AI Research. This report holds no weights and no texts of the model.")


def _part(name: str, part: Mapping[str, Any]) -> Iterator[Block]:
    if part["status"] in ("error", "skipped"):
        yield Line(f"{WORDS[part['status']].capitalize()}: {part['why'].rstrip('.')}.")
        return
    rows = [(MARKS[check["passed"]], check["name"], check["detail"]) for check in part["checks"]]
    yield Table(("", "check", "found"), rows)
    if part["figures"]:
        yield from {"logits": _logits, "math_500": _math, "rl": _rl}[name](part["figures"])


def _logits(part: Mapping[str, Any]) -> Iterator[Block]:
    for dtype in ("float32", "bfloat16"):
        if dtype in part:
            yield Heading(f"{dtype}, ours beside transformers'", 3)
            yield _differences(part[dtype], part["texts"])
    if part["bfloat16_costs"]:
        yield Heading("The yardstick: transformers in bfloat16 beside itself in float32", 3)
        yield _differences(part["bfloat16_costs"], part["texts"])
    window = f"; the model's window has {part['window']:,} tokens" if part["window"] else ""
    yield Line(
        f"Differences of teacher-forced log-probabilities, in nats, over each text's last {part['num_scored']} tokens"
        f"{window}. Greedy: how many tokens of the continuation are the same."
    )


def _differences(pair: Mapping[str, Any], lengths: Mapping[str, int]) -> Table:
    rows = [
        (
            name,
            formatting.number(lengths[name]),
            _nats(text["max"]),
            _nats(text["mean"]),
            f"{text['num_tokens'] - text['other_best']} of {text['num_tokens']}",
            f"{text['greedy_same']}, then other" if text["greedy_parts"] else f"all {text['greedy_same']}",
        )
        for name, text in pair["texts"].items()
    ]
    return Table(("text", "tokens", "largest", "mean", "same most likely token", "greedy"), rows)


def _math(part: Mapping[str, Any]) -> Iterator[Block]:
    yield Line(
        f"pass@1 {formatting.percent(part['pass_at_1'])} (95 % interval {formatting.interval(part['ci95'])}), "
        f"{part['num_problems']} problems, {part['k']} samples each."
    )
    rows = [
        (
            row["model"],
            f"{row['percent']}%",
            f"{100 * row['difference']:+.1f}",
            {True: "yes", False: "no", None: formatting.NONE}[row["within"]],
            f"{row['source']} [{row['tag']}]",
        )
        for row in nearest(part)
    ]
    yield Table(("published", "pass@1", "ours minus it", "in our interval", "source"), rows)
    settings = {key: part[key] for key in ("temperature", "top_p", "max_new_tokens", "sha256") if key in part}
    yield Line("; ".join(f"{formatting.words(key)}: {value}" for key, value in settings.items()))


def _rl(part: Mapping[str, Any]) -> Iterator[Block]:
    rows = [
        (
            name,
            formatting.percent(part[name]["value"]),
            formatting.interval((part[name]["low"], part[name]["high"])),
            _nats(part[name]["mean_gap"]),
            _nats(part[name]["max_gap"]),
            formatting.number(part[name]["mean_reply_tokens"]),
            formatting.percent(part[name]["truncated_share"]),
        )
        for name in ("before", "after")
    ]
    yield Table(("held out", "correct", "95 % interval", "mean gap", "largest gap", "reply tokens", "truncated"), rows)
    change = part["change"]
    yield Line(
        f"Change: {100 * change['value']:+.1f} points ({100 * change['low']:+.1f} to {100 * change['high']:+.1f}) over "
        f"{part['num_held_out']} problems that were not trained on, by {part['num_steps']} steps on {part['problems']} "
        f"({part['batch_prompts']} prompts of {part['group_size']} samples a step, at most {part['max_new_tokens']} "
        f"tokens, learning rate {part['learning_rate']:g}, {part['dtype']}). It need not rise: so few steps show that "
        "training works, not that it helps."
    )
    for key, title in SERIES.items():
        points = [(row["step"], row[key]) for row in part["steps"] if row.get(key) is not None]
        if len(points) > 1:
            steps, values = zip(*points, strict=True)
            yield Plot(title, plots.curve(title, steps, values))


def _about(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model = report["model"]
    yield "model's sha256", model["sha256"]
    for record in (report["machine"], report["settings"], report["versions"]):
        for name, value in record.items():
            if value is not None:
                yield formatting.words(name), formatting.setting(name, value)


def _nats(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2g}"


# As Markdown and as HTML


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_cell(text)}"
        case Line(text):
            return _cell(text)
        case Table(titles, rows):
            lines = [titles, ["---"] * len(titles), *rows]
            return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
        case Plot():
            return ""


def _cell(value: object) -> str:
    """Text that cannot end a table's cell or open a tag."""
    return " ".join(printable(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _page(name: str, blocks: Sequence[Block]) -> str:
    body = "\n".join(map(_html, blocks))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(name)}: verify-real</title>\n<style>\n{CSS.read_text(encoding='utf-8')}\n"
        "td, th { white-space: normal; text-align: left; }\n.plot { max-width: 26rem; }\n</style>\n</head>\n<body>\n"
        f"{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_text(text)}</h{level}>"
        case Line(text):
            return f"<p>{_text(text)}</p>"
        case Table(titles, rows):
            head = "".join(f'<th scope="col">{_text(title)}</th>' for title in titles)
            body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
            return (
                f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>'
                "</table></div>"
            )
        case Plot(title, svg):
            return f'<figure class="plot">{svg}<figcaption>{_text(title)}</figcaption></figure>'


def _text(value: object) -> str:
    return escape(printable(value))
