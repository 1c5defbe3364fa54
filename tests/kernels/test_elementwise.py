"""Norms, rotary embedding and SwiGLU: parity with float64, and the same bits on any threads."""

import pytest
import torch

from kernels.parity import assert_same, draw
from open_exaone.kernels import add_rms_norm, norm_rope, reference, rms_norm, swiglu
from open_exaone.kernels.build import library

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
WIDTHS = pytest.mark.parametrize("width", [8, 256, 771])
EPS = 1e-5


def turns(num_tokens: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    angles_TH = torch.rand(num_tokens, width // 2, generator=torch.Generator().manual_seed(5)).repeat(1, 2) * 100
    return angles_TH.cos(), angles_TH.sin()


@DTYPES
@WIDTHS
def test_rms_norm_equals_float64(width, dtype) -> None:
    assert_same(
        rms_norm, reference.rms_norm, draw(70, width, dtype=dtype, seed=0), draw(width, dtype=dtype, seed=1), EPS
    )


@DTYPES
@WIDTHS
def test_add_rms_norm_equals_float64(width, dtype) -> None:
    x_TD, y_TD = (draw(3, 50, width, dtype=dtype, seed=seed) for seed in (0, 1))
    assert_same(add_rms_norm, reference.add_rms_norm, x_TD, y_TD, draw(width, dtype=dtype, seed=2), EPS)


@DTYPES
@WIDTHS
def test_swiglu_equals_float64(width, dtype) -> None:
    gate_TF, up_TF = (draw(70, width, dtype=dtype, seed=seed) for seed in (0, 1))
    assert_same(swiglu, reference.swiglu, gate_TF, up_TF)


@DTYPES
@pytest.mark.parametrize("has_norm", [True, False])
@pytest.mark.parametrize("width", [6, 16, 32, 80, 128, 1100])
def test_norm_rope_equals_float64(width, has_norm, dtype) -> None:
    weight_H = draw(width, dtype=dtype, seed=1) if has_norm else None
    assert_same(
        norm_rope, reference.norm_rope, draw(130, 3, width, dtype=dtype, seed=0), weight_H, EPS, *turns(130, width)
    )


@DTYPES
def test_extremes_stay_in_bounds(dtype) -> None:
    gate = torch.tensor([-torch.inf, -1e30, -200.0, 0.0, 200.0, 1e30], dtype=dtype)
    out = swiglu(gate, torch.ones_like(gate)).float()
    assert torch.equal(out[1:].nan_to_num(torch.inf), torch.relu(gate[1:].float()))
    x_TD = torch.zeros(2, 32, dtype=dtype)
    assert torch.equal(rms_norm(x_TD, torch.ones(32, dtype=dtype), EPS), x_TD)


@DTYPES
def test_what_is_no_number_shows(dtype) -> None:
    x_TD, weight_D = draw(3, 64, dtype=dtype, seed=0).detach(), torch.ones(64, dtype=dtype)
    x_TD[1, 5] = torch.nan
    assert swiglu(x_TD, x_TD)[1, 5].isnan() and rms_norm(x_TD, weight_D, EPS)[1].isnan().all()
    assert rms_norm(x_TD, weight_D, EPS)[[0, 2]].isfinite().all()


def test_no_tokens_are_no_trouble() -> None:
    x_TD, weight_D = torch.zeros(0, 32, requires_grad=True), torch.ones(32, requires_grad=True)
    add_rms_norm(x_TD, swiglu(x_TD, x_TD), weight_D, EPS).sum().backward()
    assert torch.equal(weight_D.grad, torch.zeros(32)) and x_TD.grad.shape == (0, 32)
    assert norm_rope(torch.zeros(0, 2, 32), weight_D, EPS, *turns(0, 32)).shape == (0, 2, 32)


def test_the_same_bits_with_any_number_of_threads() -> None:
    inputs = [draw(1000, 256, dtype=torch.bfloat16, seed=seed) for seed in (0, 1)]
    weight_D, before, found = draw(256, dtype=torch.bfloat16, seed=2), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            out = add_rms_norm(*inputs, weight_D, EPS) + swiglu(*inputs)
            found.append([out, *torch.autograd.grad(out, [*inputs, weight_D], torch.ones_like(out))])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_no_eps_at_all() -> None:
    x_TD, weight_D = draw(4, 32, dtype=torch.float32, seed=0), draw(32, dtype=torch.float32, seed=1)
    assert_same(rms_norm, reference.rms_norm, x_TD, weight_D, 0)


def test_no_gradient_of_a_gradient() -> None:
    """It would need another kernel; what must not happen is a wrong one in silence."""
    x = draw(4, 32, dtype=torch.float32, seed=0)
    (slope,) = torch.autograd.grad(swiglu(x, x).sum(), x, create_graph=True)
    if slope.requires_grad and library() is not None:  # plain torch has that gradient
        with pytest.raises(RuntimeError, match="once_differentiable"):
            slope.sum().backward()
