"""Weights of which each rank keeps a part (the DTensors of torch's FSDP2 and tensor parallelism), beside whole ones."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this rank has a part of it alone."""
    module = sys.modules.get("torch.distributed.tensor")  # where it is not loaded, nothing is split
    return module is not None and isinstance(tensor, module.DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of it; all ranks ask at the same time. One that is no part of another is given back as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def local(weight: Tensor) -> Tensor:
    """What this rank computes with: its part of a weight that is split, or a copy of its own.

    Of a copy, each rank finds the gradient of the tokens or heads that it has: they are summed over ranks.
    """
    if not is_sharded(weight):
        return weight
    from torch.distributed.tensor import Partial

    placements = weight.placements  # type: ignore[attr-defined]
    summed = [Partial() if placement.is_replicate() else placement for placement in placements]
    return weight.to_local(grad_placements=summed)  # type: ignore[attr-defined]


def shared_like(values: Tensor, weight: Tensor) -> Tensor:
    """This rank's part of `values`, where it has a part of `weight`; nothing is sent, as each rank has all values."""
    if not is_sharded(weight) or is_sharded(values):
        return values
    mesh, placements = weight.device_mesh, weight.placements  # type: ignore[attr-defined]
    return part_of(values, mesh, placements, weight.device)


def part_of(values: Tensor, mesh: Any, placements: Sequence[Any], device: torch.device) -> Tensor:
    """This rank's part of `values`, copied to a device, as a DTensor. The mesh's last axis is cut first, as FSDP2 cuts
    what tensor parallelism has left."""
    from torch.distributed.tensor import DTensor

    own = values = values.contiguous()
    for axis in reversed(range(mesh.ndim)):
        dim = getattr(placements[axis], "dim", None)
        if dim is not None:
            pieces, place = torch.chunk(own, mesh.size(axis), dim), mesh.get_local_rank(axis)
            own = pieces[place] if place < len(pieces) else own.narrow(dim, 0, 0)
    own = own.to(device, copy=True, memory_format=torch.contiguous_format)
    return DTensor.from_local(own, mesh, placements, run_check=False, shape=values.shape, stride=values.stride())
