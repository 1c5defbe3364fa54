"""Policy losses over the tokens of sampled completions, each with its settings. Parsing them loads no torch.

A loss is put together from four parts: the advantage (`learn.advantage`), how far a ratio of probabilities may move a
token, how tokens are averaged (`aggregate`), and a divergence from a reference model (`kl`). What has a name of its own
in the literature is a choice of these; any part can be set otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from open_exaone.base.config import Config
from open_exaone.learn.config import LossConfig

if TYPE_CHECKING:
    from torch import Tensor

Aggregate = Literal["tokens", "sequences", "sums", "constant"]
Advantage = Literal["group_relative", "leave_one_out", "batch_normalised", "agapo"]


@dataclass(frozen=True, slots=True)
class Sampled:
    """The M sampled tokens of a micro-batch, completion behind completion; each completion is here whole."""

    logprobs_M: Tensor  # under the policy that is trained
    old_logprobs_M: Tensor  # under the same model as it was when they were sampled; no gradient
    advantages_M: Tensor  # each token carries its completion's
    documents_M: Tensor  # int64: which completion each belongs to, from 0
    reference_M: Tensor | None = None  # log-probabilities under the reference model, where `kl` needs them
    sampler_M: Tensor | None = None  # log-probabilities as the sampler reports them, where it is not the trainer

    def summed(self, values_M: Tensor) -> Tensor:
        """Of each token, the sum over its whole completion, [M]."""
        num_documents = int(self.documents_M.max()) + 1 if len(self.documents_M) else 0
        sums_D = values_M.new_zeros(num_documents).index_add(0, self.documents_M, values_M)
        return sums_D[self.documents_M]

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
                  decides which tokens come after it. On-policy only.
    """

    beta: float = Field(gt=0, le=100)
    """The weight of the divergence."""
    estimator: Literal["k1", "k2", "k3", "sequence"] = "k3"
    """What is computed from a token's log-ratio; see docs/training.md for what each one's gradient is."""


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
    has_own_correction: ClassVar[bool] = False  # its ratio is to the sampler itself
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
    def needs_on_policy(self) -> bool:
        """Whether only the first update of fresh samples is right."""
        return self.is_on_policy or (self.kl is not None and self.kl.estimator == "sequence")

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        for name, advantage in (("divide_by_std", "group_relative"), ("all_wrong_advantage", "agapo")):
            field = type(self).model_fields.get(name)
            if field and getattr(self, name) != field.default and self.advantage != advantage:
                raise ValueError(f"{name} has no effect with advantage = {self.advantage!r}: leave it out")
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


class Clipped(PolicyLossConfig):
    """The losses with PPO's clip; with one update for each batch of samples all ratios are 1, and it is idle."""

    ratio_of: ClassVar[Literal["token", "mean", "sequence"]] = "token"  # a whole completion's: by geometric mean or not
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """How far below 1 a ratio of probabilities may fall before it is clipped."""
    clip_high: float = Field(default=0.2, gt=0)
    """How far above 1 it may rise."""


class Grpo(Clipped):
    """GRPO, the mean over completions of their tokens' mean."""

    name: Literal["grpo"] = "grpo"


def grpo(sampled: Sampled, denominator: float, settings: Clipped) -> Tensor:
    """Clipped policy-gradient loss: -Σ min(ρ A, clip(ρ, 1 - low, 1 + high) A), aggregated, / denominator.

    ρ = exp(logprob - old logprob), a token at a time. Shao et al. 2024, arXiv 2402.03300, equation 3; its KL term is
    `kl = { beta = 0.04 }` and off by default (ours). What variant of GRPO trained EXAONE Deep was not published.

    Args:
        denominator: `settings.denominator` of the whole optimizer step.
    """
    ratio_M, advantages_M = ratios(sampled, settings), _advantages(sampled, settings)
    clipped_M = ratio_M.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    values_M = -(ratio_M * advantages_M).minimum(clipped_M * advantages_M)
    return _reduced(values_M, sampled, denominator, settings)


class DrGrpo(Clipped):
    """Dr. GRPO: no standard deviation, and a constant instead of each completion's length."""

    name: Literal["dr_grpo"] = "dr_grpo"
    divide_by_std: bool = False
    """With "group_relative": divide by the group's standard deviation; Dr. GRPO does not."""
    aggregate: Aggregate = "constant"


def dr_grpo(sampled: Sampled, denominator: float, settings: Clipped) -> Tensor:
    """Dr. GRPO, Liu et al. 2025, arXiv 2503.20783, section 3.2: `grpo` with centred rewards, every completion's sum
    divided by the same constant, which is `max_new_tokens`."""
    return grpo(sampled, denominator, settings)


class Dapo(Clipped):
    """DAPO: a higher upper clip and the mean over tokens; `max_prompts` of the stage is its dynamic sampling, the
    reward term "overlong" its overlong shaping, `mask_truncated` its overlong filtering."""

    name: Literal["dapo"] = "dapo"
    aggregate: Aggregate = "tokens"
    clip_high: float = Field(default=0.28, gt=0)


def dapo(sampled: Sampled, denominator: float, settings: Clipped) -> Tensor:
    """DAPO, Yu et al. 2025, arXiv 2503.14476, equation 8: `grpo` with clip-higher and a mean over the step's tokens."""
    return grpo(sampled, denominator, settings)


class ReinforcePp(Clipped):
    """REINFORCE++ with the group's mean as baseline and the batch's deviation."""

    name: Literal["reinforce_pp"] = "reinforce_pp"
    advantage: Advantage = "batch_normalised"
    aggregate: Aggregate = "tokens"


def reinforce_pp(sampled: Sampled, denominator: float, settings: Clipped) -> Tensor:
    """REINFORCE++ with baseline, Hu et al. 2025, arXiv 2501.03262, section 3: PPO's clipped loss on rewards less their
    group's mean, normalised over the batch. Its KL is an option here: `kl = { beta = 0.001, estimator = "k2" }`."""
    return grpo(sampled, denominator, settings)


class Gspo(Clipped):
    """GSPO: the ratio of whole completions, by its geometric mean over tokens."""

    name: Literal["gspo"] = "gspo"
    ratio_of: ClassVar[Literal["token", "mean", "sequence"]] = "mean"
    clip_low: float = Field(default=3e-4, gt=0, lt=1)
    clip_high: float = Field(default=4e-4, gt=0)


def gspo(sampled: Sampled, denominator: float, settings: Clipped) -> Tensor:
    """GSPO: -Σ min(s A, clip(s) A) over completions, s = exp(mean over tokens of (logprob - old logprob)).

    Zheng et al. 2025, arXiv 2507.18071, equations 5 and 7: `grpo` with another ratio.
    """
    return grpo(sampled, denominator, settings)


class Cispo(PolicyLossConfig):
    """CISPO: every token keeps its gradient, and its weight is bounded instead."""

    name: Literal["cispo"] = "cispo"
    aggregate: Aggregate = "tokens"
    max_ratio: float = Field(default=5.0, gt=0)
    """The largest weight of a token, ε_max; with one update for each batch of samples all are 1."""


def cispo(sampled: Sampled, denominator: float, settings: Cispo) -> Tensor:
    """CISPO: -Σ sg(min(ρ, max_ratio)) A log p. MiniMax 2025, arXiv 2506.13585, equation 4.

    ε_max = 5 and no lower bound are those of Khatri et al. 2025, arXiv 2510.13786.
    """
    weights_M = ratios(sampled, settings).detach().clamp(max=settings.max_ratio)
    return _reduced(_likelihood(sampled, settings) * weights_M, sampled, denominator, settings)


class Rloo(Clipped):
    """RLOO: REINFORCE with the mean of a completion's siblings as baseline."""

    name: Literal["rloo"] = "rloo"
    ratio_of: ClassVar[Literal["token", "mean", "sequence"]] = "sequence"
    advantage: Advantage = "leave_one_out"


def rloo(sampled: Sampled, denominator: float, settings: Clipped) -> Tensor:
    """RLOO: -Σ min(ρ A, clip(ρ) A) over completions, ρ the ratio of the whole completion's probability.

    On-policy ρ = 1, and its gradient is the published A ∇ Σ log p: Ahmadian et al. 2024, arXiv 2402.14740, section 3.3.
    The clip is for several updates and is not in the paper. "sequences" counts each completion once.
    """
    return grpo(sampled, denominator, settings)


class Agapo(PolicyLossConfig):
    """AGAPO: EXAONE 4.0's policy gradient, with no ratio and no clip."""

    name: Literal["agapo"] = "agapo"
    is_on_policy: ClassVar[bool] = True
    advantage: Advantage = "agapo"
    aggregate: Aggregate = "sums"
    kl: Kl | None = Kl(beta=0.01, estimator="sequence")
    """The divergence from the SFT model. Published: the cumulative one of whole completions; beta is ours."""
    all_wrong_advantage: float | None = Field(default=-0.1, ge=-10, le=0)
    """The advantage of every completion of a group that is all wrong; 0: equation 2 as it is printed. Ours: the report
    says "small negative", and no number."""


def agapo(sampled: Sampled, denominator: float, settings: Agapo) -> Tensor:
    """AGAPO: -Σ (A - beta Σ_t log(p / p_ref)) log p(completion) / denominator, on-policy.

    EXAONE 4.0, arXiv 2507.11407, section 2.4.2 and equations 1 and 2; code was not published. Which part is whose:

    - Published: the plain policy gradient without clip; log p as the sum over a completion's tokens, divided by the
      number of completions; leave-one-out in the group, then normalised over the mini-batch; groups all of whose
      completions are correct left out, those all wrong kept with a small negative signal; a cumulative KL of whole
      completions to the SFT model.
    - Ours: statistics are those of the optimizer step's mini-batch, after all-correct groups have left it. Equation 2
      gives an all-wrong group exactly 0, as leave-one-out advantages of equal rewards are 0 and their mean over whole
      groups is 0: the negative signal is `all_wrong_advantage`, added behind the normalisation; 0 is the equation as
      printed. The gradient of the KL is that of Tang and Munos (arXiv 2506.09477): its sum of log-ratios, detached,
      times -beta, is added to the advantage, behind the normalisation. beta, the group's size and all other numbers.

    It is exact on-policy. Several updates on the same samples are refused: `agapo_off_policy` corrects for them.
    """
    return _reduced(_likelihood(sampled, settings), sampled, denominator, settings)


class AgapoOffPolicy(PolicyLossConfig):
    """AGAPO as K-EXAONE has it: truncated importance weights, no KL, no all-wrong groups."""

    name: Literal["agapo_off_policy"] = "agapo_off_policy"
    has_own_correction: ClassVar[bool] = True
    advantage: Advantage = "agapo"
    all_wrong_advantage: float | None = Field(default=None, ge=-10, le=0)
    """The advantage of every completion of a group that is all wrong; such groups are left out if it is left out."""
    max_ratio: float = Field(default=2.0, gt=0)
    """The largest importance weight of a token, ε; ours, as none was published."""


def agapo_off_policy(sampled: Sampled, denominator: float, settings: AgapoOffPolicy) -> Tensor:
    """K-EXAONE's policy loss: -Σ sg(min(ρ, max_ratio)) A log p, averaged over each completion's tokens.

    ρ = p / p_sampler. K-EXAONE, arXiv 2601.01739: `agapo` with truncated importance sampling, the mean over tokens,
    groups without variance left out, all-wrong ones too, and no KL.
    """
    sampler_M = sampled.old_logprobs_M if sampled.sampler_M is None else sampled.sampler_M
    weights_M = (sampled.logprobs_M.detach() - sampler_M).exp().clamp(max=settings.max_ratio)
    return _reduced(_likelihood(sampled, settings) * weights_M, sampled, denominator, settings)


def ratios(sampled: Sampled, settings: PolicyLossConfig) -> Tensor:
    """p / p_old of each token, [M], or of its whole completion where the loss compares those."""
    log_ratio_M = sampled.logprobs_M - sampled.old_logprobs_M
    match getattr(settings, "ratio_of", "token"):
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


def _likelihood(sampled: Sampled, settings: PolicyLossConfig) -> Tensor:
    """The plain policy gradient's -A log p of each token."""
    return -_advantages(sampled, settings) * sampled.logprobs_M


def _advantages(sampled: Sampled, settings: PolicyLossConfig) -> Tensor:
    """Each token's advantage, less the divergence of its whole completion where `kl` is of whole completions."""
    if settings.kl is None or settings.kl.estimator != "sequence":
        return sampled.advantages_M
    return sampled.advantages_M - settings.kl.beta * sampled.summed(_log_ratios(sampled).detach())


def _reduced(values_M: Tensor, sampled: Sampled, denominator: float, settings: PolicyLossConfig) -> Tensor:
    """The weighted sum of the tokens' values and of their divergence from the reference."""
    weights_M = sampler_weights(sampled, settings.correction)
    values_M = values_M if weights_M is None else values_M * weights_M
    if settings.kl is not None and settings.kl.estimator != "sequence":
        r_M = _log_ratios(sampled)
        kl_M = {"k1": lambda: r_M, "k2": lambda: r_M.square() / 2, "k3": lambda: r_M.neg().expm1() + r_M}
        values_M = values_M + settings.kl.beta * kl_M[settings.kl.estimator]()
    return (values_M / sampled.lengths_M if settings.aggregate == "sequences" else values_M).sum() / denominator


def _log_ratios(sampled: Sampled) -> Tensor:
    """log p - log p_ref of each token.

    Raises:
        ValueError: the tokens came without reference log-probabilities.
    """
    if sampled.reference_M is None:
        raise ValueError("kl: needs reference log-probabilities: give Sampled.reference_M")
    return sampled.logprobs_M - sampled.reference_M


PolicyLoss = Annotated[
    Grpo | DrGrpo | Dapo | Gspo | Cispo | Rloo | ReinforcePp | Agapo | AgapoOffPolicy, Field(discriminator="name")
]
POLICY_LOSSES: Mapping[str, Callable[[Sampled, float, Any], Tensor]] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "dapo": dapo,
    "gspo": gspo,
    "cispo": cispo,
    "rloo": rloo,
    "reinforce_pp": reinforce_pp,
    "agapo": agapo,
    "agapo_off_policy": agapo_off_policy,
}
