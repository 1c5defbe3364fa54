"""What the native kernels compute, in plain torch: used where they are not available, and their measure in tests.

All of it is differentiable and runs on any device. Sums, exponentials and norms are float32 inside (float64 for
float64), and results are rounded once, to the type of the input. Attention of rows of at most SHORT tokens rounds
twice more: its scores and its softmax are held in the type of the input, so in bfloat16 they have 8 bits.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

SHORT = 512  # tokens; up to here, on a CPU, two matrix products beat torch's fused kernel
STEP = 16  # tokens; a short document's row is as long as the next multiple


def attention(
    q_TNH: Tensor,
    k_TKH: Tensor,
    v_TKH: Tensor,
    starts_E: Tensor,
    window: int | None,
    prefix_J: Tensor | None = None,
) -> Tensor:
    """Causal attention inside each segment and its prefix; see `open_exaone.kernels.attention`.

    Short segments of like length go together, as rows, each behind a copy of its prefix.
    """
    bounds = list(itertools.pairwise(starts_E.tolist()))
    prefixes = [-1] * len(bounds) if prefix_J is None else prefix_J.tolist()
    rows: dict[int, list[tuple[int, ...]]] = {}  # (prefix's first token, its length, first token, end), by row length
    for (first, end), prefix in zip(bounds, prefixes, strict=True):
        prefix_first, prefix_end = bounds[prefix] if prefix >= 0 else (0, 0)
        num_before = prefix_end - prefix_first
        length = num_before + end - first
        if first < end:
            row = (prefix_first, num_before, first, end)
            rows.setdefault(-(-length // STEP) * STEP if length <= SHORT else length, []).append(row)
    if not rows:
        return q_TNH + (k_TKH.sum() + v_TKH.sum())  # no token at all
    parts, places = [], []
    for length, segments in rows.items():
        prefixes_J1, before_J1, firsts_J1, ends_J1 = torch.tensor(segments, device=q_TNH.device).T[..., None]
        places_L = torch.arange(length, device=q_TNH.device)
        own_JL = firsts_J1 - before_J1 + places_L
        is_own_JL = (places_L >= before_J1) & (own_JL < ends_J1)
        own_JL = torch.minimum(own_JL, ends_J1 - 1)  # behind its end a row repeats its last token, unused
        places_JL = torch.where(places_L < before_J1, prefixes_J1 + places_L, own_JL)
        out_JLNH = _attend_rows(q_TNH[places_JL], k_TKH[places_JL], v_TKH[places_JL], window)
        parts.append(out_JLNH[is_own_JL])
        places.append(places_JL[is_own_JL])
    return torch.cat(parts)[torch.cat(places).argsort()]


def _attend_rows(q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor, window: int | None) -> Tensor:
    T = q_BTNH.shape[1]
    mask_11TT = None
    if window is not None and T > window:
        ages_TT = torch.arange(T, device=q_BTNH.device)[:, None] - torch.arange(T, device=q_BTNH.device)
        mask_11TT = ((ages_TT >= 0) & (ages_TT < window))[None, None]
    k_BKTH, v_BKTH = k_BTKH.transpose(1, 2), v_BTKH.transpose(1, 2)
    if T <= SHORT:
        return attend_short(q_BTNH, k_BKTH, v_BKTH, mask_11TT)
    is_grouped = q_BTNH.shape[2] != k_BKTH.shape[1]
    out_BNTH = F.scaled_dot_product_attention(
        q_BTNH.transpose(1, 2), k_BKTH, v_BKTH, mask_11TT, is_causal=mask_11TT is None, enable_gqa=is_grouped
    )
    return out_BNTH.transpose(1, 2)


def attend_short(q_BTNH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, mask_B1TS: Tensor | None) -> Tensor:
    """softmax(q kᵀ / √H) v with all scores at once: 4 to 6 times as fast as torch's fused kernel on short CPU rows.

    Causal without a mask. X = B K, one matrix product each; Y = G T, a group's queries one head after the other.
    """
    B, T, N, H = q_BTNH.shape
    K, S = k_BKSH.shape[1:3]
    G = N // K
    if mask_B1TS is None:
        mask_B1TS = torch.ones(1, 1, T, S, dtype=torch.bool, device=q_BTNH.device).tril()
    bias_B1TS = torch.zeros_like(mask_B1TS, dtype=q_BTNH.dtype).masked_fill_(~mask_B1TS, -torch.inf)
    bias_BYS = bias_B1TS.expand(-1, G, T, S).reshape(-1, G * T, S)
    bias_XYS = bias_BYS.expand(B * K, -1, -1) if len(bias_BYS) == 1 else bias_BYS.repeat_interleave(K, dim=0)
    q_XYH = q_BTNH.view(B, T, K, G, H).permute(0, 2, 3, 1, 4).reshape(B * K, G * T, H)
    scores_XYS = torch.baddbmm(bias_XYS, q_XYH, k_BKSH.reshape(B * K, S, H).transpose(1, 2), alpha=H**-0.5)
    out_XYH = torch.bmm(scores_XYS.softmax(-1), v_BKSH.reshape(B * K, S, H))
    return out_XYH.view(B, K, G, T, H).permute(0, 3, 1, 2, 4).reshape(B, T, N, H)


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
