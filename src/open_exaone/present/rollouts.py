"""A few samples of an RL stage for the page: what the model wrote at the first, the middle and the last step."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from open_exaone.base.errors import DataError
from open_exaone.base.files import iterate_jsonl
from open_exaone.base.log import logger
from open_exaone.present import formatting
from open_exaone.present.stages import is_number

NUM_GROUPS = 2  # of a step
MAX_LIVE_ROWS = 256  # of the newest step, in which groups are looked for while the run goes
MAX_LIVE_CHARS = 2_000  # of a text on the page of a run that goes
MAX_CHARS = 20_000  # of a text; the file has the rest
STEP_FILE = re.compile(r"step-(\d{1,18})\.jsonl", re.ASCII)
NOT_FOUND = (None, "error")  # verdicts that say nothing of the reply
FIELDS = ("question", "task", "language", "thought", "answer", "gold", "why")

Row = dict[str, Any]  # a line of rollouts/step-N.jsonl; "rewards" added: what the reward is, and each of its terms


class Shown(NamedTuple):
    """The samples of one group that are shown."""

    step: int
    rows: list[Row]


def sample_rollouts(stage_folder: Path) -> list[Shown]:
    """Samples of the first, the middle and the last step that `rollouts/` has; none where the stage has no rollouts.

    Of a step: the first two groups that have correct and incorrect replies, with the first of each. Where fewer have,
    the first sample of the first other groups. A file that cannot be read is left out, with a warning.
    """
    files = _step_files(stage_folder)
    steps = sorted(files)
    shown = []
    for step in dict.fromkeys((steps[0], steps[(len(steps) - 1) // 2], steps[-1])) if steps else ():
        try:
            shown += [Shown(step, [_cut(row) for row in rows]) for rows in choose(_rows(files[step]))]
        except DataError as error:
            logger.warning("%s: its samples are not on the page", error)
    return shown


def newest_rollouts(stage_folder: Path) -> list[Shown]:
    """Samples of the newest step whose file can be read, chosen in the same way, with shorter texts."""
    files = _step_files(stage_folder)
    for step in sorted(files, reverse=True)[:2]:
        try:
            groups = choose(islice(_rows(files[step]), MAX_LIVE_ROWS))
            return [Shown(step, [_cut(row, MAX_LIVE_CHARS) for row in rows]) for rows in groups]
        except DataError:
            continue
    return []


def _step_files(stage_folder: Path) -> dict[int, Path]:
    return {int(m[1]): path for path in stage_folder.glob("rollouts/*") if (m := STEP_FILE.fullmatch(path.name))}


def choose(rows: Iterable[Row]) -> list[list[Row]]:
    """The samples of a step that are shown, by group; rows of one problem stand one behind the other."""
    mixed: list[list[Row]] = []
    others: list[list[Row]] = []
    for _, group in groupby(rows, key=lambda row: row["problem"]):
        found: dict[str, Row] = {}
        for row in group:
            found.setdefault("first", row)
            if row["verdict"] not in NOT_FOUND:
                found.setdefault("right" if row["verdict"] == "correct" else "wrong", row)
        if "right" in found and "wrong" in found:
            mixed.append([found["right"], found["wrong"]])
        elif len(others) < NUM_GROUPS:
            others.append([found["first"]])
        if len(mixed) == NUM_GROUPS:
            break
    return (mixed + others)[:NUM_GROUPS]


def _rows(path: Path) -> Iterator[Row]:
    """The file's rows without their token ids.

    Raises:
        DataError: a line is no sample.
    """
    for number, row in iterate_jsonl(path):
        fields = ("problem", *FIELDS, "verdict", "reward", "terms")
        if (
            not isinstance(row, dict)
            or not isinstance(row.get("terms"), dict)
            or any(name not in row for name in fields)
        ):
            raise DataError(f"{path}: line {number}: is no sample")
        yield {name: row.get(name) for name in (*fields, "mode")}


def _cut(row: Row, max_chars: int = MAX_CHARS) -> Row:
    """The row as it is shown: long texts cut, rewards as texts."""
    texts = {name: "" if row[name] is None else str(row[name]) for name in FIELDS}
    for name in FIELDS:
        if (more := len(texts[name]) - max_chars) > 0:
            texts[name] = f"{texts[name][:max_chars]} … ({more:,} characters more in rollouts/)"
    terms = row["terms"] if len(row["terms"]) > 1 else {}
    values = {"reward": row["reward"], **terms}
    return {
        **row,
        **texts,
        "verdict": str(row["verdict"] or "not judged"),
        "rewards": {n: _value(v) for n, v in values.items()},
    }


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"missing: {value.get('missing')}"
    return formatting.number(value) if isinstance(value, int | float) and is_number(value) else formatting.NONE
