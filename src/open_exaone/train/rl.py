"""Stage `rl`: online reinforcement learning with GRPO, on-policy, one update a batch of fresh samples.

EXAONE Deep's third stage is "a variant of GRPO"; which one was not published. Ours: group-relative advantages,
loss averaged over tokens of the whole step, no KL term, groups that teach nothing set aside and counted. With one
update a batch the ratio of probabilities is 1, and nothing is clipped. A sample whose verdict is an error, or a term of
whose reward could not be found, is masked: it says nothing about the model.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from open_exaone.base.errors import ConfigError, DataError, PromptTooLongError
from open_exaone.base.records import Problem, Request, RolloutGroup, Sampling
from open_exaone.data.batch import Batch, singles
from open_exaone.data.document import rollout_document
from open_exaone.learn.advantage import group_relative
from open_exaone.learn.policy import POLICY_LOSSES, Sampled
from open_exaone.model.lora import plain_weights
from open_exaone.model.transformer import LanguageModel
from open_exaone.remote.settings import WITHOUT_ADDRESS
from open_exaone.rewards.rubric import sum_size, weights_of
from open_exaone.rollout.judge_outage import Patience
from open_exaone.rollout.provider import Provider, requests_for
from open_exaone.rollout.run import Judging, judge_groups, sample_requests
from open_exaone.train.accumulate import Metrics
from open_exaone.train.buffer import buffer_key, read_rollouts, write_rollouts
from open_exaone.train.config import RlStage
from open_exaone.train.forward import learned_logprobs
from open_exaone.train.loop import StepData
from open_exaone.train.rollout_metrics import commonest_families, mode_metrics, rollout_metrics, why_empty
from open_exaone.train.state import fingerprint_of
from open_exaone.verify.own import file_of, is_own
from open_exaone.verify.settings import JudgeSettings


@dataclass(frozen=True)
class OnlineRl:
    """A policy loss on fresh samples of the model as it is."""

    config: RlStage
    problems: Sequence[Problem]
    thinks_N: Sequence[bool] | NDArray[np.bool_]  # whether each problem is asked in reasoning mode
    provider: Provider
    folder: Path  # gets rollouts/step-N.jsonl, written before the update that they cause
    seed: int
    model: LanguageModel  # that is trained: the provider samples from its weights
    steps: Sequence[list[int]]  # which problems each step asks
    settings: JudgeSettings = field(default_factory=JudgeSettings)

    def __post_init__(self) -> None:
        """Raises:
        ConfigError: the provider gives only text.
        """
        if not self.provider.gives_ids:
            engine = self.provider.identity["engine"]
            raise ConfigError(
                f"{engine}: online RL learns from token ids and log-probabilities, and a chat endpoint gives only "
                f"text: choose the local engine, vllm or vllm_server"
            )

    @property
    def num_steps(self) -> int:
        return self.config.num_steps

    @property
    def judging(self) -> Judging:
        return Judging(self.settings, weights_of(self.config.reward), self.config.rubric)

    @cached_property
    def has_both_modes(self) -> bool:
        return len(np.unique(np.asarray(self.thinks_N, bool))) == 2

    @cached_property
    def families(self) -> list[str]:
        """Those that have metrics of their own."""
        return commonest_families(self.problems)

    def step_data(self, step: int) -> StepData:
        sampling = Sampling(
            max_new_tokens=self.config.max_new_tokens,
            temperature=1.0,
            top_p=1.0,
            num_samples=self.config.group_size,
            seed=self.seed + step,
        )
        patience = Patience(self.settings.endpoint)
        groups = self._groups(sampling, step, patience)
        advantages_PG = self._advantages(groups)
        documents = [
            rollout_document(group, rollout, advantage)
            for group, advantages in zip(groups, advantages_PG.tolist(), strict=True)
            if any(advantages)
            for rollout, advantage in zip(group.rollouts, advantages, strict=True)
            if rollout.reward is not None
        ]
        num_learned = sum(sum(document.loss_mask) for document in documents)
        metrics = rollout_metrics(groups, advantages_PG.any(dim=1).tolist(), self.families)
        metrics |= mode_metrics(groups) if self.has_both_modes else {}
        why = "" if documents else why_empty(groups)
        return StepData(singles(documents), max(1, num_learned), metrics, why, patience.waited_s)

    def _groups(self, sampling: Sampling, step: int, patience: Patience) -> list[RolloutGroup]:
        """The step's rollouts: those on disk where this model, asked the same, made them; else sampled, and saved."""
        path = self.folder / "rollouts" / f"step-{step + 1:06d}.jsonl"
        assert self.provider.tokenizer is not None  # it gives ids
        problems = [self.problems[index] for index in self.steps[step]]
        thinking = [bool(self.thinks_N[index]) for index in self.steps[step]]
        requests = requests_for(problems, self.provider.tokenizer, sampling, thinking=thinking)
        judging, key = self.judging, self._key(problems, requests, step)
        found = read_rollouts(path, problems, requests, self.provider.tokenizer, key)
        groups = judge_groups(
            found or self._sampled(problems, requests),
            judging,
            max_tokens=sampling.max_new_tokens,
            save=lambda groups: write_rollouts(path, groups, key),
            patience=patience,
        )
        if groups != found:
            write_rollouts(path, groups, key)
        return groups

    def _sampled(self, problems: list[Problem], requests: list[Request]) -> list[RolloutGroup]:
        """Samples of the model as it is now.

        Raises:
            PromptTooLongError: a prompt leaves a reply less room than `max_new_tokens`.
            DataError: the provider has another vocabulary than the model.
        """
        config = self.model.config
        longest = max(len(request.prompt_ids or ()) for request in requests)
        if longest + self.config.max_new_tokens > config.max_positions:
            raise PromptTooLongError(
                f"a prompt has {longest} tokens; with max_new_tokens = {self.config.max_new_tokens} that exceeds the "
                f"model's context of {config.max_positions}: shorten the prompt or lower max_new_tokens"
            )
        self.provider.update_weights(plain_weights(self.model), self.model.version)
        groups = sample_requests(problems, requests, self.provider)
        if any(max(r.generation.ids or (0,)) >= config.vocab_size for group in groups for r in group.rollouts):
            raise DataError(f"{self.provider.identity['engine']}: gives token ids that the model does not have")
        return groups

    def _key(self, problems: list[Problem], requests: list[Request], step: int) -> str:
        """Of all that the step's rollouts follow from; where the judge model is, and its key, are no part of it."""
        own = [Path(file_of(name)).read_bytes().hex() for name in filter(is_own, self.judging.weights)]
        settings = self.settings.model_dump(mode="json", exclude=WITHOUT_ADDRESS)
        judging = (settings, own, [asdict(problem) for problem in problems])
        size = self.config.group_size
        prompts = [(request.prompt_ids, request.thinking) for request in requests[::size]]
        sampling = asdict(requests[0].sampling)
        return buffer_key(self.model, (step, prompts, sampling, fingerprint_of(self.config), judging))

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
