"""An evaluation's folder: what was asked for, and every sample, kept from the moment that it is there.

`evaluation.json` says what was asked for, `problems.jsonl` holds the problems, `samples.jsonl` the judged samples in
order, and `journal.jsonl`, while an evaluation runs, one line for each sample and one for each verdict.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from open_exaone.base.config import differences
from open_exaone.base.errors import DataError, RunFolderError
from open_exaone.base.files import (
    explain_os_errors,
    iterate_jsonl,
    json_line,
    locked,
    read_json,
    write_json,
    write_jsonl,
)
from open_exaone.base.records import Sample
from open_exaone.evaluation.rows import (
    Place,
    checked,
    generation_row,
    place_of,
    place_row,
    problem_rows,
    read_problems,
    read_sample,
    read_tasks,
    read_verdict,
    sample_row,
    verdict_row,
)
from open_exaone.evaluation.task import Task

_BLOCK = 1 << 16
RESULTS = ("report.json", "report.html")


@dataclass(frozen=True, slots=True)
class Stored:
    """A whole evaluation as its folder holds it; P problems, k samples each."""

    plan: Mapping[str, Any]  # evaluation.json
    tasks: tuple[Task, ...]
    samples: tuple[tuple[tuple[Sample, ...], ...], ...]  # [task, P, k]


class Store:
    """Keeps samples as they come. Threads may call it at once; a second process is kept out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mutex = threading.Lock()
        self._file: BinaryIO | None = None

    @contextmanager
    def opened(self) -> Iterator["Store"]:
        """Makes the folder and keeps others out of it.

        Raises:
            RunFolderError: another process measures into it now, or nothing can be written there.
        """
        with explain_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        busy = f"{self.folder}: another process measures into it: wait for it, stop it, or choose another --out"
        with locked(self.folder / ".lock", busy):
            try:
                yield self
            finally:
                self._close()

    def claim(self, plan: Mapping[str, Any], tasks: Sequence[Task], keys: Mapping[Place, str]) -> dict[Place, Sample]:
        """Makes the folder this evaluation's, and gives what it already has of it.

        Args:
            plan: what is asked for, as JSON; its parts are named where an earlier evaluation differs.
            keys: of every sample that is asked for.

        Raises:
            RunFolderError: it holds samples of another evaluation, model or code, or something else.
            DataError: a file of it is broken; names the line.
        """
        samples = self._samples()
        others = [place for place, sample in samples.items() if keys.get(place) != sample.key]
        if others:
            raise RunFolderError(self._refusal(plan, others[0], len(others), samples))
        if not self.plan_file.is_file() and any(path.name != ".lock" for path in self.folder.iterdir()):
            raise RunFolderError(f"{self.folder}: is not empty and holds no evaluation: choose another --out")
        write_json(self.plan_file, {**plan, "seconds": self.seconds, "notes": self.notes})
        write_jsonl(self.problems_file, problem_rows(tasks))
        return samples

    def put(self, sample: Sample) -> None:
        """Keeps a sample that is not judged yet."""
        self._append([generation_row(sample)])

    def put_verdicts(self, samples: Sequence[Sample]) -> None:
        """Keeps the verdicts of samples that were put before."""
        self._append([{**place_row(sample), **verdict_row(sample.verdict)} for sample in samples])

    @property
    def seconds(self) -> float:
        """How long generating took, over all its parts that were not killed."""
        return float(self._told().get("seconds", 0.0))

    @property
    def notes(self) -> list[str]:
        """What providers had to say, over all parts."""
        return [str(note) for note in self._told().get("notes", [])]

    def tell(self, seconds: float, notes: Sequence[str]) -> None:
        """Counts another part."""
        notes = list(dict.fromkeys([*self.notes, *notes]))
        write_json(self.plan_file, {**self._told(), "seconds": round(self.seconds + seconds, 3), "notes": notes})

    def finish(self, samples: Sequence[Sample]) -> None:
        """Writes all samples in order; the journal goes, and the results of the samples before."""
        self._close()
        for name in RESULTS:
            (self.folder / name).unlink(missing_ok=True)
        write_jsonl(self.samples_file, map(sample_row, samples))
        self.journal_file.unlink(missing_ok=True)

    def read(self) -> Stored:
        """A finished evaluation.

        Raises:
            DataError: the folder holds none, or a file of it is broken; names the line.
        """
        if not self.plan_file.is_file():
            raise DataError(f"{self.folder}: holds no evaluation (evaluation.json): name a folder that `eval` made")
        if self.journal_file.is_file():
            raise DataError(f"{self.folder}: this evaluation was cut: finish it first, by the same command as before")
        plan = read_json(self.plan_file)
        samples: dict[str, dict[str, list[Sample]]] = {}
        for place, sample in self._samples().items():
            samples.setdefault(place.task, {}).setdefault(place.problem, []).append(sample)
        tasks, grouped = [], []
        for task in read_tasks(plan, read_problems(self.problems_file), self.plan_file):
            own = samples.get(task.name, {})
            problems = tuple(problem for problem in task.problems if problem.id in own)
            sizes = {len(own[problem.id]) for problem in problems}
            if len(sizes) != 1:
                raise DataError(f"{self.samples_file}: task {task.name!r}: its problems must have as many samples each")
            sampling = replace(task.sampling, num_samples=sizes.pop())
            tasks.append(replace(task, problems=problems, sampling=sampling))
            grouped.append(tuple(tuple(own[problem.id]) for problem in problems))
        return Stored(plan, tuple(tasks), tuple(grouped))

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
    def journal_file(self) -> Path:
        return self.folder / "journal.jsonl"

    def _samples(self) -> dict[Place, Sample]:
        """All that is there, judged or not."""
        samples: dict[Place, Sample] = {}
        for path in (self.samples_file, self.journal_file):
            rows = iterate_jsonl(path, drop_cut_tail=path == self.journal_file) if path.is_file() else ()
            for number, row in rows:
                where = f"{path}: line {number}"
                if isinstance(row, dict) and "key" in row:
                    sample = read_sample(row, where)
                    samples[place_of(sample)] = sample
                else:
                    place = checked(row, where, ("task", "problem", "verdict", "why"), ("index",))
                    key = Place(place["task"], place["problem"], place["index"])
                    if key not in samples:
                        raise DataError(f"{where}: is the verdict of no sample: remove the line")
                    samples[key] = replace(samples[key], verdict=read_verdict(place, where))
        return samples

    def _append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        lines = "".join(map(json_line, rows)).encode()
        with self._mutex:
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

    def _told(self) -> dict[str, Any]:
        plan = read_json(self.plan_file) if self.plan_file.is_file() else {}
        if not isinstance(plan, dict):
            raise DataError(f"{self.plan_file}: must be an object")
        return plan

    def _refusal(self, plan: Mapping[str, Any], place: Place, number: int, samples: Mapping[Place, Sample]) -> str:
        found = {name: value for name, value in self._told().items() if name not in ("seconds", "notes")}
        differs = sorted(differences(found, plan)) if found else []
        why = f"; it differs in {', '.join(differs[:6])}" if differs else ""
        return (
            f"{self.folder}: {number} of the {len(samples)} samples there are not what this evaluation would give "
            f"(such as {place.task}, {place.problem}, sample {place.index}{why}): choose another --out, or remove it"
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
