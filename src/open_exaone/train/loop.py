"""The one loop of all stages: take a step's documents, add up gradients, move, write down, save."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from open_exaone.base import interrupt
from open_exaone.base.errors import OpenExaoneError
from open_exaone.base.log import logger
from open_exaone.base.machine import HeapTrimmer, peak_rss_bytes
from open_exaone.data.batch import Batch, num_computed, shares
from open_exaone.data.document import Document, Unit
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.learn.schedule import rate_at
from open_exaone.model.threads import Workers, computing
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.accumulate import Metrics, accumulate, add_up
from open_exaone.train.config import StageConfig
from open_exaone.train.metrics import MAX_NORMS, MetricsWriter, Pace, spike_limit
from open_exaone.train.mfu import peak_flops
from open_exaone.train.parallel.alike import check_alike
from open_exaone.train.parallel.world import ALONE, World
from open_exaone.train.randomness import random_state, reseed, seed_all
from open_exaone.train.saver import Saver
from open_exaone.train.settings import KeepConfig, LoggingConfig
from open_exaone.train.state import Memory, Progress

MAX_EMPTY_STEPS = 10  # in a row; a warning is logged then, and again at twice as many
WHY_EMPTY = (
    "in reinforcement learning all samples of each problem had the same reward (see rollouts/): choose problems that "
    "the model solves sometimes, a larger max_new_tokens where replies are cut off, a larger group_size, or a reward "
    "that distinguishes more of them"
)

OnStep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class StepData:
    """What one optimizer step learns from."""

    units: Sequence[Unit]  # no micro-batch splits one
    denominator: float  # of the whole step: learned tokens, or pairs
    metrics: Metrics = field(default_factory=dict)  # of how the documents came about
    why_empty: str = ""  # where there are no documents, and not because all rewards were equal
    waited_s: float = 0.0  # for a judge model that was down: no work, and an interruption ends it at once
    memory: Memory = field(default_factory=dict)  # what later steps need of this one; saved with the state behind it
    num_averaged: float = 1.0  # what the objective's own metrics are divided by, but for the loss and those of `max_…`

    @property
    def documents(self) -> list[Document]:
        return [document for unit in self.units for document in unit]


class Objective(Protocol):
    """What makes a stage the stage that it is."""

    @property
    def config(self) -> StageConfig: ...

    @property
    def num_steps(self) -> int: ...

    def step_data(self, step: int, memory: Memory = ...) -> StepData:
        """The documents of step `step`, a function of the seed, the step, the weights and `memory` alone.

        Args:
            memory: `StepData.memory` of the step before; empty before the first one.
        """
        ...

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        """The micro-batch's share of the step's loss, and metrics; called by several threads at a time.

        Metrics add up over micro-batches and are then divided by `StepData.num_averaged`; of those named `max_…` the
        greatest stands.
        """
        ...


def train(
    model: LanguageModel,
    optimizer: MasterOptimizer,
    objective: Objective,
    folder: Path,
    on_step: OnStep,
    *,
    fingerprint: Mapping[str, str] | None = None,
    keep: KeepConfig | None = None,
    logging: LoggingConfig | None = None,
    flops_per_token: float | None = None,
    measure: Callable[[int], Metrics] | None = None,
    on_resume: Callable[[int], object] = lambda step: None,
    seed: int = 0,
    world: World = ALONE,
) -> Progress:
    """Runs a stage to its end, from its last whole saved state where there is one.

    Ctrl-C and SIGTERM take effect between micro-batches: the step that was begun is given up, and the state behind the
    last whole one is saved. Where the disk fills up, the run stops and the states saved before are kept.

    Args:
        folder: gets `checkpoints/` and `metrics.jsonl`.
        on_step: called with each step's metrics.
        fingerprint: names and texts of what decides the outcome (`state.fingerprint_of`; files' hashes): a state that
            was saved with others is not gone on from. None: not looked at.
        keep: which saved states stay; the stage's own settings where None. `logging` likewise.
        flops_per_token: of a forward and backward pass; with it rows have FLOP/s and MFU.
        measure: called behind each step with its number; what it gives joins the step's row.
        on_resume: called with the step of the state that it goes on from, once that is restored.
        seed: of the global random states, where the stage begins.
        world: the ranks that train it together: each computes a share of a step's documents, the first one writes.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
        RunFolderError: the folder is another run's, or the disk takes no state.
        OpenExaoneError: too many steps in a row were skipped, or what a step needs cannot be had, with the state saved;
            or no step had anything to learn.
        RankError: another rank failed; the first rank saves its state, where it is still there.
    """
    keep, logging = keep or objective.config.keep, logging or objective.config.logging
    seed_all(seed)
    saver = Saver(folder / "checkpoints", optimizer, keep, fingerprint, is_writer=world.is_first)
    progress, num_bytes = world.first(saver.load)
    check_alike(world, progress.step, optimizer)
    if progress.step:
        on_resume(progress.step)
    if progress.step >= objective.num_steps:
        logger.warning("%s: all %d steps are done; there is nothing left to train", folder, objective.num_steps)
        return _learned(folder, progress)
    progress.skipped_in_a_row %= logging.max_skipped_steps  # where that stopped it, it goes on with as much patience
    with saver, MetricsWriter(folder, logging, progress.step, num_bytes, is_writer=world.is_first) as watching:
        run = _Run(model, optimizer, objective, progress, logging, flops_per_token, measure, world)
        while progress.step < objective.num_steps:
            _step_and_save(run, saver, watching, on_step)
            if progress.skipped_in_a_row >= logging.max_skipped_steps:
                raise _stuck(folder, progress, logging)
    return _learned(folder, progress)


def _step_and_save(run: "_Run", saver: Saver, watching: MetricsWriter, on_step: OnStep) -> None:
    """One step, its metrics logged, and its state saved where it is time for that or where the run ends here."""
    progress, device, config = run.progress, run.model.device, run.objective.config
    before = random_state(device)
    try:
        with run.world.watched():
            row = run.step()
    except (OpenExaoneError, interrupt.Interrupted) as error:  # the weights are as they were
        run.optimizer.clear()
        if progress.step and (run.model.sharing is None or isinstance(error, interrupt.Interrupted)):
            saver.save(progress, before, watching.num_bytes, wait=True)
        raise
    if run.measure is not None:
        row |= run.measure(progress.step)
    watching.log(row)
    on_step(row)
    saver.note(row)
    is_interrupted = run.world.any(interrupt.requested())  # looked at once: what comes behind this ends the next step
    is_last = progress.skipped_in_a_row >= run.logging.max_skipped_steps or is_interrupted
    if is_last or progress.step % config.checkpoint_steps == 0 or progress.step == run.objective.num_steps:
        check_alike(run.world, progress.step, run.optimizer)
        saver.save(progress, random_state(device), watching.num_bytes, wait=is_last)
    saver.check()
    saver.warn_of_slow_stop(run.pace.longest_act_s)
    if is_interrupted:
        raise interrupt.Interrupted


@dataclass
class _Run:
    """One sitting of a stage."""

    model: LanguageModel
    optimizer: MasterOptimizer
    objective: Objective
    progress: Progress
    logging: LoggingConfig
    flops_per_token: float | None
    measure: Callable[[int], Metrics] | None
    world: World
    pace: Pace = field(default_factory=Pace)
    heap: HeapTrimmer = field(default_factory=HeapTrimmer)
    empty_in_a_row: int = 0  # steps that had nothing to learn from
    warn_at: int = MAX_EMPTY_STEPS

    def step(self) -> dict[str, Any]:
        """One optimizer step.

        Returns:
            its row of metrics.

        Raises:
            Interrupted: nothing has moved.
        """
        progress, config = self.progress, self.objective.config
        self.model.version = progress.step
        reseed(progress.step, self.world.rank)
        started = time.perf_counter()
        data = self.objective.step_data(progress.step, progress.memory)
        started += data.waited_s
        self.pace.act(time.perf_counter() - started)
        rate = rate_at(config.optimizer, progress.step, self.objective.num_steps)
        with computing(self.model, "train") as workers:
            totals, num_tokens = self._shared_gradients(data, workers)
            norm, is_skipped = self._move(rate, workers)
        self.heap.after_step()
        self._warn_of_empty(data, num_tokens)
        seconds = time.perf_counter() - started
        progress.step += 1
        progress.memory = data.memory
        progress.tokens += num_tokens
        progress.seconds += seconds
        progress.skipped_steps += int(is_skipped)
        progress.skipped_in_a_row = progress.skipped_in_a_row + 1 if is_skipped else 0
        values = {
            "tokens": progress.tokens,
            **{name: rate * peak for name, peak in self.optimizer.peaks.items()},
            "gradient_norm": norm,
            **self._speed(num_tokens, seconds),
            **data.metrics,
            **totals,
        }
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        place = {"step": progress.step, "num_steps": self.objective.num_steps, "seconds": progress.seconds}
        counts = {"skipped_steps": progress.skipped_steps, "empty_steps": progress.empty_steps}
        return {**place, **finite, "skipped": is_skipped, **counts}

    def _shared_gradients(self, data: StepData, workers: Workers) -> tuple[Metrics, int]:
        """Adds up the step's gradients, over all ranks: metrics, and how many tokens went through."""
        units, world, repeated = data.units, self.world, 0
        if world.size > 1:
            split = [[units[place] for place in places] for places in shares(units, world.size)]
            repeated = sum(map(num_computed, split)) - num_computed(units)  # prompts that several ranks compute
            units = split[world.rank]
        parts = world.gather(lambda: self._gradients(units, data.denominator, workers))
        totals: Metrics = {}
        for metrics, _ in parts:
            add_up(totals, metrics)
        num_tokens = sum(number for _, number in parts) - repeated
        if world.size > 1 and num_tokens and self.model.sharing is None:  # a sharded model's are added up already
            world.add_up(self.optimizer.gradients())
        is_sum = {name: name != "loss" and not name.startswith("max_") for name in totals}
        return {name: v / data.num_averaged if is_sum[name] else v for name, v in totals.items()}, num_tokens

    def _gradients(self, units: Sequence[Unit], denominator: float, workers: Workers) -> tuple[Metrics, int]:
        """Adds up gradients: the sums of metrics, and how many tokens went through."""
        self.model.train()
        totals: Metrics = {}
        num_tokens = 0

        def loss_of(batch: Batch) -> tuple[Tensor, Metrics]:
            return self.objective.loss(self.model, batch, denominator)

        max_tokens = self.objective.config.micro_batch_tokens
        for share in accumulate(loss_of, self.optimizer, units, max_tokens, workers):
            num_tokens += share.num_tokens
            add_up(totals, share.metrics)
            self.pace.act(share.seconds)
        return totals, num_tokens

    def _warn_of_empty(self, data: StepData, num_tokens: int) -> None:
        """Counts steps that had nothing to learn from, and warns of many in a row: at 10, at 20, at 40, …"""
        if num_tokens:
            self.empty_in_a_row = 0
            return
        self.empty_in_a_row += 1
        self.progress.empty_steps += 1
        self.progress.why_empty = data.why_empty or WHY_EMPTY
        if self.empty_in_a_row == self.warn_at:
            self.warn_at *= 2
            logger.warning(
                "%d steps in a row had nothing to learn from: %s", self.empty_in_a_row, self.progress.why_empty
            )

    def _move(self, rate: float, workers: Workers) -> tuple[float, bool]:
        """Moves the weights, unless the gradient is not finite or a spike: its norm, and whether it was skipped."""
        norms = self.progress.norms
        limit = spike_limit(norms, self.logging.spike_factor)
        norm = self.optimizer.step(rate, skip_above=limit, workers=workers, ranks=self.world)
        is_skipped = not math.isfinite(norm) or (limit is not None and norm > limit)
        if not is_skipped and norm > 0:  # a step from which nothing was learned says nothing of later ones
            norms.append(norm)
            del norms[:-MAX_NORMS]
        return norm, is_skipped

    def _speed(self, num_tokens: int, seconds: float) -> Metrics:
        """Of the whole step, getting its data included."""
        device = self.model.device
        on_cuda = device.type == "cuda"
        speed: Metrics = {
            "tokens_per_second": num_tokens / seconds,
            "seconds_left": self.pace.step(seconds, self.objective.num_steps - self.progress.step),
            "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if on_cuda else peak_rss_bytes(),
        }
        if self.flops_per_token is not None:
            speed["flops_per_second"] = num_tokens * self.flops_per_token / seconds
            dtype = next(self.model.parameters()).dtype
            speed["mfu"] = speed["flops_per_second"] / (peak_flops(device, dtype) * self.world.size)
        return speed


def _learned(folder: Path, progress: Progress) -> Progress:
    """The progress of a stage that is done. A few steps without anything to learn from may be chance: a warning.

    Raises:
        OpenExaoneError: in as many steps as are no chance, it never had anything to learn from.
    """
    if progress.tokens:
        return progress
    why = progress.why_empty or WHY_EMPTY
    if progress.step < MAX_EMPTY_STEPS:
        logger.warning("%s: none of the %d steps had anything to learn from: %s", folder, progress.step, why)
        return progress
    raise OpenExaoneError(
        f"{folder}: none of the {progress.step:,} steps had anything to learn from, so the model is as it was and is "
        f"not saved again: {why}; then train into another folder"
    )


def notes_on(progress: Progress) -> list[str]:
    """What to know of a stage that is done: that many of its steps had nothing to learn from."""
    if progress.empty_steps < min(MAX_EMPTY_STEPS, progress.step):
        return []
    return [f"{progress.empty_steps:,} of {progress.step:,} steps had nothing to learn from: {progress.why_empty}"]


def _stuck(folder: Path, progress: Progress, logging: LoggingConfig) -> OpenExaoneError:
    spike = f" or was a spike beside a median of {statistics.median(progress.norms):.3g}" if progress.norms else ""
    return OpenExaoneError(
        f"{folder}: the gradient was not finite{spike}, {logging.max_skipped_steps} steps in a row; the weights are as "
        f"they were before these, and saved in checkpoints/: lower the learning rate, or look at the data of these "
        f"steps"
    )
