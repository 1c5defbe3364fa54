"""Stage `preference`: SimPER on pairs of the model's own judged samples (EXAONE Deep's second stage)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_exaone.data.batch import Batch, step_indices
from open_exaone.data.document import Document
from open_exaone.learn.preference import simper
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.config import PreferenceStage
from open_exaone.train.forward import learned_logprobs
from open_exaone.train.loop import Metrics, StepData


@dataclass(frozen=True)
class Preference:
    """SimPER on fixed pairs."""

    config: PreferenceStage
    pairs: Sequence[tuple[Document, Document]]  # (chosen, advantage +1; rejected, advantage -1)
    seed: int
    steps: Sequence[list[int]] | None = None  # which pairs each step takes; shuffled ones if left out

    @property
    def num_steps(self) -> int:
        if self.steps is not None:
            return len(self.steps)
        return max(1, math.floor(self.config.num_epochs * len(self.pairs) / self.config.batch_pairs))

    def step_data(self, step: int) -> StepData:
        if self.steps is not None:
            indices = self.steps[step]
        else:
            indices = step_indices(len(self.pairs), self.config.batch_pairs, self.seed, step)
        documents = [document for index in indices for document in self.pairs[index]]
        return StepData(documents, denominator=len(indices))

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        logprobs_M, entropies_M, documents_M = learned_logprobs(model, batch)
        zeros_D = torch.zeros(len(batch.advantages_D), device=logprobs_M.device)
        sums_D = zeros_D.index_add(0, documents_M, logprobs_M)
        counts_D = zeros_D.index_add(0, documents_M, torch.ones_like(logprobs_M))
        means_D = sums_D / counts_D
        is_chosen_D = torch.from_numpy(batch.advantages_D).to(means_D.device) > 0
        chosen_X, rejected_Y = means_D[is_chosen_D], means_D[~is_chosen_D]
        entropies_D = zeros_D.index_add(0, documents_M, entropies_M) / counts_D
        metrics = {
            "entropy": float(entropies_D.sum()) / (2 * denominator),  # of a pair's two replies, each by its mean
            "chosen_probability": float(chosen_X.detach().exp().sum()) / denominator,
            "rejected_probability": float(rejected_Y.detach().exp().sum()) / denominator,
        }
        return simper(chosen_X, rejected_Y, denominator), metrics
