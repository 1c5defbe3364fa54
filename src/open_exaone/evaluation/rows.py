"""The lines of an evaluation's files, written and read back; what is read is not trusted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_numbered_jsonl
from open_exaone.base.records import (
    Generation,
    Problem,
    Reply,
    Sample,
    Sampling,
    StopReason,
    Verdict,
    VerdictStatus,
)
from open_exaone.evaluation.task import Task
from open_exaone.rollout.judge_outage import UNJUDGED
from open_exaone.text.split import read_tool_call

MAX_NUMBER = 10**9
_TEXTS = ("key", "task", "problem", "thought", "answer", "stop")
_NUMBERS = ("index", "num_prompt_tokens", "num_tokens", "num_thought_tokens")
_PROBLEM_TEXTS = ("task", "id", "family", "language", "question", "answer", "verifier")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Which sample of an evaluation."""

    task: str
    problem: str
    index: int


def generation_row(sample: Sample) -> dict[str, Any]:
    """A sample as its line of JSON, without its verdict; with token ids and log-probabilities where it has them."""
    reply, generation = sample.generation.reply, sample.generation
    tokens = {"ids": generation.ids, "logprobs": generation.logprobs}
    calls = {"tool_calls": [call.text for call in reply.tool_calls]} if reply.tool_calls else {}
    return {
        "key": sample.key,
        **place_row(sample),
        "thought": reply.thought,
        "answer": reply.answer,
        **calls,
        "finished": reply.finished,
        "stop": generation.stop.value,
        "num_prompt_tokens": generation.num_prompt_tokens,
        "num_tokens": generation.num_tokens,
        "num_thought_tokens": generation.num_thought_tokens,
        **{name: list(values) for name, values in tokens.items() if values is not None},
    }


def sample_row(sample: Sample) -> dict[str, Any]:
    """A sample as its line of JSON."""
    return {**generation_row(sample), **verdict_row(sample)}


def read_sample(row: Any, where: str) -> Sample:
    """What `sample_row` or `generation_row` wrote.

    Raises:
        DataError: names `where` and the field.
    """
    checked(row, where, _TEXTS, _NUMBERS)
    calls = row.get("tool_calls", [])
    if not isinstance(calls, list) or not all(isinstance(call, str) for call in calls):
        raise DataError(f"{where}: field 'tool_calls' must be a list of texts")
    try:
        stop = StopReason(row["stop"])
    except ValueError as error:
        raise DataError(f"{where}: field 'stop' must be one of {', '.join(StopReason)}") from error
    if not isinstance(row.get("finished"), bool):
        raise DataError(f"{where}: field 'finished' must be true or false")
    reply = Reply(row["thought"], row["answer"], tuple(map(read_tool_call, calls)), row["finished"])
    counts = (row["num_prompt_tokens"], row["num_tokens"], row["num_thought_tokens"])
    ids, logprobs = _tokens(row, where, "ids", int), _tokens(row, where, "logprobs", int | float)
    generation = Generation(reply, stop, *counts, ids, logprobs)
    sample = Sample(row["key"], row["task"], row["problem"], row["index"], generation, UNJUDGED)
    return with_verdict(sample, row, where) if "verdict" in row else sample


def _tokens(row: Mapping[str, Any], where: str, field: str, kind: Any) -> tuple[Any, ...] | None:
    """A field that has a number for each of the reply's tokens; None where it is not there."""
    values = row.get(field)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(v, kind) and not isinstance(v, bool) for v in values):
        raise DataError(f"{where}: field {field!r} must be a list of numbers")
    if len(values) != row["num_tokens"]:
        raise DataError(f"{where}: field {field!r} must have a number for each of num_tokens = {row['num_tokens']}")
    return tuple(values)


def task_row(task: Task) -> dict[str, Any]:
    """A task's settings as evaluation.json keeps them: all but its problems."""
    fields = ("name", "benchmark", "thinking", "source", "sha256", "is_pinned", "is_whole")
    return {**{field: getattr(task, field) for field in fields}, "sampling": asdict(task.sampling)}


def essence(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a provider's replies: of a model whose weights are hashed, its name does not."""
    return {name: value for name, value in identity.items() if name != "model" or "weights" not in identity}


def place_of(sample: Sample) -> Place:
    """Where a sample belongs."""
    return Place(sample.task, sample.problem, sample.index)


def place_row(sample: Sample) -> dict[str, Any]:
    """The fields that say where a sample belongs."""
    return {"task": sample.task, "problem": sample.problem, "index": sample.index}


def verdict_row(sample: Sample) -> dict[str, Any]:
    """The fields of its verdict."""
    verdict = sample.verdict
    fields = {"verdict": verdict.status.value, "extracted": verdict.extracted, "why": verdict.why}
    return {**fields, "judged_by": sample.judged_by}


def with_verdict(sample: Sample, row: Mapping[str, Any], where: str) -> Sample:
    """The sample with the verdict that `verdict_row` wrote.

    Raises:
        DataError: names `where` and the field.
    """
    checked(row, where, ("verdict", "why", "judged_by"))
    if not isinstance(row.get("extracted"), str | None):
        raise DataError(f"{where}: field 'extracted' must be a text, or null")
    try:
        status = VerdictStatus(row["verdict"])
    except ValueError as error:
        raise DataError(f"{where}: field 'verdict' must be one of {', '.join(VerdictStatus)}") from error
    return replace(sample, verdict=Verdict(status, row.get("extracted"), row["why"]), judged_by=row["judged_by"])


def checked(row: Any, where: str, texts: Sequence[str], numbers: Sequence[str] = ()) -> Mapping[str, Any]:
    """The row, with these fields of texts and of whole numbers.

    Raises:
        DataError: names `where` and the field.
    """
    if not isinstance(row, dict):
        raise DataError(f"{where}: is no sample: must be an object")
    for field in texts:
        if not isinstance(row.get(field), str):
            raise DataError(f"{where}: field {field!r} must be a text")
    for field in numbers:
        value = row.get(field)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
            raise DataError(f"{where}: field {field!r} must be a whole number, 0 to {MAX_NUMBER}")
    return row


def problem_rows(tasks: Sequence[Task]) -> Iterator[dict[str, Any]]:
    """One row for each problem of each task; worked thoughts and replies are for training, and left out."""
    for task in tasks:
        for problem in task.problems:
            fields = asdict(problem)
            del fields["thought"], fields["reply"]
            yield {"task": task.name, "id": fields.pop("id"), "family": fields.pop("task"), **fields}


def read_problems(path: Path) -> dict[str, list[Problem]]:
    """Task's name -> its problems, in order.

    Raises:
        DataError: names the line and the field.
    """
    problems: dict[str, list[Problem]] = {}
    for number, row in read_numbered_jsonl(path):
        fields = dict(checked(row, f"{path}: line {number}", _PROBLEM_TEXTS))
        task, fields["task"] = fields["task"], fields.pop("family")
        if not isinstance(fields.get("metadata", {}), dict):
            raise DataError(f"{path}: line {number}: field 'metadata' must be an object")
        try:
            problems.setdefault(task, []).append(Problem(**fields))
        except TypeError as error:
            raise DataError(f"{path}: line {number}: is no problem: {error}") from error
    return problems


def read_tasks(plan: Mapping[str, Any], problems: Mapping[str, Sequence[Problem]], path: Path) -> list[Task]:
    """The tasks of evaluation.json with their problems.

    Raises:
        DataError: names `path` and the field.
    """
    rows = plan.get("tasks")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: field 'tasks' must be a list of objects")
    return [_read_task(row, problems, f"{path}: field 'tasks': {number}") for number, row in enumerate(rows, start=1)]


def _read_task(row: Mapping[str, Any], problems: Mapping[str, Sequence[Problem]], where: str) -> Task:
    fields = dict(checked(row, where, ("name", "benchmark", "source", "sha256")))
    for flag in ("thinking", "is_pinned", "is_whole"):
        if not isinstance(fields.get(flag), bool):
            raise DataError(f"{where}: field {flag!r} must be true or false")
    try:
        fields["sampling"] = Sampling(**fields["sampling"])
        return Task(problems=tuple(problems.get(row["name"], ())), **fields)
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"{where}: is no task: {error}") from error
