"""What ranks that compute one row of tokens together send each other, with its gradient."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gathered(x: Tensor, mesh: Any, dim: int) -> Tensor:
    """All ranks' parts along `dim`, in their order. Backward, the ranks' gradients are summed, and each keeps its part.

    Args:
        mesh: the ranks, a DeviceMesh of one axis.
    """
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    parts = DTensor.from_local(x, mesh, [Shard(dim)], run_check=False)
    return parts.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])


def scattered(x: Tensor, mesh: Any, dim: int) -> Tensor:
    """This rank's part along `dim` of the sum over ranks. Backward, each gets the gradients of all parts."""
    from torch.distributed.tensor import DTensor, Partial, Shard

    terms = DTensor.from_local(x, mesh, [Partial()], run_check=False)
    return terms.redistribute(placements=[Shard(dim)]).to_local()


def joined(values_M: Tensor, places_M: Tensor, number: int, mesh: Any) -> Tensor:
    """The values of all ranks, each at its place among `number`.

    All ranks go on with the same values, so that each has the gradient of its own already.
    """
    return _Joined.apply(values_M, places_M, number, mesh)  # type: ignore[no-untyped-call]


def total(value: Tensor, mesh: Any) -> Tensor:
    """The sum over ranks of what each goes on with; backward, each has the gradient of its own term."""
    return _Total.apply(value, mesh)  # type: ignore[no-untyped-call]


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values_M: Tensor, places_M: Tensor, number: int, mesh: Any) -> Tensor:
        ctx.save_for_backward(places_M)
        all_M = values_M.new_zeros(number)
        all_M[places_M] = values_M
        dist.all_reduce(all_M, group=mesh.get_group())
        return all_M

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        [places_M] = ctx.saved_tensors
        return grads[0][places_M], None, None, None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, mesh: Any) -> Tensor:
        summed = value.clone()
        dist.all_reduce(summed, group=mesh.get_group())
        return summed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
