"""Runs of `exaone` side by side, each in a process of one thread; one that fails leaves the others alone."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from open_exaone.base import interrupt
from open_exaone.base.machine import THREAD_VARIABLES
from open_exaone.base.printable import printable
from open_exaone.pipeline.measure import OnEvent

LOG = "output.log"  # in a run's folder: what its process printed
TAIL_BYTES = 4096
STEP = re.compile(r" \d+/\d+ ")  # in a line of progress
POLL_S, REPORT_S = 0.1, 15.0
STOPPED = (130, -signal.SIGTERM)  # how a process ends that was asked to; the second before it could begin
_PR_SET_PDEATHSIG = 1

Place = tuple[str, int]  # an arm and a seed


@dataclass(frozen=True)
class Job:
    """A command of `exaone` that trains one arm with one seed."""

    place: Place
    folder: Path
    arguments: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.place[0]}-{self.place[1]}"


class _Running:
    """A job's process, its output in a file of its folder."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._log = job.folder / LOG
        self._begins = self._log.stat().st_size if self._log.is_file() else 0
        self._shown = ""
        self._is_stopped = False
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
        # A session of its own: Ctrl-C reaches this process alone, which hands it on once.
        with open(self._log, "ab") as file:
            self._process = _begun(job, file, environment)

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def news(self) -> str:
        """The last line of its progress, unless that was shown before."""
        line = next(filter(STEP.search, reversed(self._lines())), "")
        before, self._shown = self._shown, line
        return "" if line == before else f"{self.job.label}: {line}"

    def why_failed(self) -> str:
        """What it printed as its error."""
        lines = self._lines()
        starts = [place for place, line in enumerate(lines) if line.startswith("exaone: ")]
        said = (
            " ".join(lines[starts[-1] :]).removeprefix("exaone: ") if starts else (lines or ["it printed nothing"])[-1]
        )
        return f"{said} (exit code {self._process.returncode}; {self._log})"

    def stop(self) -> None:
        """Asks it once to save its state and end."""
        if not self._is_stopped:
            self._is_stopped = True
            self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Ends it at once, as a second signal does."""
        self.stop()
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        self._process.wait()

    def _lines(self) -> list[str]:
        """The last lines of what this process printed."""
        with open(self._log, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._begins, end - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
        return [line for part in text.splitlines() if (line := printable(part).strip())]


def _begun(job: Job, log: BinaryIO, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "open_exaone", *job.arguments]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        preexec_fn=_stop_with_parent(),
    )


def _stop_with_parent() -> Callable[[], object] | None:
    """What has the kernel ask a process to stop when this one ends, however it does; None where there is no Linux."""
    if not sys.platform.startswith("linux"):
        return None
    return partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def run_jobs(jobs: Sequence[Job], num_at_once: int, on_event: OnEvent) -> dict[Place, str]:
    """Runs all jobs, so many at once.

    Returns:
        of those that failed, why.

    Raises:
        Interrupted: after Ctrl-C, SIGTERM or a closed terminal, once all that were running have saved their state.
    """
    waiting, running, failures, num_done = deque(jobs), list[_Running](), dict[Place, str](), 0
    reported_s = time.monotonic()
    try:
        while running or (waiting and not interrupt.requested()):
            while waiting and len(running) < num_at_once and not interrupt.requested():
                running.append(_Running(waiting.popleft()))
                job = running[-1].job
                on_event({"message": f"{job.label}: started; its output is written to {job.folder / LOG}"})
            for one in running if interrupt.requested() else ():
                one.stop()
            time.sleep(POLL_S)
            for one in [one for one in running if one.code is not None]:
                running.remove(one)
                if one.code in STOPPED and interrupt.requested():
                    on_event({"message": f"{one.job.label}: stopped; its state is saved"})
                    continue
                num_done += 1
                if one.code:
                    failures[one.job.place] = one.why_failed()
                how = f"failed: {failures[one.job.place]}" if one.job.place in failures else "ended"
                on_event({"message": f"{one.job.label}: {how} ({num_done} of {len(jobs)})"})
            if time.monotonic() - reported_s > REPORT_S:
                reported_s = time.monotonic()
                for line in filter(None, [one.news() for one in running]):
                    on_event({"message": line})
    except KeyboardInterrupt:  # a second Ctrl-C
        for one in running:
            one.end()
        raise
    finally:
        for one in running:
            one.stop()
        for one in running:
            one.wait()
    interrupt.check()
    return failures
