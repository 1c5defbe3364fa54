"""The loss of pretraining and SFT."""

from torch import Tensor


def cross_entropy(logprobs_X: Tensor, denominator: float) -> Tensor:
    """-Σ log p / denominator over the tokens that count.

    Args:
        logprobs_X: log-probabilities of those tokens, in any shape.
        denominator: how many tokens the whole optimizer step has, so that accumulating micro-batches
            equals one big batch.
    """
    return -logprobs_X.sum() / denominator
