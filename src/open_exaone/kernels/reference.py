"""What the native kernels compute, in plain torch: the way taken where they cannot be had, and their measure in tests.

All of it is differentiable and runs on any device. Sums, exponentials and norms are float32 inside (float64 for
float64), and results are rounded once, to the type of the input.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor, starts_E: Tensor, window: int | None) -> Tensor:
    """Causal attention inside each document, document by document; see `open_exaone.kernels.attention`."""
    is_grouped = q_TNH.shape[1] != k_TKH.shape[1]
    parts = []
    for first, end in itertools.pairwise(starts_E.tolist()):
        if first == end:
            continue
        q_NLH, k_KLH, v_KLH = (x[first:end].transpose(0, 1) for x in (q_TNH, k_TKH, v_TKH))
        mask_LL = None
        if window is not None and end - first > window:
            ages_LL = torch.arange(end - first, device=q_TNH.device)
            ages_LL = ages_LL[:, None] - ages_LL
            mask_LL = (ages_LL >= 0) & (ages_LL < window)
        out_1NLH = F.scaled_dot_product_attention(
            q_NLH[None], k_KLH[None], v_KLH[None], mask_LL, is_causal=mask_LL is None, enable_gqa=is_grouped
        )
        parts.append(out_1NLH[0].transpose(0, 1))
    return torch.cat(parts) if parts else q_TNH + (k_TKH.sum() + v_TKH.sum())  # no token at all


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def rms_norm(x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """x / √(mean x² + eps) · weight."""
    wide_TD = _wide(x_TD)
    return (wide_TD * torch.rsqrt(wide_TD.square().mean(-1, keepdim=True) + eps) * weight_D).to(x_TD.dtype)


def add_rms_norm(x_TD: Tensor, y_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """x + RMSNorm(y)."""
    return (_wide(x_TD) + rms_norm(_wide(y_TD), weight_D, eps)).to(x_TD.dtype)


def norm_rope(x_TNH: Tensor, weight_H: Tensor | None, eps: float, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    """RMSNorm of each head where there is a weight, then the turn of each pair (i, i + H/2)."""
    wide_TNH = _wide(x_TNH)
    if weight_H is not None:
        wide_TNH = rms_norm(wide_TNH, weight_H, eps)
    first, second = wide_TNH.chunk(2, dim=-1)
    turned_TNH = wide_TNH * cos_TH[:, None] + torch.cat((-second, first), dim=-1) * sin_TH[:, None]
    return turned_TNH.to(x_TNH.dtype)


def swiglu(gate_TF: Tensor, up_TF: Tensor) -> Tensor:
    """silu(gate) · up."""
    return (F.silu(_wide(gate_TF)) * _wide(up_TF)).to(gate_TF.dtype)


def logprobs_and_entropy(logits_CV: Tensor, ids_C: Tensor) -> tuple[Tensor, Tensor]:
    """log softmax(logits)[id] and the entropy of softmax(logits) in nats, float32."""
    logprobs_CV = torch.log_softmax(_wide(logits_CV), dim=-1)
    entropy_C = -torch.where(logprobs_CV == -torch.inf, 0.0, logprobs_CV.exp() * logprobs_CV).sum(-1)
    return logprobs_CV.gather(-1, ids_C[:, None])[:, 0], entropy_C


def softmax_loss(logits_CV: Tensor, ids_C: Tensor, coefficients_C: Tensor) -> tuple[Tensor, Tensor]:
    """The same, and in place logits := c · (onehot(id) - softmax(logits)), the gradient of Σ c · logprob."""
    with torch.no_grad():
        logprobs_C, entropy_C = logprobs_and_entropy(logits_CV, ids_C)
        wide_CV = torch.softmax(_wide(logits_CV), dim=-1).neg_()
        wide_CV.scatter_add_(-1, ids_C[:, None], torch.ones_like(wide_CV[:, :1]))
        logits_CV.copy_(wide_CV.mul_(coefficients_C.to(wide_CV.dtype)[:, None]))
    return logprobs_C, entropy_C
