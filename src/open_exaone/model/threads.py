"""How many of torch's threads compute a model: one, where it is so small that several would wait for each other."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from open_exaone.base.machine import default_threads, has_own_threads
from open_exaone.model.transformer import LanguageModel

Act = Literal["train", "sample"]

# Parameters from which a model is computed by several threads; measured by benchmarks/busy.py, see docs/decisions.md.
WORTH_THREADS: dict[Act, int] = {"train": 2_000_000, "sample": 16_000_000}


def torchs_own(number: int, possible: Collection[int] | None) -> int | None:
    """The number of threads that torch has, where it may have chosen that; None where a call has set another.

    Args:
        possible: what torch chooses from; None where that is unknown.
    """
    return number if possible is None or number in possible else None


_DEFAULT = torchs_own(torch.get_num_threads(), default_threads())  # torch's own choice


def threads_for(act: Act, num_parameters: int, available: int) -> int:
    """One for a model of fewer parameters than are worth more, else all."""
    return 1 if num_parameters < WORTH_THREADS[act] else available


def num_threads(model: LanguageModel, act: Act) -> int:
    """How many threads compute a model: by its size; torch's number on a GPU, and where the user has set one."""
    number = torch.get_num_threads()
    if model.device.type != "cpu" or not is_ours_to_choose():
        return number
    return threads_for(act, model.config.num_parameters, number)


@contextmanager
def computing(model: LanguageModel, act: Act) -> Iterator[None]:
    """Within it torch has `num_threads` threads; behind it, as many as before."""
    before, chosen = torch.get_num_threads(), num_threads(model, act)
    if chosen == before:
        yield
        return
    torch.set_num_threads(chosen)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_ours_to_choose() -> bool:
    """Whether no environment variable (OMP_NUM_THREADS, MKL_NUM_THREADS) and no call has set the number of threads."""
    return not has_own_threads(os.environ) and torch.get_num_threads() == _DEFAULT
