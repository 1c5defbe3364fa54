"""Hugging Face's `config.json`, read and written: every family, old spellings and new."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from open_exaone.base.config import short
from open_exaone.model.config import MAX_LAYERS, LayerKind, ModelConfig, RopeScaling
from open_exaone.model.family import FAMILIES

# Our fields and the keys of config.json; a family's own spellings stand in `Family.keys`.
KEYS = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_width": "head_dim",
    "ffn_width": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "activation": "hidden_act",
    "tied_embeddings": "tie_word_embeddings",
    "initializer_range": "initializer_range",
    "window": "sliding_window",
}
REQUIRED = ("vocab_size", "width", "num_layers", "num_heads", "ffn_width", "max_positions")
ROPE_KEYS = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_positions": "original_max_position_embeddings",
}
ROPE_KNOWN = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *ROPE_KEYS.values()}
LAYER_TYPES = {LayerKind.LOCAL: "sliding_attention", LayerKind.GLOBAL: "full_attention"}
LETTERS = {"sliding_attention": "L", "full_attention": "G"}

# What changes the computation in a way that no published checkpoint of these families needs; only this value is read.
FIXED: Mapping[str, Any] = {
    "attention_bias": False,
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
    "ln_no_scale": False,
}


def config_from_hf(values: Mapping[str, Any]) -> ModelConfig:
    """Reads a `config.json`.

    A key that is not there has the value that transformers gives it, but for `num_key_value_heads`, which is then the
    number of query heads. EXAONE 4.0's RoPE follows the resolved layer kinds: a window without a local layer changes
    nothing, where transformers would leave RoPE out of every layer.

    Raises:
        ValueError: names the key that is missing, wrong, or contradicts another, and what it must be.
    """
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        found_type = "model_type: is missing;" if model_type is None else f"model_type = {short(model_type)}:"
        raise ValueError(f"{found_type} must be one of {', '.join(FAMILIES)}")
    family = FAMILIES[model_type]
    keys = {**KEYS, **family.keys}
    _refuse_what_is_not_computed(values, keys["activation"])
    found = {field: values[key] for field, key in keys.items() if values.get(key) is not None}
    for field in REQUIRED:
        if field not in found:
            raise ValueError(f"{keys[field]}: is missing")
        if not isinstance(found[field], int) or isinstance(found[field], bool) or found[field] < 1:
            raise ValueError(f"{keys[field]} = {short(found[field])}: must be a whole number from 1")
    num_layers, num_heads = found["num_layers"], found["num_heads"]
    if num_layers > MAX_LAYERS:
        raise ValueError(f"{keys['num_layers']} = {num_layers}: must be at most {MAX_LAYERS}")
    fields = {
        "norm_eps": family.norm_eps,
        "num_kv_heads": num_heads,
        "head_width": family.head_width or found["width"] // num_heads,
        "tied_embeddings": family.tied_embeddings,
        **{field: value for field, value in found.items() if field not in ("activation", "window")},
        "family": model_type,
    }
    pattern, window = _layers(values, num_layers)
    theta, scaling = _rope(values)
    try:
        return ModelConfig(**fields, pattern=pattern, window=window, rope_theta=theta, rope_scaling=scaling)
    except ValidationError as error:
        raise ValueError(_explain(error, {**keys, "rope_theta": "rope_theta"})) from error


def config_to_hf(config: ModelConfig, *, dtype: str) -> dict[str, Any]:
    """The `config.json` that transformers, vLLM and llama.cpp read, less the special tokens' ids.

    Args:
        dtype: how the weights are stored, such as "float32".

    Raises:
        ValueError: the family's own layout cannot say what the config says.
    """
    family = FAMILIES[config.family]
    keys = {**KEYS, **family.keys}
    fields = config.model_dump(include={*KEYS} - {"window"})
    scaling = config.rope_scaling
    rope: dict[str, Any] = {"rope_type": "llama3" if scaling else "default"}
    if scaling:
        rope |= {key: getattr(scaling, field) for field, key in ROPE_KEYS.items()}
    return {
        "architectures": [family.architecture],
        "model_type": config.family,
        **{keys[field]: value for field, value in fields.items()},
        keys["activation"]: "silu",
        "rope_theta": config.rope_theta,
        "rope_scaling": rope if scaling else None,
        "rope_parameters": {**rope, "rope_theta": config.rope_theta},
        "attention_dropout": 0.0,
        "use_cache": True,
        "dtype": dtype,
        "torch_dtype": dtype,
        **_own_keys(config),
    }


def _own_keys(config: ModelConfig) -> dict[str, Any]:
    """The keys of one family only."""
    layer_types = [LAYER_TYPES[kind] for kind in config.layer_kinds]
    window = config.window if config.is_hybrid else None
    match config.family:
        case "exaone4":
            pattern = config.pattern if config.is_hybrid else None
            return {"layer_types": layer_types, "sliding_window": window, "sliding_window_pattern": pattern}
        case "qwen2" | "qwen3":
            own = {"use_sliding_window": config.is_hybrid, "sliding_window": window, "layer_types": layer_types}
            first_local = config.layer_kinds.index(LayerKind.LOCAL) if config.is_hybrid else config.num_layers
            return {**own, "max_window_layers": first_local}
    if config.is_hybrid:
        raise ValueError(f"{config.family} has no local layers; pattern = {config.pattern!r}")
    if config.family == "exaone" and config.width != config.num_heads * config.head_width:
        raise ValueError(
            f"exaone's heads are {config.width} / {config.num_heads} wide (hidden_size / num_attention_heads), "
            f"and these are {config.head_width}"
        )
    return {"embed_dropout": 0.0} if config.family == "exaone" else {"attention_bias": False, "mlp_bias": False}


def _refuse_what_is_not_computed(values: Mapping[str, Any], activation: str) -> None:
    for key, only in FIXED.items():
        if values.get(key) not in (None, only):
            raise ValueError(f"{key} = {short(values[key])}: only {only} can be computed here")
    if values.get(activation, "silu") not in ("silu", "swish"):
        raise ValueError(f"{activation} = {short(values[activation])}: must be 'silu'")


def _layers(values: Mapping[str, Any], num_layers: int) -> tuple[str, int | None]:
    """The layer kinds as letters, and the window if any layer is local."""
    match values["model_type"]:
        case "exaone4":
            window = values.get("sliding_window", 4096)
            letters = _letters(values.get("sliding_window_pattern", 4)) if window is not None else "G"
        case "qwen2" | "qwen3":
            is_used = values.get("use_sliding_window", False)
            if not isinstance(is_used, bool):
                raise ValueError(f"use_sliding_window = {short(is_used)}: must be true or false")
            window = values.get("sliding_window", 4096) if is_used else None
            first_local = values.get("max_window_layers", 28) if window is not None else num_layers
            if not isinstance(first_local, int):
                raise ValueError(f"max_window_layers = {short(first_local)}: must be a number")
            letters = "".join("L" if index >= first_local else "G" for index in range(num_layers))
        case _:
            return "G", None
    if (layer_types := values.get("layer_types")) is not None:
        letters = _letters_of_types(layer_types, num_layers)
    letters = (letters * num_layers)[:num_layers]
    if "L" not in letters:
        return "G", None
    if not isinstance(window, int):
        raise ValueError(f"sliding_window = {short(window)}: must be a number, as there are local layers")
    period = next(n for n in range(1, num_layers + 1) if (letters[:n] * num_layers)[:num_layers] == letters)
    return letters[:period], window


def _letters(pattern: object) -> str:
    """`sliding_window_pattern`: letters, or n for n - 1 local layers and one global, or null for global only."""
    if pattern is None or pattern == 0:
        return "G"
    if isinstance(pattern, int) and 0 < pattern <= MAX_LAYERS:
        return "L" * (pattern - 1) + "G"
    if isinstance(pattern, str) and 0 < len(pattern) <= MAX_LAYERS and set(pattern) <= {"L", "G"}:
        return pattern
    raise ValueError(f"sliding_window_pattern = {short(pattern)}: must be a number, letters such as 'LLLG', or null")


def _letters_of_types(layer_types: object, num_layers: int) -> str:
    if not isinstance(layer_types, list) or len(layer_types) != num_layers:
        found = len(layer_types) if isinstance(layer_types, list) else short(layer_types)
        raise ValueError(f"layer_types: has {found} entries for {num_layers} layers")
    for index, layer_type in enumerate(layer_types):
        if not isinstance(layer_type, str) or layer_type not in LETTERS:
            raise ValueError(f"layer_types[{index}] = {short(layer_type)}: must be one of {', '.join(LETTERS)}")
    return "".join(LETTERS[layer_type] for layer_type in layer_types)


def _rope(values: Mapping[str, Any]) -> tuple[float, RopeScaling | None]:
    """RoPE's base and scaling: `rope_parameters` holds both since transformers 5, two keys before."""
    old, new = (values.get(key) or {} for key in ("rope_scaling", "rope_parameters"))
    for key, rope in (("rope_scaling", old), ("rope_parameters", new)):
        if not isinstance(rope, dict):
            raise ValueError(f"{key} = {short(rope)}: must be an object")
    if values.get("rope_theta") is not None:
        old = {"rope_theta": values["rope_theta"], **old}
    for key in old.keys() & new.keys():
        if old[key] != new[key]:
            raise ValueError(f"rope_parameters.{key} = {short(new[key])} contradicts {short(old[key])} beside it")
    rope = {**old, **new}
    if unknown := sorted(rope.keys() - ROPE_KNOWN):
        raise ValueError(
            f"rope_parameters.{unknown[0]}: is not computed here; known are {', '.join(sorted(ROPE_KNOWN))}"
        )
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(f"partial_rotary_factor = {short(rope['partial_rotary_factor'])}: must be 1")
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    theta = rope.get("rope_theta", 10_000.0)
    if rope_type == "default":
        return theta, None
    if rope_type != "llama3":
        raise ValueError(f"rope_type = {short(rope_type)}: must be 'default' or 'llama3'")
    if missing := [key for key in ROPE_KEYS.values() if rope.get(key) is None]:
        raise ValueError(f"rope_parameters.{missing[0]}: is missing")
    try:
        return theta, RopeScaling(**{field: rope[key] for field, key in ROPE_KEYS.items()})
    except ValidationError as error:
        raise ValueError(
            _explain(error, {field: f"rope_parameters.{key}" for field, key in ROPE_KEYS.items()})
        ) from error


def _explain(error: ValidationError, keys: Mapping[str, str]) -> str:
    """The first mistake, by the key of config.json rather than our field."""
    detail = error.errors()[0]
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not detail["loc"]:
        return re.sub(r"\w+", lambda word: keys.get(word[0], word[0]), message)
    field = str(detail["loc"][0])
    return f"{keys.get(field, field)} = {short(detail['input'])}: {message}"
