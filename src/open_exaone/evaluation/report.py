"""report.json: what an evaluation found, as records whose JSON Schema is `report.schema.json`.

Every share is a fraction, every interval one of 95 %, clustered by question; null is what is not known.
docs/reports.md explains the fields.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, JsonValue, ValidationError

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_json, write_json
from open_exaone.evaluation.faithfulness import ThoughtUse
from open_exaone.evaluation.record import Count, Interval, Record, Share

SCHEMA_VERSION: Final = 1
SCHEMA_FILE = Path(__file__).parent / "report.schema.json"

Tokens = Annotated[float, Field(ge=0)]  # a mean number of tokens
ByK = dict[str, Share]  # k, as JSON's keys are texts -> the share at that k


class Estimated(Record):
    """A share of the samples."""

    value: Share
    """The mean over questions."""
    low: Share
    """Where its interval begins."""
    high: Share
    """Where its interval ends."""


class Rates(Record):
    """How often samples gave nothing to judge, or were cut or in another language."""

    no_answer: Estimated
    """No answer was found."""
    truncated: Estimated | None
    """The reply met the token limit, or its thought was never closed; null where that is not known."""
    language_mismatch: Estimated | None
    """Thought or answer is not in the question's language; null where a question's language is none that we detect."""
    error: Estimated
    """The verifier failed, or there is no reply, so nothing is known."""


class TokenMeans(Record):
    """Tokens a sample, on average."""

    prompt: Tokens
    """Of the prompt."""
    thought: Tokens
    """Of the thought."""
    answer: Tokens
    """Of the reply behind the thought, the tags and the end included."""
    reply: Tokens
    """Of the whole reply."""
    thought_correct: Tokens | None
    """Of the thoughts of correct samples; null where there are none."""
    thought_wrong: Tokens | None
    """Of the thoughts of all other samples; null where there are none."""


class Cost(Record):
    """What the samples cost in all."""

    prompt_tokens: Count
    """Tokens of prompts, each counted once for every sample."""
    reply_tokens: Count
    """Tokens of replies."""
    flops: Annotated[float, Field(ge=0)] | None
    """Floating-point operations of generating; null where the model's shape is not known."""


class Part(Record):
    """Some of the questions."""

    num_problems: Count
    """How many."""
    pass_at_1: Share
    """The mean over them of the share of their samples that is correct."""
    ci95: Interval
    """Its interval."""
    constant_baseline: Share | None = None
    """What always giving the commonest gold answer would score; null where a problem has none."""
    commonest_answer_share: Share | None = None
    """The share of their samples that give the most frequent answer of these samples."""


class Cell(Part):
    """The questions of one kind whose text is equally long and has its fact at the same depth."""

    kind: str
    """What kind of question."""
    length: Annotated[int, Field(gt=0)]
    """Of the text, in tokens."""
    depth: Share
    """Where the fact stands: 0 is the beginning of the text, 1 its end."""


class Elective(Record):
    """A paper of the Korean examination: the common questions and those of one elective."""

    points: Annotated[float, Field(ge=0, le=100)]
    """Of 100."""
    accuracy: Share
    """Of its 30 questions."""


class Csat(Record):
    """The score of the Korean examination."""

    electives: dict[str, Elective]
    """Calculus, statistics, geometry."""
    mean_points: Annotated[float, Field(ge=0, le=100)]
    """The mean over the electives, of 100."""
    mean_accuracy: Share
    """The mean over the electives."""
    points_ci95: Interval
    """The interval of mean_points, as a fraction of 100 points, its questions weighed as the score weighs them."""


class Beside(Record):
    """A published number beside ours."""

    model: str
    """Whose number it is."""
    table: str
    """The data file that holds it."""
    mode: str
    """"reasoning", "non_reasoning" or "not stated"."""
    metric: str
    """"pass@1" or "cons@64"."""
    setting: str
    """What sets it apart, such as "budget 32K"; empty for the plain number."""
    percent: float
    """As printed."""
    difference: float
    """Ours minus the published number, a fraction."""
    within: bool | None
    """Whether the published number lies in our interval; null where ours is of some of the questions only."""
    difference_ci95: tuple[float, float] | None
    """The difference's interval, from ours and from what so few questions leave open; null where those aren't known."""
    source: str
    """Where it was printed."""
    tag: str
    """How sure it is: "P" the publisher's own page, "S2" two accounts that agree, "S" one."""


class Grader(Record):
    """The verdicts that came with stored replies, beside ours."""

    score: Share
    """The mean over questions of the share of samples that the other grader calls correct."""
    agreement: Share
    """The share of its verdicts that are the same as ours."""
    only_ours: Count
    """Samples that we alone call correct."""
    only_theirs: Count
    """Samples that it alone calls correct."""


class Entry(Record):
    """A task: a benchmark in one mode, with one thinking budget."""

    name: str
    """The task's own name."""
    benchmark: str
    """The benchmark's name."""
    mode: Literal["reasoning", "non_reasoning", "not stated"]
    """How it was asked."""
    num_problems: Annotated[int, Field(gt=0)]
    """P: how many questions were measured."""
    k: Annotated[int, Field(gt=0)]
    """Samples of each question."""
    seed: Count | None
    """Of the samples."""
    temperature: float | None
    """Of sampling; 0 is greedy."""
    top_p: float | None
    """Of sampling."""
    top_k: int | None
    """Of sampling; null keeps all tokens."""
    min_p: float | None
    """Of sampling."""
    presence_penalty: float | None
    """Of sampling."""
    frequency_penalty: float | None
    """Of sampling."""
    repetition_penalty: float | None
    """Of sampling."""
    logit_bias: tuple[tuple[int, float], ...] | None
    """Of sampling: token ids, and what was added to their logits."""
    stop_ids: tuple[int, ...] | None
    """Further token ids that ended replies."""
    stop: tuple[str, ...] | None
    """Strings that ended replies."""
    max_new_tokens: int | None
    """The longest reply, thought included, in tokens."""
    thinking_budget: int | None
    """Tokens after which the thought's end was forced; null without a budget."""
    source: str
    """Where the questions were read."""
    sha256: str
    """Of the rows that counted."""
    is_pinned: bool
    """Whether those are the rows that we know."""
    is_whole: bool
    """Whether these are all questions; a limit or an early stop leaves some out."""
    not_published: tuple[str, ...]
    """The settings that the suite's reports do not publish and we chose."""
    pass_at_1: Share
    """The mean over questions of the share of their samples that is correct."""
    ci95: Interval
    """Its interval (docs/statistics.md)."""
    ci95_bootstrap: Interval
    """The same interval by bootstrap over questions, for comparison."""
    ci95_normal: Interval
    """The same by the normal law, for comparison; it covers too little for few questions and near 0 and 1."""
    correlation: Share
    """How alike samples of one question are: 0 as coins, 1 always the same."""
    pass_at: ByK
    """pass@k for the powers of two up to k, and k: the chance that one of so many samples is correct."""
    cons_at: ByK
    """cons@k for the same: the correctness of the answer with the most votes."""
    pass_at_k: Share
    """At k."""
    cons_at_k: Share
    """At k."""
    cons_ci95: Interval
    """The interval of cons_at_k."""
    rates: Rates
    tokens: TokenMeans | None
    """Null where the tokens were not counted."""
    cost: Cost | None
    """Null where the tokens were not counted."""
    missing: tuple[str, ...] = ()
    """The samples that have no reply, as problem and number; they count as not correct."""
    notes: tuple[str, ...] = ()
    """What to know of the replies: that some are missing, that none has an answer."""
    stops: dict[str, Count]
    """Why generations ended, and how many for each reason; empty where that is not known."""
    per_task: dict[str, Part]
    """By family or subject."""
    per_language: dict[str, Part]
    """By the questions' language."""
    per_cell: tuple[Cell, ...] = ()
    """Of a needle test, by kind, length and depth, in this order; empty for other benchmarks."""
    csat: Csat | None
    """The examination's score, where all of its questions were measured."""
    published: tuple[Beside, ...] = ()
    """Published numbers beside ours, best first."""
    grader: Grader | None = None
    """Another grader's verdicts on these replies, where they came with them."""


class Point(Record):
    """A measurement under one thinking budget."""

    budget: int | None
    """In tokens; null without one."""
    pass_at_1: Share
    ci95: Interval
    mean_thought_tokens: Tokens | None


class Curve(Record):
    """Accuracy against the thinking budget."""

    benchmark: str
    mode: str
    points: tuple[Point, ...]
    """By budget, the one without last."""


class Report(Record):
    """All that an evaluation found."""

    schema_version: Literal[1]
    suite: str
    """The suite, benchmark or file that was evaluated."""
    model: dict[str, JsonValue]
    """What was measured: "engine", "model", and what identifies the model."""
    code_version: str
    """Of this package."""
    versions: dict[str, str]
    """Of the libraries that play a part."""
    started: str
    """When, in ISO 8601."""
    seconds: Annotated[float, Field(ge=0)]
    """How long generating took, by the clock; 0 where nothing was generated."""
    tasks: tuple[Entry, ...]
    curve: tuple[Curve, ...]
    """For the benchmarks that were measured under several thinking budgets."""
    faithfulness: tuple[ThoughtUse, ...] = ()
    """Whether answers depend on their thoughts, of each task that this was measured on."""


def build_report(
    entries: Sequence[Entry],
    *,
    suite: str,
    model: Mapping[str, Any],
    code_version: str,
    versions: Mapping[str, str],
    started: str,
    seconds: float = 0.0,
    faithfulness: Sequence[ThoughtUse] = (),
) -> Report:
    """The report of these tasks, with the curves over thinking budgets that they make."""
    return Report(
        schema_version=SCHEMA_VERSION,
        suite=suite,
        model=dict(model),
        code_version=code_version,
        versions=dict(versions),
        started=started,
        seconds=seconds,
        tasks=tuple(entries),
        curve=tuple(curves(entries)),
        faithfulness=tuple(faithfulness),
    )


def curves(entries: Iterable[Entry]) -> list[Curve]:
    """One for each benchmark and mode that was measured under several thinking budgets."""
    groups: dict[tuple[str, str, str], dict[int | None, Point]] = {}
    for entry in entries:
        thought = entry.tokens.thought if entry.tokens else None
        point = Point(
            budget=entry.thinking_budget, pass_at_1=entry.pass_at_1, ci95=entry.ci95, mean_thought_tokens=thought
        )
        name = entry.name.removesuffix(f"@{entry.thinking_budget}")
        groups.setdefault((name, entry.benchmark, entry.mode), {})[entry.thinking_budget] = point
    return [
        Curve(benchmark=benchmark, mode=mode, points=tuple(sorted(points.values(), key=_by_budget)))
        for (_, benchmark, mode), points in groups.items()
        if len(points) > 1
    ]


def write_report(path: Path, report: Report) -> None:
    """Writes report.json, whole or not at all."""
    write_json(path, report.model_dump(mode="json"))


def read_report(path: Path) -> Report:
    """Reads report.json; `path` may be the folder of an evaluation.

    Raises:
        DataError: it is missing, no report, or of another schema; names the fields.
    """
    path = path / "report.json" if path.is_dir() else path
    value = read_json(path)
    if not isinstance(value, dict) or "schema_version" not in value:
        raise DataError(f"{path}: is no report of an evaluation: field 'schema_version' is missing")
    if value["schema_version"] != SCHEMA_VERSION:
        found = str(value["schema_version"])[:40]
        raise DataError(f"{path}: schema_version {found}: this version reads {SCHEMA_VERSION}; judge the samples again")
    try:
        return Report.model_validate_json(json.dumps(value))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:5]]
        more = f"; and {error.error_count() - 5} more" if error.error_count() > 5 else ""
        raise DataError(f"{path}: {'; '.join(faults)}{more}") from error


def schema() -> dict[str, Any]:
    """The JSON Schema of report.json, as `report.schema.json` holds it."""
    return Report.model_json_schema()


def write_schema() -> None:
    """Writes `report.schema.json` again, after a change of the records."""
    write_json(SCHEMA_FILE, schema())


def _by_budget(point: Point) -> float:
    return float("inf") if point.budget is None else point.budget
