"""A layer's elementwise work, each in one pass over memory: norms, rotary embedding, SwiGLU."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from open_exaone.kernels import reference
from open_exaone.kernels.call import DTYPES, call, is_native

WIDEST_HEAD = 1024  # as in elementwise.cpp
ROWS_A_PART = 64  # rows whose weight gradients are summed into one part; the parts are summed in order after


def rms_norm(x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """x / √(mean x² + eps) · weight, rounded once. Takes any leading shape."""
    if not is_native(x_TD, weight_D):
        return reference.rms_norm(x_TD, weight_D, eps)
    normed: Tensor = _AddNorm.apply(None, x_TD.contiguous(), weight_D.contiguous(), eps)  # type: ignore[no-untyped-call]
    return normed


def add_rms_norm(x_TD: Tensor, y_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """x + RMSNorm(y), rounded once: a reordered norm with its residual add. Takes any leading shape."""
    assert x_TD.shape == y_TD.shape
    if not is_native(x_TD, y_TD, weight_D):
        return reference.add_rms_norm(x_TD, y_TD, weight_D, eps)
    added: Tensor = _AddNorm.apply(x_TD.contiguous(), y_TD.contiguous(), weight_D.contiguous(), eps)  # type: ignore[no-untyped-call]
    return added


def norm_rope(x_TNH: Tensor, weight_H: Tensor | None, eps: float, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    """RMSNorm of each head (none without a weight), then the turn of each pair (i, i + H/2), rounded once.

    Args:
        cos_TH, sin_TH: of the tokens' angles, best in float32; both halves of H hold the same angles.
    """
    assert cos_TH.shape == sin_TH.shape == (x_TNH.shape[0], x_TNH.shape[2])
    if x_TNH.shape[2] > WIDEST_HEAD or not is_native(x_TNH, *([] if weight_H is None else [weight_H])):
        return reference.norm_rope(x_TNH, weight_H, eps, cos_TH, sin_TH)
    cos_TH, sin_TH = cos_TH.float().contiguous(), sin_TH.float().contiguous()
    weight_H = None if weight_H is None else weight_H.contiguous()
    turned: Tensor = _NormRope.apply(x_TNH.contiguous(), weight_H, eps, cos_TH, sin_TH)  # type: ignore[no-untyped-call]
    return turned


def swiglu(gate_TF: Tensor, up_TF: Tensor) -> Tensor:
    """silu(gate) · up, rounded once. Takes any shape."""
    assert gate_TF.shape == up_TF.shape
    if not is_native(gate_TF, up_TF):
        return reference.swiglu(gate_TF, up_TF)
    out: Tensor = _SwiGlu.apply(gate_TF.contiguous(), up_TF.contiguous())  # type: ignore[no-untyped-call]
    return out


def _parts(num_rows: int, width: int) -> Tensor:
    """Where the parts of a weight's gradient are summed up, one row a part: so many whatever the threads."""
    return torch.empty(-(-num_rows // ROWS_A_PART), width)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor | None, y_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        D = y_TD.shape[-1]
        T = y_TD.numel() // D
        out_TD, scales_T = torch.empty_like(y_TD), torch.empty(T)
        ctx.is_added = x_TD is not None
        call("add_norm_forward", x_TD, y_TD, weight_D, out_TD, scales_T, T, D, float(eps), DTYPES[y_TD.dtype])
        ctx.save_for_backward(y_TD, weight_D, scales_T)
        return out_TD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        y_TD, weight_D, scales_T = ctx.saved_tensors
        T, D = len(scales_T), y_TD.shape[-1]
        given, dy_TD, parts = gradients[0].contiguous(), torch.empty_like(y_TD), _parts(T, D)
        sizes = (T, D, ROWS_A_PART, DTYPES[y_TD.dtype])
        call("add_norm_backward", given, y_TD, weight_D, scales_T, dy_TD, parts, *sizes)
        return given if ctx.is_added else None, dy_TD, parts.sum(0).to(weight_D.dtype), None


class _NormRope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TNH: Tensor, weight_H: Tensor | None, eps: float, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
        T, N, H = x_TNH.shape
        out_TNH = torch.empty_like(x_TNH)
        scales_TN = None if weight_H is None else torch.empty(T, N)
        sizes = (T, N, H, float(eps), DTYPES[x_TNH.dtype])
        call("norm_rope_forward", x_TNH, weight_H, cos_TH, sin_TH, out_TNH, scales_TN, *sizes)
        # Without a norm the way back needs the turn alone.
        ctx.has_norm, ctx.shape = weight_H is not None, x_TNH.shape
        ctx.save_for_backward(cos_TH, sin_TH, *([] if weight_H is None else [x_TNH, weight_H, scales_TN]))
        return out_TNH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        cos_TH, sin_TH, *rest = ctx.saved_tensors
        x_TNH, weight_H, scales_TN = rest or (None, None, None)
        (T, N, H), given = ctx.shape, gradients[0].contiguous()
        dx_TNH, parts = torch.empty_like(given), _parts(T, H) if ctx.has_norm else None
        sizes = (T, N, H, ROWS_A_PART, DTYPES[given.dtype])
        call("norm_rope_backward", given, x_TNH, weight_H, cos_TH, sin_TH, scales_TN, dx_TNH, parts, *sizes)
        dweight_H = None if parts is None else parts.sum(0).to(given.dtype)
        return dx_TNH, dweight_H, None, None, None


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_TF: Tensor, up_TF: Tensor) -> Tensor:
        out_TF = torch.empty_like(gate_TF)
        call("swiglu_forward", gate_TF, up_TF, out_TF, gate_TF.numel(), DTYPES[gate_TF.dtype])
        ctx.save_for_backward(gate_TF, up_TF)
        return out_TF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gate_TF, up_TF = ctx.saved_tensors
        given, dgate_TF, dup_TF = gradients[0].contiguous(), torch.empty_like(gate_TF), torch.empty_like(up_TF)
        sizes = (gate_TF.numel(), DTYPES[gate_TF.dtype])
        call("swiglu_backward", given, gate_TF, up_TF, dgate_TF, dup_TF, *sizes)
        return dgate_TF, dup_TF
