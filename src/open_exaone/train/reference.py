"""Reference log-probabilities of preference pairs: made once from the model that a stage begins from, kept on disk."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from open_exaone.base import interrupt
from open_exaone.base.files import write_atomically
from open_exaone.base.log import logger
from open_exaone.data.batch import Batch, pack
from open_exaone.data.document import Document
from open_exaone.data.store import Lazy
from open_exaone.model.lora import without_lora
from open_exaone.model.threads import computing
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.buffer import buffer_key
from open_exaone.train.config import PreferenceStage
from open_exaone.train.forward import learned_logprobs, summed

FILE = "reference.safetensors"
PAIRS_AT_ONCE = 512  # in memory

Pair = tuple[Document, Document]


def with_reference(pairs: Sequence[Pair], model: LanguageModel, folder: Path, stage: PreferenceStage) -> Sequence[Pair]:
    """The pairs, each reply with its log-probability under `model`, where the stage's loss needs that.

    A resumed stage reads them from `reference.safetensors`, which is made anew where it is not whole or was made from
    other weights or other pairs.

    Args:
        model: with the weights that the stage begins from; adapters are left out.
        folder: the stage's.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM; nothing of it is kept.
        RunFolderError: the disk does not take the file.
    """
    if not stage.loss.needs_reference:
        return pairs
    path, key = folder / FILE, _key(pairs, model)
    known_U2 = _read(path, key, len(pairs)) if path.is_file() else None
    if known_U2 is None:
        logprobs_U2 = _compute(pairs, model, stage.micro_batch_tokens)
        metadata = {"seal": _seal(logprobs_U2, key)}
        write_atomically(path, lambda temporary: save_file({"logprobs": logprobs_U2}, temporary, metadata))
    else:
        logprobs_U2 = known_U2
    return Lazy(len(pairs), lambda index: _referenced(pairs[index], logprobs_U2[index].tolist()))


def _referenced(pair: Pair, logprobs: Sequence[float]) -> Pair:
    chosen, rejected = (replace(reply, reference_logprob=x) for reply, x in zip(pair, logprobs, strict=True))
    return chosen, rejected


def _compute(pairs: Sequence[Pair], model: LanguageModel, max_tokens: int) -> Tensor:
    """[U, 2]: Σ log p over each reply's learned tokens, float32."""
    logprobs_U2 = torch.empty(len(pairs), 2)
    was_training = model.training
    model.eval()

    @torch.no_grad()
    def sums_of(batch: Batch) -> tuple[Tensor, Tensor]:
        interrupt.check()
        logprobs_M, _, documents_M = learned_logprobs(model, batch)
        sums_D = summed(logprobs_M, documents_M, len(batch.units_D)).cpu()
        return torch.from_numpy(batch.units_D[::2]), sums_D.view(-1, 2)

    with computing(model, "train") as workers, without_lora(model):
        for first in range(0, len(pairs), PAIRS_AT_ONCE):
            batches = pack(pairs[first : first + PAIRS_AT_ONCE], max_tokens)
            for units_U, sums_U2 in workers.map(sums_of, batches):
                logprobs_U2[first + units_U] = sums_U2
    model.train(was_training)
    return logprobs_U2


def _key(pairs: Sequence[Pair], model: LanguageModel) -> str:
    """Of the weights and the data that the log-probabilities follow from."""
    digest = hashlib.sha256()
    for pair in pairs:
        for part in (part for reply in pair for part in (reply.ids, reply.loss_mask)):
            digest.update(len(part).to_bytes(8, "little") + np.asarray(part, np.int32).tobytes())
    return buffer_key(model, digest.hexdigest())


def _read(path: Path, key: str, num_pairs: int) -> Tensor | None:
    """None, with a warning, where the file is not whole or is of other weights or pairs."""
    try:
        with safe_open(path, "pt") as file:
            metadata, logprobs_U2 = file.metadata(), file.get_tensor("logprobs")
        fits = logprobs_U2.shape == (num_pairs, 2) and logprobs_U2.dtype == torch.float32
        if fits and metadata == {"seal": _seal(logprobs_U2, key)}:
            return logprobs_U2
    except (SafetensorError, OSError) as error:
        logger.warning("%s: cannot be read: %s", path, error)
    logger.warning("%s: is not whole, or of other weights or pairs: reference log-probabilities are made anew", path)
    return None


def _seal(values: Tensor, key: str) -> str:
    return hashlib.sha256(key.encode() + values.numpy().tobytes()).hexdigest()
