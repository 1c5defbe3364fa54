"""A stage's metrics while it trains: metrics.jsonl always, sinks of the user's choice, and its pace."""

import hashlib
import importlib
import json
import math
import os
import statistics
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from open_exaone.base.errors import ConfigError
from open_exaone.base.files import append_jsonl, explain_os_errors, write_atomically
from open_exaone.base.log import logger
from open_exaone.train.settings import LoggingConfig

MIN_RECENT, NUM_RECENT = 3, 20  # steps that the time left is estimated from
MIN_NORMS, MAX_NORMS = 16, 64  # steps that a spike is compared with


class Sink(NamedTuple):
    """Where metrics go."""

    log: Callable[[int, dict[str, float]], object]
    close: Callable[[], object]


class MetricsWriter:
    """Writes each step's row to metrics.jsonl and hands its numbers to the sinks; use as a context manager.

    A sink that fails is logged once and not used again; training goes on.
    """

    def __init__(
        self, folder: Path, config: LoggingConfig, step: int, num_bytes: int | None, *, is_writer: bool = True
    ) -> None:
        """Args:
            step: the state that training goes on from; what was written behind it is dropped.
            num_bytes: what metrics.jsonl had when that state was saved.
            is_writer: whether it writes at all; of several ranks, one does.

        Raises:
            ConfigError: a sink is not installed, or cannot be opened.
        """
        self._path, self._is_writer = folder / "metrics.jsonl", is_writer
        if not is_writer:
            self._sinks: dict[str, Sink] = {}
            return
        self._sinks = {name: _open(name, folder, config, step) for name in config.track}
        _forget_after(self._path, step, num_bytes)

    @property
    def num_bytes(self) -> int:
        """Of metrics.jsonl."""
        return self._path.stat().st_size if self._path.exists() else 0

    def log(self, row: Mapping[str, Any]) -> None:
        if not self._is_writer:
            return
        append_jsonl(self._path, row)
        values = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
        step = int(values.pop("step"))
        for name, sink in list(self._sinks.items()):
            self._try(name, lambda sink=sink: sink.log(step, values))  # type: ignore[misc]

    def _try(self, name: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # a border: foreign code that training must outlive
            self._sinks.pop(name)
            logger.warning(
                "%s: accepts no more metrics (%s: %s); training continues", name, type(error).__name__, error
            )

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        for name, sink in list(self._sinks.items()):
            self._try(name, sink.close)


class Pace:
    """How fast a sitting goes."""

    def __init__(self) -> None:
        self._recent_s: deque[float] = deque(maxlen=NUM_RECENT)
        self.longest_act_s = 0.0  # of those that an interruption waits for: a micro-batch, or getting a step's data

    def act(self, seconds: float) -> None:
        self.longest_act_s = max(self.longest_act_s, seconds)

    def step(self, seconds: float, steps_left: int) -> float:
        """Records a step's time.

        Returns:
            the seconds that `steps_left` steps will take, by the median of the last ones (the first of a run includes
            start-up and compilation); not a number before there are three.
        """
        self._recent_s.append(seconds)
        return statistics.median(self._recent_s) * steps_left if len(self._recent_s) >= MIN_RECENT else math.nan


def spike_limit(norms: list[float], factor: float | None) -> float | None:
    """The gradient norm above which a step is skipped: `factor` times the median of the last ones."""
    if factor is None or len(norms) < MIN_NORMS:
        return None
    return factor * statistics.median(norms)


def _forget_after(path: Path, step: int, num_bytes: int | None) -> None:
    """Drops what a killed run wrote down behind its last saved state; those steps are run again."""
    if not path.exists():
        return
    if num_bytes is not None and _ends_a_line(path, num_bytes):
        with explain_os_errors(path):
            os.truncate(path, num_bytes)
    else:  # nothing was saved, the disk lost the end of it, or somebody edited it
        write_atomically(path, lambda temporary: _copy_steps(path, temporary, step))


def _ends_a_line(path: Path, num_bytes: int) -> bool:
    with open(path, "rb") as file:
        file.seek(max(0, num_bytes - 1))
        return file.read(1) == b"\n" or num_bytes == 0


def _copy_steps(path: Path, target: Path, last: int) -> None:
    """Copies the rows up to step `last`; warns of lines that are none, but for a last one that was cut."""
    broken: list[int] = []
    with open(path, "rb") as file, open(target, "wb") as kept:
        for number, line in enumerate(file, start=1):
            step = _step_of(line)
            if step is not None and step <= last:
                kept.write(line.rstrip(b"\n") + b"\n")
            elif step is None and line.endswith(b"\n") and line.strip():
                broken.append(number)
    if broken:
        logger.warning(
            "%s: %d lines are not valid metrics and are skipped; the first is line %d", path, len(broken), broken[0]
        )


def _step_of(line: bytes) -> int | None:
    try:
        step = json.loads(line.decode())["step"]
    except (ValueError, TypeError, KeyError, RecursionError):  # not UTF-8, not JSON, not a row
        return None
    return step if isinstance(step, int) else None


def _open(name: str, folder: Path, config: LoggingConfig, step: int) -> Sink:
    try:
        return SINKS[name](folder.resolve(), config, step)
    except ImportError as error:
        raise ConfigError(
            f"logging.track: {name} is not installed ({error}): pip install 'open-exaone[track]', or leave it out"
        ) from error
    except Exception as error:  # a border: foreign code, before anything was trained
        raise ConfigError(f"logging.track: {name} cannot be opened: {type(error).__name__}: {error}") from error


def _tensorboard(folder: Path, config: LoggingConfig, step: int) -> Sink:
    board = importlib.import_module("torch.utils.tensorboard")
    writer = board.SummaryWriter(log_dir=str(folder / "tensorboard"), purge_step=step + 1)

    def log(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return Sink(log, writer.close)


def _trackio(folder: Path, config: LoggingConfig, step: int) -> Sink:
    trackio = importlib.import_module("trackio")
    trackio.init(project=config.project, name=_run_name(folder), resume="allow")
    return Sink(lambda step, values: trackio.log(values, step=step), trackio.finish)


def _wandb(folder: Path, config: LoggingConfig, step: int) -> Sink:
    name = _run_name(folder)
    run = importlib.import_module("wandb").init(
        project=config.project, name=name, id=name, resume="allow", dir=str(folder)
    )
    return Sink(lambda step, values: run.log(values, step=step), run.finish)


def _run_name(folder: Path) -> str:
    """The same for every sitting of one folder, another for another folder."""
    return f"{folder.parent.name}-{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


SINKS: dict[str, Callable[[Path, LoggingConfig, int], Sink]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}
