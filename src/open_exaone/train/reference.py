"""Reference log-probabilities of preferences: made once from the model that a stage begins from, kept on disk."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from open_exaone.base import interrupt
from open_exaone.base.files import write_atomically
from open_exaone.base.log import logger
from open_exaone.data.batch import Batch, pack
from open_exaone.data.document import Unit
from open_exaone.data.store import Lazy
from open_exaone.model.lora import without_lora
from open_exaone.model.threads import computing
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.buffer import buffer_key
from open_exaone.train.config import PreferenceStage
from open_exaone.train.forward import learned_logprobs, summed
from open_exaone.train.parallel.world import ALONE, World, share_of

FILE = "reference.safetensors"
UNITS_AT_ONCE = 512  # in memory


def with_reference(
    units: Sequence[Unit], model: LanguageModel, folder: Path, stage: PreferenceStage, world: World = ALONE
) -> Sequence[Unit]:
    """The units, each reply with its log-probability under `model`, where the stage's loss needs that.

    A resumed stage reads them from `reference.safetensors`, which is made anew where it is not whole or was made from
    other weights or other units.

    Args:
        model: with the weights that the stage begins from; adapters are left out.
        folder: the stage's.
        world: the ranks that share out the units; the first one writes.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM; nothing of it is kept.
        RunFolderError: the disk does not take the file.
    """
    if not stage.loss.needs_reference:
        return units
    path, (key, starts) = folder / FILE, _key(units, model)
    logprobs_D = _read(path, key, int(starts[-1])) if path.is_file() else None
    if world.any(logprobs_D is None):
        with without_lora(model):
            made_D = unit_logprobs(units, model, stage.micro_batch_tokens, world)
        values, metadata = {"logprobs": made_D}, {"seal": _seal(made_D, key)}
        world.lead(lambda: write_atomically(path, lambda temporary: save_file(values, temporary, metadata)))
        logprobs_D = made_D
    assert logprobs_D is not None
    values_D = logprobs_D.numpy()
    return Lazy(len(units), lambda index: _referenced(units[index], values_D[starts[index] : starts[index + 1]]))


def _referenced(unit: Unit, logprobs: NDArray[np.float32]) -> Unit:
    return tuple(
        replace(reply, reference_logprob=logprob) for reply, logprob in zip(unit, logprobs.tolist(), strict=True)
    )


def unit_logprobs(units: Sequence[Unit], model: LanguageModel, max_tokens: int, world: World = ALONE) -> Tensor:
    """[D]: Σ log p over each reply's learned tokens, the units' replies in order, float32, on the CPU.

    Args:
        world: the ranks that take every so manieth unit; each gets all sums.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM.
    """
    if world.size == 1:
        return _own_logprobs(units, model, max_tokens)
    starts = np.cumsum([0, *(len(unit) for unit in units)])
    logprobs_D = np.zeros(int(starts[-1]), np.float32)  # 0 for the units of other ranks
    share = share_of(world, model.sharing)
    places = range(share.place, len(units), share.number)

    def compute() -> None:
        own = Lazy(len(places), lambda index: units[places[index]])
        number = -(-len(range(0, len(units), share.number)) // UNITS_AT_ONCE)  # blocks of the rank that has most
        found_D = _own_logprobs(own, model, max_tokens, number).numpy()
        into = [np.arange(starts[place], starts[place + 1]) for place in places]
        if into and share.is_first:
            logprobs_D[np.concatenate(into)] = found_D

    world.gather(compute)
    return torch.from_numpy(world.total(logprobs_D))


@torch.no_grad()
def _own_logprobs(
    units: Sequence[Unit], model: LanguageModel, max_tokens: int, num_blocks: int | None = None
) -> Tensor:
    """The same on one rank.

    Args:
        num_blocks: of all ranks alike, the last ones perhaps empty.
    """
    was_training = model.training
    model.eval()

    @torch.no_grad()  # of the worker's thread
    def sums_of(batch: Batch) -> tuple[Batch, Tensor]:
        interrupt.check()
        logprobs_M, _, documents_M = learned_logprobs(model, batch)
        return batch, summed(logprobs_M, documents_M, len(batch.units_D)).cpu()

    found = []
    with computing(model, "train") as workers:
        for first in range(0, num_blocks * UNITS_AT_ONCE if num_blocks else len(units), UNITS_AT_ONCE):
            block = units[first : first + UNITS_AT_ONCE]
            starts = np.cumsum([0, *map(len, block)])
            logprobs_D = torch.empty(int(starts[-1]))
            for batch, sums_D in workers.map(sums_of, pack(block, max_tokens)):
                firsts = np.flatnonzero(np.diff(batch.units_D, prepend=-1))  # of each unit, its first reply
                places = [np.arange(starts[unit], starts[unit + 1]) for unit in batch.units_D[firsts]]
                logprobs_D[torch.from_numpy(np.concatenate(places))] = sums_D
            found.append(logprobs_D)
    model.train(was_training)
    return torch.cat(found)


def _key(units: Sequence[Unit], model: LanguageModel) -> tuple[str, NDArray[np.int64]]:
    """Of the weights and the data that the log-probabilities follow from; and where each unit's replies begin, and the
    end."""
    digest, sizes = hashlib.sha256(), [0]
    for unit in units:
        sizes.append(len(unit))
        for part in (part for reply in unit for part in (reply.ids, reply.loss_mask)):
            digest.update(len(part).to_bytes(8, "little") + np.asarray(part, np.int32).tobytes())
    return buffer_key(model, digest.hexdigest()), np.cumsum(sizes)


def _read(path: Path, key: str, num_replies: int) -> Tensor | None:
    """None, with a warning, where the file is not whole or is of other weights or units."""
    try:
        with safe_open(path, "pt") as file:
            metadata, logprobs_D = file.metadata(), file.get_tensor("logprobs")
        fits = logprobs_D.shape == (num_replies,) and logprobs_D.dtype == torch.float32
        if fits and metadata == {"seal": _seal(logprobs_D, key)}:
            return logprobs_D
    except (SafetensorError, OSError) as error:
        logger.warning("%s: cannot be read: %s", path, error)
    logger.warning(
        "%s: is incomplete, or from other weights or data: reference log-probabilities are computed again", path
    )
    return None


def _seal(values: Tensor, key: str) -> str:
    return hashlib.sha256(key.encode() + values.numpy().tobytes()).hexdigest()
