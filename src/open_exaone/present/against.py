"""against.html: the questions whose verdict differs between two evaluations, side by side; it loads nothing."""

import os
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from open_exaone.base.files import write_text
from open_exaone.base.records import Flip, Sample
from open_exaone.present.formulas import Drawing, drawing
from open_exaone.present.page_parts import policy, read_templates, template

NAME, REPORT = "against.html", "report.html"
MAX_BYTES = 300_000  # of the page
MAX_TEXT_CHARS = 4_000  # of a question, a thought or an answer
MAX_SHORT_CHARS = 400  # of a gold answer, a reason or a name
MAX_CELL_CHARS = 80  # of a name in the table
MAX_TASKS = 40  # rows of the table
SLACK_BYTES = 2_000  # for the sentence on what is left out


class Side(NamedTuple):
    """One direction of flips."""

    title: str
    what: str
    num_flips: int
    shown: list[str]  # HTML


def write_against_page(folder: Path, other: Path, rows: Sequence[Sequence[str]], flips: Sequence[Flip]) -> Path:
    """Writes `against.html` into an evaluation's folder; returns its path.

    Args:
        other: the folder that it is compared with.
        rows: the table of tasks, its head first.
        flips: of all tasks.
    """
    path = folder / NAME
    write_text(path, render(folder, other, rows, flips))
    return path


def render(folder: Path, other: Path, rows: Sequence[Sequence[str]], flips: Sequence[Flip]) -> str:
    """The page as text, of `MAX_BYTES` at most; the first flips of each direction are shown, in turns."""
    gained, lost = ([flip for flip in flips if flip.is_gained is way] for way in (True, False))
    formulas = drawing(_texts(flips))
    size = MAX_BYTES - SLACK_BYTES - _num_bytes(_page(folder, other, rows, _sides(gained, lost, []), formulas))
    shown: list[tuple[Flip, str]] = []
    macro = template("against_flip.jinja").module.flipped
    for flip in chain.from_iterable(zip_longest(gained, lost)):
        if flip is None:
            continue
        block = str(macro(_flip(flip)))
        size -= _num_bytes(block)
        if size < 0:
            break
        shown.append((flip, block))
    return _page(folder, other, rows, _sides(gained, lost, shown), formulas)


def _texts(flips: Sequence[Flip]) -> Iterator[str]:
    for flip in flips:
        yield flip.problem.question
        for reply in (flip.ours.generation.reply, flip.theirs.generation.reply):
            yield from (reply.thought, reply.answer)


def _sides(gained: Sequence[Flip], lost: Sequence[Flip], shown: Sequence[tuple[Flip, str]]) -> list[Side]:
    blocks = [[block for flip, block in shown if flip.is_gained is way] for way in (True, False)]
    return [
        Side("Gained", "correct more often in this evaluation", len(gained), blocks[0]),
        Side("Lost", "correct less often in this evaluation", len(lost), blocks[1]),
    ]


def _page(folder: Path, other: Path, rows: Sequence[Sequence[str]], sides: Sequence[Side], formulas: Drawing) -> str:
    style = read_templates("report.css", "against.css") + formulas.style
    page: str = template("against.html.jinja").render(
        ours=cut_middle(str(folder), MAX_SHORT_CHARS),
        theirs=cut_middle(str(other), MAX_SHORT_CHARS),
        pages=_pages(folder, other),
        titles=rows[0],
        rows=[[cut_middle(cell, MAX_CELL_CHARS) for cell in row] for row in rows[1 : MAX_TASKS + 1]],
        num_tasks_left_out=max(0, len(rows) - 1 - MAX_TASKS),
        sides=sides,
        style=style,
        formulas=formulas,
        policy=policy(style, formulas.scripts),
    )
    return page


def _pages(folder: Path, other: Path) -> list[tuple[str, str]]:
    """The reports of the two evaluations, as far as there are some: the address from this page, and what it is."""
    names = {folder: "report with every sample of this evaluation", other: "report of the other one"}
    return [
        (quote(Path(os.path.relpath(place / REPORT, folder)).as_posix()), title)
        for place, title in names.items()
        if os.path.isfile(place / REPORT)  # False where no file can have that name
    ]


def _flip(flip: Flip) -> dict[str, Any]:
    problem = flip.problem
    return {
        "task": cut_middle(flip.task, MAX_SHORT_CHARS),
        "id": cut_middle(problem.id, MAX_SHORT_CHARS),
        "language": cut_middle(problem.language, MAX_SHORT_CHARS),
        "question": cut_middle(problem.question, MAX_TEXT_CHARS),
        "gold": cut_middle(problem.answer, MAX_SHORT_CHARS),
        "replies": [
            _reply("this evaluation", flip.ours, flip.our_correct),
            _reply("the other one", flip.theirs, flip.their_correct),
        ],
    }


def _reply(name: str, sample: Sample, correct: tuple[int, int]) -> dict[str, Any]:
    reply = sample.generation.reply
    share = {"correct samples:": f"{correct[0]:,} of {correct[1]:,}", "sample": str(sample.index)}
    return {
        "stage": name,
        "verdict": str(sample.verdict.status),
        "why": cut_middle(sample.verdict.why, MAX_SHORT_CHARS),
        "rewards": share if correct[1] > 1 else {},
        "thought": cut_middle(reply.thought.strip(), MAX_TEXT_CHARS),
        "thought_chars": len(reply.thought.strip()),
        "answer": cut_middle(reply.answer.strip(), MAX_TEXT_CHARS),
    }


def cut_middle(text: str, limit: int) -> str:
    """The text; where it is longer than `limit` characters, its two ends around a sentence on what is left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … ({len(text) - 2 * half:,} characters are left out here.) … {text[-half:]}"


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8"))
