"""Stages `base` and `sft`: learn worked replies."""

import math
from dataclasses import dataclass

from torch import Tensor

from open_exaone.data.batch import Batch, step_indices
from open_exaone.data.document import Document
from open_exaone.learn.likelihood import cross_entropy
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.config import SupervisedStage
from open_exaone.train.loop import Metrics, StepData
from open_exaone.train.tensors import learned_logprobs


@dataclass(frozen=True)
class Supervised:
    """Cross-entropy on fixed documents."""

    config: SupervisedStage
    documents: list[Document]
    seed: int

    @property
    def num_steps(self) -> int:
        return max(1, math.floor(self.config.num_epochs * len(self.documents) / self.config.batch_documents))

    def step_data(self, step: int) -> StepData:
        indices = step_indices(len(self.documents), self.config.batch_documents, self.seed, step)
        documents = [self.documents[index] for index in indices]
        return StepData(documents, denominator=sum(sum(document.is_learned[1:]) for document in documents))

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        learned = learned_logprobs(model, batch)
        return cross_entropy(learned.logprobs_M, denominator), {}
