"""Reads and writes a model's folder: config, weights, tokenizer, generation settings."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from open_exaone.base.errors import CheckpointError, ConfigError, DataError
from open_exaone.base.files import read_json, write_atomically, write_json
from open_exaone.base.machine import has_fast_cpu_bfloat16
from open_exaone.model.config import ModelConfig
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where there is a GPU, else the CPU.

    Raises:
        ConfigError: CUDA is asked for and not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {name}: torch finds no GPU here: leave it out, or see `exaone doctor`")
    return torch.device(name)


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
    folder: Path, config: ModelConfig, weights: dict[str, Tensor], tokenizer: Tokenizer, sampling: dict[str, Any]
) -> None:
    """Writes a folder that transformers' Auto classes open; each file appears whole.

    Args:
        weights: by published name; a tied head is left out.
        sampling: recommended temperature and top_p, for `generation_config.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = {"bos_id": tokenizer.bos_id, "end_id": tokenizer.end_id, "pad_id": tokenizer.pad_id}
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    contiguous = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    write_atomically(folder / "model.safetensors", lambda path: save_file(contiguous, path, metadata={"format": "pt"}))
    write_json(folder / "config.json", config.to_hf(**ids, dtype=dtype))
    tokens = {"bos_token_id": ids["bos_id"], "eos_token_id": ids["end_id"], "pad_token_id": ids["pad_id"]}
    write_json(folder / "generation_config.json", {**tokens, "do_sample": True, **sampling})
    tokenizer.save(folder)


def load_config(folder: Path) -> ModelConfig:
    """Reads `config.json`.

    Raises:
        CheckpointError: it is missing, not JSON, or describes no model that we have.
    """
    path = folder / "config.json"
    try:
        return ModelConfig.from_hf(read_json(path))
    except DataError as error:
        raise CheckpointError(f"{error}; a model's folder holds config.json") from error
    except KeyError as error:
        raise CheckpointError(f"{path}: field {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Reads `model.safetensors` as stored.

    Raises:
        CheckpointError: it is missing, cut or not a safetensors file.
    """
    path = folder / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; only safetensors are read, never .bin or pickle")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}. Copy or download it again") from error


def load_model(folder: Path, *, dtype: str | torch.dtype = "auto", device: str | torch.device = "cpu") -> LanguageModel:
    """Opens a model's folder.

    Raises:
        CheckpointError: a file is missing or broken, or a tensor is missing, extra or of another shape.
    """
    config = load_config(folder)
    weights = load_weights(folder)
    with torch.device("meta"):
        model = LanguageModel(config)
    expected = {name: weight.shape for name, weight in model.named_parameters()}
    if config.tied_embeddings:
        weights.pop("lm_head.weight", None)
    _check_tensors(folder / "model.safetensors", weights, expected)
    target = dtype if isinstance(dtype, torch.dtype) else resolve_dtype(dtype, device)
    model.to_empty(device=device).to(target)
    model.tie_weights()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    return model


def _check_tensors(path: Path, weights: dict[str, Tensor], expected: dict[str, torch.Size]) -> None:
    for problem, names in (
        ("missing", expected.keys() - weights.keys()),
        ("unknown", weights.keys() - expected.keys()),
    ):
        if names:
            raise CheckpointError(f"{path}: {len(names)} tensors are {problem}, such as {min(names)}")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            found = tuple(weights[name].shape)
            raise CheckpointError(f"{path}: {name} has shape {found}; config.json asks for {tuple(shape)}")
        if not torch.isfinite(weights[name]).all():
            raise CheckpointError(f"{path}: {name} holds NaN or infinity: the model is broken")
