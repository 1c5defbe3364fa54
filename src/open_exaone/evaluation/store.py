"""An evaluation's folder: what was asked for, and every sample, kept from the moment that it is there.

`evaluation.json` says what was asked for, `problems.jsonl` holds the problems that were measured, `samples.jsonl` their
judged samples in order, `unused.jsonl` samples that an earlier measurement into this folder had besides, and
`journal.jsonl`, while an evaluation runs, one line for each sample and one for each verdict.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from open_exaone.base.config import differences
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.base.files import (
    explain_os_errors,
    iterate_jsonl,
    json_line,
    locked,
    read_json,
    write_json,
    write_jsonl,
)
from open_exaone.base.links import own_folder
from open_exaone.base.records import Sample
from open_exaone.evaluation.rows import (
    Place,
    checked,
    essence,
    generation_row,
    place_of,
    place_row,
    problem_rows,
    read_problems,
    read_sample,
    read_tasks,
    sample_row,
    task_row,
    verdict_row,
    with_verdict,
)
from open_exaone.evaluation.task import Task

_BLOCK = 1 << 16
RESULTS = ("report.json", "report.html", "against.html")
FILES = frozenset(
    {
        *(*RESULTS, "evaluation.json", "problems.jsonl", "samples.jsonl", "unused.jsonl", "journal.jsonl"),
        *("outcome.json", "differences.jsonl", ".lock", "faithfulness"),
    }
)  # all that is opened there


@dataclass(frozen=True, slots=True)
class Stored:
    """A whole evaluation as its folder holds it; P problems, k samples each."""

    plan: Mapping[str, Any]  # evaluation.json
    tasks: tuple[Task, ...]
    samples: tuple[tuple[tuple[Sample, ...], ...], ...]  # [task, P, k]
    others: tuple[Sample, ...]  # unused.jsonl


class Store:
    """Keeps samples as they come. Threads may call it at once; a second process is kept out.

    Args:
        keeps_ids: also the token ids and log-probabilities of each sample, such as for pairs to learn from; what is
            there without them is generated again.
        renews: what is there of another model, code, prompt or sampling is generated again, instead of refused.
    """

    def __init__(self, folder: Path, *, keeps_ids: bool = False, renews: bool = False) -> None:
        self.folder = folder
        self.keeps_ids, self.renews = keeps_ids, renews
        self._mutex = threading.Lock()
        self._file: BinaryIO | None = None
        self._is_open = False

    @contextmanager
    def opened(self) -> Iterator["Store"]:
        """Makes the folder and keeps others out of it.

        Raises:
            ConfigError: no folder can have that name.
            RunFolderError: it is something else's, another process measures into it now, or nothing can be written.
        """
        if "\0" in str(self.folder):
            raise ConfigError(f"--out {str(self.folder)!r}: no folder can be called so: choose another --out")
        with explain_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.plan_file.is_file() and any(
                path.name not in (".lock", "rendering.json") for path in self.folder.iterdir()
            ):
                raise RunFolderError(f"{self.folder}: is not empty and holds no evaluation: choose another --out")
        own_folder(self.folder, RunFolderError, names=FILES)
        busy = f"{self.folder}: another process measures into it: wait for it, stop it, or choose another --out"
        with locked(self.folder / ".lock", busy):
            self._is_open = True
            try:
                yield self
            finally:
                self._is_open = False
                self._close()

    def claim(
        self, plan: Mapping[str, Any], keys: Mapping[Place, str]
    ) -> tuple[dict[Place, Sample], dict[Place, Sample]]:
        """Makes the folder this evaluation's.

        Args:
            plan: what is asked for, as JSON; its parts are named where an earlier evaluation differs.
            keys: of every sample that is asked for.

        Returns:
            what it already has of it, and what it has besides, of the same model and code.

        Raises:
            RunFolderError: it holds samples of another evaluation, model or code.
            DataError: a file of it is broken; names the line.
        """
        others = self._samples()
        if self.keeps_ids:
            others = {place: sample for place, sample in others.items() if sample.generation.ids is not None}
        if self.renews:
            others = {place: sample for place, sample in others.items() if keys.get(place) == sample.key}
        samples = {place: others.pop(place) for place in keys if place in others}
        strange = [place for place, sample in samples.items() if keys[place] != sample.key]
        found = self._plan()
        is_other = (essence(found.get("model", {})), found.get("code_version")) != (
            essence(plan["model"]),
            plan["code_version"],
        )
        if strange or (others and is_other):
            raise RunFolderError(self._refusal(found, plan, (*strange, *others)))
        write_json(self.plan_file, {**plan, "seconds": self.seconds, "notes": self.notes})
        return samples, others

    def put(self, sample: Sample) -> None:
        """Keeps a sample that is not judged yet."""
        self._append([generation_row(sample)])

    def put_verdicts(self, samples: Sequence[Sample]) -> None:
        """Keeps the verdicts of samples that were put before."""
        self._append([{**place_row(sample), **verdict_row(sample)} for sample in samples])

    @property
    def suite(self) -> str | None:
        """What its samples are of, such as a suite's name; None where there are none."""
        return self._plan().get("suite")

    @property
    def seconds(self) -> float:
        """How long generating took, over all its parts that were not killed."""
        return float(self._plan().get("seconds", 0.0))

    @property
    def notes(self) -> list[str]:
        """What providers noted, over all parts."""
        return [str(note) for note in self._plan().get("notes", [])]

    def add_part(self, seconds: float, notes: Sequence[str]) -> None:
        """Adds the seconds and notes of another part."""
        notes = list(dict.fromkeys([*self.notes, *notes]))
        write_json(self.plan_file, {**self._plan(), "seconds": round(self.seconds + seconds, 3), "notes": notes})

    def finish(self, tasks: Sequence[Task], samples: Sequence[Sample], others: Sequence[Sample] = ()) -> None:
        """Writes the problems that were measured and their samples, in order, and the others aside.

        The journal goes, and so do the results of the samples before.
        """
        self._close()
        for name in RESULTS:
            (self.folder / name).unlink(missing_ok=True)
        write_json(self.plan_file, {**self._plan(), "tasks": [task_row(task) for task in tasks]})
        write_jsonl(self.problems_file, problem_rows(tasks))
        if others:
            write_jsonl(self.unused_file, map(sample_row, others))
        write_jsonl(self.samples_file, map(sample_row, samples))
        if not others:
            self.unused_file.unlink(missing_ok=True)
        self.journal_file.unlink(missing_ok=True)

    def read(self) -> Stored:
        """A finished evaluation.

        Raises:
            DataError: the folder holds none, or a file of it is broken; names the line.
        """
        if not self.plan_file.is_file():
            raise DataError(f"{self.folder}: holds no evaluation (evaluation.json): name a folder that `eval` made")
        own_folder(self.folder, DataError, names=FILES)
        if self.journal_file.is_file():
            raise DataError(
                f"{self.folder}: this evaluation is incomplete: finish it first, with the same command as before"
            )
        plan = self._plan()
        tasks = read_tasks(plan, read_problems(self.problems_file), self.plan_file)
        samples = self._read(self.samples_file)
        grouped = []
        for task in tasks:
            places = [
                [Place(task.name, problem.id, index) for index in range(task.sampling.num_samples)]
                for problem in task.problems
            ]
            lacking = [place for row in places for place in row if place not in samples]
            if lacking or not places:
                what = f"lacks {lacking[0].problem!r}, sample {lacking[0].index}" if lacking else "has no problems"
                raise DataError(f"{self.samples_file}: task {task.name!r}: {what}: measure again by the same command")
            grouped.append(tuple(tuple(samples.pop(place) for place in row) for row in places))
        if samples:
            place = next(iter(samples))
            which = f"task {place.task!r}, problem {place.problem!r}, sample {place.index}"
            raise DataError(f"{self.samples_file}: {which}: evaluation.json and problems.jsonl know no such sample")
        return Stored(plan, tuple(tasks), tuple(grouped), tuple(self._read(self.unused_file).values()))

    @property
    def plan_file(self) -> Path:
        return self.folder / "evaluation.json"

    @property
    def problems_file(self) -> Path:
        return self.folder / "problems.jsonl"

    @property
    def samples_file(self) -> Path:
        return self.folder / "samples.jsonl"

    @property
    def unused_file(self) -> Path:
        return self.folder / "unused.jsonl"

    @property
    def journal_file(self) -> Path:
        return self.folder / "journal.jsonl"

    def _samples(self) -> dict[Place, Sample]:
        """All that is there, judged or not."""
        samples: dict[Place, Sample] = {}
        for path in (self.unused_file, self.samples_file, self.journal_file):
            samples |= self._read(path, samples)
        return samples

    def _read(self, path: Path, before: Mapping[Place, Sample] | None = None) -> dict[Place, Sample]:
        """A file's samples; those `before` may get their verdicts in it."""
        samples = dict(before or {})
        rows = iterate_jsonl(path, drop_cut_tail=path == self.journal_file) if path.is_file() else ()
        for number, row in rows:
            where = f"{path}: line {number}"
            if isinstance(row, dict) and "key" in row:
                sample = read_sample(row, where)
                samples[place_of(sample)] = sample
                continue
            fields = checked(row, where, ("task", "problem"), ("index",))
            place = Place(fields["task"], fields["problem"], fields["index"])
            if place not in samples:
                raise DataError(f"{where}: is the verdict of no sample: remove the line")
            samples[place] = with_verdict(samples[place], row, where)
        return samples

    def _append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        lines = "".join(map(json_line, rows)).encode()
        with self._mutex:
            if not self._is_open:
                return  # a verdict that came when all was over
            try:
                if self._file is None:
                    self._file = _open_whole(self.journal_file)
                self._file.write(lines)
                self._file.flush()
            except OSError:
                with explain_os_errors(self.journal_file):
                    raise

    def _close(self) -> None:
        with self._mutex:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _plan(self) -> dict[str, Any]:
        """evaluation.json; empty before there is one."""
        plan = read_json(self.plan_file) if self.plan_file.is_file() else {}
        if not isinstance(plan, dict):
            raise DataError(f"{self.plan_file}: must be an object")
        for field, kind, what in (
            ("model", dict, "an object"),
            ("seconds", int | float, "a number"),
            ("notes", list, "a list"),
        ):
            if field in plan and not isinstance(plan[field], kind):
                raise DataError(f"{self.plan_file}: field {field!r} must be {what}")
        return plan

    def _refusal(self, found: Mapping[str, Any], plan: Mapping[str, Any], places: Sequence[Place]) -> str:
        kept = {name: value for name, value in found.items() if name not in ("seconds", "notes")}
        differs = sorted(differences(kept, plan))
        why = f"; it differs in {', '.join(differs[:6])}" if differs else ""
        place = places[0]
        return (
            f"{self.folder}: {len(places)} of the samples there are not what this evaluation would give (such as "
            f"{place.task}, {place.problem}, sample {place.index}{why}): choose another --out, or remove the folder"
        )


def _open_whole(path: Path) -> BinaryIO:
    """A file to append to, less a last line that a crash cut in two."""
    with open(path, "a+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)
    return open(path, "ab")
