"""Reads and writes a model's folder: config, weights, tokenizer, generation settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_exaone.base.errors import CheckpointError, ConfigError, DataError
from open_exaone.base.files import MAX_CONFIG_BYTES, read_json, write_json
from open_exaone.base.links import own_file
from open_exaone.base.machine import has_fast_cpu_bfloat16
from open_exaone.checkpoint.licence import licence_of, model_name, warn_of_licence
from open_exaone.checkpoint.weights import MAX_SHARD_BYTES, Weights, save_weights
from open_exaone.model.config import ModelConfig
from open_exaone.model.context import ContextConfig
from open_exaone.model.hf import config_from_hf, config_to_hf
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.text.tokenizer_files import Source

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where there is a GPU, else the CPU.

    Raises:
        ConfigError: CUDA is asked for and not there, or torch knows no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {name}: torch finds no GPU here: leave it out, or see `exaone doctor`")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name}: torch knows no such device: use 'auto', 'cpu' or 'cuda'") from error


def resolve_dtype(name: str = "auto", device: torch.device | str = "cpu") -> torch.dtype:
    """ "auto" is bfloat16 where the device multiplies it fast, else float32.

    Raises:
        ValueError: the name is unknown.
    """
    if name == "auto":
        fast = torch.device(device).type == "cuda" or has_fast_cpu_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    if name not in DTYPES:
        raise ValueError(f"dtype = {name!r}: must be 'auto' or one of {', '.join(sorted(DTYPES))}")
    return DTYPES[name]


def save_model(
    folder: Path,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    sampling: Mapping[str, Any],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Writes a folder that transformers' Auto classes open; each file appears whole.

    Args:
        weights: by our names; a tied head is left out.
        sampling: for `generation_config.json`: recommended temperature and top_p, and what else stands there.
        max_shard_bytes: more than this goes into several files, with an index.
    """
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    values = config_to_hf(config, dtype=dtype)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder, config, weights, max_shard_bytes=max_shard_bytes)
    end_ids = tokenizer.end_id if len(tokenizer.end_ids) == 1 else list(tokenizer.end_ids)
    tokens = {"bos_token_id": tokenizer.bos_id, "eos_token_id": end_ids, "pad_token_id": tokenizer.pad_id}
    write_json(folder / "config.json", values | tokens)
    tokenizer.save(folder)
    write_json(folder / "generation_config.json", {"do_sample": True, **sampling, **tokens})


def sampling_defaults(folder: Path) -> dict[str, Any]:
    """What a folder's `generation_config.json` holds, but for the tokenizer's ids; empty where there is none.

    Raises:
        CheckpointError: it is no JSON object; says how to fix it.
    """
    path = folder / "generation_config.json"
    fix = "correct the file, or delete it: the sampling that it recommends is then not used"
    try:
        values = read_json(own_file(path), max_bytes=MAX_CONFIG_BYTES) if path.is_file() else {}
    except DataError as error:
        raise CheckpointError(f"{error}; {fix}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: must hold an object; {fix}")
    return {key: value for key, value in values.items() if not key.endswith("_token_id")}


def load_config(folder: Path) -> ModelConfig:
    """Reads `config.json`.

    Raises:
        CheckpointError: it is missing, not JSON, or describes no model that we have; names the key.
    """
    path = folder / "config.json"
    try:
        values = read_json(own_file(path), max_bytes=MAX_CONFIG_BYTES)
    except DataError as error:
        raise CheckpointError(f"{error}; a model's folder holds config.json") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: must hold an object")
    try:
        return config_from_hf(values)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_weights(folder: Path) -> Weights:
    """A folder's weights by our names, as stored; each is mapped when asked for.

    Raises:
        CheckpointError: a file is missing or broken, or a tensor is missing, unknown or of another shape.
    """
    return Weights(folder, load_config(folder))


def load_model(
    folder: Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    context: ContextConfig | None = None,
) -> LanguageModel:
    """Opens a model's folder of any family.

    On the CPU, weights already stored as `dtype` stay in the files that they are mapped from: opening takes no memory
    of its own, until training writes to them.

    Args:
        context: a longer one than it was saved with.

    Raises:
        ValueError: the context is no longer, or longer than its RoPE reaches.
        CheckpointError: a file is missing or broken, a tensor is missing, unknown, of another shape or not finite, or
            the tokenizer beside them has more ids than the model.
    """
    target = dtype if isinstance(dtype, torch.dtype) else resolve_dtype(dtype, device)
    model, weights = open_model(folder, target, context)
    model.load_state_dict({name: weight.to(device) for name, weight in weights.items()}, strict=False, assign=True)
    model.tie_weights()
    return model


def open_model(folder: Path, dtype: torch.dtype, context: ContextConfig | None = None) -> tuple[LanguageModel, Weights]:
    """A model's shape on the meta device, and its weights, of which nothing is read yet.

    Raises:
        ValueError, CheckpointError: as `load_model`; of a tensor that is not finite, once it is read.
    """
    warn_of_licence(licence_of(folder), model_name(folder))
    config = load_config(folder)
    config = config if context is None else context.extended(config)
    check_vocabulary(folder, config)
    weights = Weights(folder, config, dtype)
    with torch.device("meta"):
        model = LanguageModel(config).to(dtype)
    return model, weights


def load_tokenizer(folder: Path, *, chat_format: str | None = None) -> Tokenizer:
    """Opens the tokenizer of a model's folder.

    Args:
        chat_format: how conversations are rendered; the folder's own way if left out. See `Tokenizer.load`.

    Raises:
        CheckpointError: a file is missing or broken, or it has more ids than the model beside it.
    """
    warn_of_licence(licence_of(folder), model_name(folder))
    if (folder / "config.json").is_file():
        check_vocabulary(folder, load_config(folder))
    return Tokenizer.load(folder, chat_format=chat_format)


def check_vocabulary(folder: Path, config: ModelConfig) -> None:
    """Refuses a tokenizer with ids that the embedding has no row for.

    Raises:
        CheckpointError: names both files and both numbers.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    try:
        values = read_json(own_file(path))
        vocab = values["model"]["vocab"]
        known = dict(vocab) if isinstance(vocab, dict) else {piece: number for number, (piece, _) in enumerate(vocab)}
        known = {token["content"]: token["id"] for token in values.get("added_tokens") or ()} | known
        beside = [number for number, name, _ in Source.read(folder).added_tokens() if name not in known]
        highest = max((*known.values(), *beside), default=-1)
        too_many = highest >= config.vocab_size
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: is no tokenizer: model.vocab or added_tokens is missing or wrong") from error
    if too_many:
        raise CheckpointError(
            f"{path}: has ids up to {highest}, and the embedding of {folder / 'config.json'} has {config.vocab_size} "
            f"rows (vocab_size): they do not belong together"
        )
