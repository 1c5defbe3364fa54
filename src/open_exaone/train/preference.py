"""Stage `preference`: SimPER on pairs of the model's own judged samples (EXAONE Deep's second stage)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from open_exaone.data.batch import Batch, step_indices
from open_exaone.data.document import Document
from open_exaone.learn.preference import simper
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.config import PreferenceStage
from open_exaone.train.loop import Metrics, StepData
from open_exaone.train.tensors import learned_logprobs


@dataclass(frozen=True)
class Preference:
    """SimPER on fixed pairs."""

    config: PreferenceStage
    pairs: list[tuple[Document, Document]]  # (chosen, advantage +1; rejected, advantage -1)
    seed: int

    @property
    def num_steps(self) -> int:
        return max(1, math.floor(self.config.num_epochs * len(self.pairs) / self.config.batch_pairs))

    def step_data(self, step: int) -> StepData:
        indices = step_indices(len(self.pairs), self.config.batch_pairs, self.seed, step)
        documents = [document for index in indices for document in self.pairs[index]]
        return StepData(documents, denominator=len(indices))

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        learned = learned_logprobs(model, batch)
        rows = torch.zeros(len(batch.advantages_B), device=learned.logprobs_M.device)
        sums_B = rows.index_add(0, learned.rows_M, learned.logprobs_M)
        counts_B = rows.index_add(0, learned.rows_M, torch.ones_like(learned.logprobs_M))
        means_B = sums_B / counts_B
        is_chosen_B = torch.from_numpy(batch.advantages_B).to(means_B.device) > 0
        chosen_X, rejected_Y = means_B[is_chosen_B], means_B[~is_chosen_B]
        metrics = {
            "chosen_probability": float(chosen_X.detach().exp().sum()) / denominator,
            "rejected_probability": float(rejected_Y.detach().exp().sum()) / denominator,
        }
        return simper(chosen_X, rejected_Y, denominator), metrics
