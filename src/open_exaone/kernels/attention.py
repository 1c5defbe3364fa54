"""Causal attention over flat, packed segments: no token sees another's than its prefix, and no T x T matrix is kept."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from open_exaone.kernels import reference
from open_exaone.kernels.call import DTYPES, call, is_native

LANES = 16  # a head's width is a multiple of this


def attention(
    q_TNH: Tensor,
    k_TKH: Tensor,
    v_TKH: Tensor,
    starts_E: Tensor,
    window: int | None = None,
    prefix_J: Tensor | None = None,
) -> Tensor:
    """softmax(q kᵀ / √H) v, causal inside each segment and its prefix, with grouped heads.

    The result is the same to the bit with any number of threads. Scores, sums and gradients are float32 inside; where
    the processor multiplies bfloat16, probabilities and their gradients are rounded to it before each product.

    Args:
        starts_E: int32 on the CPU, E = J + 1: segment j holds tokens starts[j] up to starts[j + 1].
        window: a query sees the last so many tokens, itself included; None sees the whole segment up to itself.
        prefix_J: int32 on the CPU: the segment that each continues, whose tokens stand before its own; -1: none. None:
            no segment continues another.

    Returns:
        out_TNH.

    Raises:
        ValueError: `starts_E` does not cut the T tokens into segments, the window is less than 1, or a prefix is no
            segment or continues another itself.
    """
    (T, N, H), K = q_TNH.shape, k_TKH.shape[1]
    assert k_TKH.shape == v_TKH.shape == (T, K, H) and N % K == 0
    assert starts_E.dtype == torch.int32 and starts_E.device.type == "cpu" and starts_E.ndim == 1
    starts = starts_E.numpy()  # each of torch's operations would cost as much as all of these
    if len(starts) < 1 or starts[0] != 0 or starts[-1] != T or (starts[1:] < starts[:-1]).any():
        raise ValueError(f"starts of segments must rise from 0 to {T}, the number of tokens; got {starts_E.tolist()}")
    if window is not None and window < 1:
        raise ValueError(f"a window holds at least 1 token, the query's own; got {window}")
    if prefix_J is not None:
        _check_prefixes(prefix_J, len(starts_E) - 1)
    if H % LANES or not is_native(q_TNH, k_TKH, v_TKH):
        return reference.attention(q_TNH, k_TKH, v_TKH, starts_E, window, prefix_J)
    inputs = [x.contiguous() for x in (q_TNH, k_TKH, v_TKH)]
    out_TNH: Tensor = _Attention.apply(*inputs, starts_E, window, prefix_J)  # type: ignore[no-untyped-call]
    return out_TNH


def _check_prefixes(prefix_J: Tensor, num_segments: int) -> None:
    assert prefix_J.dtype == torch.int32 and prefix_J.device.type == "cpu"
    found = prefix_J.numpy()
    prefixes = found[found >= 0]
    is_known = found.shape == (num_segments,) and (found >= -1).all() and (prefixes < num_segments).all()
    if not is_known or (found[prefixes] >= 0).any():
        raise ValueError(
            f"a prefix must be -1 or one of {num_segments} segments that has none itself; got {prefix_J.tolist()}"
        )


class _Attention(torch.autograd.Function):
    """Keeps each query's logarithm of its sum instead of its probabilities; going back computes these again."""

    @staticmethod
    def forward(
        ctx: Any,
        q_TNH: Tensor,
        k_TKH: Tensor,
        v_TKH: Tensor,
        starts_E: Tensor,
        window: int | None,
        prefix_J: Tensor | None,
    ) -> Tensor:
        segments = (starts_E.contiguous(), None if prefix_J is None else prefix_J.contiguous())
        out_TNH = torch.empty_like(q_TNH)
        sums_NT = torch.empty(q_TNH.shape[1], q_TNH.shape[0])
        ctx.sizes = _sizes(q_TNH, k_TKH, starts_E, window)
        call("attention_forward", q_TNH, k_TKH, v_TKH, *segments, out_TNH, sums_NT, *ctx.sizes)
        ctx.save_for_backward(q_TNH, k_TKH, v_TKH, *segments, out_TNH, sums_NT)
        return out_TNH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        q_TNH, k_TKH, v_TKH, *_, sums_NT = saved
        given, found = gradients[0].contiguous(), [torch.empty_like(x) for x in (q_TNH, k_TKH, v_TKH)]
        means_NT = torch.empty_like(sums_NT)
        call("attention_backward", *saved, given, means_NT, *found, *ctx.sizes)
        return (*found, None, None, None)


def _sizes(q_TNH: Tensor, k_TKH: Tensor, starts_E: Tensor, window: int | None) -> tuple[int, ...]:
    T, N, H = q_TNH.shape
    return len(starts_E) - 1, T, N, k_TKH.shape[1], H, window or T + 1, DTYPES[q_TNH.dtype]
