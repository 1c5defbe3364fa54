"""Stage `rl`: online reinforcement learning with GRPO, on-policy, one update a batch of fresh samples.

EXAONE Deep's third stage is "a variant of GRPO"; which one was not published. Ours: group-relative advantages,
loss averaged over tokens of the whole step, no KL term, groups that teach nothing set aside and counted.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from open_exaone.base.errors import DataError
from open_exaone.base.records import NO_FINDING, Problem, Rollout, RolloutGroup, Sampling, StopReason
from open_exaone.data.batch import Batch, step_indices
from open_exaone.data.document import Document, prompt_ids, rollout_document
from open_exaone.learn.advantage import group_relative
from open_exaone.learn.policy import grpo
from open_exaone.model.transformer import LanguageModel
from open_exaone.rollout.run import Generate, Judging, run
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.buffer import buffer_key, read_rollouts, write_rollouts
from open_exaone.train.config import RlStage
from open_exaone.train.loop import Metrics, StepData
from open_exaone.train.state import fingerprint_of
from open_exaone.train.tensors import learned_logprobs
from open_exaone.verify.own import is_own
from open_exaone.verify.rubric import weights_of
from open_exaone.verify.settings import JudgeSettings


@dataclass(frozen=True)
class OnlineRl:
    """GRPO on fresh samples of the model as it is."""

    config: RlStage
    problems: Sequence[Problem]
    tokenizer: Tokenizer
    generate: Generate
    folder: Path  # gets rollouts/step-N.jsonl, written before the update that they cause
    seed: int
    settings: JudgeSettings = field(default_factory=JudgeSettings)
    model: LanguageModel | None = None  # that samples: a step that it sampled for before is read back, not sampled anew
    steps: Sequence[list[int]] | None = None  # which problems each step asks; shuffled ones if left out

    @property
    def num_steps(self) -> int:
        return self.config.num_steps

    @property
    def judging(self) -> Judging:
        return Judging(self.settings, weights_of(self.config.reward), self.config.rubric)

    def step_data(self, step: int) -> StepData:
        if self.steps is not None:
            indices = self.steps[step]
        else:
            indices = step_indices(len(self.problems), self.config.batch_prompts, self.seed, step)
        problems = [self.problems[index] for index in indices]
        sampling = Sampling(
            max_new_tokens=self.config.max_new_tokens,
            temperature=1.0,
            top_p=1.0,
            num_samples=self.config.group_size,
            seed=self.seed + step,
        )
        groups = self._groups(problems, sampling, step)
        documents = self._documents(groups)
        num_learned = sum(sum(document.is_learned) for document in documents)
        return StepData(documents, denominator=max(1, num_learned), metrics=_group_metrics(groups))

    def _groups(self, problems: list[Problem], sampling: Sampling, step: int) -> list[RolloutGroup]:
        """The step's rollouts: those on disk where this model, asked the same, made them; else sampled, and saved."""
        path = self.folder / "rollouts" / f"step-{step + 1:06d}.jsonl"
        prompts = prompt_ids(problems, self.tokenizer, thinking=True)
        own = [Path(name.rpartition(":")[0]).read_bytes().hex() for name in filter(is_own, self.judging.weights)]
        judging = (self.settings.model_dump(mode="json"), own, [asdict(problem) for problem in problems])
        asked = (step, prompts, asdict(sampling), fingerprint_of(self.config), judging)
        key = "" if self.model is None else buffer_key(self.model, asked)
        if key and (found := read_rollouts(path, problems, prompts, self.tokenizer, key)) is not None:
            return found
        groups = run(problems, self.generate, self.tokenizer, sampling, thinking=True, judging=self.judging)
        write_rollouts(path, groups, key)
        return groups

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
        logprobs_M, entropies_M, documents_M = learned_logprobs(model, batch)
        old_logprobs_M = torch.from_numpy(batch.old_logprobs_M).to(logprobs_M.device)
        advantages_M = torch.from_numpy(batch.advantages_D).to(logprobs_M.device)[documents_M]
        loss = grpo(
            logprobs_M,
            old_logprobs_M,
            advantages_M,
            denominator,
            clip_low=self.config.clip_low,
            clip_high=self.config.clip_high,
        )
        gap_M = (logprobs_M.detach() - old_logprobs_M).abs()
        metrics = {
            "entropy": float(entropies_M.sum()) / denominator,
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
