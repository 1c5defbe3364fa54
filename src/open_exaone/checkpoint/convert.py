"""Converts a model's folder: into another family's layout, another dtype, or llama.cpp's GGUF."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_exaone.base.errors import CheckpointError, ConfigError
from open_exaone.base.files import explain_os_errors, read_json, write_json
from open_exaone.checkpoint.folder import load_config, resolve_dtype
from open_exaone.checkpoint.gguf import export_gguf
from open_exaone.checkpoint.licence import carry_licence, check_derived_name, licence_of, tell
from open_exaone.checkpoint.weights import MAX_SHARD_BYTES, Weights, save_weights
from open_exaone.model.config import ModelConfig
from open_exaone.model.hf import config_to_hf

TARGETS = ("exaone", "exaone4", "llama", "qwen2", "qwen3", "gguf")
INTERCHANGEABLE = {"exaone", "llama"}  # the same computation under two sets of names
CARRIED = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("merges.txt", "chat_template.jinja", "generation_config.json"),
)
SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def convert(
    source: Path,
    target: Path,
    *,
    to: str | None = None,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> ModelConfig:
    """Converts a model's folder into `target`, which appears whole or not at all.

    The weights are read and written one shard at a time, whatever the model's size. The tokenizer's files and the
    licence come along. Without a `dtype` every tensor keeps its bits.

    Args:
        target: a folder that is not there yet, or with `to="gguf"` also a file that ends in `.gguf`.
        to: "exaone" and "llama" name the same computation and may stand for each other; "gguf" is llama.cpp's format;
            any other family only for itself. The source's own family if left out.
        dtype: "float32", "bfloat16" or "float16".

    Returns:
        the converted model's config.

    Raises:
        ConfigError: the pair is illegal, `target` is in use, or its name is not what the licence asks for.
        CheckpointError: the source is broken, or cannot be said in the target's layout; names the file and why.
    """
    config = load_config(source)
    licence = licence_of(source)
    tell(licence, source.name)
    check_derived_name(licence, target.name)
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise ConfigError(f"{target}: is there already and not empty: name another, or remove it")
    chosen = resolve_dtype(dtype) if dtype is not None else None
    weights = Weights(source, config, chosen)
    if to == "gguf" and target.suffix == ".gguf":
        _write_gguf(config, weights, source, target, chosen)
        return config
    converted = config if to == "gguf" else converted_config(config, to or config.family, source)
    partial = target.with_name(f".{target.name}.partial")
    with explain_os_errors(target):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            if to == "gguf":
                _write_gguf(config, weights, source, partial / f"{target.name}.gguf", chosen)
            else:
                _write_folder(converted, weights, source, partial, max_shard_bytes)
            if target.exists():
                target.rmdir()
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return converted


def converted_config(config: ModelConfig, to: str, source: Path) -> ModelConfig:
    """The config under another family's name.

    Raises:
        ConfigError: the two families compute different things.
        CheckpointError: the other family's layout cannot say this shape.
    """
    if to not in TARGETS:
        raise ConfigError(f"--to {to}: must be one of {', '.join(TARGETS)}")
    if to != config.family and {to, config.family} != INTERCHANGEABLE:
        raise ConfigError(
            f"--to {to}: {source} is of family {config.family}, whose layers compute something else; only exaone and "
            f"llama stand for each other"
        )
    converted = config.model_copy(update={"family": to})
    try:
        config_to_hf(converted, dtype="float32")
    except ValueError as error:
        raise CheckpointError(f"{source}: cannot be written as {to}: {error}") from error
    return converted


def _write_folder(
    config: ModelConfig, weights: Mapping[str, Tensor], source: Path, folder: Path, max_shard_bytes: int
) -> None:
    save_weights(folder, config, weights, max_shard_bytes=max_shard_bytes)
    original: dict[str, Any] = read_json(source / "config.json")
    ids = {key: original[key] for key in SPECIAL_IDS if key in original}
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    write_json(folder / "config.json", config_to_hf(config, dtype=dtype) | ids)
    for name in CARRIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    carry_licence(source, folder)


def _write_gguf(
    config: ModelConfig, weights: Mapping[str, Tensor], source: Path, path: Path, dtype: torch.dtype | None
) -> None:
    stored = next(iter(weights.values())).dtype
    path.parent.mkdir(parents=True, exist_ok=True)
    export_gguf(config, weights, source, path, dtype=dtype or stored)
    carry_licence(source, path.parent)
