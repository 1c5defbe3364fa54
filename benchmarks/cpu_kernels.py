"""The native kernels against torch's way of doing the same, forward and backward, in turn.

    python benchmarks/cpu_kernels.py [--threads N] [--rounds N] [--only NAME] [--dtype bfloat16|float32]

Attention counts useful work alone: 7 products (2 forward, 5 back) over the scores that a causal mask leaves. The rest
counts the bytes that must be read and written once.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping

from open_exaone.base.machine import prepare_process

prepare_process()

import torch
import torch.nn.functional as F
from torch import Tensor

from open_exaone import kernels
from open_exaone.kernels.build import status
from open_exaone.kernels.reference import attention as fused_by_document
from side_by_side import compare

Way = Callable[[], float]
DOCUMENTS = {  # name: (lengths, query heads, key/value heads, width)
    "8 x 512": ([512] * 8, 8, 4, 32),
    "2 x 2048": ([2048] * 2, 8, 4, 32),
    "90 x 45": ([45] * 90, 8, 4, 32),
    "16 to 2048": ([16, 23, 40, 64, 90, 140, 200, 330, 500, 800, 1300, 2048], 8, 4, 32),
    "4 x 512, M": ([512] * 4, 12, 4, 64),
    "1 x 2048, L": ([2048], 32, 8, 64),
}


def trained(function: Callable[..., Tensor], inputs: Iterable[Tensor], units: float) -> Way:
    """Forward and backward once; returns `units`."""
    inputs = list(inputs)
    given = torch.randn_like(function(*inputs))

    def work() -> float:
        torch.autograd.grad(function(*inputs), inputs, given)
        return units

    return work


def two_products(q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor, length: int) -> Tensor:
    """Rows of one length: all scores at once, softmax, two matrix products."""
    (T, N, H), K = q_TNH.shape, k_TKH.shape[1]
    G, B = N // K, T // length
    q_XYH = q_TNH.view(B, length, K, G, H).permute(0, 2, 3, 1, 4).reshape(B * K, G * length, H)
    k_XSH, v_XSH = (x.view(B, length, K, H).transpose(1, 2).reshape(B * K, length, H) for x in (k_TKH, v_TKH))
    hidden = torch.full((length, length), -torch.inf, dtype=q_TNH.dtype).triu(1).repeat(G, 1)
    scores_XYS = torch.baddbmm(hidden, q_XYH, k_XSH.transpose(1, 2), alpha=H**-0.5)
    out_XYH = torch.bmm(scores_XYS.softmax(-1), v_XSH)
    return out_XYH.view(B, K, G, length, H).permute(0, 3, 1, 2, 4).reshape(T, N, H)


def attention(dtype: torch.dtype, rounds: int) -> None:
    for name, (lengths, N, K, H) in DOCUMENTS.items():
        starts = torch.tensor([0, *lengths]).cumsum(0).int()
        inputs = [torch.randn(sum(lengths), heads, H, dtype=dtype, requires_grad=True) for heads in (N, K, K)]
        flops = sum(7 * 2 * H * N * length * (length + 1) / 2 for length in lengths)
        ways = {
            "torch, fused, by document": lambda q, k, v, s=starts: fused_by_document(q, k, v, s, None),
            "native": lambda q, k, v, s=starts: kernels.attention(q, k, v, s),
        }
        if len(set(lengths)) == 1:
            ways["torch, two products"] = lambda q, k, v, length=lengths[0]: two_products(q, k, v, length)
        title = f"attention, documents {name}, {N}/{K} heads of {H}, MFLOP"
        compare(title, {way: trained(function, inputs, flops / 1e6) for way, function in ways.items()}, rounds)


def elementwise(dtype: torch.dtype, rounds: int) -> None:
    T, D, N, H = 4096, 768, 12, 64
    x, y, w = (torch.randn(shape, dtype=dtype, requires_grad=True) for shape in ((T, D), (T, D), (D,)))
    q, w_H = (torch.randn(shape, dtype=dtype, requires_grad=True) for shape in ((T, N, H), (H,)))
    angles = torch.rand(T, H // 2).repeat(1, 2) * 100
    cos, sin = angles.cos(), angles.sin()

    def torch_rope(q: Tensor, w: Tensor) -> Tensor:
        normed = F.rms_norm(q, (H,), w, 1e-5)
        first, second = normed.chunk(2, dim=-1)
        return normed * cos.to(dtype)[:, None] + torch.cat((-second, first), dim=-1) * sin.to(dtype)[:, None]

    pairs: Mapping[str, tuple[int, list[Tensor], Callable[..., Tensor], Callable[..., Tensor]]] = {  # tensors touched
        "rms_norm": (5, [x, w], lambda x, w: F.rms_norm(x, (D,), w, 1e-5), lambda x, w: kernels.rms_norm(x, w, 1e-5)),
        "add_rms_norm": (
            6,
            [x, y, w],
            lambda x, y, w: x + F.rms_norm(y, (D,), w, 1e-5),
            lambda x, y, w: kernels.add_rms_norm(x, y, w, 1e-5),
        ),
        "norm_rope": (5, [q, w_H], torch_rope, lambda q, w: kernels.norm_rope(q, w, 1e-5, cos, sin)),
        "swiglu": (8, [x, y], lambda g, u: F.silu(g) * u, kernels.swiglu),
    }
    for name, (touched, inputs, theirs, ours) in pairs.items():
        megabytes = touched * T * D * x.element_size() / 1e6
        ways = {"torch": trained(theirs, inputs, megabytes), "native": trained(ours, inputs, megabytes)}
        compare(f"{name}, {T} x {D}, MB", ways, rounds)


def loss(dtype: torch.dtype, rounds: int) -> None:
    for C, V in ((1024, 4096), (256, 32_000)):
        logits, ids, coefficients = torch.randn(C, V).to(dtype), torch.randint(V, (C,)), torch.full((C,), -1 / C)
        scratch = torch.empty_like(logits)
        megabytes = 2 * C * V * logits.element_size() / 1e6

        def theirs(logits=logits, ids=ids, C=C, megabytes=megabytes) -> float:
            mine = logits.detach().requires_grad_()
            (-F.cross_entropy(mine, ids, reduction="sum") / C).backward()
            return megabytes

        def ours(logits=logits, ids=ids, c=coefficients, scratch=scratch, megabytes=megabytes) -> float:
            kernels.softmax_loss(scratch.copy_(logits), ids, c)  # which is overwritten: the copy is the benchmark's
            return megabytes

        compare(f"softmax_loss, {C} x {V}, MB", {"torch (no entropy)": theirs, "native": ours}, rounds)


PARTS = {"attention": attention, "elementwise": elementwise, "loss": loss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=list(PARTS), action="append")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{status()}; {asked.threads} threads, {asked.dtype}, torch {torch.__version__}")
    for name in asked.only or PARTS:
        PARTS[name](getattr(torch, asked.dtype), asked.rounds)


if __name__ == "__main__":
    main()
