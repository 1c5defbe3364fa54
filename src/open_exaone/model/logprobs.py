"""Log-probabilities: the one function that training and the engine share."""

import torch
from torch import Tensor


def token_logprobs(logits_XV: Tensor, ids_X: Tensor) -> Tensor:
    """log softmax(logits)[id] for any leading shape X, float32.

    Computed as logit - logsumexp, so that no second X x V tensor is kept for the backward pass.
    """
    chosen_X = logits_XV.gather(-1, ids_X[..., None]).squeeze(-1)
    return chosen_X - torch.logsumexp(logits_XV, dim=-1)


def entropy(logits_XV: Tensor) -> Tensor:
    """Entropy of softmax(logits) in nats, for any leading shape X."""
    logprobs_XV = torch.log_softmax(logits_XV, dim=-1)
    return -(logprobs_XV.exp() * logprobs_XV).sum(-1)
