"""The part of the public Python API that judges: it loads no torch."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem, Verdict
from open_exaone.evaluation.missing import NO_REPLY
from open_exaone.rollout.run import judge_reply
from open_exaone.sandbox.programs import Limits, ProgramResult
from open_exaone.sandbox.programs import run_program as _run_program
from open_exaone.text.stored import split_stored
from open_exaone.verify.own import check_kind_of_row
from open_exaone.verify.settings import JudgeSettings

__all__ = ["JudgeSettings", "judge", "run_program"]

WITHOUT_GOLD = ("code", "constraints", "language", "length")  # these may find all that they need in their metadata
ROW_FIELDS = {"kind", "reply", "gold", "thinking", "options", "language", "metadata"}


def judge(
    kind: str,
    reply: str,
    gold: object = None,
    *,
    thinking: bool = False,
    options: Sequence[str] | None = None,
    language: str | None = None,
    metadata: Mapping[str, object] | None = None,
    settings: JudgeSettings | None = None,
) -> Verdict:
    """Judges a reply against the gold answer: the answer alone counts, never the thought.

    Args:
        kind: how answers are compared: one of `open_exaone.verify.judge.KINDS`, or a function of your own,
            "FILE.py:function".
        reply: the whole reply. It may open its thought itself, or (thinking=True) the prompt has.
        gold: the right answer: a text or a number; for "code" the tests and for "constraints" the row that holds the
            instructions, as an object or as JSON; for "language" the language's code, unless `language` gives it. Kinds
            that can read their metadata alone need none.
        options: the texts of a multiple choice, in order.
        language: the problem's: "en", "ko" or "es".
        metadata: what the kind needs besides; "reasoning_gym" needs the data set's entry.
        settings: what judging may cost.

    Raises:
        ValueError: the kind is unknown, or the gold answer is not what the kind needs.
    """
    _check_arguments(kind, reply, gold, thinking, options, metadata, settings)
    extra = dict(metadata or {}) | ({"options": list(options)} if options is not None else {})
    if gold is None:
        gold = language if kind == "language" else ""
    is_made_of_parts = isinstance(gold, Mapping | list | tuple)
    answer = json.dumps(gold, ensure_ascii=False, default=str) if is_made_of_parts else str(gold)
    problem = Problem("judged", "judged", language or "en", "", answer, kind, metadata=extra)
    return judge_reply(problem, split_stored(reply, thinking=thinking), settings=settings)


def _check_arguments(
    kind: object, reply: object, gold: object, thinking: object, options: object, metadata: object, settings: object
) -> None:
    needs = [
        ("kind", kind, isinstance(kind, str), "a text"),
        ("reply", reply, isinstance(reply, str), "a text"),
        ("gold", gold, gold is not None or kind in WITHOUT_GOLD, "the right answer"),
        ("thinking", thinking, isinstance(thinking, bool), "true or false"),
        ("options", options, options is None or isinstance(options, list | tuple), "a list of texts"),
        ("metadata", metadata, metadata is None or isinstance(metadata, Mapping), "an object"),
        ("settings", settings, settings is None or isinstance(settings, JudgeSettings), "a JudgeSettings"),
    ]
    for name, value, is_good, needed in needs:
        if not is_good:
            raise ValueError(f"{name}: must be {needed}, not {str(value)[:40]!r}")


def run_program(
    source: str,
    stdin: str = "",
    time_limit_s: float = 5.0,
    *,
    memory_bytes: int = 1 << 30,
    unsafe_code_execution: bool = False,
) -> ProgramResult:
    """Runs a Python program that nobody vouches for: no network, no files of yours, no processes, and these limits.

    Args:
        stdin: what it reads.
        time_limit_s: seconds of processor time that it may take; by the clock ten times as long.
        unsafe_code_execution: run it even where this machine cannot isolate it; otherwise it is "refused".

    Returns:
        `.status`: "ok", "failed", "timeout", "memory", "output" or "refused"; `.stdout`, `.stderr`, `.why` and more.
    """
    limits = Limits(time_s=time_limit_s, memory_bytes=memory_bytes)
    return _run_program(source, stdin, limits, unsafe=unsafe_code_execution)


def judge_rows(
    rows: Iterable[tuple[int, Any]], kind: str = "math", settings: JudgeSettings | None = None, source: str = "rows"
) -> list[Verdict]:
    """Judges recorded replies side by side.

    Args:
        rows: each with its line: objects with `reply` (null is an error's verdict: there is none), `gold`, and what
            else `judge` takes but for `settings`.
        kind: of the rows that name none.
        source: where they come from, for errors.

    Raises:
        DataError: a row is wrong; names its line and field.
    """

    def verdict(numbered: tuple[int, Any]) -> Verdict:
        number, row = numbered
        try:
            if isinstance(row, dict) and row.get("reply", "") is None:
                return NO_REPLY
            return judge(**_arguments(row, kind), settings=settings)
        except ValueError as error:
            raise DataError(f"{source}: line {number}: {error}") from error

    with ThreadPoolExecutor(os.cpu_count(), "judge") as threads:
        return list(threads.map(verdict, rows))


def _arguments(row: Any, kind: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError('must be an object such as {"reply": "...", "gold": "5"}')
    if unknown := row.keys() - ROW_FIELDS:
        raise ValueError(f"unknown field {min(unknown)!r}; known are {', '.join(sorted(ROW_FIELDS))}")
    if isinstance(row.get("kind"), str):
        check_kind_of_row(row["kind"], "with --kind")
    needed = ("reply",) if row.get("kind", kind) in WITHOUT_GOLD else ("reply", "gold")
    for field in needed:
        if field not in row:
            raise ValueError(f"field {field!r} is missing")
    return {"kind": kind, **row}
