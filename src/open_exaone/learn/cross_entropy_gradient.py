"""Cross-entropy whose gradient is made in the forward pass, a chunk of logits at a time."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from open_exaone import kernels
from open_exaone.model.logprobs import LinearGradient, chunks, with_room
from open_exaone.model.split_vocabulary import Vocabulary


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
        part: Vocabulary | None = None,
    ) -> tuple[Tensor, Tensor]:
        num_tokens, options = len(ids_M), (label_smoothing, z_loss)
        x_MD, ids_M = with_room(x_MD, ids_M)
        each_M = torch.zeros_like(ids_M, dtype=torch.float32)
        each_M[:num_tokens] = 1.0 / denominator
        made = LinearGradient(x_MD, weight_VD, *ctx.needs_input_grad[:2])
        loss, entropy = x_MD.new_zeros(2, dtype=torch.float64 if x_MD.device.type == "cpu" else torch.float32)
        for piece in chunks(len(ids_M), weight_VD):
            logits_CV = F.linear(x_MD[piece], weight_VD)
            if label_smoothing or z_loss:
                losses_C, entropies_C = _softened(logits_CV, ids_M[piece], each_M[piece], options, part)
            else:
                logprobs_C, entropies_C = (part or kernels).softmax_loss(logits_CV, ids_M[piece], -each_M[piece])
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
            return x_MD, weight_VD, None, None, None, None, None
        scaled = [None if made is None else made * grads[0].to(made.dtype) for made in (x_MD, weight_VD)]
        return *scaled, None, None, None, None, None


def _softened(
    logits_CV: Tensor, ids_C: Tensor, each_C: Tensor, options: tuple[float, float], part: Vocabulary | None
) -> tuple[Tensor, Tensor]:
    """Losses with the two options, and entropies; the logits become the gradient of Σ each · loss."""
    smoothing, z = options
    part = part or Vocabulary.all_of(logits_CV.shape[1])
    raw_CV = logits_CV.float()
    found = part.softmax(raw_CV, ids_C)
    size_C = found.size_C
    losses_C = -(1 - smoothing) * (found.chosen_C - size_C) - smoothing * (found.mean_C - size_C) + z * size_C.square()
    gradient_CV = (raw_CV - size_C[:, None]).exp_() * (1 + 2 * z * size_C)[:, None] - smoothing / part.total
    part.add_at(gradient_CV, ids_C, smoothing - 1)
    logits_CV.copy_(gradient_CV * each_C[:, None])
    return losses_C, found.entropies_C
