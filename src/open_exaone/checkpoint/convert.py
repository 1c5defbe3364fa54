"""Converts a model's folder: into another family's layout, another dtype, or llama.cpp's GGUF."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_exaone.base.errors import CheckpointError, ConfigError
from open_exaone.base.files import explain_os_errors, locked, read_json, write_json
from open_exaone.base.links import own_file
from open_exaone.checkpoint.adapter import Merged, read_adapter
from open_exaone.checkpoint.folder import DTYPES, load_config
from open_exaone.checkpoint.gguf import export_gguf
from open_exaone.checkpoint.licence import carry_licence, check_derived_name, licence_of, model_name, warn_of_licence
from open_exaone.checkpoint.weights import MAX_SHARD_BYTES, Weights, save_weights
from open_exaone.model.config import ModelConfig
from open_exaone.model.family import FAMILIES
from open_exaone.model.hf import config_to_hf
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.text.tokenizer_files import BACKEND_FILE, tokenizer_files

TARGETS = (*FAMILIES, "gguf")
INTERCHANGEABLE = {"exaone", "llama"}  # the same computation under two sets of names
SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def convert(
    source: Path,
    target: Path,
    *,
    to: str | None = None,
    dtype: str | None = None,
    adapter: Path | None = None,
    response_template: bool = True,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> ModelConfig:
    """Converts a model's folder into `target`, which appears whole or not at all.

    The weights are read and written one shard at a time, whatever the model's size. The tokenizer's files and the
    licence come along. Without a `dtype` every tensor keeps its bits.

    Args:
        target: a folder that is not there yet or empty, or with `to="gguf"` also a file that ends in `.gguf`; beside
            a file the licence is called FILE.LICENSE.
        to: "exaone" and "llama" name the same computation and may stand for each other; "gguf" is llama.cpp's format;
            any other family only for itself. The source's own family if left out.
        dtype: "float32", "bfloat16" or "float16".
        adapter: a folder of LoRA adapters in PEFT's format, which are added to the weights.
        response_template: of EXAONE's chat formats, writes how a reply is split into a tokenizer_config.json that does
            not say it; see `text.response_template`.

    Returns:
        the converted model's config.

    Raises:
        ConfigError: the pair is illegal, `target` is in use, or its name is not what the licence asks for.
        CheckpointError: the source is broken, or cannot be written in the target's layout; names the file and why.
    """
    target = Path(os.path.abspath(target))
    licence = licence_of(source)
    warn_of_licence(licence, model_name(source))
    check_derived_name(licence, target.name)
    _check_target(target, to)
    if adapter is not None and to == "gguf":
        raise ConfigError("--adapter with --to gguf: merge into a folder first, then convert that")
    chosen = None if dtype is None else _dtype(dtype)
    config = load_config(source)
    added = None if adapter is None else read_adapter(adapter, config)
    converted = config if to == "gguf" else converted_config(config, to or config.family, source)
    with explain_os_errors(target), _alone(target):
        if target.suffix == ".gguf":
            carry_licence(source, target.parent, prefix=f"{target.name}.")
            _write_gguf(config, source, target, chosen)
            return converted
        with _appearing(target) as folder:
            carry_licence(source, folder)
            if to == "gguf":
                _write_gguf(config, source, folder / f"{target.name}.gguf", chosen)
            else:
                weights: Mapping[str, Tensor] = Weights(source, config, chosen)
                if added is not None:
                    weights = Merged(Weights(source, config), added, chosen)
                _write_folder(converted, weights, source, folder, max_shard_bytes, response_template)
    return converted


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keeps a second conversion out of the same place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    with locked(lock, f"{target}: another process converts into it: wait for it or stop it"):
        try:
            yield
        finally:
            lock.unlink()


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder to fill, beside `target`, whose name it gets at the end; what a kill left there is removed."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        partial.replace(target)  # takes an empty folder's place, and no other's
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_target(target: Path, to: str | None) -> None:
    """Refuses a place that cannot be taken, before anything is read."""
    if to != "gguf" and target.suffix == ".gguf":
        raise ConfigError(f"{target}: a name that ends in .gguf is for --to gguf")
    try:
        if target.is_symlink() or os.path.ismount(target):
            raise ConfigError(f"{target}: is a link or a mount point: name a new folder inside it")
        in_use = target.exists() and (not target.is_dir() or target.suffix == ".gguf" or any(target.iterdir()))
    except OSError as error:
        raise ConfigError(f"{str(target)[:200]}: cannot be taken: {error.strerror}") from error
    if in_use:
        raise ConfigError(f"{target}: is there already and not empty: name another, or remove it")


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ConfigError(f"--dtype {name}: must be one of {', '.join(DTYPES)}")
    return DTYPES[name]


def _write_gguf(config: ModelConfig, source: Path, path: Path, dtype: torch.dtype | None) -> None:
    """Vectors are written as exact as they are stored; `dtype` is the matrices'."""
    weights = Weights(source, config)
    export_gguf(config, weights, source, path, dtype=dtype or _stored_dtype(weights))


def _stored_dtype(weights: Mapping[str, Tensor]) -> torch.dtype:
    return next(iter(weights.values())).dtype


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
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    source: Path,
    folder: Path,
    max_shard_bytes: int,
    response_template: bool,
) -> None:
    save_weights(folder, config, weights, max_shard_bytes=max_shard_bytes)
    files = tokenizer_files(source, "generation_config.json")
    if response_template and BACKEND_FILE in files:
        files |= Tokenizer.load(source).files()
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    original: dict[str, Any] = read_json(own_file(source / "config.json"))
    ids = {key: original[key] for key in SPECIAL_IDS if key in original}
    dtype = str(_stored_dtype(weights)).removeprefix("torch.")
    write_json(folder / "config.json", config_to_hf(config, dtype=dtype) | ids)
