"""A model of which each rank keeps a part, and how its ranks go through it in step.

FSDP2: a layer's weights are gathered before it computes and freed behind it; gradients are added up over all ranks, and
each rank keeps its part of them. All ranks must therefore make the same passes. Ranks that compute the same documents
together (tensor and context parallelism) make them with the same documents.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from open_exaone.base import interrupt
from open_exaone.checkpoint.weights import Weights
from open_exaone.data.batch import join
from open_exaone.data.document import Document
from open_exaone.model.sharding import local, part_like
from open_exaone.model.threads import Item, Result, Workers
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.forward import learned_states
from open_exaone.train.parallel.config import ParallelConfig
from open_exaone.train.parallel.tensor import split_ends, split_layer
from open_exaone.train.parallel.world import World


def shard(model: LanguageModel, world: World, config: ParallelConfig, device: torch.device) -> None:
    """Leaves this rank its part of a model; call it on all ranks before an optimizer is made.

    Args:
        model: whole on each rank, on the device or on the CPU: it is moved a layer at a time. Or on the meta device:
            then `read_parts` or `draw_parts` gives each rank its part of the weights.
        config: `shard` x `context` ranks keep a copy of the model's parts together, and `tensor` ranks have a part of
            each matrix; there are as many copies as that leaves.
    """
    weights, tokens = _meshes(world, config, device)
    tensor = weights["tensor"] if config.tensor > 1 else None
    axes = [name for name in ("data", "weights") if name in (weights.mesh_dim_names or ())]
    mesh = weights[tuple(axes)] if tensor is not None else weights
    policy = MixedPrecisionPolicy(reduce_dtype=getattr(torch, config.reduce_dtype))
    for module in (*model.model.layers, model):
        if tensor is not None:
            split_ends(model, tensor, device) if module is model else split_layer(module, tensor, device)
        sharded = fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=config.reshard_after_forward)
        sharded.set_gradient_divide_factor(1.0)  # losses are divided by what the whole step has
        sharded.set_force_sum_reduction_for_comms(True)
    model.within = MethodType(_within, model)  # type: ignore[method-assign]
    register_fsdp_forward_method(model, "within")
    model.sharing = InStep(model=model, world=world, config=config, context=tokens)


def _meshes(world: World, config: ParallelConfig, device: torch.device) -> tuple[DeviceMesh, DeviceMesh | None]:
    """How weights are split, by the axes data, weights and tensor; and the ranks that have a part of a row's tokens.

    Tensor is the innermost axis, then context, shard and data, as in `model.mesh`; axes of one rank are left out.
    """
    num_shares = config.shard * config.context
    sizes = {"data": world.size // (num_shares * config.tensor), "weights": num_shares, "tensor": config.tensor}
    kept = {name: size for name, size in sizes.items() if size > 1 or name == "weights"}
    weights = init_device_mesh(device.type, tuple(kept.values()), mesh_dim_names=tuple(kept))
    if config.context == 1:
        return weights, None
    shape = (world.size // config.num_together, config.context, config.tensor)
    return weights, init_device_mesh(device.type, shape, mesh_dim_names=("batch", "context", "tensor"))["context"]


class OwnParts(Mapping[str, Tensor]):
    """This rank's parts of a folder's weights by name, divided as a model's are; each is read when it is asked for."""

    def __init__(self, model: LanguageModel, weights: Weights, device: torch.device) -> None:
        self._own = dict(model.named_parameters())
        self._weights, self._device = weights, device

    def __getitem__(self, name: str) -> Tensor:
        weights, device = self._weights, self._device
        return part_like(self._own[name], lambda place: weights.part(name, place).to(device))

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def read_parts(model: LanguageModel, weights: Weights, device: torch.device) -> None:
    """Gives a model that was sharded on the meta device its weights: each rank reads its own parts, in their dtype."""
    _assign(model, dict(OwnParts(model, weights, device)))


def draw_parts(model: LanguageModel, drawn: Iterable[tuple[str, Tensor]], device: torch.device) -> Mapping[str, Tensor]:
    """Gives a model that was sharded on the meta device weights that are drawn.

    Every rank draws all of them from one seed, one weight at a time, so that they are those of one process, and keeps
    its own part.

    Args:
        drawn: weights by name, in float32.

    Returns:
        this rank's parts, in float32.
    """
    own, parts = dict(model.named_parameters()), {}
    for name, values in drawn:
        parts[name] = part_like(own[name], lambda place, values=values: values[place].to(device, copy=True))  # type: ignore[misc]
    _assign(model, {name: part.to(model.dtype) for name, part in parts.items()})
    return parts


def _assign(model: LanguageModel, parts: Mapping[str, Tensor]) -> None:
    model.load_state_dict(parts, strict=False, assign=True)
    model.tie_weights()


def _within(model: LanguageModel, act: Callable[[], Any]) -> Any:
    """`LanguageModel.within`; FSDP2 hangs its backward pass on what is given back, which must be no view."""
    found = act()
    if isinstance(found, tuple):
        return tuple(value.clone() if value._is_view() else value for value in found)
    return found.clone() if found._is_view() else found


@dataclass(frozen=True, slots=True, kw_only=True)
class InStep(Workers):
    """Goes through a sharded model as often as the rank with the most items: with nothing, behind this rank's own."""

    model: LanguageModel
    world: World
    config: ParallelConfig
    context: DeviceMesh | None  # the ranks that have a part of a row's tokens each

    @property
    def num_together(self) -> int:
        """Ranks that go through the same documents together."""
        return self.config.num_together

    @property
    def divisor(self) -> int:
        """What the number of a row's tokens must be a multiple of; context has two pieces a rank."""
        return self.config.tensor * (2 * self.config.context if self.context is not None else 1)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """See `Workers.map`.

        Raises:
            Interrupted: on all ranks between the same two items, once one of them was asked to end.
        """
        waiting = list(items)
        number = max(self.world.gather(lambda: len(waiting)))
        self.world.is_in_pass = True  # stays so behind an error of this rank alone
        for place in range(number):
            if self.world.any(interrupt.requested()):
                self.world.is_in_pass = False
                raise interrupt.Interrupted
            if place < len(waiting):
                with interrupt.held():
                    result = function(waiting[place])
                yield result
            else:
                self._pass()
        self.world.is_in_pass = False
        if not self._learns:
            for module in self.model.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()

    @property
    def _learns(self) -> bool:
        return torch.is_grad_enabled() and self.model.training

    def _pass(self) -> None:
        """Forward, and backward where the others learn; nothing is learned from it."""
        model = self.model

        def nothing() -> torch.Tensor:
            x_MD = learned_states(model, join([(Document([0, 0], [False, True]),)])).x_MD
            return (x_MD.sum() + local(model.lm_head.weight).sum()) * 0.0

        with torch.set_grad_enabled(self._learns):
            loss = model.within(nothing)
            if self._learns:
                loss.backward()  # type: ignore[no-untyped-call]


# torch names each gathering of a weight that is split along two axes as slower than along one.
logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
