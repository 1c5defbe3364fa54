"""Log-probabilities: the one function that training and the engine share."""

import torch
import torch.nn.functional as F
from torch import Tensor


def token_logprobs(logits_XV: Tensor, ids_X: Tensor) -> Tensor:
    """log softmax(logits)[id] for any leading shape X, float32."""
    flat_M = F.cross_entropy(logits_XV.flatten(0, -2), ids_X.flatten(), reduction="none")  # torch's fused path
    return -flat_M.view(ids_X.shape)


def entropy(logits_XV: Tensor) -> Tensor:
    """Entropy of softmax(logits) in nats, for any leading shape X."""
    logprobs_XV = torch.log_softmax(logits_XV, dim=-1)
    return -(logprobs_XV.exp() * logprobs_XV).sum(-1)
