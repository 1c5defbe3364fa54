"""When and how a stage's states are saved, and which one training resumes from."""

import os
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from open_exaone.base import interrupt
from open_exaone.base.errors import CheckpointError, DataError, RunFolderError
from open_exaone.base.files import read_json
from open_exaone.base.log import logger
from open_exaone.engine.memory import free_bytes
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.sharding import is_sharded, own_part
from open_exaone.train.parallel.place import num_local_ranks
from open_exaone.train.parallel.world import ALONE, OWN_NOTES, Notes, World
from open_exaone.train.randomness import set_random_state
from open_exaone.train.settings import KeepConfig
from open_exaone.train.state import (
    STATE_FILE,
    Progress,
    Snapshot,
    checked,
    checkpoints,
    fault,
    flatten,
    remove_old,
    unflatten,
    write_state,
)
from open_exaone.train.state_tensors import STATE, SavedTensors

NO_METRICS = {"step", "num_steps", "skipped"}  # of a row
COPY_SHARE = 0.5  # of the free memory; a copy for the thread that takes more is not made
LOST_S = 10.0  # that a rank's part is waited for once training has failed


class Saver:
    """Saves a stage's states, and restores the newest that is complete.

    `folder/step-N` holds master.safetensors, optimizer.safetensors, state.json and the SHA-256 of each of them. Of a
    sharded model each rank writes its own part, master-00001-of-00004.safetensors and so on. The folder appears by
    renaming one that was written and flushed to disk by all ranks; what is broken is found by its sums.

    As a context manager, it finishes all writing at its end.
    """

    def __init__(
        self,
        folder: Path,
        optimizer: MasterOptimizer,
        keep: KeepConfig,
        fingerprint: Mapping[str, str] | None = None,
        *,
        world: World = ALONE,
    ) -> None:
        """Args:
        world: the ranks that train together. The first one writes states, or all of them, each its part of a model
            that is sharded; all of them read.
        """
        self.folder = folder
        self._world = world
        self._is_divided = any(map(is_sharded, optimizer.masters.values()))
        self._deadline = 0.0  # until which other ranks' parts of the state that is being written are waited for
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
        if kind is not None and not issubclass(kind, interrupt.Interrupted):
            self._wait_no_longer_than(LOST_S)
        self._join()
        if kind is None:
            self.check()
        elif self._error is not None:
            logger.warning("%s: in addition, the last state could not be saved: %s", self.folder, self._error)

    def load(self) -> tuple[Progress, int | None]:
        """Restores the newest complete state: weights, optimizer, random states.

        A warning names an incomplete state, and the one before it is used.

        Returns:
            how far the run is, and how many bytes metrics.jsonl had; a new start and None where nothing was saved.

        Raises:
            CheckpointError: states were saved and none is complete, or the complete one is of another model.
            RunFolderError: it is of a run with another fingerprint; names what differs.
        """
        self._world.lead(self._remove_leftovers)
        names = self._world.lead(lambda: [path.name for path in checkpoints(self.folder)])
        for name in reversed(names):
            path = self.folder / name
            if why := fault(self._world.gather(partial(checked, path, self._world.rank, self._world.size))):
                logger.warning("%s: this saved state cannot be read (%s); trying the one before it", path, why)
                continue
            values = read_json(path / STATE_FILE)
            self._refuse_another(values["fingerprint"])
            self._world.gather(partial(self._restore, path))
            set_random_state(values["random"], next(iter(self._optimizer.weights.values())).device)
            progress = Progress(**values["progress"])
            self._saved_step = progress.step
            return progress, values["metrics_bytes"]
        if names:
            raise CheckpointError(
                f"{self.folder}: no saved state can be read; to train this stage anew, remove the folder"
            )
        return Progress(), None

    def _remove_leftovers(self) -> None:
        """Of a process that was killed while it wrote or removed a state."""
        for leftover in self.folder.glob(".step-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _restore(self, path: Path) -> None:
        """Reads weights and the optimizer's state from disk into their places; a rank reads its own parts alone."""
        optimizer = self._optimizer
        try:
            saved = SavedTensors(path)
            masters = {name: master.detach() for name, master in optimizer.masters.items()}
            for name, master in masters.items():
                if saved.shape(name) != tuple(master.shape):
                    raise ValueError(f"{name} has shape {saved.shape(name)} there and {tuple(master.shape)} here")
            weights = optimizer.numbered()
            states = {}
            for name in [name for name in saved if STATE in name]:
                shape, dtype = saved.shape(name), saved.dtype(name)
                weight = weights[name.rpartition(STATE)[0]]
                if shape and shape != tuple(weight.shape):
                    raise ValueError(f"the optimizer's state {name} of shape {shape} fits no weight")
                states[name] = torch.empty_like(weight, dtype=dtype) if shape else torch.empty((), dtype=dtype)
            saved.read_into(masters | states)
            optimizer.restore(masters, unflatten(states))
        except (DataError, KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path}: this saved state is of another model or optimizer: {error}") from error

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
        if progress.step == self._saved_step:
            return
        self._saved_step = progress.step
        if not (self._is_divided or self._world.is_first):
            return
        values = {
            "progress": asdict(progress),
            "random": random_state,
            "fingerprint": dict(self._fingerprint or {}),
            "metrics_bytes": metrics_bytes,
            "score": self._score(),
        }
        self._begin(values, in_thread=self._keep.async_save and not wait)

    def _score(self) -> float | None:
        """The mean of what `keep.best` names, over the steps since the state before; None where there is none."""
        scores, self._scores = self._scores, []
        if self._keep.best and not scores and not self._has_missed_a_score:
            self._has_missed_a_score = True
            logger.warning(
                "keep.best: %r was not logged since the last saved state, so this one is not compared; the metrics "
                "are: %s",
                *(self._keep.best, ", ".join(self._metric_names)),
            )
        return fmean(scores) if scores else None

    def _begin(self, values: dict[str, Any], in_thread: bool) -> None:
        notes = self._world.notes() if self._is_divided else OWN_NOTES
        masters, tensors = self._optimizer.masters, flatten(self._optimizer.state())
        every = enumerate({**masters, **tensors}.items())
        parts = {
            name: part
            for number, (name, tensor) in every
            if (part := own_part(tensor.detach(), number, is_first=notes.rank == 0)) is not None
        }
        in_thread = in_thread and _fits(tuple(values for values, _ in parts.values()))
        move = _copied if in_thread else _on_cpu
        snapshot = Snapshot(
            values["progress"]["step"],
            {name: move(part) for name, (part, _) in parts.items() if name in masters},
            {name: move(part) for name, (part, _) in parts.items() if name in tensors},
            values,
            {name: place for name, (_, place) in parts.items()} if self._is_divided else None,
        )
        self._deadline = time.monotonic() + self._world.timeout_s
        if not in_thread:
            self._write(snapshot, notes)
            return
        self._thread = threading.Thread(target=self._write_in_thread, args=(snapshot, notes), name="save")
        self._thread.start()

    def _write_in_thread(self, snapshot: Snapshot, notes: Notes) -> None:
        try:
            self._write(snapshot, notes)
        except BaseException as error:  # raised in the thread that trains
            self._error = error

    def _write(self, snapshot: Snapshot, notes: Notes) -> None:
        started = time.perf_counter()
        newest = write_state(self.folder, snapshot, notes, self._gives_up)
        if notes.rank == 0:
            remove_old(self.folder, self._keep, newest)
        self.save_seconds = time.perf_counter() - started

    def _gives_up(self) -> bool:
        """Whether another rank's part has not come for too long: a rank has ended, or the run is to end."""
        if interrupt.requested():
            self._wait_no_longer_than(self._keep.stop_within_s)
        return time.monotonic() > self._deadline

    def _wait_no_longer_than(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def check(self, *, wait: bool = False) -> None:
        """Raises the error of the writing thread, if it had one.

        Args:
            wait: for it to end.
        """
        if wait:
            self._join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def warn_of_slow_stop(self, longest_act_s: float) -> None:
        """Warns once if saving after SIGTERM would take longer than `keep.stop_within_s`, by the times measured so far.

        Args:
            longest_act_s: of those that an interruption waits for.
        """
        writings = 2 if self._keep.async_save else 1  # one may be under way
        needed_s = longest_act_s + writings * self.save_seconds
        if self.save_seconds and needed_s > self._keep.stop_within_s and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "after SIGTERM, the run can need %.0f s to save its state (%.0f s to finish the current work, %.0f s "
                "to write a state), more than keep.stop_within_s = %.0f: give the job more time to end, or lower "
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
    """Whether the machine's memory has room for a copy, and for those of the other ranks on it."""
    share = COPY_SHARE / num_local_ranks(os.environ)
    return sum(tensor.nbytes for tensor in tensors) <= share * free_bytes(torch.device("cpu"))


def _copied(tensor: Tensor) -> Tensor:
    return _on_cpu(tensor).clone() if tensor.device.type == "cpu" else _on_cpu(tensor)


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.cpu().contiguous()
