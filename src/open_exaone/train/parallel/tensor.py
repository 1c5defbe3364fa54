"""Tensor parallelism: each rank has a part of every matrix, and computes with it a part of the heads and of the
feed-forward's channels.

    between layers     a rank has a part of the tokens, and norms them (sequence parallelism)
    q, k, v, gate, up  split by outputs; before them the tokens of all ranks are gathered
    o, down            split by inputs; behind them the ranks' sums are added up, and each rank keeps its tokens
    embedding, head    split over the vocabulary; logits are never gathered

torch's ColwiseParallel and RowwiseParallel do this for a plain `nn.Linear`. They would gather the tokens again for each
of q, k and v, have no plan for adapters, and compute with DTensors, which the kernels do not take. So weights are
DTensors here, placed as those would place them, and layers compute with plain tensors (`model.sharding.local`).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Placement, Replicate, Shard

from open_exaone.model.attention import Attention
from open_exaone.model.exchange import gathered, scattered
from open_exaone.model.sharding import part_of
from open_exaone.model.transformer import FeedForward, LanguageModel

OUTPUTS, INPUTS = 0, 1
SPLIT = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "embed_tokens", "lm_head"), OUTPUTS),
    **dict.fromkeys(("o_proj", "down_proj"), INPUTS),
}
TOKENS = 1  # the axis of x_BTD


def split_layer(layer: nn.Module, mesh: DeviceMesh, device: torch.device) -> None:
    """Leaves this rank its part of a layer."""
    _split_weights(layer, mesh, device)
    for sublayer in layer.children():
        if isinstance(sublayer, Attention):
            N, K, H = sublayer.heads_NKH
            sublayer.heads_NKH = (N // mesh.size(), K // mesh.size(), H)
        if isinstance(sublayer, Attention | FeedForward):
            _gather_before(sublayer, mesh)
            _scatter_behind(sublayer, mesh)


def split_ends(model: LanguageModel, mesh: DeviceMesh, device: torch.device) -> None:
    """Leaves this rank its part of the embedding and the head, and has the tokens split between them."""
    for name, module in (
        ("embed_tokens", model.model.embed_tokens),
        ("norm", model.model.norm),
        ("lm_head", model.lm_head),
    ):
        _split_weights(module, mesh, device, name)
    model.tie_weights()
    _scatter_behind(model.model.embed_tokens, mesh)

    def gather(module: nn.Module, given: Any, x_BTD: Tensor) -> Tensor:
        return gathered(x_BTD, mesh, TOKENS)

    model.model.norm.register_forward_hook(gather)


def _gather_before(module: nn.Module, mesh: DeviceMesh) -> None:
    def gather(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (gathered(given[0], mesh, TOKENS), *given[1:])

    module.register_forward_pre_hook(gather)


def _scatter_behind(module: nn.Module, mesh: DeviceMesh) -> None:
    def scatter(module: nn.Module, given: Any, x_BTD: Tensor) -> Tensor:
        return scattered(x_BTD, mesh, TOKENS)

    module.register_forward_hook(scatter)


def _split_weights(root: nn.Module, mesh: DeviceMesh, device: torch.device, name: str = "") -> None:
    """Args:
    name: of the root, where it is a matrix itself.
    """
    for path, module in root.named_modules(prefix=name):
        for kind, weight in list(module.named_parameters(recurse=False)):
            part = part_of(weight.detach(), mesh, [_placement(path)], device)
            setattr(module, kind, nn.Parameter(part, requires_grad=weight.requires_grad))


def _placement(path: str) -> Placement:
    """How the weights of a module are split; those of an adapter B A, by what the rank has of their inputs and outputs.

    Args:
        path: such as `self_attn.q_proj` or `self_attn.q_proj.lora_A`.
    """
    names = path.split(".")
    dims = [SPLIT[name] for name in names if name in SPLIT]
    is_whole = (
        not dims or (names[-1] == "lora_A" and dims[0] == OUTPUTS) or (names[-1] == "lora_B" and dims[0] == INPUTS)
    )
    return Replicate() if is_whole else Shard(dims[0])
