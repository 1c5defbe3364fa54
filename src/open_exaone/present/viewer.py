"""An evaluation's samples, packed for the page's viewer: an index that is read at once, texts that are read on demand.

Texts stand in chunks: a JSON list, compressed with gzip, in base64 (whose letters cannot end an element), one
`<script>` element of no script's type each. They come in three kinds, in order: `questions` (each text once, whatever
the number of samples), `answers` (what a reply says, and its verdict) and `thoughts` (most of the bytes; a search that
leaves them out need not touch them). templates/viewer.js reads what this module writes.
"""

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from open_exaone.base.errors import DataError
from open_exaone.base.files import iterate_jsonl
from open_exaone.present.formulas import may_hold_formulas
from open_exaone.present.page_parts import element

CHUNK_CHARS = 500_000  # a chunk is closed once it has this many: unpacked in a few milliseconds
MAX_TEXT_CHARS = 400_000  # of one text on the page; a thought of 64K tokens has fewer
MAX_THOUGHTS_CHARS = 300_000_000  # of all thoughts together; about: what samples.jsonl has is taken for it
MIN_THOUGHT_CHARS = 2_000  # what stays of a thought, however many there are
SHORT_CHARS = 80  # of an extracted answer in the list
COMPRESSION = 4  # zlib's level; 6 takes twice the time for a twentieth less
MAX_NUMBER = 2**31 - 1
NUMBERS = ("num_prompt_tokens", "num_tokens", "num_thought_tokens")


@dataclass
class Packed:
    """The index of what was packed; one item a sample in each column."""

    tasks: list[str] = field(default_factory=list)
    problems: list[list[object]] = field(default_factory=list)  # task, id, language, place in `questions`
    verdicts: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    starts: dict[str, list[int]] = field(default_factory=dict)  # kind -> place of each chunk's first text
    problem: "array[int]" = field(default_factory=lambda: array("i"))
    index: "array[int]" = field(default_factory=lambda: array("i"))
    verdict: "array[int]" = field(default_factory=lambda: array("i"))
    stop: "array[int]" = field(default_factory=lambda: array("i"))
    prompt: "array[int]" = field(default_factory=lambda: array("i"))  # tokens, as the next two
    tokens: "array[int]" = field(default_factory=lambda: array("i"))
    thought: "array[int]" = field(default_factory=lambda: array("i"))
    chars: "array[int]" = field(default_factory=lambda: array("i"))  # thought and answer; where no tokens are counted
    extracted: list[str | None] = field(default_factory=list)
    has_formulas: bool = False  # some question, thought or answer may hold mathematics
    thoughts_cut_at: int | None = None  # characters of a thought that are kept where all were too many

    def __len__(self) -> int:
        return len(self.problem)

    def thought_tokens(self) -> dict[str, tuple[list[int], list[int]]]:
        """Task -> the thought tokens of its correct samples, and of the others."""
        tokens: dict[str, tuple[list[int], list[int]]] = {}
        for problem, verdict, thought in zip(self.problem, self.verdict, self.thought, strict=True):
            task = self.tasks[self.problems[problem][0]]  # type: ignore[call-overload]
            tokens.setdefault(task, ([], []))[self.verdicts[verdict] != "correct"].append(thought)
        return tokens


class Chunks:
    """Texts of one kind, written in chunks as they come."""

    def __init__(self, kind: str, out: BinaryIO) -> None:
        self.starts: list[int] = []
        self._kind, self._out = kind, out
        self._texts: list[str] = []
        self._num_chars = self._count = 0

    def add(self, record: object) -> int:
        """Takes a record; gives its place among those of its kind."""
        text = json.dumps(record, ensure_ascii=False)
        if self._texts and self._num_chars + len(text) > CHUNK_CHARS:
            self.close()
        self._texts.append(text)
        self._num_chars += len(text)
        self._count += 1
        return self._count - 1

    def close(self) -> None:
        """Writes what is left."""
        if self._texts:
            self.starts.append(self._count - len(self._texts))
            self._out.write(element(self._kind, f"[{','.join(self._texts)}]", COMPRESSION))
            self._texts, self._num_chars = [], 0


def pack(folder: Path, out: BinaryIO, max_thoughts_chars: int = MAX_THOUGHTS_CHARS) -> Packed:
    """Writes every sample of an evaluation's folder to `out`, as elements of the page; line by line.

    Texts above `MAX_TEXT_CHARS` are cut in their middle, and all thoughts to an equal share where together they have
    more than `max_thoughts_chars`; the page says how much was left out, and in which line of samples.jsonl it stands.

    Raises:
        DataError: problems.jsonl or samples.jsonl is missing or broken: names the file, the line and the field.
    """
    packed = Packed()
    chunks = {kind: Chunks(kind, out) for kind in ("questions", "answers", "thoughts")}
    places = _pack_problems(folder / "problems.jsonl", chunks["questions"], packed)
    path = folder / "samples.jsonl"
    packed.thoughts_cut_at = _thought_limit(path, max_thoughts_chars)
    verdicts: dict[str, int] = {}
    stops: dict[str, int] = {}
    for number, row in iterate_jsonl(path):
        where = f"{path}: line {number}"
        fields = _fields(row, where)
        problem = places.get((fields["task"], fields["problem"]))
        if problem is None:
            named = f"{_short(fields['problem'])!r} of task {_short(fields['task'])!r}"
            raise DataError(f"{where}: its problem, {named}, is not in problems.jsonl beside it")
        packed.problem.append(problem)
        packed.index.append(fields["index"])
        packed.verdict.append(verdicts.setdefault(fields["verdict"], len(verdicts)))
        packed.stop.append(stops.setdefault(fields["stop"], len(stops)))
        for column, name in zip((packed.prompt, packed.tokens, packed.thought), NUMBERS, strict=True):
            column.append(fields[name])
        packed.chars.append(len(fields["thought"]) + len(fields["answer"]))
        packed.extracted.append(_short(fields["extracted"]))
        packed.has_formulas |= may_hold_formulas(fields["answer"]) or may_hold_formulas(fields["thought"])
        chunks["answers"].add(_answer(fields, number))
        chunks["thoughts"].add(cut(fields["thought"], packed.thoughts_cut_at or MAX_TEXT_CHARS))
    packed.verdicts, packed.stops = list(verdicts), list(stops)
    for kind, chunk in chunks.items():
        chunk.close()
        packed.starts[kind] = chunk.starts
    out.write(element("index", _index(packed), COMPRESSION))
    return packed


def cut(text: str, limit: int) -> str | dict[str, object]:
    """The text; where it is longer than `limit` characters, its two ends and how many characters are left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return {"head": text[:half], "tail": text[-half:], "left_out": len(text) - 2 * half}


def _pack_problems(path: Path, questions: Chunks, packed: Packed) -> dict[tuple[str, str], int]:
    """Packs each question once; gives (task, id) -> the problem's place in the index."""
    tasks: dict[str, int] = {}
    texts: dict[int, int] = {}  # the hash of question and gold -> its place: under each budget they are the same
    places: dict[tuple[str, str], int] = {}
    for number, row in iterate_jsonl(path):
        where = f"{path}: line {number}"
        if not isinstance(row, dict):
            raise DataError(f"{where}: must be an object, one problem")
        task, key, question, gold = (_text(row, name, where) for name in ("task", "id", "question", "answer"))
        if (task, key) in places:
            raise DataError(f"{where}: field 'id': {_short(key)!r} stands twice in task {_short(task)!r}")
        digest = hash((question, gold))
        if digest not in texts:
            texts[digest] = questions.add([cut(question, MAX_TEXT_CHARS), cut(gold, MAX_TEXT_CHARS)])
            packed.has_formulas |= may_hold_formulas(question)
        places[task, key] = len(places)
        language = _text(row, "language", where, default="")
        packed.problems.append([tasks.setdefault(task, len(tasks)), key, language, texts[digest]])
    packed.tasks = list(tasks)
    return places


def _thought_limit(path: Path, max_chars: int) -> int | None:
    """The characters that each thought may keep, or None while the whole file is small enough."""
    if not path.is_file() or path.stat().st_size <= max_chars:
        return None
    with open(path, "rb") as file:
        num_lines = sum(1 for _ in file)
    return min(MAX_TEXT_CHARS, max(MIN_THOUGHT_CHARS, max_chars // num_lines))


def _fields(row: Any, where: str) -> dict[str, Any]:
    """A sample's fields, with defaults for those that another writer may leave out."""
    if not isinstance(row, dict):
        raise DataError(f"{where}: must be an object, one sample")
    fields: dict[str, Any] = {name: _text(row, name, where) for name in ("task", "problem", "answer", "verdict")}
    for name, default in (("thought", ""), ("stop", ""), ("why", ""), ("extracted", None)):
        fields[name] = _text(row, name, where, default) if row.get(name) is not None else default
    fields["index"] = _number(row, "index", where)
    fields.update({name: _number(row, name, where) if name in row else 0 for name in NUMBERS})
    calls = row.get("tool_calls", [])
    if not isinstance(calls, list) or not all(isinstance(call, str) for call in calls):
        raise DataError(f"{where}: field 'tool_calls' must be a list of texts")
    return {**fields, "tool_calls": calls, "finished": row.get("finished") is not False}


def _answer(fields: Mapping[str, Any], line: int) -> list[object]:
    extracted = fields["extracted"]
    return [
        cut(fields["answer"], MAX_TEXT_CHARS),
        None if extracted is None else cut(extracted, MAX_TEXT_CHARS),
        cut(fields["why"], MAX_TEXT_CHARS),
        [cut(call, MAX_TEXT_CHARS) for call in fields["tool_calls"]],
        len(fields["thought"]),
        fields["finished"],
        line,
    ]


def _index(packed: Packed) -> str:
    columns = {name: list(value) if isinstance(value, array) else value for name, value in vars(packed).items()}
    return json.dumps(columns, ensure_ascii=False)


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= SHORT_CHARS else text[: SHORT_CHARS - 1] + "…"


def _text(row: Mapping[str, Any], name: str, where: str, default: str | None = None) -> str:
    value = row.get(name, default)
    if not isinstance(value, str):
        raise DataError(f"{where}: field {name!r} must be a text")
    return value


def _number(row: Mapping[str, Any], name: str, where: str) -> int:
    value = row.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise DataError(f"{where}: field {name!r} must be a whole number from 0 to {MAX_NUMBER}")
    return value
