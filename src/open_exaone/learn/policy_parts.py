"""What policy losses are put together from: tokens, ratios, weights, aggregation, a divergence. No torch to parse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from open_exaone.base.config import Config
from open_exaone.learn.config import LossConfig

if TYPE_CHECKING:
    from torch import Tensor

Aggregate = Literal["tokens", "sequences", "sums", "constant"]
Advantage = Literal["group_relative", "leave_one_out", "batch_normalised", "agapo"]
RatioOf = Literal["token", "mean", "sequence"]


@dataclass(frozen=True, slots=True)
class Sampled:
    """The M sampled tokens of a micro-batch, completion behind completion; each completion is here whole."""

    logprobs_M: Tensor  # under the policy that is trained
    old_logprobs_M: Tensor  # under the same model as it was when they were sampled; no gradient
    advantages_M: Tensor  # each token carries its completion's
    documents_M: Tensor  # int64: which completion each belongs to; from 0, each number in use
    reference_M: Tensor | None = None  # log-probabilities under the reference model, where `kl` needs them
    sampler_M: Tensor | None = None  # log-probabilities as the sampler reports them, where it is not the trainer

    def summed(self, values_M: Tensor) -> Tensor:
        """Of each token, the sum over its whole completion, [M]."""
        sums_M = values_M.new_zeros(len(values_M)).index_add(0, self.documents_M, values_M)  # more than enough rows
        return sums_M[self.documents_M]

    @property
    def lengths_M(self) -> Tensor:
        """Of each token, how many tokens its completion has, as floats."""
        return self.summed(self.logprobs_M.new_ones(len(self.logprobs_M)))


class Kl(Config):
    """A penalty on the divergence from a reference model: the model that the stage begins from, or an earlier one.

    Per token, with r = log p - log p_ref, the estimators are k1 = r, k2 = r² / 2 and k3 = exp(-r) - 1 + r (Schulman
    2020); "k1" and "k3" are unbiased as values, "k2" is not. As a loss they are differentiated, and what they then move
    is another matter (Tang and Munos 2025, arXiv 2506.09477), on-policy and per token:

        k1        nothing on average: E[∇ log p] = 0. It adds noise alone.
        k2        E[r ∇ log p], the gradient of KL(p || p_ref) at this token.
        k3        E[(1 - p_ref / p) ∇ log p], the gradient of KL(p_ref || p), the other direction.
        sequence  the whole completion's Σ r, detached, is taken off its advantage, times beta: E[(Σ r) ∇ Σ log p], the
                  gradient of KL(p || p_ref) of whole completions, which no per-token term gives, as a token also
                  decides which tokens come after it. On-policy only, and with the sum of a completion's tokens ("sums",
                  or RLOO's ratio): an average over them weighs it by the completion's length.
    """

    beta: float = Field(ge=0, le=100)
    """The weight of the divergence; 0 switches it off."""
    estimator: Literal["k1", "k2", "k3", "sequence"] = "k3"
    """What is computed from a token's log-ratio; see docs/rl.md for what each one's gradient is."""


class Correction(Config):
    """Importance weights p_trainer / p_sampler for tokens drawn by other software than what is trained.

    The same weights in another program are another policy: rounding, fused kernels and quantisation shift
    log-probabilities. Truncated: Espeholt et al. 2018, arXiv 1802.01561; for language models Yao et al. 2025.
    """

    kind: Literal["truncate", "mask", "off"] = "truncate"
    """"truncate": a token's weight is at most `max_ratio`; "mask": a token whose weight lies above `max_ratio` or below
    its inverse is left out; "off": none, whatever samples."""
    max_ratio: float = Field(default=2.0, gt=1, le=1000)
    """The largest weight."""


class PolicyLossConfig(LossConfig):
    """What every policy loss has."""

    is_on_policy: ClassVar[bool] = False  # right for the first update of fresh samples alone
    refused_keys: ClassVar[Mapping[str, str]] = {
        "beta": "is TRL's name of the weight of a KL: write kl = { beta = … }",
        "epsilon": "is TRL's name of a clip: write clip_low and clip_high",
        "epsilon_high": "is TRL's name of a clip: write clip_high, or max_ratio with cispo",
        "loss_type": "is TRL's name of a choice that `name` and `aggregate` make",
        "scale_rewards": "is TRL's name of a choice that `advantage` and `divide_by_std` make",
    }
    has_own_correction: ClassVar[bool] = False  # its ratio is to the sampler itself
    ratio_of: ClassVar[RatioOf] = "token"  # or of the whole completion, by the geometric mean over its tokens or not
    advantage: Advantage = "group_relative"
    """How rewards become advantages."""
    divide_by_std: bool = True
    """With "group_relative": divide by the group's standard deviation; Dr. GRPO does not."""
    aggregate: Aggregate = "sequences"
    """"tokens": the mean over all tokens of the step; "sequences": the mean over completions of their tokens' mean;
    "sums": the mean over completions of their tokens' sum; "constant": the same divided by `max_new_tokens`."""
    kl: Kl | None = None
    """A penalty on the divergence from the reference model, such as { beta = 0.01, estimator = "k2" }; none if left
    out."""
    correction: Correction | None = None
    """For tokens drawn by other software than what is trained. If left out: { kind = "truncate", max_ratio = 2 } with
    vLLM, and none with this package's own engine."""

    @property
    def divergence(self) -> Kl | None:
        """The penalty, unless it is off."""
        return self.kl if self.kl is not None and self.kl.beta > 0 else None

    @property
    def needs_on_policy(self) -> bool:
        """Whether only the first update of fresh samples is right."""
        return self.is_on_policy or (self.divergence is not None and self.divergence.estimator == "sequence")

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        for name, advantage in (("divide_by_std", "group_relative"), ("all_wrong_advantage", "agapo")):
            field = type(self).model_fields.get(name)
            if field and getattr(self, name) != field.default and self.advantage != advantage:
                raise ValueError(f"{name} has no effect with advantage = {self.advantage!r}: leave it out")
        if self.kl is None and type(self).model_fields["kl"].default is not None:
            raise ValueError("kl is missing: { beta = 0 } switches it off")
        if self.ratio_of != "token" and self.aggregate != "sequences":
            raise ValueError(
                f"aggregate = {self.aggregate!r}: {self.name} compares whole replies, each of which counts once: leave "
                'it out, which is "sequences"'
            )
        if self.has_own_correction and self.correction is not None:
            raise ValueError(f"correction has no effect: {self.name} weighs by the sampler's own probabilities already")
        return self

    def denominator(self, num_tokens: int, num_sequences: int, max_new_tokens: int) -> float:
        """What a step's sum is divided by.

        Args:
            num_tokens, num_sequences: that the whole optimizer step learns from.
        """
        scale = {"tokens": num_tokens, "constant": num_sequences * max_new_tokens}
        return float(max(1, scale.get(self.aggregate, num_sequences)))


def ratios(sampled: Sampled, settings: PolicyLossConfig) -> Tensor:
    """p / p_old of each token, [M], or of its whole completion where the loss compares those."""
    log_ratio_M = sampled.logprobs_M - sampled.old_logprobs_M
    match settings.ratio_of:
        case "mean":
            log_ratio_M = sampled.summed(log_ratio_M) / sampled.lengths_M
        case "sequence":
            log_ratio_M = sampled.summed(log_ratio_M)
    return log_ratio_M.exp()


def sampler_weights(sampled: Sampled, correction: Correction | None) -> Tensor | None:
    """The importance weight of each token, [M], p_trainer / p_sampler at the time of sampling; None: all are 1."""
    if correction is None or correction.kind == "off" or sampled.sampler_M is None:
        return None
    ratio_M = (sampled.old_logprobs_M - sampled.sampler_M).exp()
    if correction.kind == "truncate":
        return ratio_M.clamp(max=correction.max_ratio)
    is_near_M = (ratio_M <= correction.max_ratio) & (ratio_M >= 1 / correction.max_ratio)
    return ratio_M.where(is_near_M, 0.0)


def likelihood(sampled: Sampled, settings: PolicyLossConfig) -> Tensor:
    """The plain policy gradient's -A log p of each token."""
    return -penalised_advantages(sampled, settings) * sampled.logprobs_M


def penalised_advantages(sampled: Sampled, settings: PolicyLossConfig) -> Tensor:
    """Each token's advantage, less the divergence of its whole completion where `kl` is of whole completions."""
    kl = settings.divergence
    if kl is None or kl.estimator != "sequence":
        return sampled.advantages_M
    return sampled.advantages_M - kl.beta * sampled.summed(_log_ratios(sampled).detach())


def reduced(values_M: Tensor, sampled: Sampled, denominator: float, settings: PolicyLossConfig) -> Tensor:
    """The weighted sum of the tokens' values and of their divergence from the reference."""
    weights_M = sampler_weights(sampled, settings.correction)
    values_M = values_M if weights_M is None else values_M * weights_M
    kl = settings.divergence
    if kl is not None and kl.estimator != "sequence":
        r_M = _log_ratios(sampled)
        kl_M = {"k1": lambda: r_M, "k2": lambda: r_M.square() / 2, "k3": lambda: r_M.neg().expm1() + r_M}
        values_M = values_M + kl.beta * kl_M[kl.estimator]()
    return (values_M / sampled.lengths_M if settings.aggregate == "sequences" else values_M).sum() / denominator


def _log_ratios(sampled: Sampled) -> Tensor:
    """log p - log p_ref of each token.

    Raises:
        ValueError: the tokens came without reference log-probabilities.
    """
    if sampled.reference_M is None:
        raise ValueError("kl: needs reference log-probabilities: give Sampled.reference_M")
    return sampled.logprobs_M - sampled.reference_M
