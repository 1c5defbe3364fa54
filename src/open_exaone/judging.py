"""The part of the public Python API that judges: it loads no torch."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem, Verdict
from open_exaone.rollout.run import judge_reply, side_by_side
from open_exaone.text.split import split_reply
from open_exaone.verify.sandbox.programs import Limits, ProgramResult
from open_exaone.verify.sandbox.programs import run_program as _run_program
from open_exaone.verify.settings import JudgeSettings

__all__ = ["JudgeSettings", "judge", "run_program"]


def judge(
    kind: str,
    reply: str,
    gold: object,
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
            instructions, as an object or as JSON; for "language" the language's code, also given by `language`.
        options: the texts of a multiple choice, in order.
        language: the problem's: "en", "ko" or "es".
        metadata: what the kind needs besides; "reasoning_gym" needs the data set's entry.
        settings: what judging may cost.

    Raises:
        ValueError: the kind is unknown, or the gold answer is not what the kind needs.
    """
    extra = dict(metadata or {}) | ({"options": list(options)} if options is not None else {})
    if kind == "language":
        gold = gold or language
    if not isinstance(reply, str):
        raise ValueError(f"reply: must be a text, not {type(reply).__name__}")
    answer = gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False)
    problem = Problem("judged", "judged", language or "en", "", answer, kind, metadata=extra)
    return judge_reply(problem, split_reply(reply, thinking=thinking), settings=settings)


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
        time_limit_s: the longest that it may take, by the clock.
        unsafe_code_execution: run it even where this machine cannot isolate it; otherwise it is "refused".

    Returns:
        `.status`: "ok", "failed", "timeout", "memory", "output" or "refused"; `.stdout`, `.stderr`, `.why` and more.
    """
    limits = Limits(time_s=time_limit_s, memory_bytes=memory_bytes)
    return _run_program(source, stdin, limits, unsafe=unsafe_code_execution)


def judge_rows(
    rows: Sequence[Any], kind: str = "math", settings: JudgeSettings | None = None, source: str = "rows"
) -> list[Verdict]:
    """Judges recorded replies side by side: objects with `reply`, `gold`, and what else `judge` takes.

    Args:
        kind: of the rows that name none.
        source: where they come from, for errors.

    Raises:
        DataError: a row is wrong; names its line and field.
    """

    def verdict(numbered: tuple[int, Any]) -> Verdict:
        number, row = numbered
        try:
            known = {"kind": kind, **row}
            return judge(known.pop("kind"), known.pop("reply"), known.pop("gold"), **known, settings=settings)
        except KeyError as error:
            raise DataError(f"{source}: line {number}: field {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise DataError(f"{source}: line {number}: {error}") from error

    return side_by_side(verdict, list(enumerate(rows, start=1)))
