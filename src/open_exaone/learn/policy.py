"""Policy losses over the tokens of sampled completions, each with its settings. Parsing them loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from open_exaone.learn.config import LossConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampled:
    """The M sampled tokens of a micro-batch, completion behind completion."""

    logprobs_M: Tensor  # under the policy that is trained
    old_logprobs_M: Tensor  # under the policy that sampled them, which did so at temperature 1; no gradient
    advantages_M: Tensor  # each token carries its completion's
    documents_M: Tensor  # int64: which completion each belongs to, for losses over whole completions


class PolicyLossConfig(LossConfig):
    """What every policy loss has."""

    divide_by_std: bool = True
    """GRPO divides a group's centred rewards by their standard deviation; Dr. GRPO does not."""


class Grpo(PolicyLossConfig):
    """GRPO with DAPO's two clips and its mean over tokens."""

    name: Literal["grpo"] = "grpo"
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """How far below 1 a ratio of probabilities may fall before it is clipped; with one update a batch all are 1."""
    clip_high: float = Field(default=0.28, gt=0)
    """How far above 1 it may rise."""


def grpo(sampled: Sampled, denominator: float, settings: Grpo) -> Tensor:
    """Clipped policy-gradient loss: -Σ min(ρ A, clip(ρ, 1 - low, 1 + high) A) / denominator.

    ρ = exp(logprob - old logprob), a token at a time. Shao et al. 2024, arXiv 2402.03300, equation 3,
    without its KL term; `clip_high` above `clip_low` and a denominator counted in tokens are DAPO's
    (Yu et al. 2025, arXiv 2503.14476). What variant of GRPO trained EXAONE Deep was not published.

    Args:
        denominator: how many tokens the whole optimizer step has.
    """
    ratio_M = (sampled.logprobs_M - sampled.old_logprobs_M).exp()
    clipped_M = ratio_M.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    return -(ratio_M * sampled.advantages_M).minimum(clipped_M * sampled.advantages_M).sum() / denominator


PolicyLoss = Grpo  # of several: Annotated[Grpo | Other, Field(discriminator="name")]
POLICY_LOSSES: Mapping[str, Callable[[Sampled, float, Any], Tensor]] = {"grpo": grpo}
