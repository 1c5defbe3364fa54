"""Log-probabilities: what training and the engine share; never the logits of all tokens at once."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from open_exaone import kernels
from open_exaone.model.memory import CHUNK_BYTES
from open_exaone.model.packed import rounded
from open_exaone.model.sharding import local
from open_exaone.model.split_vocabulary import Vocabulary


def token_logprobs(logits_XV: Tensor, ids_X: Tensor) -> Tensor:
    """log softmax(logits)[id] for any leading shape X, float32."""
    flat_M = F.cross_entropy(logits_XV.flatten(0, -2), ids_X.flatten(), reduction="none")  # torch's fused path
    return -flat_M.view(ids_X.shape)


def entropy(logits_XV: Tensor) -> Tensor:
    """Entropy of softmax(logits) in nats, for any leading shape X."""
    logprobs_XV = torch.log_softmax(logits_XV, dim=-1)
    return -(logprobs_XV.exp() * logprobs_XV).sum(-1)


def linear_logprobs(x_MD: Tensor, weight_VD: Tensor, ids_M: Tensor) -> tuple[Tensor, Tensor]:
    """log softmax(x Wᵀ)[id] without the logits of all M tokens at once; the backward pass makes them again.

    Args:
        weight_VD: whole, or split over the vocabulary among ranks that have the same tokens.

    Returns:
        logprobs_M, and entropies_M, which has no gradient; both float32.
    """
    return _LinearLogprobs.apply(x_MD, local(weight_VD), ids_M, Vocabulary.of(weight_VD))  # type: ignore[no-untyped-call]


def chunks(num_tokens: int, weight_VD: Tensor) -> Iterator[slice]:
    """Cuts tokens so that the logits of a piece take at most `CHUNK_BYTES`, in pieces of like size."""
    most = max(1, CHUNK_BYTES // (weight_VD.shape[0] * weight_VD.element_size()))
    size = -(-num_tokens // max(1, -(-num_tokens // most)))
    return (slice(first, first + size) for first in range(0, num_tokens, max(1, size)))


def with_room(x_MD: Tensor, ids_M: Tensor) -> tuple[Tensor, Tensor]:
    """Both, padded with rows of zeros to a bucketed length; see `rounded`."""
    missing = rounded(len(ids_M), x_MD.device) - len(ids_M)
    return F.pad(x_MD, (0, 0, 0, missing)), F.pad(ids_M, (0, missing))


class _LinearLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_MD: Tensor, weight_VD: Tensor, ids_M: Tensor, part: Vocabulary | None
    ) -> tuple[Tensor, Tensor]:
        ctx.num_tokens, ctx.softmax = len(ids_M), part or kernels
        x_MD, ids_M = with_room(x_MD, ids_M)
        ctx.save_for_backward(x_MD, weight_VD, ids_M)
        logprobs_M, entropies_M = x_MD.new_empty(2, len(ids_M), dtype=torch.float32)
        for piece in chunks(len(ids_M), weight_VD):
            logits_CV = F.linear(x_MD[piece], weight_VD)
            logprobs_M[piece], entropies_M[piece] = ctx.softmax.logprobs_and_entropy(logits_CV, ids_M[piece])
        logprobs_M, entropies_M = logprobs_M[: ctx.num_tokens], entropies_M[: ctx.num_tokens]
        ctx.mark_non_differentiable(entropies_M)
        return logprobs_M, entropies_M

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x_MD, weight_VD, ids_M = ctx.saved_tensors
        grads_M = F.pad(grads[0], (0, len(ids_M) - ctx.num_tokens))
        made = LinearGradient(x_MD, weight_VD, *ctx.needs_input_grad[:2])
        for piece in chunks(len(ids_M), weight_VD):
            logits_CV = F.linear(x_MD[piece], weight_VD)
            ctx.softmax.softmax_loss(logits_CV, ids_M[piece], grads_M[piece])
            made.add(piece, logits_CV)
        return made.x(ctx.num_tokens), made.weight_VD, None, None


class LinearGradient:
    """The gradients of logits = x Wᵀ to x and W, piece of tokens by piece of tokens."""

    def __init__(self, x_MD: Tensor, weight_VD: Tensor, needs_x: bool, needs_weight: bool) -> None:
        self._given_MD, self._given_VD = x_MD, weight_VD
        self.x_MD = torch.empty_like(x_MD) if needs_x else None
        self._sum_VD: Tensor | None = None  # float32 where pieces are added up, so that their number changes little
        self._sum_dtype = torch.promote_types(weight_VD.dtype, torch.float32)
        self._needs_weight = needs_weight

    def x(self, num_tokens: int) -> Tensor | None:
        """The gradient to the first rows of x."""
        return None if self.x_MD is None else self.x_MD[:num_tokens]

    @property
    def weight_VD(self) -> Tensor | None:
        if not self._needs_weight:
            return None
        # Without any token it is 0, as other ranks may have some and gradients are summed.
        return torch.zeros_like(self._given_VD) if self._sum_VD is None else self._sum_VD.to(self._given_VD.dtype)

    def add(self, piece: slice, gradient_CV: Tensor) -> None:
        """Takes the gradient to the logits of one piece."""
        if self.x_MD is not None:
            torch.mm(gradient_CV, self._given_VD, out=self.x_MD[piece])
        if not self._needs_weight:
            return
        part_VD = gradient_CV.T @ self._given_MD[piece]
        self._sum_VD = part_VD if self._sum_VD is None else self._sum_VD.to(self._sum_dtype).add_(part_VD)
