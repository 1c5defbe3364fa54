"""Preference losses over the replies to one prompt, each with its settings. Parsing them loads no torch."""

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
    """The D replies of a micro-batch; those of a unit (the two of a pair) are all here, one behind the other."""

    logprobs_D: Tensor  # Σ log p of a reply's tokens
    num_tokens_D: Tensor  # as floats
    labels_D: Tensor  # +1 chosen, -1 rejected
    units_D: Tensor  # int64: which unit each belongs to
    reference_D: Tensor | None = None  # Σ log p under the stage's starting model, where the loss needs it

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

    def margins_U(self, values_D: Tensor) -> Tensor:
        """Of each pair, the chosen reply's value less the rejected one's."""
        is_chosen_D = self.labels_D > 0
        assert self.units_D[is_chosen_D].equal(self.units_D[~is_chosen_D]), "a pair was split"
        return values_D[is_chosen_D] - values_D[~is_chosen_D]


class SimPER(LossConfig):
    """SimPER: no reference model, no settings."""

    name: Literal["simper"] = "simper"


def simper(replies: Replies, denominator: float, settings: SimPER) -> Tensor:
    """SimPER: raise the inverse perplexity of the chosen reply, lower that of the rejected one.

    No reference model, no temperature, no margin: (Σ exp(mean log p(rejected)) - Σ exp(mean log p(chosen)))
    / denominator, in (-1, 1) for a full batch. Xiao et al. 2025, arXiv 2502.00883; the preference stage of
    EXAONE Deep and EXAONE 4.0.

    Args:
        denominator: how many pairs the whole optimizer step has.
    """
    return -(replies.labels_D * replies.mean_logprobs_D.exp()).sum() / denominator


class Dpo(LossConfig):
    """DPO, against the model that the stage begins from."""

    name: Literal["dpo"] = "dpo"
    needs_reference: ClassVar[bool] = True
    beta: float = Field(default=0.1, gt=0)
    """β: the larger, the nearer the policy stays to the reference."""


def dpo(replies: Replies, denominator: float, settings: Dpo) -> Tensor:
    """DPO: -Σ log σ(β (log p/p_ref(chosen) - log p/p_ref(rejected))) / denominator.

    Log-probabilities are summed over a reply's tokens. Rafailov et al. 2023, arXiv 2305.18290, equation 7.

    Args:
        denominator: how many pairs the whole optimizer step has.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(settings.beta * replies.margins_U(replies.log_ratios_D)).sum() / denominator


class Ipo(LossConfig):
    """IPO: towards a margin that is enough, where DPO pushes without end."""

    name: Literal["ipo"] = "ipo"
    needs_reference: ClassVar[bool] = True
    tau: float = Field(default=0.1, gt=0)
    """τ, which TRL calls beta: the margin that is enough is 1 / (2 τ), per token."""


def ipo(replies: Replies, denominator: float, settings: Ipo) -> Tensor:
    """IPO: Σ (mean log p/p_ref(chosen) - mean log p/p_ref(rejected) - 1 / (2 τ))² / denominator.

    Azar et al. 2023, arXiv 2310.12036, equation 17. There, log-probabilities are those of whole replies; here they are
    averaged over tokens, as TRL does: the target is fixed, and sums would reach it the sooner the longer replies are.

    Args:
        denominator: how many pairs the whole optimizer step has.
    """
    margins_U = replies.margins_U(replies.log_ratios_D / replies.num_tokens_D)
    return (margins_U - 1 / (2 * settings.tau)).square().sum() / denominator


PreferenceLoss = Annotated[SimPER | Dpo | Ipo, Field(discriminator="name")]
PREFERENCE_LOSSES: Mapping[str, Callable[[Replies, float, Any], Tensor]] = {"simper": simper, "dpo": dpo, "ipo": ipo}
