"""A step's gradients, added up micro-batch by micro-batch; of a small model, several threads compute a share each."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from open_exaone.base import interrupt
from open_exaone.base.errors import OpenExaoneError
from open_exaone.base.output import memory_error
from open_exaone.data.batch import Batch, num_computed, pack
from open_exaone.data.document import Unit
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.threads import Workers

# A step is divided into 1, 2, 4 or 8 shares of at least so many tokens, which cost a fifth more processor time than
# a whole step and are faster by the clock; smaller ones are not. See docs/decisions.md.
MAX_SHARES, SHARE_TOKENS = 8, 330

Metrics = dict[str, float]


def numbers(values: Mapping[str, Tensor]) -> Metrics:
    """Single values in one transfer: a GPU finishes all that was asked of it before it gives one.

    Args:
        values: float32, or whole numbers below 2**24.
    """
    return dict(zip(values, torch.stack([value.float() for value in values.values()]).tolist(), strict=True))


def add_up(totals: Metrics, values: Metrics) -> None:
    """Adds values to totals; of those named `max_…` the greatest stands."""
    for name, value in values.items():
        before = totals.get(name, value if name.startswith("max_") else 0.0)
        totals[name] = max(before, value) if name.startswith("max_") else before + value


class Share(NamedTuple):
    """What a micro-batch adds to its step, besides its gradient."""

    metrics: Metrics
    num_tokens: int  # computed: a prompt that several documents share counts once
    seconds: float  # that it took, during which an interruption waits


def accumulate(
    loss_of: Callable[[Batch], tuple[Tensor, Metrics]],
    optimizer: MasterOptimizer,
    units: Sequence[Unit],
    max_tokens: int,
    workers: Workers,
) -> Iterator[Share]:
    """Adds up the gradients of a step, and gives what was computed micro-batch by micro-batch.

    Micro-batches, and the order in which they are added up, follow from the units alone: any number of workers gives
    the same sum to the bit.

    Args:
        loss_of: a micro-batch's part of the step's loss, and metrics; workers call it side by side.
        max_tokens: of a micro-batch.

    Raises:
        Interrupted: at Ctrl-C or SIGTERM, between micro-batches.
        OpenExaoneError: a micro-batch needs more memory than there is.
    """
    weights = list(optimizer.weights.values())

    def compute(batch: Batch) -> tuple[Share, Sequence[Tensor | None]]:
        interrupt.check()
        started = time.perf_counter()
        gradients: Sequence[Tensor | None] = ()
        with _memory_errors_named(batch):
            loss, metrics = loss_of(batch)
            if workers.number == 1:  # into the weights' own: a second gradient of all weights never stands beside them
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        metrics = {"loss": float(loss.detach()), **metrics}
        return Share(metrics, batch.num_tokens, time.perf_counter() - started), gradients

    power = max(1, num_computed(units) // SHARE_TOKENS).bit_length() - 1
    num_shares = min(MAX_SHARES, 1 << power) if workers.share_steps else 1
    for share, gradients in workers.map(compute, pack(units, max_tokens, num_shares)):
        if gradients:
            optimizer.add(gradients)
        else:
            optimizer.accumulate()
        yield share
    optimizer.accumulate()  # of a sharded model, what other ranks found while this one had nothing left to compute


@contextmanager
def _memory_errors_named(batch: Batch) -> Iterator[None]:
    """Turns a lack of memory into an error that ends the run with its state saved."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if (why := memory_error(error)) is None:
            raise
        raise OpenExaoneError(
            f"a micro-batch of {batch.num_tokens:,} tokens: {why}, or lower micro_batch_tokens"
        ) from error
