"""Weights of which each rank keeps a part (the DTensors of torch's FSDP2 and tensor parallelism), beside whole ones."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Place = tuple[int, ...]  # where a part begins in the whole tensor, in each dimension


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
    own = own.to(own.device if own.is_meta else device, copy=True, memory_format=torch.contiguous_format)
    return DTensor.from_local(own, mesh, placements, run_check=False, shape=values.shape, stride=values.stride())


def part_like(weight: Tensor, read: Callable[[tuple[slice, ...]], Tensor]) -> Tensor:
    """A tensor that is divided among the ranks as `weight` is, of which each rank reads its own part alone.

    Args:
        weight: gives the shape, and what each rank has of it; its values are not used.
        read: gives the values of the whole tensor that lie in these slices, one a dimension, on the device wanted.
    """
    if not is_sharded(weight):
        return read(tuple(slice(0, size) for size in weight.shape))
    from torch.distributed.tensor import DTensor

    start, sizes = _place(weight)
    place = tuple(slice(begin, begin + size) for begin, size in zip(start, sizes, strict=True))
    own = read(place).contiguous()  # a slice of columns is a view, which FSDP2 cannot flatten
    mesh, placements = weight.device_mesh, weight.placements  # type: ignore[attr-defined]
    return DTensor.from_local(own, mesh, placements, run_check=False, shape=weight.shape, stride=weight.stride())


def own_part(tensor: Tensor, number: int = 0, *, is_first: bool) -> tuple[Tensor, Place] | None:
    """What this rank writes of a tensor, so that all ranks together write each value once.

    Args:
        number: of the tensor. Where several ranks have the same part, it decides which of them writes it.
        is_first: whether this is the first rank, which writes what is not divided.

    Returns:
        the values, which share the tensor's memory, and where they begin in the whole tensor; None for nothing.
    """
    if not is_sharded(tensor):
        return (tensor, (0,) * tensor.ndim) if is_first else None
    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    copy, num_copies = 0, 1
    for size, at, placement in zip(mesh.shape, mesh.get_coordinate(), placements, strict=True):
        if placement.is_replicate():
            copy, num_copies = copy * size + at, num_copies * size
    own: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return (own, _place(tensor)[0]) if number % num_copies == copy and own.numel() else None


def _place(tensor: Tensor) -> tuple[Place, Place]:
    """Where this rank's part begins in the whole tensor, and its shape."""
    [chunk] = tensor.__create_chunk_list__()  # type: ignore[attr-defined]
    return tuple(chunk.offsets), tuple(chunk.sizes)
