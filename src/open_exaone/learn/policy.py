"""Policy losses over the tokens of sampled completions, each with its settings. Parsing them loads no torch.

A loss is put together from four parts (`learn.policy_parts`): the advantage, how far a ratio of probabilities may move
a token, how tokens are averaged (`aggregate`), and a divergence from a reference model (`kl`). What has a name of its
own in the literature is a choice of these; any part can be set otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from open_exaone.learn.policy_parts import (
    Advantage,
    Aggregate,
    Kl,
    PolicyLossConfig,
    RatioOf,
    Sampled,
    likelihood,
    penalised_advantages,
    ratios,
    reduced,
)

if TYPE_CHECKING:
    from torch import Tensor


AllWrong = Annotated[float, Field(ge=-10, le=0)] | Literal["drop"]


class Clipped(PolicyLossConfig):
    """The losses with PPO's clip; with one update for each batch of samples all ratios are 1, and it is idle."""

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
    ratio_M, advantages_M = ratios(sampled, settings), penalised_advantages(sampled, settings)
    clipped_M = ratio_M.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    values_M = -(ratio_M * advantages_M).minimum(clipped_M * advantages_M)
    return reduced(values_M, sampled, denominator, settings)


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
    ratio_of: ClassVar[RatioOf] = "mean"
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
    return reduced(likelihood(sampled, settings) * weights_M, sampled, denominator, settings)


class Rloo(Clipped):
    """RLOO: REINFORCE with the mean of a completion's siblings as baseline."""

    name: Literal["rloo"] = "rloo"
    ratio_of: ClassVar[RatioOf] = "sequence"
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
    all_wrong_advantage: AllWrong = -0.1
    """The advantage of every completion of a group that is all wrong; 0: equation 2 as it is printed; "drop": groups
    whose rewards are all equal are left out, all-wrong ones too. Ours: the report says "small negative", and no number.
    """


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
    return reduced(likelihood(sampled, settings), sampled, denominator, settings)


class AgapoOffPolicy(PolicyLossConfig):
    """AGAPO as K-EXAONE has it: truncated importance weights, no KL, no all-wrong groups."""

    name: Literal["agapo_off_policy"] = "agapo_off_policy"
    has_own_correction: ClassVar[bool] = True
    advantage: Advantage = "agapo"
    all_wrong_advantage: AllWrong = "drop"
    """The advantage of every completion of a group that is all wrong; "drop": groups whose rewards are all equal are
    left out, all-wrong ones too."""
    max_ratio: float = Field(default=2.0, gt=0)
    """The largest importance weight of a token, ε; ours, as none was published."""


def agapo_off_policy(sampled: Sampled, denominator: float, settings: AgapoOffPolicy) -> Tensor:
    """K-EXAONE's policy loss: -Σ sg(min(ρ, max_ratio)) A log p, averaged over each completion's tokens.

    ρ = p / p_sampler. K-EXAONE, arXiv 2601.01739: `agapo` with truncated importance sampling, the mean over tokens,
    groups without variance left out, all-wrong ones too, and no KL.
    """
    sampler_M = sampled.old_logprobs_M if sampled.sampler_M is None else sampled.sampler_M
    weights_M = (sampled.logprobs_M.detach() - sampler_M).exp().clamp(max=settings.max_ratio)
    return reduced(likelihood(sampled, settings) * weights_M, sampled, denominator, settings)


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
