"""Muon (Jordan et al. 2024), as torch has it, but for many small matrices: those of one shape are computed together."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from open_exaone.base.machine import has_fast_cpu_bfloat16
from open_exaone.model.sharding import shared_like, whole
from open_exaone.model.threads import ALONE, Workers

# Values of the matrices that are computed together, so that workers have parts of like size; a larger one is alone.
TOGETHER, TOGETHER_ON_GPU = 2**18, 2**22


class Muon(torch.optim.Muon):
    """torch's Muon with Nesterov momentum: the same state, the same steps but for rounding.

    torch orthogonalises each matrix by itself, in bfloat16. Here matrices of one shape are one batch, and a processor
    that has no fast bfloat16 takes float32, which there is also 10 to 40 times as fast. Where ranks keep a part of each
    matrix, each gathers the whole update, orthogonalises it, and moves its own part.
    """

    def step(  # type: ignore[override]
        self, closure: Callable[[], float] | None = None, workers: Workers = ALONE
    ) -> None:
        """Moves the weights that have a gradient, each worker those of a part; there is no closure."""
        assert closure is None
        for group in self.param_groups:
            alike = _of_one_shape([weight for weight in group["params"] if weight.grad is not None])
            for _ in workers.map(partial(self._move, group), alike):
                pass

    @torch.no_grad()
    def _move(self, group: dict[str, Any], weights: Sequence[Tensor]) -> None:
        rate, momentum = group["lr"], group["momentum"]
        updates = []
        for weight in weights:
            state, gradient = self.state[weight], weight.grad
            assert gradient is not None and group["nesterov"]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
            buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
            updates.append(whole(gradient.lerp(buffer, momentum)))
        rows, columns = weights[0].shape
        scale = rate * max(1.0, rows / columns) ** 0.5
        orthogonal_WRC = orthogonal(torch.stack(updates), group["ns_coefficients"], group["ns_steps"], group["eps"])
        for weight, update in zip(weights, orthogonal_WRC, strict=True):
            weight.mul_(1 - rate * group["weight_decay"]).add_(shared_like(update, weight), alpha=-scale)


def orthogonal(x_WRC: Tensor, coefficients: tuple[float, float, float], num_steps: int, eps: float) -> Tensor:
    """Takes each of W matrices to about the orthogonal one nearest to it, by the quintic Newton-Schulz iteration."""
    is_fast = x_WRC.device.type != "cpu" or has_fast_cpu_bfloat16()
    x = x_WRC.to(torch.bfloat16 if is_fast else torch.float32)
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:
        x = x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)  # no singular value above 1
    a, b, c = coefficients
    for _ in range(num_steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


def _of_one_shape(weights: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    for _, alike in groupby(sorted(weights, key=_shape), key=_shape):
        found = list(alike)
        most = TOGETHER if found[0].device.type == "cpu" else TOGETHER_ON_GPU
        number = min(len(found), -(-len(found) * found[0].numel() // most))
        yield from (found[start::number] for start in range(number))


def _shape(weight: Tensor) -> tuple[int, ...]:
    return tuple(weight.shape)
