"""LoRA adapters on disk, in PEFT's format: read, written, and merged into the model that they were trained on."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from open_exaone.base.config import short
from open_exaone.base.errors import CheckpointError, DataError
from open_exaone.base.files import read_json, write_atomically, write_json
from open_exaone.base.links import own_file
from open_exaone.checkpoint.licence import carry_licence
from open_exaone.checkpoint.weights import expected_shapes, is_finite, open_safetensors
from open_exaone.model.config import ModelConfig
from open_exaone.model.family import published_name
from open_exaone.model.lora import insert_lora, lora_weights, merged
from open_exaone.model.lora_config import ALL_LINEAR, MAX_ALPHA, LoraConfig
from open_exaone.model.transformer import LanguageModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
FACTORS = (".lora_A.weight", ".lora_B.weight")

# What would change the computation in a way that is not done here; None, or a missing key, is fine everywhere.
PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),  # the others change the base
    "use_dora": (False,),
    "use_qalora": (False,),
    "lora_bias": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "modules_to_save": ([],),
    "layer_replication": ([],),
    "target_parameters": ([],),
    "trainable_token_indices": ([], {}),
    "alora_invocation_tokens": ([],),
    "loftq_config": ({},),
    **dict.fromkeys(("megatron_config", "use_bdlora", "arrow_config", "kasa_config", "velora_config"), (False, {})),
    **dict.fromkeys(("monteclora_config", "corda_config", "lora_ga_config"), (False, {})),
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a folder in PEFT's format holds."""

    config: LoraConfig
    weights: Mapping[str, Tensor]  # by our names, such as model.layers.0.self_attn.q_proj.lora_A.weight

    @property
    def modules(self) -> list[str]:
        """Our names of the matrices that have an adapter."""
        return [name.removesuffix(FACTORS[0]) for name in self.weights if name.endswith(FACTORS[0])]


def save_adapter(
    folder: Path,
    model: LanguageModel,
    config: LoraConfig,
    *,
    base: str | Path,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes a model's adapters as PEFT does, names and all; each file appears whole.

    Args:
        base: the folder or hub name of the model that they were trained on; a folder's licence comes along.
        weights: what to write, by our names, such as an optimizer's float32 masters; the model's own if left out.
    """
    chosen = weights if weights is not None else lora_weights(model)
    family = model.config.family
    names = list(lora_weights(model))
    tensors = {_published(family, name): chosen[name].detach().cpu().contiguous() for name in names}
    modules = sorted({_published(family, name).removeprefix(PREFIX).rpartition(".lora_")[0] for name in names})
    ends = sorted({module.rpartition(".")[2] for module in modules})
    is_everywhere = len(modules) == len(ends) * model.config.num_layers
    values = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": config.rank,
        "lora_alpha": int(config.alpha) if config.alpha.is_integer() else config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.use_rslora,
        "target_modules": ends if is_everywhere else modules,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    write_atomically(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    write_json(folder / CONFIG, values)
    if Path(base).is_dir():
        carry_licence(Path(base), folder)


def load_adapter(model: LanguageModel, folder: Path) -> LoraConfig:
    """Puts the adapters of a folder in PEFT's format on a model, and freezes the rest, as `add_lora` does.

    Raises:
        CheckpointError: a file is missing or broken, a tensor is missing, unknown, of another shape or not finite, or
            the adapters compute what is not computed here; names the file and the tensor or key.
        ValueError: the model has adapters already.
    """
    adapter = read_adapter(folder, model.config)
    insert_lora(model, adapter.config, adapter.modules)
    model.load_state_dict(dict(adapter.weights), strict=False)
    return adapter.config


def read_adapter(folder: Path, config: ModelConfig) -> Adapter:
    """Reads a folder in PEFT's format, and holds it to a model's shape.

    Raises:
        CheckpointError: as `load_adapter` says.
    """
    lora = _read_config(folder / CONFIG)
    path = own_file(folder / WEIGHTS)
    if not path.is_file():
        pickle = " (adapter_model.bin is a pickle, which may run code)" if path.with_suffix(".bin").exists() else ""
        raise CheckpointError(f"{path}: no such file; only safetensors are read{pickle}")
    shapes = _factor_shapes(config, lora.rank)
    weights: dict[str, Tensor] = {}
    try:
        with open_safetensors(path) as file:
            for stored in list(file.keys()):
                if stored not in shapes:
                    raise CheckpointError(
                        f"{path}: {stored} belongs to no matrix of this model: the adapter is another model's, or "
                        f"trains more than the layers' matrices"
                    )
                ours, wanted = shapes[stored]
                shape = tuple(file.get_slice(stored).get_shape())
                if shape != wanted:
                    raise CheckpointError(f"{path}: {stored} has shape {shape}; the model and r ask for {wanted}")
                weights[ours] = file.get_tensor(stored)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}. Copy or download it again") from error
    for name, tensor in weights.items():
        if not tensor.is_floating_point() or not is_finite(tensor):
            raise CheckpointError(f"{path}: {name} holds NaN, infinity or no numbers: the adapter is broken")
        if (other := _other_factor(name)) not in weights:
            raise CheckpointError(f"{path}: {_published(config.family, other)} is missing")
    if not weights:
        raise CheckpointError(f"{path}: holds no tensor")
    ends = {name.split(".")[-3] for name in weights}
    targets = tuple(end for end in ALL_LINEAR if end in ends)
    return Adapter(lora.model_copy(update={"targets": targets}), weights)


class Merged(Mapping[str, Tensor]):
    """A model's weights with adapters added, each when asked for; all else as it is.

    Args:
        dtype: what everything is cast to, sums once they are made; None leaves each weight's own.

    Raises:
        CheckpointError: a sum does not fit into the weight's dtype; names the weight.
    """

    def __init__(self, weights: Mapping[str, Tensor], adapter: Adapter, dtype: torch.dtype | None = None) -> None:
        self._weights, self._adapter, self._dtype = weights, adapter, dtype

    def __getitem__(self, name: str) -> Tensor:
        weight = self._weights[name]
        dtype = self._dtype or weight.dtype
        a_name, b_name = (name.removesuffix(".weight") + factor for factor in FACTORS)
        factors = self._adapter.weights
        if a_name in factors:
            wide = weight.to(torch.promote_types(weight.dtype, dtype))
            weight = merged(wide, factors[a_name], factors[b_name], self._adapter.config.scale)
        fitted = weight.to(dtype)
        if not is_finite(fitted):
            raise CheckpointError(f"{name}: with its adapter it does not fit into {dtype}: choose a wider dtype")
        return fitted

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def _published(family: str, name: str) -> str:
    """PEFT's name for an adapter's weight of ours."""
    module, _, factor = name.rpartition(".lora_")
    return f"{PREFIX}{published_name(family, f'{module}.weight').removesuffix('.weight')}.lora_{factor}"


def _other_factor(name: str) -> str:
    return name.replace(".lora_A.", ".lora_B.") if ".lora_A." in name else name.replace(".lora_B.", ".lora_A.")


def _factor_shapes(config: ModelConfig, rank: int) -> dict[str, tuple[str, tuple[int, int]]]:
    """What a file may hold: by PEFT's name, ours and its shape."""
    found = {}
    for name, shape in expected_shapes(config).items():
        module = name.removesuffix(".weight")
        if ".layers." in name and module.rpartition(".")[2] in ALL_LINEAR and len(shape) == 2:
            for factor, factor_shape in zip(FACTORS, ((rank, shape[1]), (shape[0], rank)), strict=True):
                found[_published(config.family, module + factor)] = (module + factor, factor_shape)
    return found


def _read_config(path: Path) -> LoraConfig:
    try:
        values = read_json(own_file(path))
    except DataError as error:
        raise CheckpointError(f"{error}; an adapter's folder holds {CONFIG}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: must hold an object")
    for key, allowed in PLAIN.items():
        if (value := values.get(key)) is not None and value not in allowed:
            raise CheckpointError(f"{path}: {key} = {short(value)}: only {json.dumps(allowed[0])} is computed here")
    rank, alpha, dropout = (values.get(key) for key in ("r", "lora_alpha", "lora_dropout"))
    if not isinstance(alpha, int | float) or not 0 < alpha <= MAX_ALPHA:
        raise CheckpointError(f"{path}: lora_alpha = {short(alpha)}: must be a number above 0, at most {MAX_ALPHA:,}")
    try:
        return LoraConfig(
            rank=cast(int, rank),
            alpha=float(alpha),
            dropout=0.0 if dropout is None else float(dropout),
            use_rslora=values.get("use_rslora") or False,
        )
    except (ValidationError, TypeError, ValueError, OverflowError) as error:
        detail = error.errors()[0] if isinstance(error, ValidationError) else None
        keys = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
        where = keys.get(str(detail["loc"][0]), str(detail["loc"][0])) if detail else "lora_dropout"
        raise CheckpointError(f"{path}: {where}: {detail['msg'] if detail else error}") from error
