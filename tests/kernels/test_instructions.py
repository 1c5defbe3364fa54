"""AVX-512 and AVX2 compute the same float32 bits, where a processor has both."""

import pytest
import torch

from kernels.parity import documents, draw
from open_exaone.kernels import add_rms_norm, attention, build, call, norm_rope, softmax_loss, swiglu


def computed() -> list[torch.Tensor]:
    """Outputs and gradients of all kernels."""
    q_TNH, k_TKH, v_TKH = (draw(300, heads, 80, dtype=torch.float32, seed=heads) for heads in (4, 2, 1))
    x_TD, y_TD = (draw(300, 333, dtype=torch.float32, seed=seed) for seed in (4, 5))
    w_D, w_H = (draw(width, dtype=torch.float32, seed=6) for width in (333, 80))
    angles_TH = torch.rand(300, 40, generator=torch.Generator().manual_seed(7)).repeat(1, 2)
    turned_TNH = norm_rope(q_TNH, w_H, 1e-5, angles_TH.cos(), angles_TH.sin())
    prefixes = torch.tensor([-1, 0, 0], dtype=torch.int32)
    mixed_TNH = attention(turned_TNH, k_TKH, torch.cat((v_TKH, v_TKH), 1), documents(70, 1, 229), 100, prefixes)
    out_TD = add_rms_norm(swiglu(x_TD, y_TD), y_TD, w_D, 1e-5)
    found = [mixed_TNH, *torch.autograd.grad(mixed_TNH, (q_TNH, w_H, k_TKH, v_TKH), torch.ones_like(mixed_TNH))]
    found += [out_TD, *torch.autograd.grad(out_TD, (x_TD, y_TD, w_D), torch.ones_like(out_TD))]
    logits_CV = x_TD.detach() * 4
    return [*found, *softmax_loss(logits_CV, torch.arange(300), torch.ones(300)), logits_CV]


def test_the_same_bits_with_avx512_and_with_avx2(tmp_path, monkeypatch) -> None:
    if build.library() is None or "avx512f" not in build.cpu_flags():
        pytest.skip("needs AVX-512 and a compiler")
    expected = computed()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "_options", lambda flags: ("-march=native", "-mno-avx512f"))
    kernels, status = build._load.__wrapped__()
    assert kernels is not None, status
    monkeypatch.setattr(call, "library", lambda: kernels)
    assert all(torch.equal(a, b) for a, b in zip(expected, computed(), strict=True))
