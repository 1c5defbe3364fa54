"""Stage `rl`: online reinforcement learning with GRPO, on-policy, one update a batch of fresh samples.

EXAONE Deep's third stage is "a variant of GRPO"; which one was not published. Ours: group-relative advantages,
loss averaged over tokens of the whole step, no KL term, groups that teach nothing set aside and counted. With one
update a batch the ratio of probabilities is 1, and nothing is clipped. A sample whose verdict is an error, or a term of
whose reward could not be found, is masked: it says nothing about the model.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from open_exaone.base.records import Problem, RolloutGroup, Sampling
from open_exaone.data.batch import Batch, singles, step_indices
from open_exaone.data.document import prompt_ids, rollout_document
from open_exaone.learn.advantage import group_relative
from open_exaone.learn.policy import POLICY_LOSSES, Sampled
from open_exaone.model.transformer import LanguageModel
from open_exaone.remote.settings import WITHOUT_ADDRESS
from open_exaone.rewards.rubric import sum_size, weights_of
from open_exaone.rollout.judge_outage import Patience
from open_exaone.rollout.run import Generate, Judging, judge_groups, sample
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.buffer import buffer_key, read_rollouts, write_rollouts
from open_exaone.train.config import RlStage
from open_exaone.train.forward import learned_logprobs
from open_exaone.train.loop import Metrics, StepData
from open_exaone.train.rollout_metrics import rollout_metrics, why_empty
from open_exaone.train.state import fingerprint_of
from open_exaone.verify.own import file_of, is_own
from open_exaone.verify.settings import JudgeSettings


@dataclass(frozen=True)
class OnlineRl:
    """A policy loss on fresh samples of the model as it is."""

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
        patience = Patience(self.settings.endpoint)
        groups = self._groups(problems, sampling, step, patience)
        advantages_PG = self._advantages(groups)
        documents = [
            rollout_document(group, rollout, advantage)
            for group, advantages in zip(groups, advantages_PG.tolist(), strict=True)
            if any(advantages)
            for rollout, advantage in zip(group.rollouts, advantages, strict=True)
            if rollout.reward is not None
        ]
        num_learned = sum(sum(document.loss_mask) for document in documents)
        metrics = rollout_metrics(groups, advantages_PG.any(dim=1).tolist())
        why = "" if documents else why_empty(groups)
        return StepData(singles(documents), max(1, num_learned), metrics, why, patience.waited_s)

    def _groups(self, problems: list[Problem], sampling: Sampling, step: int, patience: Patience) -> list[RolloutGroup]:
        """The step's rollouts: those on disk where this model, asked the same, made them; else sampled, and saved."""
        path = self.folder / "rollouts" / f"step-{step + 1:06d}.jsonl"
        prompts = prompt_ids(problems, self.tokenizer, thinking=True)
        judging, key = self.judging, self._key(problems, prompts, sampling, step)
        found = read_rollouts(path, problems, prompts, self.tokenizer, key) if key else None
        groups = judge_groups(
            found or sample(problems, self.generate, self.tokenizer, sampling, thinking=True),
            judging,
            max_tokens=sampling.max_new_tokens,
            thinking=True,
            save=lambda groups: write_rollouts(path, groups, key),
            patience=patience,
        )
        if groups != found:
            write_rollouts(path, groups, key)
        return groups

    def _key(self, problems: list[Problem], prompts: list[list[int]], sampling: Sampling, step: int) -> str:
        """Of all that the step's rollouts follow from; where the judge model is, and its key, are no part of it."""
        if self.model is None:
            return ""
        own = [Path(file_of(name)).read_bytes().hex() for name in filter(is_own, self.judging.weights)]
        settings = self.settings.model_dump(mode="json", exclude=WITHOUT_ADDRESS)
        judging = (settings, own, [asdict(problem) for problem in problems])
        return buffer_key(self.model, (step, prompts, asdict(sampling), fingerprint_of(self.config), judging))

    def _advantages(self, groups: list[RolloutGroup]) -> Tensor:
        """[P, G], float64; 0 for what is masked, and for all of a group that teaches nothing."""
        weights = self.judging.weights
        rewards = [[math.nan if r.reward is None else r.reward for r in group.rollouts] for group in groups]
        sizes = [[sum_size(rollout.terms, weights) for rollout in group.rollouts] for group in groups]
        rewards_PG, sizes_PG = (torch.tensor(rows, dtype=torch.float64) for rows in (rewards, sizes))
        return group_relative(
            rewards_PG,
            is_valid_PG=~rewards_PG.isnan(),
            sizes_PG=sizes_PG,
            divide_by_std=self.config.loss.divide_by_std,
        )

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        logprobs_M, entropies_M, documents_M = learned_logprobs(model, batch)
        advantages_M = torch.from_numpy(batch.advantages_D).to(logprobs_M.device)[documents_M]
        # The samples' policy is this very one, and updated once: its own log-probabilities are the old ones. Those of
        # the engine differ by rounding (in bfloat16 by up to some tenths), and would have ratios clipped for nothing.
        sampled = Sampled(logprobs_M, logprobs_M.detach(), advantages_M, documents_M)
        loss = POLICY_LOSSES[self.config.loss.name](sampled, denominator, self.config.loss)
        engine_logprobs_M = torch.from_numpy(batch.old_logprobs_M).to(logprobs_M.device)
        gap_M = (logprobs_M.detach() - engine_logprobs_M).abs()
        metrics = {
            "learned_entropy": float(entropies_M.sum()) / denominator,
            "mean_logprob_gap": float(gap_M.sum()) / denominator,
            "max_logprob_gap": float(gap_M.max()),  # training and engine share weights: only rounding differs
        }
        return loss, metrics
