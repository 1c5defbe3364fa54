"""Muon (Jordan et al. 2024), as torch has it, but for many small matrices: those of one shape are computed together."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor

from open_exaone.base.machine import has_fast_cpu_bfloat16
from open_exaone.model.sharding import shared_like, whole
from open_exaone.model.threads import ALONE, Workers

# Values of the matrices that are computed together, so that workers have parts of like size; a larger one is alone.
TOGETHER, TOGETHER_ON_GPU = 2**18, 2**22
Batch = Sequence[Tensor]  # of one shape


class Ranks(Protocol):
    """The processes that train one model together: `train.parallel.world.World`."""

    rank: int
    size: int

    def broadcast(self, tensor: Tensor, source: int) -> None:
        """Makes `tensor`, in place, what rank `source` has there."""


class Muon(torch.optim.Muon):
    """torch's Muon with Nesterov momentum: the same state, the same steps but for rounding.

    torch orthogonalises each matrix by itself, in bfloat16. Here matrices of one shape are one batch, and a processor
    that has no fast bfloat16 takes float32, which there is also 10 to 40 times as fast. With several ranks, each
    orthogonalises a share of the batches and broadcasts it. Where ranks keep a part of each matrix, the whole update is
    gathered first, and each rank moves its own part.
    """

    def step(  # type: ignore[override]
        self, closure: Callable[[], float] | None = None, workers: Workers = ALONE, ranks: Ranks | None = None
    ) -> None:
        """Moves the weights that have a gradient; there is no closure.

        Args:
            workers: of one process, each of which moves the weights of some batches.
            ranks: all of which have gradients of the same weights, and call this at the same time.
        """
        assert closure is None
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if ranks is None or ranks.size == 1:
                longest_first = sorted(_batches(weights), key=_cost, reverse=True)  # so that workers end together
                for _ in workers.map(partial(self._move, group), longest_first):
                    pass
                continue
            for batches in _rounds(list(_batches(weights, ranks.size)), ranks.size):
                self._move_together(group, batches, ranks)

    @torch.no_grad()
    def _move(self, group: dict[str, Any], weights: Batch) -> None:
        _move_by(group, weights, _orthogonal(group, self._update(group, weights)))

    @torch.no_grad()
    def _move_together(self, group: dict[str, Any], batches: Sequence[Batch], ranks: Ranks) -> None:
        """Moves the weights of some batches: each rank orthogonalises its own ones for all."""
        owners = _owners(batches, ranks.size)
        own = []
        for weights, owner in zip(batches, owners, strict=True):
            update_WRC = self._update(group, weights)
            if owner == ranks.rank:
                own.append(_orthogonal(group, update_WRC).flatten())
        device = batches[0][0].device
        for source in sorted(set(owners)):
            theirs = [weights for weights, owner in zip(batches, owners, strict=True) if owner == source]
            sizes = [sum(weight.numel() for weight in weights) for weights in theirs]
            is_own = source == ranks.rank
            values = torch.cat(own) if is_own else torch.empty(sum(sizes), dtype=_dtype_on(device), device=device)
            ranks.broadcast(values, source)
            for weights, part in zip(theirs, torch.split(values, sizes), strict=True):
                _move_by(group, weights, part.view(len(weights), *weights[0].shape))

    def _update(self, group: dict[str, Any], weights: Batch) -> Tensor:
        """The whole update of each matrix before it is orthogonalised; takes the gradients into the momenta."""
        updates = []
        for weight in weights:
            state, gradient = self.state[weight], weight.grad
            assert gradient is not None and group["nesterov"]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
            buffer = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
            updates.append(whole(gradient.lerp(buffer, group["momentum"])))
        return torch.stack(updates)


def _orthogonal(group: dict[str, Any], update_WRC: Tensor) -> Tensor:
    return orthogonal(update_WRC, group["ns_coefficients"], group["ns_steps"], group["eps"])


def _move_by(group: dict[str, Any], weights: Batch, orthogonal_WRC: Tensor) -> None:
    rate = group["lr"]
    rows, columns = weights[0].shape
    scale = rate * max(1.0, rows / columns) ** 0.5
    for weight, update in zip(weights, orthogonal_WRC, strict=True):
        weight.mul_(1 - rate * group["weight_decay"]).add_(shared_like(update, weight), alpha=-scale)


def orthogonal(x_WRC: Tensor, coefficients: tuple[float, float, float], num_steps: int, eps: float) -> Tensor:
    """Takes each of W matrices to about the orthogonal one nearest to it, by the quintic Newton-Schulz iteration."""
    x = x_WRC.to(_dtype_on(x_WRC.device))
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:
        x = x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)  # no singular value above 1
    a, b, c = coefficients
    for _ in range(num_steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


def _dtype_on(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type != "cpu" or has_fast_cpu_bfloat16() else torch.float32


def _batches(weights: Sequence[Tensor], num_ranks: int = 1) -> Iterator[Batch]:
    """Matrices of one shape each; smaller ones where there are more ranks to share them."""
    for _, alike in groupby(sorted(weights, key=_shape), key=_shape):
        found = list(alike)
        most = (TOGETHER if found[0].device.type == "cpu" else TOGETHER_ON_GPU) // num_ranks
        number = min(len(found), -(-len(found) * found[0].numel() // max(1, most)))
        yield from (found[start::number] for start in range(number))


def _rounds(batches: Sequence[Batch], num_ranks: int) -> Iterator[Sequence[Batch]]:
    """In their order, of at most `TOGETHER_ON_GPU` values a rank, or one batch a rank."""
    found: list[Batch] = []
    for batch in batches:
        values = sum(weight.numel() for weights in (*found, batch) for weight in weights)
        if len(found) >= num_ranks and values > num_ranks * TOGETHER_ON_GPU:
            yield found
            found = []
        found.append(batch)
    if found:
        yield found


def _owners(batches: Sequence[Batch], num_ranks: int) -> list[int]:
    """Each batch's rank, so that ranks have about as much to compute."""
    costs = [_cost(weights) for weights in batches]
    loads, owners = [0] * num_ranks, [0] * len(batches)
    for place in sorted(range(len(batches)), key=lambda place: -costs[place]):
        owners[place] = loads.index(min(loads))
        loads[owners[place]] += costs[place]
    return owners


def _cost(weights: Batch) -> int:
    """What orthogonalising them takes, up to a factor."""
    return len(weights) * weights[0].numel() * min(weights[0].shape)


def _shape(weight: Tensor) -> tuple[int, ...]:
    return tuple(weight.shape)
