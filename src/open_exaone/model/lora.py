"""LoRA: small trainable factors beside frozen matrices; the base model's weights keep their names.

Adapters live in the layers' own `nn.Linear`s, as `lora_A.weight` and `lora_B.weight` beside `weight`: whatever calls
the module gets them, and whatever reads its `weight` gets the base alone.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from open_exaone.model.linear import Linear
from open_exaone.model.lora_config import LoraConfig
from open_exaone.model.sharding import whole
from open_exaone.model.transformer import LanguageModel


class LoraLinear(Linear):
    """base(x) + scale · B(A(dropout(x))), the base frozen."""

    def __init__(self, base: nn.Linear, config: LoraConfig) -> None:
        """Takes over the base's weight and bias themselves; B begins at zero, A is left for the caller to draw."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.scale = config.scale
        self.is_on = True
        placed = {"bias": False, "device": base.weight.device, "dtype": base.weight.dtype}
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.lora_A, self.lora_B = (
            nn.utils.skip_init(Linear, *shape, **placed)  # type: ignore[no-untyped-call]
            for shape in ((base.in_features, config.rank), (config.rank, base.out_features))
        )
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_on:
            return super().forward(x)
        return torch.add(super().forward(x), self.lora_B(self.lora_A(self.dropout(x))), alpha=self.scale)


def add_lora(model: LanguageModel, config: LoraConfig, seed: int) -> None:
    """Freezes the model and puts an adapter on each matrix that `config` names; the model computes what it did.

    A is drawn as PEFT draws it, uniform within ±1 / √inputs, from `seed` alone, the same on any device; B is zero.

    Raises:
        ValueError: the model has adapters already.
    """
    wanted = set(config.projections)
    names = [name for name, module in model.named_modules() if name.rpartition(".")[2] in wanted]
    insert_lora(model, config, names)
    weights = lora_weights(model)
    with torch.no_grad():
        for name, values in initial_lora(model, seed):
            weights[name].copy_(values)


def initial_lora(model: LanguageModel, seed: int) -> Iterator[tuple[str, Tensor]]:
    """The adapters' weights as `add_lora` draws them, by name, in float32."""
    generator = torch.Generator().manual_seed(seed)
    for name, adapter in _adapters(model):
        drawn = torch.rand(adapter.lora_A.weight.shape, generator=generator)
        yield f"{name}.lora_A.weight", (2 * drawn - 1) * adapter.in_features**-0.5
        yield f"{name}.lora_B.weight", torch.zeros(adapter.lora_B.weight.shape)


def insert_lora(model: LanguageModel, config: LoraConfig, names: Iterable[str]) -> None:
    """Freezes the model and puts adapters, A not yet drawn, on the modules of these names.

    Raises:
        ValueError: the model has adapters already.
    """
    if any(True for _ in _adapters(model)):
        raise ValueError("the model has adapters already: merge them first")
    model.requires_grad_(False)
    for name in names:
        base = model.get_submodule(name)
        assert isinstance(base, nn.Linear)
        adapter = LoraLinear(base, config)
        adapter.train(base.training)
        model.set_submodule(name, adapter)


@contextmanager
def without_lora(model: LanguageModel) -> Iterator[None]:
    """Within it the model computes as if it had no adapters."""
    adapters = [adapter for _, adapter in _adapters(model)]
    try:
        for adapter in adapters:
            adapter.is_on = False
        yield
    finally:
        for adapter in adapters:
            adapter.is_on = True


def lora_weights(model: LanguageModel) -> dict[str, nn.Parameter]:
    """The adapters' weights, such as `model.layers.0.self_attn.q_proj.lora_A.weight`."""
    return {name: weight for name, weight in model.named_parameters() if is_lora(name)}


def is_lora(name: str) -> bool:
    """Whether a weight of this name is an adapter's."""
    return ".lora_A." in name or ".lora_B." in name


@torch.no_grad()
def merge_lora(model: LanguageModel) -> None:
    """Adds each adapter to its matrix and takes it away; the model is a plain one again, nothing frozen."""
    for name, adapter in list(_adapters(model)):
        weight = adapter.weight
        weight.copy_(merged(weight, adapter.lora_A.weight, adapter.lora_B.weight, adapter.scale))
        with torch.device("meta"):
            plain = Linear(adapter.in_features, adapter.out_features, bias=adapter.bias is not None)
        plain.weight, plain.bias = weight, adapter.bias
        plain.train(adapter.training)
        model.set_submodule(name, plain)
    model.requires_grad_(True)


@torch.no_grad()
def plain_weights(model: LanguageModel) -> Iterator[tuple[str, Tensor]]:
    """The weights that the model computes with, each matrix with its adapter added; by the base model's names.

    Of a sharded model they are gathered one by one: all ranks ask at the same time.
    """
    adapters = dict(_adapters(model))
    for name, weight in model.named_parameters():
        adapter = adapters.get(name.removesuffix(".weight"))
        if adapter is not None:
            yield name, merged(whole(weight), whole(adapter.lora_A.weight), whole(adapter.lora_B.weight), adapter.scale)
        elif not is_lora(name):
            yield name, whole(weight)


def weights_state(module: nn.Module) -> tuple[int, ...] | None:
    """What changes with the weights that a module computes with: a tensor counts the operations that change it.

    Returns:
        None where a weight does not count them.
    """
    weights = list(module.parameters())
    if any(weight.is_inference() for weight in weights):
        return None
    adapters_on = (part.is_on for part in module.modules() if isinstance(part, LoraLinear))
    return (*adapters_on, *(number for weight in weights for number in (weight.data_ptr(), weight._version)))


@torch.no_grad()
def plain_weight(module: nn.Module) -> Tensor:
    """The weight that one module computes with, its adapter added."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, LoraLinear) and module.is_on:
        return merged(weight, module.lora_A.weight, module.lora_B.weight, module.scale)
    return weight


def merged(weight_OI: Tensor, a_RI: Tensor, b_OR: Tensor, scale: float) -> Tensor:
    """weight + scale · B A, computed in float32, in the weight's dtype."""
    return torch.addmm(weight_OI.float(), b_OR.float(), a_RI.float(), alpha=scale).to(weight_OI.dtype)


def _adapters(model: LanguageModel) -> Iterable[tuple[str, LoraLinear]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear))
