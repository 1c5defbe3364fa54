"""Replies that another harness stored, read to be judged again, with its own verdicts beside ours.

A file holds one JSON object a line, and is recognised by its fields; docs/reports.md shows the formats.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_numbered_jsonl
from open_exaone.base.records import (
    Generation,
    Problem,
    Sample,
    Sampling,
    StopReason,
    VerdictStatus,
)
from open_exaone.evaluation.missing import NO_GENERATION
from open_exaone.evaluation.report import Entry, Grader
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.statistics import rate
from open_exaone.evaluation.task import Task
from open_exaone.rollout.judge_outage import UNJUDGED
from open_exaone.text.stored import split_stored
from open_exaone.verify.judge import find_judge
from open_exaone.verify.language import share
from open_exaone.verify.own import check_kind_of_row

FORMATS = """\
known formats, one object a line:
  Qwen2.5-Math's evaluation: question, gt, code (a list of replies), score (as many truth values)
  GSM8K's example solutions: question, ground_truth, and for each model an object of solution and is_correct
  plain: reply, or replies (a list), and gold or answer; if wanted question, kind, language, thinking, metadata,
    and verdict or verdicts: true, false, or a verdict's name"""

_PLAIN_FIELDS = {"reply", "replies", "gold", "answer", "id", "question", "kind", "language", "thinking", "metadata"}
_PLAIN_FIELDS |= {"verdict", "verdicts"}
_UNKNOWN = dict.fromkeys(field.name for field in fields(Sampling) if field.name != "num_samples")

Theirs = Sequence[Sequence[bool | None]]  # [P, k]: the other grader's verdicts; None where it gave none


@dataclass(frozen=True, slots=True)
class Foreign:
    """One model's stored replies; P problems, k replies each, not judged yet."""

    task: Task
    samples: tuple[tuple[Sample, ...], ...]  # [P, k]
    theirs: tuple[tuple[bool | None, ...], ...]  # [P, k]
    is_mode_known: bool  # whether the file says if replies were to have a thought


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question of the file with its replies."""

    problem: Problem
    replies: Sequence[str | None]  # None: there is none
    theirs: Sequence[bool | None]
    thinking: bool | None


def read_outputs(path: Path, kind: str = "math") -> list[Foreign]:
    """The replies of a file, a task for each model in it.

    Args:
        kind: how answers are compared, where a row doesn't say.

    Raises:
        DataError: no format fits a row's fields, a field is wrong, questions have different numbers of replies, or no
            reply is there.
    """
    rows = read_numbered_jsonl(path)
    if not rows:
        raise DataError(f"{path}: holds no replies; {FORMATS}")
    by_model: dict[str, list[_Asked]] = {}
    read = _format(rows[0][1], f"{path}: line {rows[0][0]}")
    for number, row in rows:
        where = f"{path}: line {number}"
        if _format(row, where) is not read:
            raise DataError(f"{where}: is of another format than the first line; {FORMATS}")
        try:
            for model, asked in read(row, f"{path.stem}/{number}", kind):
                by_model.setdefault(model, []).append(asked)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
    if not any(reply is not None for items in by_model.values() for asked in items for reply in asked.replies):
        raise DataError(f"{path}: holds no reply: every one is null")
    return [_foreign(path, model, asked) for model, asked in by_model.items()]


def score_foreign(foreign: Foreign, samples: Sequence[Sequence[Sample]]) -> Entry:
    """The entry in report.json of replies that were judged again: what is not known of them is null.

    Args:
        samples: [P, k], as `rescore` gives them.
    """
    entry = score_task(foreign.task, samples)
    grader = agreement(samples, foreign.theirs)
    mode = {} if foreign.is_mode_known else {"mode": "not stated"}
    seen = entry.rates.truncated  # thoughts that were never closed; the files do not say why an answer ended
    rates = entry.rates.model_copy(update={"truncated": seen if seen and seen.value else None})
    return entry.model_copy(update={**_UNKNOWN, **mode, "rates": rates, "stops": {}, "grader": grader})


def agreement(samples: Sequence[Sequence[Sample]], theirs: Theirs) -> Grader | None:
    """How often our verdicts are the other grader's; None where it gave none.

    Args:
        samples: [P, k], judged by us.
    """
    judged = [row for row in (_both(*rows) for rows in zip(samples, theirs, strict=True)) if row]
    if not judged:
        return None
    flat = [pair for row in judged for pair in row]
    return Grader(
        score=rate([[their for _, their in row] for row in judged]).value,
        agreement=sum(sample.verdict.correct == their for sample, their in flat) / len(flat),
        only_ours=sum(sample.verdict.correct and not their for sample, their in flat),
        only_theirs=sum(their and not sample.verdict.correct for sample, their in flat),
    )


def difference_rows(task: Task, samples: Sequence[Sequence[Sample]], theirs: Theirs) -> list[dict[str, Any]]:
    """The lines of differences.jsonl: every sample that one grader calls correct and the other doesn't, and why."""
    return [
        {
            "task": task.name,
            "problem": problem.id,
            "index": sample.index,
            "gold": problem.answer,
            "ours": sample.verdict.status.value,
            "theirs": "correct" if their else "wrong",
            "extracted": sample.verdict.extracted,
            "why": sample.verdict.why,
            "end": sample.generation.reply.answer[-200:],
        }
        for problem, row, others in zip(task.problems, samples, theirs, strict=True)
        for sample, their in _both(row, others)
        if sample.verdict.correct != their
    ]


def _both(samples: Sequence[Sample], theirs: Sequence[bool | None]) -> list[tuple[Sample, bool]]:
    """The samples on which the other grader has a verdict."""
    return [(sample, their) for sample, their in zip(samples, theirs, strict=True) if their is not None]


def _format(row: Any, where: str) -> Any:
    """The reader of a row's format."""
    if isinstance(row, dict):
        if row.keys() >= {"question", "gt", "code", "score"}:
            return _read_qwen
        if row.keys() >= {"question", "ground_truth"} and any(map(_is_solution, row.values())):
            return _read_gsm8k
        if len(row.keys() & {"reply", "replies"}) == 1 and len(row.keys() & {"gold", "answer"}) == 1:
            if unknown := row.keys() - _PLAIN_FIELDS:
                raise DataError(f"{where}: unknown field {min(unknown)!r}; {FORMATS}")
            return _read_plain
    found = f"fields {', '.join(sorted(map(str, row))[:12])}" if isinstance(row, dict) else "no object"
    raise DataError(f"{where}: {found}; {FORMATS}")


def _read_qwen(row: Mapping[str, Any], name: str, kind: str) -> Iterator[tuple[str, _Asked]]:
    replies = _replies(row["code"], "code")
    answer = row.get("answer")  # "gt" is made from it for their comparison, and at times loses a part
    is_short = isinstance(answer, str) and answer.strip() and "\n" not in answer
    gold = _gold(answer if is_short else row["gt"], "gt")
    problem = _problem(name, _text(row, "question"), gold, kind)
    yield "", _Asked(problem, replies, _verdicts(row["score"], len(replies), "score"), None)


def _read_gsm8k(row: Mapping[str, Any], name: str, kind: str) -> Iterator[tuple[str, _Asked]]:
    gold = _text(row, "ground_truth").split("A:")[-1].strip()
    problem = _problem(name, _text(row, "question"), gold, kind)
    for model, solution in row.items():
        if _is_solution(solution):
            verdicts = _verdicts([solution["is_correct"]], 1, f"{model}.is_correct")
            yield model, _Asked(problem, _replies([solution["solution"]], f"{model}.solution"), verdicts, None)


def _read_plain(row: Mapping[str, Any], name: str, kind: str) -> Iterator[tuple[str, _Asked]]:
    replies = _replies(row["replies"], "replies") if "replies" in row else _replies([row["reply"]], "reply")
    gold = _gold(row["gold"], "gold") if "gold" in row else _gold(row["answer"], "answer")
    kind, question = _text(row, "kind", kind), _text(row, "question", "")
    if "kind" in row:
        check_kind_of_row(kind, "with --kind")
    find_judge(kind)
    thinking, metadata = row.get("thinking"), row.get("metadata", {})
    if not isinstance(thinking, bool | None):
        raise ValueError("field 'thinking': must be true or false")
    if not isinstance(metadata, dict):
        raise ValueError("field 'metadata': must be an object")
    verdicts: Sequence[bool | None] = [None] * len(replies)
    if "verdicts" in row or "verdict" in row:
        given = row["verdicts"] if "verdicts" in row else [row["verdict"]]
        verdicts = _verdicts(given, len(replies), "verdicts")
    language = _text(row, "language", "") or None
    problem = _problem(_text(row, "id", name), question, gold, kind, language, metadata)
    yield "", _Asked(problem, replies, verdicts, thinking)


def _is_solution(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= {"solution", "is_correct"}


def _problem(
    name: str,
    question: str,
    gold: str,
    kind: str,
    language: str | None = None,
    metadata: Mapping[str, object] | None = None,
) -> Problem:
    if language is None:
        language = "ko" if share(question, "ko") > share(question, "en") else "en"
    return Problem(name, "stored", language, question, gold, kind, metadata=metadata or {})


def _text(row: Mapping[str, Any], field: str, default: str | None = None) -> str:
    value = row.get(field, default)
    if not isinstance(value, str):
        raise ValueError(f"field {field!r}: must be a text")
    return value


def _gold(value: object, field: str) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError(f"field {field!r}: must be a text or a number")
    return str(value)


def _replies(value: object, field: str) -> list[str | None]:
    if not isinstance(value, list) or not value or not all(isinstance(reply, str | None) for reply in value):
        raise ValueError(f"field {field!r}: must be a reply, or a list of replies, as texts; null where there is none")
    return value


def _verdicts(value: object, number: int, field: str) -> list[bool | None]:
    if not isinstance(value, list) or len(value) != number:
        raise ValueError(f"field {field!r}: must hold a verdict for each of the {number} replies")
    names = {status.value: status is VerdictStatus.CORRECT for status in VerdictStatus}
    known: list[bool | None] = []
    for verdict in value:
        if verdict is not None and not isinstance(verdict, bool) and verdict not in tuple(names):
            raise ValueError(f"field {field!r}: a verdict is true, false, or one of {', '.join(names)}")
        known.append(names[verdict] if isinstance(verdict, str) else verdict)
    return known


def _foreign(path: Path, model: str, asked: Sequence[_Asked]) -> Foreign:
    sizes = {len(item.replies) for item in asked}
    if len(sizes) > 1:
        raise DataError(f"{path}: questions have between {min(sizes)} and {max(sizes)} replies; each needs as many")
    modes = {item.thinking for item in asked}
    if len(modes) > 1:
        raise DataError(f"{path}: field 'thinking': must be the same for every row of one file")
    problems = tuple(item.problem for item in asked)
    if len({problem.id for problem in problems}) < len(problems):
        raise DataError(f"{path}: field 'id': two rows have the same one")
    sampling = Sampling(max_new_tokens=1, num_samples=sizes.pop())  # it is not known; the entry has null
    name = f"{path.stem}/{model}" if model else path.stem
    task = Task(name, path.stem, problems, sampling, thinking=modes.pop() or False, source=str(path))
    samples = tuple(
        tuple(_sample(task, item, index, reply) for index, reply in enumerate(item.replies)) for item in asked
    )
    return Foreign(task, samples, tuple(tuple(item.theirs) for item in asked), asked[0].thinking is not None)


def _sample(task: Task, asked: _Asked, index: int, reply: str | None) -> Sample:
    generation = NO_GENERATION
    if reply is not None:
        generation = Generation(split_stored(reply, thinking=asked.thinking or False), StopReason.END, 0, 0, 0)
    return Sample(f"{task.name}/{asked.problem.id}/{index}", task.name, asked.problem.id, index, generation, UNJUDGED)
