"""How a CPU's cores compute a model: torch's threads one operation together, or workers of one thread a share each."""

import functools
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from open_exaone.base.machine import default_threads, has_own_threads, num_cores
from open_exaone.model.transformer import LanguageModel

Act = Literal["train", "sample"]
Item = TypeVar("Item")
Result = TypeVar("Result")

# Parameters from which an operation is worth several threads; measured by benchmarks/busy.py, see docs/decisions.md.
WORTH_THREADS: dict[Act, int] = {"train": 16_000_000, "sample": 16_000_000}


@dataclass(frozen=True, slots=True)
class Workers:
    """Threads of Python that compute a model side by side, each with one of torch's threads.

    torch releases the interpreter inside its operations. Workers wait without spinning, and only where their results
    are put together: a core that another process keeps busy delays a share, not every operation.
    """

    number: int = 1  # one is the caller's own thread
    share_steps: bool = False  # whether a step is divided into shares: as the model's size says, however many work
    pool: ThreadPoolExecutor | None = None
    begun: set[Future[Any]] = field(default_factory=set, compare=False)  # given to the pool, and not taken yet

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The items' results in their order; of those that are computed, two a worker are held at most.

        Raises:
            what the function raises; at the first such item in their order.
        """
        if self.pool is None:
            yield from map(function, items)
            return
        waiting: deque[Future[Result]] = deque()
        for item in items:
            if len(waiting) == 2 * self.number:
                yield self._taken(waiting.popleft())
            waiting.append(self.pool.submit(function, item))
            self.begun.add(waiting[-1])
        while waiting:
            yield self._taken(waiting.popleft())

    def _taken(self, future: Future[Result]) -> Result:
        result = future.result()
        self.begun.remove(future)
        return result


ALONE = Workers()


def torchs_own(number: int, possible: Collection[int] | None) -> int | None:
    """The number of threads that torch has, where it may have chosen that; None where a call has set another.

    Args:
        possible: what torch chooses from; None where that is unknown.
    """
    return number if possible is None or number in possible else None


_DEFAULT = torchs_own(torch.get_num_threads(), default_threads())  # torch's own choice


def threads_for(act: Act, num_parameters: int, available: int) -> int:
    """How many of torch's threads compute one operation: one in a model of fewer parameters than are worth more."""
    return 1 if num_parameters < WORTH_THREADS[act] else available


def num_threads(model: LanguageModel, act: Act) -> int:
    """How many threads compute a model: a small one is trained by a worker a core, and sampled from by one thread.

    torch's own number with larger ones, on a GPU, and where the user has set one.
    """
    number = torch.get_num_threads()
    if not _is_ours(model, act):
        return number
    draws = any(isinstance(part, nn.Dropout) for part in model.modules())  # from one generator, in one order
    return 1 if act == "sample" or draws else min(number, num_cores())


@contextmanager
def computing(model: LanguageModel, act: Act) -> Iterator[Workers]:
    """Within it a small model has one of torch's threads, and in training workers; behind it all is as before."""
    if model.sharing is not None or not _is_ours(model, act):
        yield ALONE if model.sharing is None else model.sharing
        return
    before, number = torch.get_num_threads(), num_threads(model, act)
    torch.set_num_threads(1)
    try:
        with sharing(number, share_steps=act == "train") as workers:
            yield workers
    finally:
        torch.set_num_threads(before)


@contextmanager
def sharing(number: int, *, share_steps: bool = True) -> Iterator[Workers]:
    """So many workers; behind it none of them computes any more, whatever was raised within it."""
    workers = Workers(number, share_steps, None if number == 1 else _pool(number))
    try:
        yield workers
    finally:
        for future in workers.begun:
            future.cancel()
        wait(workers.begun)


@functools.cache
def _pool(number: int) -> ThreadPoolExecutor:
    """Threads that stay from step to step, as new ones would begin with empty caches; they sleep between steps."""
    return ThreadPoolExecutor(number, "train", torch.set_num_threads, (1,))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of these threads


def _is_ours(model: LanguageModel, act: Act) -> bool:
    is_small = model.config.num_parameters < WORTH_THREADS[act]
    return is_small and model.device.type == "cpu" and is_ours_to_choose()


def is_ours_to_choose() -> bool:
    """Whether no environment variable (OMP_NUM_THREADS, MKL_NUM_THREADS) and no call has set the number of threads."""
    return not has_own_threads(os.environ) and torch.get_num_threads() == _DEFAULT
