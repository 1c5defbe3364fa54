"""Log-probabilities, entropies and the gradient of a weighted sum of log-probabilities, over one chunk of logits."""

import torch
from torch import Tensor

from open_exaone.kernels import reference
from open_exaone.kernels.call import DTYPES, call, is_native


def logprobs_and_entropy(logits_CV: Tensor, ids_C: Tensor) -> tuple[Tensor, Tensor]:
    """log softmax(logits)[id] and the entropy of softmax(logits) in nats; reads only, and keeps nothing for autograd.

    Returns:
        logprobs_C and entropy_C, float32.

    Raises:
        ValueError: an id is outside the vocabulary.
    """
    return _run(logits_CV, ids_C, None)


def softmax_loss(logits_CV: Tensor, ids_C: Tensor, coefficients_C: Tensor) -> tuple[Tensor, Tensor]:
    """The same, and overwrites the logits with the gradient of Σ c · log softmax(logits)[id].

    In place, logits := c · (onehot(id) - softmax(logits)), in their own type. No autograd: the caller carries the
    gradient on through the output head, chunk by chunk, and the whole T x V matrix never exists.

    Args:
        logits_CV: contiguous; overwritten.
        coefficients_C: d objective / d logprob; a row whose coefficient is 0 gets zeros.

    Returns:
        logprobs_C and entropy_C, float32.

    Raises:
        ValueError: an id is outside the vocabulary.
    """
    assert coefficients_C.shape == ids_C.shape and logits_CV.is_contiguous()
    return _run(logits_CV, ids_C, coefficients_C)


def _run(logits_CV: Tensor, ids_C: Tensor, coefficients_C: Tensor | None) -> tuple[Tensor, Tensor]:
    C, V = logits_CV.shape
    assert ids_C.shape == (C,)
    if C and (int(ids_C.min()) < 0 or int(ids_C.max()) >= V):
        raise ValueError(f"ids from {int(ids_C.min())} to {int(ids_C.max())} do not fit a vocabulary of {V}")
    with torch.no_grad():
        if not is_native(logits_CV):
            if coefficients_C is None:
                return reference.logprobs_and_entropy(logits_CV, ids_C)
            return reference.softmax_loss(logits_CV, ids_C, coefficients_C)
        found = torch.empty(2, C)
        wide = None if coefficients_C is None else coefficients_C.detach().float().contiguous()
        sizes = (C, V, DTYPES[logits_CV.dtype])
        call("softmax_loss", logits_CV.detach().contiguous(), ids_C.long().contiguous(), wide, found, *sizes)
        return found[0], found[1]
