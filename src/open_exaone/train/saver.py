"""When and how a stage's states go to disk, and which one it goes on from."""

import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from open_exaone.base.errors import CheckpointError, DataError, RunFolderError
from open_exaone.base.log import logger
from open_exaone.engine.memory import free_bytes
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.sharding import whole
from open_exaone.train.randomness import set_random_state
from open_exaone.train.settings import KeepConfig
from open_exaone.train.state import (
    Progress,
    Snapshot,
    checkpoints,
    flatten,
    read_state,
    remove_old,
    unflatten,
    write_state,
)

NO_METRICS = {"step", "num_steps", "skipped"}  # of a row
COPY_SHARE = 0.5  # of the free memory; a copy for the thread that takes more is not made


class Saver:
    """Saves a stage's states, and restores the newest that is whole.

    `folder/step-N` holds master.safetensors, optimizer.safetensors, state.json and the SHA-256 of each of them. It
    appears by renaming a folder that was written and flushed to disk; what is broken is found by its sums.

    As a context manager it leaves no writing undone.
    """

    def __init__(
        self,
        folder: Path,
        optimizer: MasterOptimizer,
        keep: KeepConfig,
        fingerprint: Mapping[str, str] | None = None,
        *,
        is_writer: bool = True,
    ) -> None:
        """Args:
        is_writer: whether it writes states, as one rank of several does; all of them read.
        """
        self.folder = folder
        self._is_writer = is_writer
        self.save_seconds = 0.0  # that the last state took to write
        self._optimizer = optimizer
        self._keep = keep
        self._fingerprint = fingerprint
        self._saved_step = 0
        self._has_warned = False
        self._scores: list[float] = []  # of the steps since the last state
        self._metric_names: dict[str, None] = {}  # the metrics that there were instead
        self._has_missed_a_score = False
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._join()
        if kind is None:
            self.check()
        elif self._error is not None:
            logger.warning("%s: and the last state could not be saved: %s", self.folder, self._error)

    def load(self) -> tuple[Progress, int | None]:
        """Restores the newest whole state: weights, optimizer, random states.

        A state that is not whole is named in a warning and the one before it is used.

        Returns:
            how far the run is, and how many bytes metrics.jsonl had; a new start and None where nothing was saved.

        Raises:
            CheckpointError: states were saved and none is whole, or the whole one is of another model.
            RunFolderError: it is of a run with another fingerprint; names what differs.
        """
        for leftover in self.folder.glob(".step-*") if self._is_writer else ():  # a process was killed meanwhile
            shutil.rmtree(leftover, ignore_errors=True)
        for path in reversed(checkpoints(self.folder)):
            try:
                masters, tensors, values = read_state(path)
            except (SafetensorError, DataError, OSError, ValueError) as error:
                logger.warning("%s: this saved state cannot be read (%s); the one before it is tried", path, error)
                continue
            self._refuse_another(values["fingerprint"])
            try:
                self._optimizer.restore(masters, unflatten(tensors))
            except (KeyError, RuntimeError, ValueError) as error:
                raise CheckpointError(f"{path}: this saved state is of another model or optimizer: {error}") from error
            set_random_state(values["random"], next(iter(self._optimizer.weights.values())).device)
            progress = Progress(**values["progress"])
            self._saved_step = progress.step
            return progress, values["metrics_bytes"]
        if checkpoints(self.folder):
            raise CheckpointError(
                f"{self.folder}: no saved state can be read; to train this stage anew, remove the folder"
            )
        return Progress(), None

    def _refuse_another(self, found: dict[str, str]) -> None:
        if self._fingerprint is None or found == dict(self._fingerprint):
            return
        names = sorted(found.keys() | self._fingerprint.keys())
        differences = [
            f"{name} was {_short(found.get(name))} and is {_short(self._fingerprint.get(name))}"
            for name in names
            if found.get(name) != self._fingerprint.get(name)
        ]
        raise RunFolderError(
            f"{self.folder}: was saved by another run: {'; '.join(differences)}: put back what has changed, or choose "
            "another folder"
        )

    def note(self, row: Mapping[str, Any]) -> None:
        """Takes the metric that `keep.best` names from a step's row."""
        if self._keep.best is None:
            return
        value = row.get(self._keep.best)
        if value is not None:
            self._scores.append(float(value))
        elif not self._has_missed_a_score:
            self._metric_names |= dict.fromkeys(name for name in row if name not in NO_METRICS)

    def save(
        self,
        progress: Progress,
        random_state: dict[str, Any],
        metrics_bytes: int,
        *,
        wait: bool = False,
    ) -> None:
        """Saves the state, unless this step's is saved already; in a thread where that is asked for.

        Args:
            random_state: as it was when step `progress.step` ended.
            metrics_bytes: the size of metrics.jsonl.
            wait: return once the state is on disk.

        Raises:
            RunFolderError: this state, or the one before it, could not be written; those before are kept.
        """
        self.check(wait=True)
        if progress.step != self._saved_step and not self._is_writer:
            self._saved_step = progress.step
            for tensor in (*self._optimizer.masters.values(), *flatten(self._optimizer.state()).values()):
                whole(tensor.detach())  # the writer gathers it
        elif progress.step != self._saved_step:
            scores, self._scores = self._scores, []
            if self._keep.best and not scores and not self._has_missed_a_score:
                self._has_missed_a_score = True
                logger.warning(
                    "keep.best: no step since the last saved state had a number for %r, so this one is not compared; "
                    "there are: %s",
                    *(self._keep.best, ", ".join(self._metric_names)),
                )
            values = {
                "progress": asdict(progress),
                "random": random_state,
                "fingerprint": dict(self._fingerprint or {}),
                "metrics_bytes": metrics_bytes,
                "score": fmean(scores) if scores else None,
            }
            self._saved_step = progress.step
            self._begin(values, in_thread=self._keep.async_save and not wait)

    def _begin(self, values: dict[str, Any], in_thread: bool) -> None:
        masters = {name: master.detach() for name, master in self._optimizer.masters.items()}
        tensors = flatten(self._optimizer.state())
        in_thread = in_thread and _fits((*masters.values(), *tensors.values()))
        move = _copied if in_thread else _on_cpu
        step = values["progress"]["step"]
        snapshot = Snapshot(
            step, {n: move(t) for n, t in masters.items()}, {n: move(t) for n, t in tensors.items()}, values
        )
        if not in_thread:
            self._write(snapshot)
            return
        self._thread = threading.Thread(target=self._write_in_thread, args=(snapshot,), name="save")
        self._thread.start()

    def _write_in_thread(self, snapshot: Snapshot) -> None:
        try:
            self._write(snapshot)
        except BaseException as error:  # raised in the thread that trains
            self._error = error

    def _write(self, snapshot: Snapshot) -> None:
        started = time.perf_counter()
        remove_old(self.folder, self._keep, write_state(self.folder, snapshot))
        self.save_seconds = time.perf_counter() - started

    def check(self, *, wait: bool = False) -> None:
        """Raises what went wrong in the thread.

        Args:
            wait: for it to end.
        """
        if wait:
            self._join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def warn_of_slow_stop(self, longest_act_s: float) -> None:
        """Tells once where a stop takes longer than the machine gives it, as far as is known.

        Args:
            longest_act_s: of those that an interruption waits for.
        """
        writings = 2 if self._keep.async_save else 1  # one may be under way
        needed_s = longest_act_s + writings * self.save_seconds
        if self.save_seconds and needed_s > self._keep.stop_within_s and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "after SIGTERM it can take %.0f s to stop with the state saved (%.0f s for what is under way, %.0f s "
                "for a state), more than keep.stop_within_s = %.0f: give the job more time to end, or lower "
                "micro_batch_tokens",
                *(needed_s, longest_act_s, self.save_seconds, self._keep.stop_within_s),
            )

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _short(text: str | None, limit: int = 20) -> str:
    if text is None:
        return "not set"
    return text if len(text) <= limit else text[:limit] + "…"


def _fits(tensors: tuple[Tensor, ...]) -> bool:
    """Whether the machine's memory has room for a copy."""
    return sum(tensor.nbytes for tensor in tensors) <= COPY_SHARE * free_bytes(torch.device("cpu"))


def _copied(tensor: Tensor) -> Tensor:
    tensor = whole(tensor)
    return _on_cpu(tensor).clone() if tensor.device.type == "cpu" else _on_cpu(tensor)


def _on_cpu(tensor: Tensor) -> Tensor:
    return whole(tensor).cpu().contiguous()
