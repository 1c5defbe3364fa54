"""The loss of pretraining and SFT, with its settings. Parsing them loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from open_exaone.learn.config import LossConfig

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy(LossConfig):
    """Cross-entropy of the learned tokens."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """ε, the share of each target that is spread over the whole vocabulary; 0 is off."""
    z_loss: float = Field(default=0.0, ge=0, le=1)
    """The weight of the squared logarithm of the softmax's sum; 0 is off, PaLM took 1e-4."""


def linear_cross_entropy(
    x_MD: Tensor, weight_VD: Tensor, ids_M: Tensor, denominator: float, settings: CrossEntropy
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the logits x Wᵀ without all logits at once: gradients are made in the forward pass.

    Σ (-(1 - ε) log p(id) - ε mean_v log p(v) + z · (log Σ_v exp logit_v)²) / denominator. Label smoothing ε:
    Szegedy et al. 2016, arXiv 1512.00567, section 7; z-loss: Chowdhery et al. 2022, arXiv 2204.02311, section 5.

    Args:
        x_MD: the hidden states that predict the M learned tokens.
        weight_VD: the output head; whole, or split over the vocabulary among ranks that have the same tokens.
        ids_M: the learned tokens.
        denominator: how many tokens the whole optimizer step has.

    Returns:
        the loss, and Σ entropy of the M predictions / denominator, in nats, which has no gradient.
    """
    from open_exaone.learn.cross_entropy_gradient import LinearCrossEntropy
    from open_exaone.model.sharding import local
    from open_exaone.model.split_vocabulary import Vocabulary

    options = (denominator, settings.label_smoothing, settings.z_loss, Vocabulary.of(weight_VD))
    return LinearCrossEntropy.apply(x_MD, local(weight_VD), ids_M, *options)  # type: ignore[no-untyped-call]


SupervisedLoss = CrossEntropy  # of several: Annotated[CrossEntropy | Other, Field(discriminator="name")]
SUPERVISED_LOSSES: Mapping[str, Callable[[Tensor, Tensor, Tensor, float, Any], tuple[Tensor, Tensor]]] = {
    "cross_entropy": linear_cross_entropy
}
