"""Preference losses over judged replies, each with its settings. Parsing them loads no torch.

What a loss compares is a unit: one or more replies, each with its advantage. A pair is a unit of two, chosen (+1) and
rejected (-1); GrouPER's group is a unit of G; a single reply with a label is a unit of one (+1 desirable, -1 not).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from open_exaone.learn.config import LossConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Replies:
    """The D replies of a micro-batch; those of a unit are all here, one behind the other."""

    logprobs_D: Tensor  # Σ log p of a reply's tokens
    num_tokens_D: Tensor  # as floats
    advantages_D: Tensor  # of a pair: +1 chosen, -1 rejected
    units_D: Tensor  # int64: which unit each belongs to
    reference_D: Tensor | None = None  # Σ log p under the stage's starting model, where the loss needs it
    kl: float = 0.0  # KTO's z0, one number for the whole step

    @property
    def mean_logprobs_D(self) -> Tensor:
        return self.logprobs_D / self.num_tokens_D

    @property
    def log_ratios_D(self) -> Tensor:
        """Of whole replies, log p / reference p.

        Raises:
            ValueError: the replies came without reference log-probabilities.
        """
        if self.reference_D is None:
            raise ValueError("this loss needs reference log-probabilities: see train.reference.with_reference")
        return self.logprobs_D - self.reference_D

    @property
    def is_chosen_D(self) -> Tensor:
        return self.advantages_D > 0

    @property
    def unit_sizes_D(self) -> Tensor:
        """How many replies each reply's unit has."""
        return (self.units_D[:, None] == self.units_D).sum(dim=1)

    def margins_U(self, values_D: Tensor) -> Tensor:
        """Of each pair, the chosen reply's value less the rejected one's."""
        is_chosen_D = self.is_chosen_D
        assert self.units_D[is_chosen_D].equal(self.units_D[~is_chosen_D]), "a pair was split"
        return values_D[is_chosen_D] - values_D[~is_chosen_D]


class PreferenceSettings(LossConfig):
    """What the settings of every preference loss have."""

    learns: ClassVar[Literal["pairs", "groups", "replies"]] = "pairs"
    """The units that it needs: pairs; groups of two replies or more; replies each by itself, of units of any size."""

    def values_D(self, replies: Replies) -> Tensor:
        """What the metrics compare of two replies: without a reference, the mean log-probability of a token."""
        return replies.mean_logprobs_D


class SimPER(PreferenceSettings):
    """SimPER: no reference model; nothing needs to be set."""

    name: Literal["simper"] = "simper"
    sft_weight: float = Field(default=0.0, ge=0, le=1000)
    """The weight of the chosen reply's mean negative log-likelihood, which is added; the authors' code has it, at 0."""


def simper(replies: Replies, denominator: float, settings: SimPER) -> Tensor:
    """SimPER: raise the inverse perplexity of the chosen reply, lower that of the rejected one.

    No reference model, no temperature, no margin: (Σ exp(mean log p(rejected)) - Σ exp(mean log p(chosen)))
    / denominator, in (-1, 1) for a full batch. Xiao et al. 2025, arXiv 2502.00883; the preference stage of
    EXAONE Deep and EXAONE 4.0. With `sft_weight`, - sft_weight Σ mean log p(chosen) / denominator is added, as in the
    authors' code. Nothing holds the chosen reply's likelihood up otherwise: both replies' may fall.

    Args:
        denominator: how many pairs the whole optimizer step has.
    """
    total = -(replies.advantages_D * replies.mean_logprobs_D.exp()).sum()
    if settings.sft_weight:
        total = total - settings.sft_weight * replies.mean_logprobs_D[replies.is_chosen_D].sum()
    return total / denominator


class Dpo(PreferenceSettings):
    """DPO, against the model that the stage begins from."""

    name: Literal["dpo"] = "dpo"
    needs_reference: ClassVar[bool] = True
    beta: float = Field(default=0.1, gt=0)
    """β: the larger, the nearer the policy stays to the reference."""

    def values_D(self, replies: Replies) -> Tensor:
        return self.beta * replies.log_ratios_D


def dpo(replies: Replies, denominator: float, settings: Dpo) -> Tensor:
    """DPO: -Σ log σ(β (log p/p_ref(chosen) - log p/p_ref(rejected))) / denominator.

    Log-probabilities are summed over a reply's tokens. Rafailov et al. 2023, arXiv 2305.18290, equation 7.

    Args:
        denominator: how many pairs the whole optimizer step has.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(settings.beta * replies.margins_U(replies.log_ratios_D)).sum() / denominator


class Ipo(PreferenceSettings):
    """IPO: towards a margin that is enough, where DPO pushes without end."""

    name: Literal["ipo"] = "ipo"
    needs_reference: ClassVar[bool] = True
    tau: float = Field(default=0.1, gt=0)
    """τ, which TRL calls beta: the margin that is enough is 1 / (2 τ), per token."""

    def values_D(self, replies: Replies) -> Tensor:
        return self.tau * replies.log_ratios_D / replies.num_tokens_D


def ipo(replies: Replies, denominator: float, settings: Ipo) -> Tensor:
    """IPO: Σ (mean log p/p_ref(chosen) - mean log p/p_ref(rejected) - 1 / (2 τ))² / denominator.

    Azar et al. 2023, arXiv 2310.12036, equation 17. There, log-probabilities are those of whole replies; here they are
    averaged over tokens, as TRL does: the target is fixed, and sums would reach it the sooner the longer replies are.

    Args:
        denominator: how many pairs the whole optimizer step has.
    """
    margins_U = replies.margins_U(replies.log_ratios_D / replies.num_tokens_D)
    return (margins_U - 1 / (2 * settings.tau)).square().sum() / denominator


class SimPO(PreferenceSettings):
    """SimPO: a margin between mean log-probabilities; no reference model."""

    name: Literal["simpo"] = "simpo"
    beta: float = Field(default=2.0, gt=0)
    """β: the scale of the difference between the two mean log-probabilities."""
    gamma: float = Field(default=1.0, ge=0)
    """γ: the margin that β times the difference is to exceed; the authors give γ / β, here 0.5."""


def simpo(replies: Replies, denominator: float, settings: SimPO) -> Tensor:
    """SimPO: -Σ log σ(β (mean log p(chosen) - mean log p(rejected)) - γ) / denominator.

    Meng et al. 2024, arXiv 2405.14734, equation 6. The defaults lie within the authors' ranges (β 2 to 10).

    Args:
        denominator: how many pairs the whole optimizer step has.
    """
    from torch.nn.functional import logsigmoid

    margins_U = replies.margins_U(replies.mean_logprobs_D)
    return -logsigmoid(settings.beta * margins_U - settings.gamma).sum() / denominator


class Orpo(PreferenceSettings):
    """ORPO: supervised learning of the chosen reply, and a ratio of odds; no reference model."""

    name: Literal["orpo"] = "orpo"
    odds_weight: float = Field(default=0.1, ge=0, le=1000)
    """λ, which TRL calls beta: the weight of the odds ratio's term."""


def orpo(replies: Replies, denominator: float, settings: Orpo) -> Tensor:
    """ORPO: (-Σ mean log p(chosen) - λ Σ log σ(log odds(chosen) - log odds(rejected))) / denominator.

    odds = p / (1 - p), p = exp(mean log p). Hong et al. 2024, arXiv 2403.07691, equations 4 to 7. The first term is the
    mean over the chosen reply's own tokens, as in equation 6; TRL averages it over all tokens of a batch, the prompts'
    included. Ours: a reply that is certain (p = 1 in the dtype) has the odds of the largest p below 1.

    Args:
        denominator: how many pairs the whole optimizer step has.
    """
    import torch
    from torch.nn.functional import logsigmoid

    means_D = replies.mean_logprobs_D
    below_D = means_D.clamp(max=-torch.finfo(means_D.dtype).eps)
    log_odds_D = means_D - (-below_D.expm1()).log()  # log(1 - p), exact where p is near 1
    ratios_U = logsigmoid(replies.margins_U(log_odds_D))
    return -(means_D[replies.is_chosen_D].sum() + settings.odds_weight * ratios_U.sum()) / denominator


class Kto(PreferenceSettings):
    """KTO: replies each by itself, desirable or not, against the model that the stage begins from."""

    name: Literal["kto"] = "kto"
    needs_reference: ClassVar[bool] = True
    learns: ClassVar[Literal["pairs", "groups", "replies"]] = "replies"
    beta: float = Field(default=0.1, gt=0)
    """β: the larger, the nearer the policy stays to the reference."""
    lambda_desirable: float = Field(default=1.0, ge=0, le=1000)
    """λ_D: the weight of desirable replies. The authors keep λ_D x their number within 1 to 4/3 of λ_U x that of the
    others."""
    lambda_undesirable: float = Field(default=1.0, ge=0, le=1000)
    """λ_U: the weight of undesirable replies."""

    def values_D(self, replies: Replies) -> Tensor:
        return self.beta * replies.log_ratios_D


def kto(replies: Replies, denominator: float, settings: Kto) -> Tensor:
    """KTO: Σ λ_D σ(β (z0 - r)) over desirable replies, + Σ λ_U σ(β (r - z0)) over the others, / denominator.

    r = log p/p_ref of a whole reply. z0 = max(0, mean over the step of log p/p_ref of mismatched prompts and replies),
    without gradient, is `replies.kl`. It equals λ_y - v(x, y) of Ethayarajh et al. 2024, arXiv 2402.01306, equation 8.
    Ours: a mismatched reply stands behind the prompt of the next example of the data set that has another prompt (the
    authors and TRL shift the replies within a micro-batch), so that the reference's log-probabilities are made once
    and z0 does not depend on how a step is split.

    Args:
        denominator: how many replies the whole optimizer step has.
    """
    gains_D = settings.beta * (replies.log_ratios_D - replies.kl)
    losses_D = (
        settings.lambda_desirable * (-gains_D).sigmoid(),
        settings.lambda_undesirable * gains_D.sigmoid(),
    )
    return losses_D[0].where(replies.is_chosen_D, losses_D[1]).sum() / denominator


class GrouPER(PreferenceSettings):
    """GrouPER: SimPER on whole groups of samples with rewards; no reference model, no settings."""

    name: Literal["grouper"] = "grouper"
    learns: ClassVar[Literal["pairs", "groups", "replies"]] = "groups"


def grouper(replies: Replies, denominator: float, settings: GrouPER) -> Tensor:
    """GrouPER: -Σ over groups of 1/G Σ_i A_i exp(mean log p_i) / denominator.

    K-EXAONE (arXiv 2601.01739), the successor of SimPER; A is `grouper_advantages`. Of a pair (+1, -1) it is half of
    SimPER's loss.

    Args:
        denominator: how many groups the whole optimizer step has.
    """
    return -(replies.advantages_D * replies.mean_logprobs_D.exp() / replies.unit_sizes_D).sum() / denominator


def grouper_advantages(
    rewards_PG: Tensor, *, is_valid_PG: Tensor | None = None, sizes_PG: Tensor | None = None
) -> Tensor:
    """advantages_PG in [-1, 1]: the z-score of a group's rewards, scaled linearly.

    "The z-score scaled linearly to [-1, 1]" is all that we know of it (arXiv 2601.01739). Ours: it is divided by its
    largest magnitude, so that the mean reward stays at 0 and a group's advantages add up to 0. Ours too: a group
    without variance, or with fewer than two valid members, gets exactly 0 and is left out.

    Args:
        rewards_PG, is_valid_PG, sizes_PG: as in `group_relative`.
    """
    from open_exaone.learn.advantage import group_relative

    centred_PG = group_relative(rewards_PG, is_valid_PG=is_valid_PG, sizes_PG=sizes_PG, divide_by_std=False)
    largest_P1 = centred_PG.abs().amax(dim=1, keepdim=True)  # the deviation of the z-score cancels out
    return centred_PG / largest_P1.where(largest_P1 > 0, 1.0)


PreferenceLoss = Annotated[SimPER | Dpo | Ipo | SimPO | Orpo | Kto | GrouPER, Field(discriminator="name")]
PREFERENCE_LOSSES: Mapping[str, Callable[[Replies, float, Any], Tensor]] = {
    "simper": simper,
    "dpo": dpo,
    "ipo": ipo,
    "simpo": simpo,
    "orpo": orpo,
    "kto": kto,
    "grouper": grouper,
}
