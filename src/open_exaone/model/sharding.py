"""Weights of which each rank keeps a part (the DTensors of torch's FSDP2), beside whole ones."""

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this rank has a part of it alone."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of it; all ranks ask at the same time. One that is no part of another is given back as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def shared_like(values: Tensor, weight: Tensor) -> Tensor:
    """This rank's part of `values`, where it has a part of `weight`; nothing is sent, as each rank has all values."""
    if not is_sharded(weight) or is_sharded(values):
        return values
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = weight.device_mesh, weight.placements  # type: ignore[attr-defined]
    return distribute_tensor(values.to(weight.device), mesh, placements, src_data_rank=None).clone()
