"""The loss on data that is not learned, logged beside the steps' own metrics."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from open_exaone.base import interrupt
from open_exaone.data.batch import Batch, pack, shares, singles
from open_exaone.data.document import Document
from open_exaone.learn.cross_entropy import CrossEntropy
from open_exaone.model.threads import computing
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.accumulate import Metrics
from open_exaone.train.parallel.world import ALONE, World, share_of
from open_exaone.train.supervised import Supervised


def validating(
    learning: Supervised, model: LanguageModel, documents: Sequence[Document], every_steps: int, world: World = ALONE
) -> Callable[[int], Metrics]:
    """What `train` calls behind each step: gives `validation_loss` every so many steps, and after the last."""

    def measure(step: int) -> Metrics:
        if step % every_steps and step != learning.num_steps:
            return {}
        loss = validation_loss(learning, model, documents, world)
        return {"validation_loss": loss} if math.isfinite(loss) else {}

    return measure


def validation_loss(
    learning: Supervised, model: LanguageModel, documents: Sequence[Document], world: World = ALONE
) -> float:
    """The mean plain cross-entropy over all learned tokens, in nats, whatever is trained. NaN where interrupted."""
    share = share_of(world, model.sharing)
    if world.size > 1:
        documents = [documents[place] for place in shares(singles(documents), share.number)[share.place]]
    model.eval()
    plain = learning.config.model_copy(update={"loss": CrossEntropy()})
    objective = replace(learning, config=plain)

    @torch.no_grad()
    def loss_of(batch: Batch) -> tuple[float, int]:
        if interrupt.requested():  # the step is done, and its state is to be saved now
            return math.nan, 0
        return float(objective.loss(model, batch, 1.0)[0]), int(batch.loss_mask_T.sum())

    with computing(model, "train") as workers:
        found = list(workers.map(loss_of, pack(singles(documents), plain.micro_batch_tokens)))
    found = found if share.is_first else []
    loss, number = world.total(np.array([sum(loss for loss, _ in found), sum(number for _, number in found)], float))
    return float(loss) / max(1.0, float(number))
