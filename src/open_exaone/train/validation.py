"""The loss on data that is not learned, logged beside the steps' own metrics."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from open_exaone.base import interrupt
from open_exaone.data.batch import pack, singles
from open_exaone.data.document import Document
from open_exaone.learn.cross_entropy import CrossEntropy
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.loop import Metrics
from open_exaone.train.supervised import Supervised


def validating(
    learning: Supervised, model: LanguageModel, documents: Sequence[Document], every_steps: int
) -> Callable[[int], Metrics]:
    """What `train` calls behind each step: gives `validation_loss` every so many steps, and after the last."""

    def measure(step: int) -> Metrics:
        if step % every_steps and step != learning.num_steps:
            return {}
        loss = validation_loss(learning, model, documents)
        return {"validation_loss": loss} if math.isfinite(loss) else {}

    return measure


@torch.no_grad()
def validation_loss(learning: Supervised, model: LanguageModel, documents: Sequence[Document]) -> float:
    """The mean plain cross-entropy over all learned tokens, in nats, whatever is trained. NaN where interrupted."""
    model.eval()
    plain = learning.config.model_copy(update={"loss": CrossEntropy()})
    objective, total, num_learned = replace(learning, config=plain), 0.0, 0
    for batch in pack(singles(documents), plain.micro_batch_tokens):
        if interrupt.requested():  # the step is done, and its state is to be saved now
            return math.nan
        total += float(objective.loss(model, batch, 1.0)[0])
        num_learned += int(batch.loss_mask_T.sum())
    return total / max(1, num_learned)
