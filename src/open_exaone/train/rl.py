"""Stage `rl`: online reinforcement learning: sample groups, judge them, push up what was better than its siblings.

EXAONE Deep's third stage is "a variant of GRPO", which was not published; EXAONE 4.0's is AGAPO. By default a step is
one update on fresh samples: ratios of probabilities are 1, and nothing is clipped. Groups that teach nothing are set
aside and counted. A sample whose verdict is an error, or a term of whose reward could not be found, is masked: it says
nothing about the model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_jsonl
from open_exaone.base.log import logger
from open_exaone.base.records import Problem, Rollout, RolloutGroup, StopReason
from open_exaone.base.text import count
from open_exaone.data.batch import Batch, singles
from open_exaone.data.document import Document, rollout_document
from open_exaone.learn.advantage import Advantages, Rewards, advantages_of
from open_exaone.learn.policy import POLICY_LOSSES, Clipped
from open_exaone.learn.policy_parts import Correction, PolicyLossConfig, Sampled, ratios, sampler_weights
from open_exaone.model.transformer import LanguageModel
from open_exaone.rewards.rubric import sum_size, weights_of
from open_exaone.rollout.provider import Provider
from open_exaone.rollout.providers.context import CONTEXT, counted
from open_exaone.rollout.providers.server import ServerProvider
from open_exaone.train.accumulate import Metrics, numbers
from open_exaone.train.ahead import Ahead
from open_exaone.train.buffer import read_logprobs, write_logprobs
from open_exaone.train.collect import Collected, Collector, Places
from open_exaone.train.config import RlStage
from open_exaone.train.forward import document_logprobs, learned_logprobs
from open_exaone.train.loop import StepData
from open_exaone.train.parallel.world import ALONE, World
from open_exaone.train.policy_reference import Reference
from open_exaone.train.rollout_metrics import commonest_families, mode_metrics, rollout_metrics, why_empty
from open_exaone.train.state import NOTHING, Memory
from open_exaone.verify.settings import JudgeSettings


@dataclass(frozen=True)
class _Learnable:
    """A step's samples, and what is learned from them."""

    collected: Collected
    is_kept_P: Sequence[bool]  # whether each group is learned from
    documents_P: Sequence[Sequence[Document]]  # of each group; of one that is set aside, none


@dataclass(frozen=True)
class OnlineRl:
    """A policy loss on samples of the model as it is."""

    config: RlStage
    problems: Sequence[Problem]
    thinks_N: Sequence[bool] | NDArray[np.bool_]  # whether each problem is asked in reasoning mode
    provider: Provider
    folder: Path  # gets rollouts/step-N.jsonl, written before the update that they cause
    seed: int
    model: LanguageModel  # that is trained: the provider samples from its weights
    places: Places  # from a place in the endless row of prompts, so many: which problems
    settings: JudgeSettings = field(default_factory=JudgeSettings)
    reference: Reference | None = None  # where the loss has a `kl`
    world: World = ALONE
    _steps: dict[int, _Learnable] = field(default_factory=dict, init=False, repr=False)  # the step at hand

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
        return self.config.num_steps * self.config.num_updates

    @cached_property
    def collector(self) -> Collector | Ahead:
        """What gives a step's samples."""
        config = self.config
        if not config.max_staleness:
            return self._collector(self.world)
        alone = self._collector(ALONE)
        return Ahead(alone, config.max_staleness, config.num_steps, config.num_updates, self.world)

    def close(self) -> None:
        """Ends what draws samples of coming steps, and frees what servers keep; called however the training ends."""
        if isinstance(self.collector, Ahead):
            self.collector.close()
        if isinstance(self.provider, ServerProvider):
            self.provider.close()

    def _collector(self, world: World) -> Collector:
        return Collector(
            config=self.config,
            problems=self.problems,
            thinks_N=self.thinks_N,
            provider=self.provider,
            folder=self.folder,
            seed=self.seed,
            model=self.model,
            places=self.places,
            teaches=lambda groups: self._advantages(groups).is_kept_P.tolist(),
            settings=self.settings,
            world=world,
        )

    @cached_property
    def loss_settings(self) -> PolicyLossConfig:
        """The loss's settings; tokens of another sampler than our own engine are corrected for by default."""
        settings = self.config.loss
        is_ours = self.provider.identity["engine"] == "local"
        if is_ours or settings.correction is not None or settings.has_own_correction:
            return settings
        return settings.model_copy(update={"correction": Correction()})

    @cached_property
    def has_both_modes(self) -> bool:
        return len(np.unique(np.asarray(self.thinks_N, bool))) == 2

    @cached_property
    def families(self) -> list[str]:
        """Those that have metrics of their own."""
        return commonest_families(self.problems)

    def step_data(self, step: int, memory: Memory = NOTHING) -> StepData:
        """One update: fresh samples for the first one of a step of sampling, the same ones for the others."""
        sampling_step, update = divmod(step, self.config.num_updates)
        if not update or sampling_step not in self._steps:
            self._steps.clear()
            self._steps[sampling_step] = self._learnable(sampling_step, memory, is_first=not update)
        learnable = self._steps[sampling_step]
        places = self._minibatch(learnable.is_kept_P, sampling_step, update)
        documents = [document for place in places for document in learnable.documents_P[place]]
        if self.config.loss.divergence is None and not any(document.advantage for document in documents):
            documents = []  # the gradient would be 0: nothing is computed, and the step counts as empty
        num_learned = sum(sum(document.loss_mask) for document in documents)
        return StepData(
            singles(documents),
            self.config.loss.denominator(num_learned, len(documents), self.config.max_new_tokens),
            {} if update else self._metrics(learnable, step),
            "" if documents else self._why_empty([learnable.collected.groups[place] for place in places]),
            learnable.collected.waited_s if not update else 0.0,
            learnable.collected.memory,
            max(1, num_learned),
        )

    def _metrics(self, learnable: _Learnable, step: int) -> Metrics:
        """Of a step's samples; those of their first update alone are logged, whose step is given."""
        collected, config = learnable.collected, self.config
        groups = collected.groups
        if config.mask_truncated:
            rewarded = ([replace(r, reward=self._reward(r)) for r in group.rollouts] for group in groups)
            groups = [replace(group, rollouts=tuple(row)) for group, row in zip(groups, rewarded, strict=True)]
        metrics = rollout_metrics(groups, learnable.is_kept_P, self.families)
        metrics["useful_groups"] = sum(learnable.is_kept_P)
        metrics |= mode_metrics(groups) if self.has_both_modes else {}
        if config.max_prompts is not None:
            metrics["asked_prompts"] = len(groups)
        if config.mask_truncated:
            metrics["truncated_masked"] = sum(_is_truncated(r) for group in groups for r in group.rollouts)
        if config.max_staleness:
            versions = [rollout.generation.policy_version or 0 for group in groups for rollout in group.rollouts]
            metrics["staleness"] = (step - sum(versions) / len(versions)) / config.num_updates
            metrics["sampling_wait_seconds"] = collected.wait_s
        metrics["pool_epoch"] = (collected.first + len(groups) - 1) // len(self.problems)
        return metrics

    def _why_empty(self, groups: list[RolloutGroup]) -> str:
        """Why nothing is learned from some groups; empty where it is that their rewards are equal."""
        rewards = [[self._reward(rollout) for rollout in group.rollouts] for group in groups]
        num_masked = sum(_is_truncated(rollout) for group in groups for rollout in group.rollouts)
        if self.config.mask_truncated and num_masked and all(len(row) - row.count(None) < 2 for row in rewards):
            number = sum(map(len, rewards))
            return (
                f"{num_masked} of {number} samples reached max_new_tokens and are left out (mask_truncated): raise it"
            )
        return why_empty(groups)

    def notes(self, memory: Memory) -> list[str]:
        """What a report must state of the stage that ended with this memory."""
        asked, number = memory.get("next_prompt", 0), len(self.problems)
        repeats = [f"{count(asked, 'prompt')} were drawn from {number:,} problems: each {asked / number:.1f} times"]
        return [*self._provider_notes(), *(repeats if asked > number else [])]

    def _provider_notes(self) -> list[str]:
        """The provider's notes; the replies that its context cut are counted in the rollouts on disk."""
        num_cut = num_replies = 0
        if any(CONTEXT in text for text in self.provider.notes):
            for path in sorted((self.folder / "rollouts").glob("step-*.jsonl")):
                for row in read_jsonl(path):
                    num_replies += 1
                    is_short = row["num_tokens"] < self.config.max_new_tokens
                    num_cut += row["stop"] == StopReason.LENGTH and is_short
        return counted(self.provider.notes, num_cut, num_replies)

    def _minibatch(self, is_kept_P: Sequence[bool], sampling_step: int, update: int) -> list[int]:
        """The places of one update's groups; each pass has an order of its own.

        Args:
            is_kept_P: whether each group is learned from; those that are, are spread evenly over a pass's updates.
        """
        epoch, part = divmod(update, self.config.num_minibatches)
        order = list(range(len(is_kept_P)))
        if self.config.num_minibatches > 1:
            order = np.random.default_rng((self.seed, sampling_step, epoch)).permutation(len(order)).tolist()
            order.sort(key=lambda place: not is_kept_P[place])
        return sorted(order[part :: self.config.num_minibatches])

    def _learnable(self, step: int, memory: Memory, *, is_first: bool) -> _Learnable:
        """Samples a step, or reads it back, with the log-probabilities that its loss compares with."""
        collected = self.collector.collect(step, memory, again=not is_first)
        advantages_PG, is_kept_P = (values.tolist() for values in self._advantages(collected.groups))
        documents_P = [
            [
                rollout_document(group, rollout, advantage)
                for rollout, advantage in zip(group.rollouts, advantages, strict=True)
                if is_kept and rollout.generation.ids and self._reward(rollout) is not None
            ]
            for group, advantages, is_kept in zip(collected.groups, advantages_PG, is_kept_P, strict=True)
        ]
        rows = [document for documents in documents_P for document in documents]
        if self.reference is not None and is_first:
            self.reference.refresh(step)
        if self.reference is not None and rows:
            found = self.reference.logprobs(rows, step)
            rows = [replace(row, reference_logprobs=x) for row, x in zip(rows, found, strict=True)]
        if self.config.num_updates > 1 and rows:
            found = self._old_logprobs(rows, step, collected, is_first=is_first)
            rows = [replace(row, old_logprobs=x) for row, x in zip(rows, found, strict=True)]
        rest = iter(rows)
        return _Learnable(collected, is_kept_P, [list(islice(rest, len(documents))) for documents in documents_P])

    def _old_logprobs(
        self, documents: list[Document], step: int, collected: Collected, *, is_first: bool
    ) -> list[NDArray[np.float32]]:
        """Under the model that sampled them; kept on disk, as later updates of the step move the model."""
        path = self.folder / "rollouts" / f"step-{step + 1:06d}.old.safetensors"
        key = "".join(collected.keys)
        if not is_first:
            lengths = [int(np.count_nonzero(document.loss_mask)) for document in documents]
            known = read_logprobs(path, lengths, key)
            if not self.world.any(known is None):
                assert known is not None  # on no rank
                return known
            logger.warning(
                "%s: is incomplete: ratios of the rest of its step are computed against the current model", path
            )
        options = (self.config.micro_batch_tokens, self.config.temperature, self.world)
        found = document_logprobs(self.model, documents, *options)
        self.world.lead(lambda: write_logprobs(path, found, key))
        return found

    def _reward(self, rollout: Rollout) -> float | None:
        """None where the sample is masked."""
        return None if self.config.mask_truncated and _is_truncated(rollout) else rollout.reward

    def _advantages(self, groups: Sequence[RolloutGroup]) -> Advantages:
        """[P, G], float64; 0 for what is masked, and for all of a group that is set aside."""
        weights, shape = weights_of(self.config.reward), (len(groups), -1)
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        rewards = [math.nan if (reward := self._reward(r)) is None else reward for r in rollouts]
        rewards_PG = torch.tensor(rewards, dtype=torch.float64).view(shape)
        sizes_PG = torch.tensor([sum_size(r.terms, weights) for r in rollouts], dtype=torch.float64).view(shape)
        is_correct_PG = torch.tensor([r.verdict.correct for r in rollouts], dtype=torch.bool).view(shape)
        known = Rewards(rewards_PG, ~rewards_PG.isnan(), sizes_PG, is_correct_PG)
        return advantages_of(known, self.config.loss)

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        logprobs_M, entropies_M, documents_M = learned_logprobs(model, batch, self.config.temperature)
        device = logprobs_M.device
        advantages_M = torch.from_numpy(batch.advantages_D).to(device)[documents_M]
        old_M, sampler_M, reference_M = (
            None if values is None else torch.from_numpy(values).to(device)
            for values in (batch.old_logprobs_M, batch.sampler_logprobs_M, batch.reference_logprobs_M)
        )
        # With one update the samples' policy is this very one: its own log-probabilities are the old ones. Those of
        # the engine differ by rounding (in bfloat16 by up to some tenths), and would have ratios clipped for nothing.
        is_replayed = old_M is not None
        old_M = logprobs_M.detach() if old_M is None else old_M
        sampled = Sampled(logprobs_M, old_M, advantages_M, documents_M, reference_M, sampler_M)
        settings = self.loss_settings
        loss = POLICY_LOSSES[settings.name](sampled, denominator, settings)
        values = {"learned_entropy": entropies_M.sum(), **_divergence(sampled)}
        values |= _movement(sampled, settings) if is_replayed else {}
        values |= _correction(sampled, settings.correction)
        return loss, numbers(values)


def _is_truncated(rollout: Rollout) -> bool:
    return rollout.generation.stop is StopReason.LENGTH


@torch.no_grad()
def _divergence(sampled: Sampled) -> dict[str, Tensor]:
    """Sums over tokens: how far the sampler and the reference are from the model."""
    metrics: dict[str, Tensor] = {}
    if sampled.sampler_M is not None:  # training and our engine share weights: only rounding differs
        gap_M = (sampled.old_logprobs_M - sampled.sampler_M).abs()
        metrics = {"mean_logprob_gap": gap_M.sum(), "max_logprob_gap": gap_M.max()}
    if sampled.reference_M is not None:
        r_M = sampled.logprobs_M - sampled.reference_M
        metrics["kl"] = (r_M.neg().expm1() + r_M).sum()  # k3: never negative
    return metrics


@torch.no_grad()
def _movement(sampled: Sampled, settings: PolicyLossConfig) -> dict[str, Tensor]:
    """Sums over tokens: how far the model has moved since it sampled them."""
    ratio_M = ratios(sampled, settings)
    metrics = {"ratio_mean": ratio_M.sum(), "max_ratio": ratio_M.max()}
    if isinstance(settings, Clipped):
        is_high_M = (ratio_M > 1 + settings.clip_high) & (sampled.advantages_M > 0)
        is_low_M = (ratio_M < 1 - settings.clip_low) & (sampled.advantages_M < 0)
        metrics["clip_share"] = (is_high_M | is_low_M).sum()
    return metrics


@torch.no_grad()
def _correction(sampled: Sampled, correction: Correction | None) -> dict[str, Tensor]:
    weights_M = sampler_weights(sampled, correction)
    return {} if weights_M is None else {"sampler_ratio_mean": weights_M.sum()}
