"""Stage `preference`: learn pairs of a chosen and a rejected reply (EXAONE Deep's second stage: SimPER)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_exaone.data.batch import Batch
from open_exaone.data.document import Document
from open_exaone.learn.preference import PREFERENCE_LOSSES, Replies
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.accumulate import Metrics
from open_exaone.train.config import PreferenceStage
from open_exaone.train.forward import learned_logprobs, summed
from open_exaone.train.loop import StepData
from open_exaone.train.state import NOTHING, Memory


@dataclass(frozen=True)
class Preference:
    """A preference loss on fixed pairs; `reference.with_reference` completes them for a loss that needs it."""

    config: PreferenceStage
    pairs: Sequence[tuple[Document, Document]]  # (chosen, advantage +1; rejected, advantage -1)
    steps: Sequence[list[int]]  # which pairs each step takes

    @property
    def num_steps(self) -> int:
        return len(self.steps)

    def step_data(self, step: int, memory: Memory = NOTHING) -> StepData:
        pairs = [self.pairs[index] for index in self.steps[step]]
        return StepData(pairs, denominator=len(pairs))

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        logprobs_M, entropies_M, documents_M = learned_logprobs(model, batch)
        device, num_documents = logprobs_M.device, len(batch.advantages_D)
        counts_D = summed(torch.ones_like(logprobs_M), documents_M, num_documents)
        replies = Replies(
            summed(logprobs_M, documents_M, num_documents),
            counts_D,
            torch.from_numpy(batch.advantages_D).to(device),
            torch.from_numpy(batch.units_D).to(device),
            None if batch.reference_D is None else torch.from_numpy(batch.reference_D).to(device),
        )
        probabilities_D = replies.mean_logprobs_D.detach().exp()
        entropies_D = summed(entropies_M, documents_M, num_documents) / counts_D
        metrics = {
            "entropy": float(entropies_D.sum()) / (2 * denominator),  # of a pair's two replies, each by its mean
            "chosen_probability": float(probabilities_D[replies.labels_D > 0].sum()) / denominator,
            "rejected_probability": float(probabilities_D[replies.labels_D < 0].sum()) / denominator,
        }
        settings = self.config.loss
        return PREFERENCE_LOSSES[settings.name](replies, denominator, settings), metrics
