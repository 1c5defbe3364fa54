"""What an evaluation's report.json says, as tables of texts. A field that is missing or odd is shown as a dash."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from open_exaone.base.records import mode_label
from open_exaone.present import formatting
from open_exaone.present.plots import Point
from open_exaone.present.stages import is_number

Entry = Mapping[str, Any]  # one task of report.json
Table = tuple[list[str], list[list[str]]]  # headings, rows
STAGE_MODELS = ("model", "best")  # folders in that of a run's stage
POINTS = "points"  # the metric of an examination
MEASURED_BY_LG = frozenset(  # benchmarks of which the published tables have a number
    {
        *("math_500", "aime_2024", "aime_2025", "hmmt_feb_2025", "csat_2025_math", "gpqa_diamond", "hle"),
        *("mmlu", "mmlu_redux", "mmlu_pro", "livecodebench", "livecodebench_v5", "livecodebench_v6", "ifeval"),
        *("kmmlu_pro", "kmmlu_redux", "ksm", "math_500_es", "mmmlu_es"),
    }
)
Column = tuple[str, Callable[[Entry], Any], Callable[[Any], str]]  # heading, what to read, how to show it


def results(entries: Sequence[Entry]) -> Table:
    """A row for each task; columns that no task has are left out."""
    return _table(
        entries,
        [
            ("task", lambda e: e["name"], str),
            ("mode", lambda e: e.get("mode"), lambda text: mode_label(str(text))),
            ("k", _value("k"), formatting.number),
            ("problems", _value("num_problems"), formatting.number),
            ("pass@1", _value("pass_at_1"), formatting.percent),
            ("95% interval", lambda e: bounds(e.get("ci95")), formatting.interval),
            ("exam points", _value("mean_points", "csat"), formatting.number),
            ("cons@k", _value("cons_at_k"), formatting.percent),
            ("pass@k", _value("pass_at_k"), formatting.percent),
            ("thought tokens", _value("thought", "tokens"), formatting.number),
            ("answer tokens", _value("answer", "tokens"), formatting.number),
            ("truncated", _value("truncated", "rates"), formatting.percent),
            ("no answer", _value("no_answer", "rates"), formatting.percent),
            ("other language", _value("language_mismatch", "rates"), formatting.percent),
            ("not judged", _value("error", "rates"), formatting.percent),
            ("tokens written", _value("reply_tokens", "cost"), formatting.number),
            ("FLOPs", _value("flops", "cost"), lambda flops: f"{flops:.1e}"),
        ],
    )


def graders(entries: Sequence[Entry]) -> Table | None:
    """Verdicts that came with the replies, beside ours; None where there are none."""
    judged = [entry for entry in entries if record(entry.get("grader"))]
    columns: list[Column] = [
        ("task", lambda e: e["name"], str),
        ("pass@1 by our verdicts", _value("pass_at_1"), formatting.percent),
        ("by theirs", _value("score", "grader"), formatting.percent),
        ("same verdict", _value("agreement", "grader"), formatting.percent),
        ("correct by ours only", _value("only_ours", "grader"), formatting.number),
        ("correct by theirs only", _value("only_theirs", "grader"), formatting.number),
    ]
    return _table(judged, columns) if judged else None


def settings(entries: Sequence[Entry]) -> Table:
    """How each task was asked."""
    shares = ("temperature", "top_p", "presence_penalty")
    rarer = {"top_k": None, "min_p": 0, "frequency_penalty": 0, "repetition_penalty": 1}  # and what changes nothing
    counts = ("max_new_tokens", "thinking_budget", "seed")
    return _table(
        entries,
        [
            ("task", lambda e: e["name"], str),
            ("benchmark", lambda e: e.get("benchmark"), str),
            *((formatting.words(name), _value(name), lambda value: f"{value:g}") for name in shares),
            *(
                (formatting.words(name), _other_than(name, nothing), lambda value: f"{value:g}")
                for name, nothing in rarer.items()
            ),
            *(
                (formatting.words(name), lambda e, n=name: e.get(n) or None, str)
                for name in ("logit_bias", "stop_ids", "stop")
            ),
            *((formatting.words(name), _value(name), lambda value: f"{value:,}") for name in counts),
            ("rows read from", lambda e: e.get("source") or None, str),
            ("their SHA-256", lambda e: e.get("sha256") or None, lambda text: str(text)[:16]),
        ],
    )


def _other_than(name: str, nothing: float | None) -> Callable[[Entry], Any]:
    """A reader of a number, where it is not the one that changes nothing."""
    read = _value(name)
    return lambda entry: None if (value := read(entry)) == nothing else value


def _value(name: str, part: str | None = None) -> Callable[[Entry], Any]:
    """A reader of a number, of the entry itself or of a part of it."""
    return lambda entry: value_of((record(entry.get(part)) if part else entry).get(name))


def _table(entries: Sequence[Entry], columns: Sequence[Column]) -> Table:
    columns_of = {title: [(read(entry), show) for entry in entries] for title, read, show in columns}
    kept = {title: cells for title, cells in columns_of.items() if any(value is not None for value, _ in cells)}
    shown = [[formatting.NONE if value is None else show(value) for value, show in cells] for cells in kept.values()]
    return list(kept), [list(row) for row in zip(*shown, strict=True)]


def notes(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """What a reader of the numbers must know, as (tasks, sentence): a sentence once, with all tasks it holds of."""
    tasks: dict[str, list[str]] = {}
    for note in (_problems_note, _settings_note):
        for entry in entries:
            if sentence := note(entry):
                tasks.setdefault(sentence, []).append(entry["name"])
    return [(", ".join(names), sentence) for sentence, names in tasks.items()]


def _problems_note(entry: Entry) -> str:
    if entry.get("is_whole") is False:
        count = formatting.number(value_of(entry.get("num_problems")))
        published = ", so it compares with no published number of the whole set" if _has_published(entry) else ""
        return f"measured on {count} of its problems only{published}."
    is_unknown = entry.get("is_pinned") is False
    return "content not pinned: this project knows no checksum of these rows." if is_unknown else ""


def _settings_note(entry: Entry) -> str:
    """What we chose; nothing of a benchmark that LG never measured, where there was nothing to publish."""
    chosen = rows_of(entry.get("not_published")) if _has_published(entry) else []
    fields = ", ".join(sorted(formatting.words(str(field)) for field in chosen))
    return f"not published by LG, chosen here: {fields}." if fields else ""


def _has_published(entry: Entry) -> bool:
    return str(entry.get("benchmark")) in MEASURED_BY_LG or bool(rows_of(entry.get("published")))


def model_notes(report: Mapping[str, Any]) -> list[str]:
    """What to know before the results: of the replies of each task, and what the engine or the plan says of all."""
    notes = [(f"{task['name']}: ", note) for task in report["tasks"] for note in rows_of(task.get("notes"))]
    notes += [("", note) for note in rows_of(record(report.get("model")).get("notes"))]
    return [about + note for about, note in notes if isinstance(note, str) and note]


def num_problems(entries: Sequence[Entry], problems: Sequence[Sequence[Any]], tasks: Sequence[str]) -> int:
    """How many problems there are, those of one benchmark under several budgets or in both modes counted once.

    Args:
        problems: each one's task, as its place in `tasks`, its id, and what else is known.
    """
    benchmarks = {entry["name"]: str(entry.get("benchmark") or entry["name"]) for entry in entries}
    names = [benchmarks.get(task, task) for task in tasks]
    return len({(names[task], key) for task, key, *_ in problems})


def parts(entry: Entry) -> list[tuple[str, Table]]:
    """A task's score by family and by language where there are several, and CSAT's by elective."""
    parts = []
    for field, title in (("per_task", "family"), ("per_language", "language")):
        rows = [
            [
                formatting.words(str(name)),
                formatting.number(value_of(record(part).get("num_problems"))),
                formatting.percent(value_of(record(part).get("pass_at_1"))),
                formatting.interval(bounds(record(part).get("ci95"))),
                formatting.percent(value_of(record(part).get("constant_baseline"))),
                formatting.percent(value_of(record(part).get("commonest_answer_share"))),
            ]
            for name, part in record(entry.get(field)).items()
        ]
        if len(rows) > 1:
            head = [title, "problems", "pass@1", "95% interval", "constant baseline", "most frequent answer"]
            parts.append((title, (head, rows)))
    csat = record(entry.get("csat"))
    electives = {name: record(score) for name, score in record(csat.get("electives")).items()}
    if electives:
        mean = {"points": csat.get("mean_points"), "accuracy": csat.get("mean_accuracy")}
        rows = [
            [
                formatting.words(str(name)),
                formatting.number(value_of(score.get("points"))),
                formatting.percent(value_of(score.get("accuracy"))),
            ]
            for name, score in {**electives, "mean": mean}.items()
        ]
        parts.append(("elective", (["elective", "points of 100", "accuracy"], rows)))
    return parts


def published(entry: Entry) -> list[dict[str, Any]]:
    """The published numbers beside a task: `percent` as printed, `difference` a fraction, each None if missing."""
    rows = [dict(record(row)) for row in rows_of(entry.get("published"))]
    return [
        {
            **row,
            "metric": str(row.get("metric") or "pass@1"),
            "percent": value_of(row.get("percent")),
            "difference": value_of(row.get("difference")),
            "difference_ci95": bounds(row.get("difference_ci95")),
        }
        for row in rows
    ]


def records(report: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The report's flat records, as (title, [(name, value)]); the model's notes stand elsewhere."""
    model = {name: value for name, value in record(report.get("model")).items() if name != "notes"}
    return [
        (title, [(formatting.label(str(k)), formatting.setting(str(k), v)) for k, v in part.items()])
        for title, part in (("model", model), ("versions", record(report.get("versions"))))
    ]


def model_name(report: Mapping[str, Any]) -> str:
    """What was measured, in short: a name of one or two parts (a run's stage, the hub's) whole, of a path its end; the
    folder of a stage's model is RUN/STAGE."""
    model = report.get("model")
    name = str(record(model).get("model") or (model if isinstance(model, str) else "")).rstrip("/")
    run, _, last = name.rpartition("/")
    if last in STAGE_MODELS and run.count("/"):
        return "/".join(run.split("/")[-2:]).lstrip("/")
    return (name if name.count("/") == 1 else last).lstrip("/") or "a model without a name"


def point(entry: Entry, name: str, metric: str = "pass@1") -> Point | None:
    """A score with its interval, to be drawn: pass@1, or the consensus for another metric.

    CSAT's published numbers are points of the examination, so its points stand beside them.
    """
    value, ends = entry.get("pass_at_1"), entry.get("ci95")
    csat = record(entry.get("csat"))
    if metric.startswith("cons@"):
        value, ends = entry.get("cons_at_k"), entry.get("cons_ci95")
    elif metric == POINTS and value_of(csat.get("mean_points")) is not None:
        value, ends = csat["mean_points"] / 100, csat.get("points_ci95")
    value = value_of(value)
    low, high = bounds(ends) or (value, value)
    return None if value is None else Point(name, value, low, high)


def value_of(value: object) -> Any:
    """A number, or the value of an estimate; None for what is neither."""
    number = record(value).get("value") if isinstance(value, Mapping) else value
    return number if is_number(number) else None


def bounds(value: object) -> list[float] | None:
    """An interval's two ends, or None."""
    ends = rows_of(value)
    return ends if len(ends) == 2 and all(map(is_number, ends)) else None


def record(value: object) -> Mapping[str, Any]:
    """A part of the report that is a record; an empty one for what is none."""
    return value if isinstance(value, Mapping) else {}


def rows_of(value: object) -> list[Any]:
    """A part of the report that is a list; an empty one for what is none."""
    return value if isinstance(value, list) else []
