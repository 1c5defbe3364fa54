"""The one loop of all stages: take a step's documents, add up gradients, move, write down, save."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from open_exaone.base import interrupt
from open_exaone.base.errors import DataError, OpenExaoneError
from open_exaone.base.files import append_jsonl, read_jsonl, write_jsonl
from open_exaone.data.batch import Batch, fold
from open_exaone.data.document import Document
from open_exaone.learn.config import rate_at
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.config import StageConfig
from open_exaone.train.state import Progress, load_state, save_state

MAX_SKIPPED_STEPS = 20

Metrics = dict[str, float]
OnStep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class StepData:
    """What one optimizer step learns from."""

    documents: list[Document]
    denominator: float  # of the whole step: learned tokens, or pairs
    metrics: Metrics = field(default_factory=dict)  # of how the documents came about


class Objective(Protocol):
    """What makes a stage the stage that it is."""

    @property
    def config(self) -> StageConfig: ...

    @property
    def num_steps(self) -> int: ...

    def step_data(self, step: int) -> StepData:
        """The documents of step `step`, a function of the seed, the step and the weights alone."""
        ...

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        """The micro-batch's share of the step's loss, and metrics.

        Metrics add up over micro-batches; of those named `max_…` the greatest stands.
        """
        ...


def train(
    model: LanguageModel, optimizer: MasterOptimizer, objective: Objective, folder: Path, on_step: OnStep
) -> Progress:
    """Runs a stage to its end, from its last saved state where there is one.

    Args:
        folder: gets `checkpoints/` and `metrics.jsonl`.
        on_step: told each step's metrics.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
        DataError: what a step learns from cannot be had, with the state saved.
        OpenExaoneError: too many steps in a row had a gradient that was not finite.
    """
    progress = load_state(folder / "checkpoints", optimizer) or Progress()
    _forget_metrics_after(folder / "metrics.jsonl", progress.step)
    skipped_in_a_row = 0
    while progress.step < objective.num_steps:
        started = time.perf_counter()
        model.version = progress.step
        try:
            row = _step(model, optimizer, objective, progress)
        except DataError:  # what the step learns from cannot be had; the weights are as they were
            if progress.step:
                save_state(folder / "checkpoints", optimizer, progress)
            raise
        skipped_in_a_row = skipped_in_a_row + 1 if row["skipped"] else 0
        progress.step += 1
        progress.seconds += time.perf_counter() - started
        progress.skipped_steps += int(row["skipped"])
        row = {"step": progress.step, "num_steps": objective.num_steps, "seconds": progress.seconds, **row}
        append_jsonl(folder / "metrics.jsonl", row)
        on_step(row)
        if skipped_in_a_row == MAX_SKIPPED_STEPS:
            raise OpenExaoneError(
                f"{folder}: the gradient was not finite {MAX_SKIPPED_STEPS} steps in a row; the last good state is "
                f"kept in checkpoints/: lower the learning rate"
            )
        due = progress.step % objective.config.checkpoint_steps == 0 or progress.step == objective.num_steps
        if due or interrupt.requested():
            save_state(folder / "checkpoints", optimizer, progress)
            interrupt.check()
    return progress


def _step(model: LanguageModel, optimizer: MasterOptimizer, objective: Objective, progress: Progress) -> dict[str, Any]:
    started = time.perf_counter()
    data = objective.step_data(progress.step)
    model.train()
    totals: Metrics = {}
    num_tokens = 0
    for batch in fold(data.documents, objective.config.micro_batch_tokens):
        loss, metrics = objective.loss(model, batch, data.denominator)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.accumulate()
        num_tokens += batch.num_tokens
        for name, value in {"loss": float(loss.detach()), **metrics}.items():
            totals[name] = (
                max(totals.get(name, value), value) if name.startswith("max_") else totals.get(name, 0.0) + value
            )
    rate = rate_at(objective.config.optimizer, progress.step, objective.num_steps)
    norm = optimizer.step(rate)
    progress.tokens += num_tokens
    values = {
        "tokens": progress.tokens,
        "tokens_per_second": num_tokens / (time.perf_counter() - started),
        "learning_rate": rate * objective.config.optimizer.learning_rate,
        "gradient_norm": norm,
        **data.metrics,
        **totals,
    }
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
    return {**finite, "skipped": not math.isfinite(norm)}


def _forget_metrics_after(path: Path, step: int) -> None:
    """Drops what a killed run wrote down behind its last saved state; those steps are run again."""
    if path.exists():
        rows = read_jsonl(path, drop_cut_tail=True)
        write_jsonl(path, [row for row in rows if row["step"] <= step])
