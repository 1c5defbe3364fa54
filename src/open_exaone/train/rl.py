"""Stage `rl`: online reinforcement learning with GRPO, on-policy, one update a batch of fresh samples.

EXAONE Deep's third stage is "a variant of GRPO"; which one was not published. Ours: group-relative advantages,
loss averaged over tokens of the whole step, no KL term, groups that teach nothing set aside and counted.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from open_exaone.base.errors import DataError
from open_exaone.base.files import write_jsonl
from open_exaone.base.records import NO_FINDING, Problem, Rollout, RolloutGroup, Sampling, StopReason
from open_exaone.data.batch import Batch, step_indices
from open_exaone.data.document import Document, rollout_document
from open_exaone.learn.advantage import group_relative
from open_exaone.learn.policy import grpo
from open_exaone.model.logprobs import entropy
from open_exaone.model.transformer import LanguageModel
from open_exaone.rollout.records import sample_rows
from open_exaone.rollout.run import Generate, Judging, run
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.config import RlStage
from open_exaone.train.loop import Metrics, StepData
from open_exaone.train.tensors import learned_logprobs
from open_exaone.verify.rubric import weights_of
from open_exaone.verify.settings import JudgeSettings


@dataclass(frozen=True)
class OnlineRl:
    """GRPO on fresh samples of the model as it is."""

    config: RlStage
    problems: list[Problem]
    tokenizer: Tokenizer
    generate: Generate
    folder: Path  # gets rollouts/step-N.jsonl, written before the update that they cause
    seed: int
    settings: JudgeSettings = field(default_factory=JudgeSettings)

    @property
    def num_steps(self) -> int:
        return self.config.num_steps

    @property
    def judging(self) -> Judging:
        return Judging(self.settings, weights_of(self.config.reward), self.config.rubric)

    def step_data(self, step: int) -> StepData:
        indices = step_indices(len(self.problems), self.config.batch_prompts, self.seed, step)
        problems = [self.problems[index] for index in indices]
        sampling = Sampling(
            max_new_tokens=self.config.max_new_tokens,
            temperature=1.0,
            top_p=1.0,
            num_samples=self.config.group_size,
            seed=self.seed + step,
        )
        groups = run(problems, self.generate, self.tokenizer, sampling, thinking=True, judging=self.judging)
        write_jsonl(self.folder / "rollouts" / f"step-{step + 1:06d}.jsonl", sample_rows(groups))
        documents = self._documents(groups)
        num_learned = sum(sum(document.is_learned) for document in documents)
        return StepData(documents, denominator=max(1, num_learned), metrics=_group_metrics(groups))

    def _documents(self, groups: list[RolloutGroup]) -> list[Document]:
        """One document a sample; a group whose rewards are all equal teaches nothing and is set aside."""
        rewards_PG = torch.tensor([[rollout.reward for rollout in group.rollouts] for group in groups])
        advantages_PG = group_relative(rewards_PG, divide_by_std=self.config.divide_by_std)
        return [
            rollout_document(group, rollout, advantage)
            for group, advantages in zip(groups, advantages_PG.tolist(), strict=True)
            for rollout, advantage in zip(group.rollouts, advantages, strict=True)
            if any(advantages)
        ]

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        learned = learned_logprobs(model, batch)
        device = learned.logprobs_M.device
        old_logprobs_M = torch.from_numpy(batch.old_logprobs_BT[batch.is_learned_BT]).to(device)
        advantages_M = torch.from_numpy(batch.advantages_B).to(device)[learned.rows_M]
        loss = grpo(
            learned.logprobs_M,
            old_logprobs_M,
            advantages_M,
            denominator,
            clip_low=self.config.clip_low,
            clip_high=self.config.clip_high,
        )
        gap_M = (learned.logprobs_M.detach() - old_logprobs_M).abs()
        metrics = {
            "entropy": float(entropy(learned.logits_MV.detach()).sum()) / denominator,
            "mean_logprob_gap": float(gap_M.sum()) / denominator,
            "max_logprob_gap": float(gap_M.max()),  # training and engine share weights: only rounding differs
        }
        return loss, metrics


def _group_metrics(groups: list[RolloutGroup]) -> Metrics:
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    means = [math.fsum(r.reward for r in group.rollouts) / len(group.rollouts) for group in groups]
    correct = [sum(r.verdict.correct for r in group.rollouts) for group in groups]
    sizes = [len(group.rollouts) for group in groups]
    return {
        "reward_mean": math.fsum(means) / len(groups),
        **_term_metrics(rollouts),
        "all_correct_groups": sum(c == n for c, n in zip(correct, sizes, strict=True)),
        "all_wrong_groups": sum(c == 0 for c in correct),
        "mean_reply_tokens": sum(len(r.completion.ids) for r in rollouts) / len(rollouts),
        "truncated_share": sum(r.completion.stop is StopReason.LENGTH for r in rollouts) / len(rollouts),
        "error_share": sum(r.verdict.status in NO_FINDING for r in rollouts) / len(rollouts),
    }


def _term_metrics(rollouts: list[Rollout]) -> Metrics:
    """The mean of each term of the reward by itself, and how often one could not be found out.

    Raises:
        DataError: a term could never be found out.
    """
    metrics: Metrics = {}
    num_failed = 0
    for name in rollouts[0].terms:
        terms = [rollout.terms[name] for rollout in rollouts]
        found = [term for term in terms if not isinstance(term, str)]
        if not found:
            raise DataError(f"reward {name!r}: says nothing of any reply of this step: {terms[0]}")
        metrics[f"reward_{name}"] = math.fsum(found) / len(found)
        num_failed += len(terms) - len(found)
    return {**metrics, "failed_terms": num_failed}
