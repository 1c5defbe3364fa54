"""Stages `pretrain`, `base`, `sft` and `rejection`: learn what is written."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from open_exaone.data.batch import Batch, singles
from open_exaone.data.document import Document
from open_exaone.learn.cross_entropy import SUPERVISED_LOSSES
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.accumulate import Metrics
from open_exaone.train.config import RejectionStage, SupervisedStage
from open_exaone.train.forward import learned_states
from open_exaone.train.loop import StepData
from open_exaone.train.state import NOTHING, Memory


@dataclass(frozen=True)
class Supervised:
    """A supervised loss on fixed documents."""

    config: SupervisedStage | RejectionStage
    documents: Sequence[Document]
    steps: Sequence[list[int]]  # which documents each step takes

    @property
    def num_steps(self) -> int:
        return len(self.steps)

    def step_data(self, step: int, memory: Memory = NOTHING) -> StepData:
        documents = [self.documents[index] for index in self.steps[step]]
        num_learned = sum(int(np.count_nonzero(document.loss_mask[1:])) for document in documents)
        return StepData(singles(documents), denominator=max(1, num_learned))

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        settings = self.config.loss

        def compute() -> tuple[Tensor, Tensor]:
            learned, head_VD = learned_states(model, batch), model.lm_head.weight
            loss_of = SUPERVISED_LOSSES[settings.name]
            loss, entropy = loss_of(learned.x_MD, head_VD, learned.ids_M, denominator, settings)
            return learned.total(loss), learned.total(entropy)

        loss, entropy = model.within(compute)
        return loss, {"entropy": float(entropy)}
