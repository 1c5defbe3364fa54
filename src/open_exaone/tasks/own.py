"""A user's own problems: a file of them, or a Python function that gives them."""

import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import read_numbered_jsonl
from open_exaone.base.records import Problem, Reply
from open_exaone.verify.judge import judge_answer, judged_with
from open_exaone.verify.own import call_own, check_kind_of_row, check_own, is_own
from open_exaone.verify.settings import JudgeSettings

TASK_TIME_LIMIT_S = 600.0  # that a function may take to give all its problems
_FIELDS = {field.name for field in fields(Problem)}
_TEXTS = ("id", "task", "language", "verifier", "thought", "reply")


def own_problems(source: str, settings: JudgeSettings | None = None) -> list[Problem]:
    """The problems of a `.jsonl` file, or of a function named by file, such as "my_task.py:problems".

    A problem is an object with `question` and `answer`, which may be a number; `id`, `task`, `language` ("en"),
    `verifier` ("exact"), `metadata`, and for supervised stages `thought` and `reply`, may stand there too. The function
    takes nothing and returns a list of such objects; it runs in a process of its own. Its objects, unlike a file's
    lines, may name a function as their verifier.

    Raises:
        ConfigError: there is no such file.
        DataError: a problem is wrong, or could not be judged under these settings; names its place and field. Or the
            function failed.
    """
    settings = settings or JudgeSettings()
    if is_own(source):
        result = call_own(source, settings=settings, time_limit_s=TASK_TIME_LIMIT_S)
        if result.status != "ok":
            raise DataError(f"{source}: gives no problems: {result.why}")
        if not isinstance(result.value, list):
            raise DataError(f"{source}: must return a list of problems, not {type(result.value).__name__}")
        name = source.rpartition(":")[2]
        return _problems(enumerate(result.value, start=1), name, source, "problem", settings)
    if not source.endswith(".jsonl"):
        raise ConfigError(f'{source}: must be a .jsonl file of problems, or a function, "FILE.py:function"')
    return _problems(read_numbered_jsonl(Path(source)), Path(source).stem, source, "line", settings)


def _problems(
    rows: Iterable[tuple[int, Any]], name: str, source: str, what: str, settings: JudgeSettings
) -> list[Problem]:
    place = f"{source}: {what}"
    problems: dict[str, Problem] = {}
    loaded: set[str] = set()
    for number, row in rows:
        problem = _problem(row, name, number, f"{place} {number}")
        if problem.id in problems:
            raise DataError(f"{place} {number}: field 'id': {problem.id!r} is another problem's: give each its own")
        try:
            if source.endswith(".jsonl"):
                check_kind_of_row(
                    problem.verifier, "as `judge` in a .toml that describes the file (docs/benchmarks.md)"
                )
            if problem.verifier not in loaded and is_own(problem.verifier):
                check_own(problem.verifier, settings)
                loaded.add(problem.verifier)
            elif problem.verifier not in loaded:
                judge_answer(problem.verifier, "", problem.answer, judged_with(problem, Reply("", "")), settings)
        except ValueError as error:
            raise DataError(f"{place} {number}: {error}") from error
        problems[problem.id] = problem
    return list(problems.values())


def _problem(row: Any, name: str, number: int, place: str) -> Problem:
    if not isinstance(row, dict):
        raise DataError(f'{place}: must be an object such as {{"question": "2+3?", "answer": "5"}}')
    if unknown := row.keys() - _FIELDS:
        raise DataError(
            f"{place}: unknown field {min(unknown)!r}; known are {', '.join(sorted(_FIELDS))}; rows of another shape, "
            "with choices for one, are described in a .toml file (docs/benchmarks.md, A set of your own)"
        )
    if _is_number(row.get("answer")):
        row = {**row, "answer": str(row["answer"])}
    row = {key: value for key, value in row.items() if value is not None or key not in ("thought", "reply")}
    for field in ("question", "answer"):
        if not isinstance(row.get(field), str) or not row[field].strip():
            also = ", or a number" if field == "answer" else ""
            raise DataError(f"{place}: field {field!r} must be a text that is not empty{also}")
    for field in _TEXTS:
        if not isinstance(row.get(field, ""), str):
            raise DataError(f"{place}: field {field!r} must be a text")
    if not isinstance(row.get("metadata", {}), dict):
        raise DataError(f"{place}: field 'metadata' must be an object")
    return Problem(**{"id": f"{name}/{number}", "task": name, "language": "en", "verifier": "exact", **row})


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)
