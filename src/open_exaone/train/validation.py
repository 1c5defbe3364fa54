"""The loss on data that is not learned, told beside the steps' own metrics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from open_exaone.base import interrupt
from open_exaone.data.batch import Batch, pack
from open_exaone.data.document import Document
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.config import SupervisedStage
from open_exaone.train.loop import Metrics, StepData
from open_exaone.train.supervised import Supervised


@dataclass(frozen=True)
class Validated:
    """A supervised objective that tells `validation_loss`, of the weights before the step, every so many steps."""

    learning: Supervised
    model: LanguageModel
    documents: Sequence[Document]
    every_steps: int

    @property
    def config(self) -> SupervisedStage:
        return self.learning.config

    @property
    def num_steps(self) -> int:
        return self.learning.num_steps

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        return self.learning.loss(model, batch, denominator)

    def step_data(self, step: int) -> StepData:
        data = self.learning.step_data(step)
        if step % self.every_steps == 0 or step == self.num_steps - 1:
            data = replace(data, metrics={**data.metrics, "validation_loss": self.validation_loss()})
        return data

    @torch.no_grad()
    def validation_loss(self) -> float:
        """The mean over all learned tokens, in nats; without label smoothing and z-loss."""
        self.model.eval()
        plain = self.config.model_copy(update={"label_smoothing": 0.0, "z_loss": 0.0})
        objective, total, num_learned = replace(self.learning, config=plain), 0.0, 0
        for batch in pack(self.documents, self.config.micro_batch_tokens):
            interrupt.check()
            total += float(objective.loss(self.model, batch, 1.0)[0])
            num_learned += int(batch.is_learned_T.sum())
        return total / max(1, num_learned)
