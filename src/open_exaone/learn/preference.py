"""Preference losses: a chosen and a rejected reply to one prompt."""

from torch import Tensor


def simper(mean_chosen_X: Tensor, mean_rejected_Y: Tensor, denominator: float) -> Tensor:
    """SimPER: raise the inverse perplexity of the chosen reply, lower that of the rejected one.

    No reference model, no temperature, no margin: (Σ exp(mean log p(rejected)) - Σ exp(mean log p(chosen)))
    / denominator, in (-1, 1) for a full batch. Xiao et al. 2025, arXiv 2502.00883; the preference stage of
    EXAONE Deep and EXAONE 4.0. The two sums are independent, so a pair's replies may lie in different
    micro-batches.

    Args:
        mean_chosen_X: per chosen reply, the mean log-probability of its tokens.
        mean_rejected_Y: per rejected reply, the same.
        denominator: how many pairs the whole optimizer step has.
    """
    return (mean_rejected_Y.exp().sum() - mean_chosen_X.exp().sum()) / denominator
