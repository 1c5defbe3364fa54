"""What a run's folder says while the run goes: read again and again, never written to."""

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_exaone.base.errors import ConfigError, DataError, OpenExaoneError, RunFolderError
from open_exaone.base.files import is_held, read_json
from open_exaone.base.links import own_file
from open_exaone.base.tail import Tail
from open_exaone.base.text import some
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import LOCK, RunFolder
from open_exaone.pipeline.run_log import LOG_FILE
from open_exaone.present.rollouts import newest_rollouts
from open_exaone.present.stages import is_number
from open_exaone.present.terminal import Plan
from open_exaone.present.watch import Line, StageSeen, State, Watched
from open_exaone.train.config import AnyStage, FilterStage

MAX_ROWS = 160  # of a stage's metrics that are kept, apart from the newest
MAX_LINES = 12  # of the log that are shown
PAGES = ("seeds.html", "ablation.html", "report.html")  # of a folder that is no run's
RUN_PAGES = ("report.html", "card.html", "card.ko.html")
EVAL_PAGES = ("report.html", "against.html")


class Metrics:
    """A stage's metrics.jsonl: its newest row, and at most `MAX_ROWS` rows for the curves, each the mean of
    neighbours."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self._forget()

    def _forget(self) -> None:
        self.newest: dict[str, Any] = {}
        self._rows: list[dict[str, float]] = []
        self._width, self._pending = 1, list[dict[str, float]]()

    def look(self) -> None:
        """Reads what is new."""
        self._tail.read(self._take, self._forget)

    def rows(self) -> list[dict[str, float]]:
        """The rows of the curves, in order; the last one is the newest."""
        rest = [mean_row(self._pending)] if len(self._pending) > 1 else []
        return [*self._rows, *rest, *([_numbers(self.newest)] if self._pending else [])]

    def _take(self, row: dict[str, Any]) -> None:
        self.newest = row
        self._pending.append(_numbers(row))
        if len(self._pending) == self._width:
            self._rows.append(mean_row(self._pending))
            self._pending = []
        if len(self._rows) > MAX_ROWS:
            pairs = zip(self._rows[::2], self._rows[1::2], strict=False)
            odd = self._rows[-1:] * (len(self._rows) % 2)
            self._pending = [*odd, *self._pending]
            self._rows, self._width = [mean_row(pair) for pair in pairs], 2 * self._width


def mean_row(rows: Any) -> dict[str, float]:
    """The mean of several rows: of each number, over the rows that have it."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {name: some[0] if len(some) == 1 else sum(some) / len(some) for name, some in values.items()}


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if is_number(value)}


class Watcher:
    """Looks at a run's folder; a look reads only what is new since the last one."""

    def __init__(self, folder: Path) -> None:
        """Raises:
        ConfigError: the folder holds something else than a run.
        """
        self.folder = RunFolder(folder)
        self._metrics: dict[Path, Metrics] = {}
        self._log = Tail(folder / LOG_FILE)
        self._forget_log()
        check_folder(folder)

    def _forget_log(self) -> None:
        self._lines: deque[Line] = deque(maxlen=MAX_LINES)
        self._plan: list[dict[str, Any]] = []
        self._progress: dict[str, Any] = {}

    def look(self, number: int | None = None) -> Watched:
        """The run as it is now.

        Args:
            number: of the stage whose curves are wanted, from 1; the stage at hand if None.
        """
        path = self.folder.path
        if not self.folder.recipe_file.is_file():
            return Watched(str(path), State.WAITING)
        try:
            recipe = self.folder.recipe()
            self._log.read(self._take_line, self._forget_log)
            return self._seen(recipe, number)
        except OpenExaoneError as error:
            return Watched(str(path), State.UNREADABLE, problem=str(error))

    def pages(self) -> dict[str, Path]:
        """The pages that a run may have, by their address: its report, its cards, and those of its evaluations."""
        try:
            recipe = self.folder.recipe() if self.folder.recipe_file.is_file() else None
        except OpenExaoneError:
            recipe = None
        folders = [self.folder.stage(i, stage.name) / "eval" for i, stage in enumerate(recipe.stages if recipe else ())]
        files = [self.folder.path / name for name in RUN_PAGES] + [at / name for at in folders for name in EVAL_PAGES]
        return {f"/{file.relative_to(self.folder.path).as_posix()}": file for file in files}

    def read(self, file: Path, query: object = None) -> bytes | None:
        """A page of the run; None where there is none."""
        try:
            return file.read_bytes() if own_file(file, self.folder.path, RunFolderError).is_file() else None
        except (OSError, RunFolderError):
            return None

    def _seen(self, recipe: Recipe, number: int | None) -> Watched:
        is_running = is_held(self.folder.path / LOCK)
        stages = [self._stage(recipe, index, stage) for index, stage in enumerate(recipe.stages)]
        open_ = [place for place, seen in enumerate(stages) if seen.state != State.DONE]
        at_hand = open_[0] if open_ else len(stages) - 1
        if open_ and is_running and stages[at_hand].state == State.WAITING:
            stages[at_hand] = stages[at_hand]._replace(state=State.PREPARING)
        has_report = (self.folder.path / "report.html").is_file()
        shown = number - 1 if number is not None and 1 <= number <= len(stages) else at_hand
        metrics = self._metrics_of(recipe, shown)
        return Watched(
            folder=str(self.folder.path),
            state=State.RUNNING if is_running else self._ended(is_whole=not open_),
            recipe=recipe.name,
            stages=stages,
            at_hand=at_hand,
            shown=shown,
            rows=metrics.rows(),
            rollouts=newest_rollouts(self.folder.stage(shown, recipe.stages[shown].name)),
            lines=list(self._lines),
            progress=self._progress if is_running else {},
            seconds_left=self._seconds_left(stages[at_hand]) if is_running else None,
            has_report=has_report,
            age_s=self._age_s(shown if number is None else at_hand, recipe),
        )

    def _ended(self, *, is_whole: bool) -> State:
        """How a run ended that no process runs; the last line of its log is why it failed, where it did."""
        if is_whole:
            return State.DONE
        return State.FAILED if self._lines and self._lines[-1].level == "error" else State.STOPPED

    def _age_s(self, index: int, recipe: Recipe) -> float | None:
        """Seconds since the run last wrote a step or a line of its log."""
        files = (self.folder.stage(index, recipe.stages[index].name) / "metrics.jsonl", self.folder.path / LOG_FILE)
        times = [path.stat().st_mtime for path in files if path.is_file()]
        return max(0.0, time.time() - max(times)) if times else None

    def _metrics_of(self, recipe: Recipe, index: int) -> Metrics:
        path = self.folder.stage(index, recipe.stages[index].name) / "metrics.jsonl"
        metrics = self._metrics.setdefault(path, Metrics(path))
        metrics.look()
        return metrics

    def _stage(self, recipe: Recipe, index: int, stage: AnyStage) -> StageSeen:
        path, newest = self.folder.stage(index, stage.name), self._metrics_of(recipe, index).newest
        outcome = _record(path / "outcome.json")
        scores = _record(path / "eval" / "report.json")
        return StageSeen(
            name=stage.name,
            kind=stage.kind,
            state=self._state(recipe, stage, path, newest),
            row=newest,
            memory=outcome.get("peak_rss_bytes") or newest.get("peak_memory_bytes"),
            scores=[part for part in scores.get("tasks") or [scores] if is_number(part.get("pass_at_1"))],
            notes=[note for note in outcome.get("notes") or [] if isinstance(note, str)],
        )

    def _state(self, recipe: Recipe, stage: AnyStage, path: Path, newest: Mapping[str, Any]) -> State:
        try:
            is_trained = self.folder.is_done(recipe, stage)
        except DataError:
            is_trained = False
        is_measured = recipe.evaluation is None or (path / "eval" / "report.json").is_file()
        if is_trained:
            return State.DONE if is_measured or isinstance(stage, FilterStage) else State.MEASURING
        if newest:
            return State.TRAINING
        has_samples = any((path / name).exists() for name in ("samples", "groups.jsonl", "pairs.jsonl"))
        return State.SAMPLING if has_samples else State.WAITING

    def _take_line(self, row: dict[str, Any]) -> None:
        if isinstance(row.get("text"), str):
            self._lines.append(Line(str(row.get("time", "")), str(row.get("level", "info")), row["text"]))
        if isinstance(row.get("plan"), list):
            self._plan = [one for one in row["plan"] if isinstance(one, dict)]
        if isinstance(row.get("progress"), dict):
            self._progress = row["progress"]

    def _seconds_left(self, stage: StageSeen) -> float | None:
        """The time until the end of the whole run, where the stage at hand trains and its pace is known."""
        step, num_steps = stage.row.get("step"), stage.row.get("num_steps")
        left = stage.row.get("seconds_left")
        if stage.state != State.TRAINING or not (is_number(step) and is_number(num_steps) and is_number(left)):
            return None
        assert step is not None and num_steps is not None and left is not None
        try:
            share = (num_steps - step) / num_steps
            return Plan(self._plan).seconds_left(stage.name, share, left) if share > 0 else None
        except (KeyError, TypeError, ArithmeticError):  # a plan that was edited
            return None


def check_folder(folder: Path) -> None:
    """Refuses a folder that holds something else than a run; one that is missing or empty may become a run's.

    Raises:
        ConfigError: names the runs in it, where it has some.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file: name the folder of a run")
    if not folder.is_dir() or (folder / "recipe.toml").is_file():
        return
    pages = [name for name in PAGES if (folder / name).is_file()]
    instead = f"; its page is {folder / pages[0]}" if pages else ""
    if (folder / "evaluation.json").is_file():
        raise ConfigError(f"{folder}: holds an evaluation and no run: name the folder of a run{instead}")
    runs = sorted(path.parent.name for path in folder.glob("*/recipe.toml"))
    if runs:
        raise ConfigError(f"{folder}: holds several runs; watch one of them: {some(runs)}{instead}")
    if any(folder.iterdir()) and not (folder / LOCK).exists():
        raise ConfigError(f"{folder}: is no run's folder (it has no recipe.toml): name one that `exaone run` makes")


def _record(path: Path) -> dict[str, Any]:
    """A JSON file's record; empty where there is none, or it cannot be read."""
    try:
        found = read_json(path) if path.is_file() else {}
    except DataError:
        return {}
    return found if isinstance(found, dict) else {}
