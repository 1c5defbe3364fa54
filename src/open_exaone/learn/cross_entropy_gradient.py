"""Cross-entropy whose gradient is made in the forward pass, a chunk of logits at a time."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from open_exaone import kernels
from open_exaone.model.logprobs import LinearGradient, chunks, with_room


class LinearCrossEntropy(torch.autograd.Function):
    """`cross_entropy.linear_cross_entropy` for autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        x_MD: Tensor,
        weight_VD: Tensor,
        ids_M: Tensor,
        denominator: float,
        label_smoothing: float,
        z_loss: float,
    ) -> tuple[Tensor, Tensor]:
        num_tokens = len(ids_M)
        x_MD, ids_M = with_room(x_MD, ids_M)
        each_M = torch.zeros_like(ids_M, dtype=torch.float32)
        each_M[:num_tokens] = 1.0 / denominator
        made = LinearGradient(x_MD, weight_VD, *ctx.needs_input_grad[:2])
        loss, entropy = x_MD.new_zeros(2, dtype=torch.float64 if x_MD.device.type == "cpu" else torch.float32)
        for piece in chunks(len(ids_M), weight_VD):
            logits_CV = F.linear(x_MD[piece], weight_VD)
            if label_smoothing or z_loss:
                losses_C, entropies_C = _softened(logits_CV, ids_M[piece], each_M[piece], label_smoothing, z_loss)
            else:
                logprobs_C, entropies_C = kernels.softmax_loss(logits_CV, ids_M[piece], -each_M[piece])
                losses_C = -logprobs_C
            loss += (losses_C * each_M[piece]).sum()
            entropy += (entropies_C * each_M[piece]).sum()
            made.add(piece, logits_CV)
        ctx.save_for_backward(made.x(num_tokens), made.weight_VD)
        entropy = entropy.float()
        ctx.mark_non_differentiable(entropy)
        return loss.float(), entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_MD, weight_VD = ctx.saved_tensors
        if float(grads[0]) == 1.0:
            return x_MD, weight_VD, None, None, None, None
        scaled = [None if made is None else made * grads[0].to(made.dtype) for made in (x_MD, weight_VD)]
        return *scaled, None, None, None, None


def _softened(logits_CV: Tensor, ids_C: Tensor, each_C: Tensor, smoothing: float, z: float) -> tuple[Tensor, Tensor]:
    """Losses with the two options, and entropies; the logits become the gradient of Σ each · loss."""
    raw_CV = logits_CV.float()
    size_C = raw_CV.logsumexp(-1)
    chosen_C = raw_CV.gather(1, ids_C[:, None])[:, 0] - size_C
    losses_C = -(1 - smoothing) * chosen_C - smoothing * (raw_CV.mean(-1) - size_C) + z * size_C.square()
    shares_CV = (raw_CV - size_C[:, None]).exp_()
    entropies_C = size_C - (shares_CV * raw_CV).sum(-1)
    gradient_CV = shares_CV * (1 + 2 * z * size_C)[:, None] - smoothing / raw_CV.shape[1]
    gradient_CV.scatter_add_(1, ids_C[:, None], torch.full_like(gradient_CV[:, :1], smoothing - 1))
    logits_CV.copy_(gradient_CV * each_C[:, None])
    return losses_C, entropies_C
