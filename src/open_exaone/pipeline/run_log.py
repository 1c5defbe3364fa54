"""log.jsonl of a run: its messages, warnings and errors, what it planned, and how far sampling and measuring are.

Training steps are not in it: metrics.jsonl of each stage has them.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from open_exaone.base.errors import OpenExaoneError
from open_exaone.base.files import append_jsonl
from open_exaone.base.log import logger
from open_exaone.pipeline.measure import OnEvent

LOG_FILE = "log.jsonl"
PROGRESS_EVERY_S = 5.0  # at most so often, how far sampling or measuring is
MAX_CHARS = 2_000  # of a message
PROGRESS = ("stage", "step", "num_steps", "tokens_per_second")


class RunLog:
    """Writes log.jsonl while a run goes; use as a context manager. A log that cannot be written stops no run.

    Args:
        folder: the run's.
        stages: names of the stages; an event of another name is of what is done before or after training.
    """

    def __init__(
        self, folder: Path, stages: frozenset[str], on_event: OnEvent, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._stages, self._on_event, self._clock = folder / LOG_FILE, stages, on_event, clock
        self._handler = _Handler(self._log)
        self._next_s = float("-inf")
        self._is_broken = False

    def __enter__(self) -> OnEvent:
        self._end_cut_line()
        logger.addHandler(self._handler)
        return self._event

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logger.removeHandler(self._handler)
        if isinstance(error, KeyboardInterrupt):
            self._log("warning", "interrupted; the state is saved")
        elif error is not None:
            self._log("error", str(error) if isinstance(error, OpenExaoneError) else f"{type(error).__name__}: {error}")

    def _end_cut_line(self) -> None:
        """Ends a line in which an earlier process was killed, so that the next one does not become a part of it."""
        try:
            with open(self._path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                is_cut = file.read() != b"\n"
        except OSError:  # there is no log yet, or an empty one, or it cannot be read
            return
        if is_cut:
            with contextlib.suppress(OSError), open(self._path, "ab") as file:
                file.write(b"\n")

    def _event(self, event: dict[str, Any]) -> None:
        if "message" in event:
            text = str(event["message"])
            self._log("warning" if text.startswith("note: ") else "info", text.removeprefix("note: "))
        if "resumed_at" in event:
            self._log("info", f"{event['stage']}: continues at step {event['resumed_at']:,} of {event['num_steps']:,}")
        if "plan" in event:
            self._write({"plan": event["plan"]})
        if {"stage", "step", "num_steps"} <= event.keys() and event["stage"] not in self._stages:
            self._progress(event)
        self._on_event(event)

    def _progress(self, event: Mapping[str, Any]) -> None:
        is_last = event["step"] >= event["num_steps"]
        if is_last or self._clock() >= self._next_s:
            self._next_s = self._clock() + PROGRESS_EVERY_S
            self._write({"progress": {name: event[name] for name in PROGRESS if name in event}})

    def _log(self, level: str, text: str) -> None:
        self._write({"level": level, "text": text[:MAX_CHARS]})

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._is_broken:
            return
        try:
            append_jsonl(self._path, {"time": datetime.now().isoformat(timespec="seconds"), **row})
        except (OpenExaoneError, OSError):  # the run's own files report a full disk
            self._is_broken = True


class _Handler(logging.Handler):
    """Gives warnings and errors of the package's logger to a function."""

    def __init__(self, log: Callable[[str, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._log_line = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log_line("error" if record.levelno >= logging.ERROR else "warning", record.getMessage())
