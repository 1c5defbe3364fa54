"""Holds a kernel against its plain reference in float64, forward and backward."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from open_exaone.kernels.build import library

# Of the norm of what is compared. Plain torch keeps bfloat16 scores, where the native kernels keep float32.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 3e-2 if library() is None else 6e-3}


def documents(*lengths: int) -> Tensor:
    """Where documents of these lengths start, and the end."""
    return torch.tensor([0, *lengths]).cumsum(0).int()


def shared_prompts(groups: Sequence[tuple[int, Sequence[int]]]) -> tuple[Tensor, Tensor]:
    """Segments that continue prompts, given as (tokens of a prompt, tokens of each segment that continues it).

    The prompts stand behind all that continue them. Returns starts_E and prefix_J.
    """
    own = [length for _, lengths in groups for length in lengths]
    prefix = [len(own) + index for index, (_, lengths) in enumerate(groups) for _ in lengths]
    starts = documents(*own, *(prompt for prompt, _ in groups))
    return starts, torch.tensor(prefix + [-1] * len(groups), dtype=torch.int32)


def draw(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


def distance(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference over the norm of what is expected (or itself, where nothing is expected)."""
    found, expected = found.detach().double(), expected.detach()
    return float((found - expected).norm()) / max(float(expected.norm()), 1.0)


def assert_same(function: Callable[..., Tensor], reference: Callable[..., Tensor], *arguments: object) -> None:
    """The outputs and every gradient agree, the reference being computed in float64 from the same numbers."""
    is_real = [isinstance(x, Tensor) and x.is_floating_point() for x in arguments]
    wide = [
        x.detach().double().requires_grad_(x.requires_grad) if real else x
        for x, real in zip(arguments, is_real, strict=True)
    ]
    out, expected = function(*arguments), reference(*wide)
    tolerance = TOLERANCES[out.dtype]
    assert out.shape == expected.shape
    assert distance(out, expected) < tolerance
    given = torch.randn(out.shape, generator=torch.Generator().manual_seed(7)).to(out.dtype)
    out.backward(given)
    expected.backward(given.double())
    for x, same in zip(arguments, wide, strict=True):
        if isinstance(x, Tensor) and x.requires_grad:
            assert x.grad.dtype == x.dtype and distance(x.grad, same.grad) < tolerance
