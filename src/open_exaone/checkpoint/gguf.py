"""Writes a model as one GGUF file, which llama.cpp opens: weights, shape, tokenizer and chat template.

What llama.cpp would compute otherwise than we do is refused. Its rules were read from its src/models/*.cpp,
src/llama-model.cpp and src/llama-vocab.cpp (as in llama-cpp-python 0.3.36), and hold in benchmarks/gguf_parity.py.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from open_exaone.base.errors import CheckpointError, ConfigError
from open_exaone.base.files import write_atomically
from open_exaone.checkpoint.gguf_tokenizer import FIX, add_tokenizer
from open_exaone.checkpoint.weights import expected_shapes
from open_exaone.model.config import LayerKind, ModelConfig
from open_exaone.model.rope import inverse_frequencies

if TYPE_CHECKING:
    from gguf import GGUFWriter


@dataclass(frozen=True, slots=True)
class _Architecture:
    """What llama.cpp makes of a family; by default it does as we do."""

    rope_on_neighbours: bool = False  # RoPE turns channels 2i and 2i + 1, where ours turns i and i + H/2
    reads_rope_factors: bool = True  # Llama 3's scaling
    heads_fill_width: bool = False  # o_proj has to be square


_ARCHITECTURES: Mapping[str, _Architecture] = {
    "exaone": _Architecture(),
    "exaone4": _Architecture(heads_fill_width=True),
    "llama": _Architecture(rope_on_neighbours=True),
    "qwen2": _Architecture(reads_rope_factors=False, heads_fill_width=True),
    "qwen3": _Architecture(reads_rope_factors=False),
}
_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS; more end llama.cpp's process
_HYBRID_LAYERS, _HYBRID_PATTERN = 64, "LLLG"  # llama.cpp's exaone4 is hybrid at this depth, and only there


@dataclass(frozen=True, slots=True)
class _Item:
    """One tensor of the file, read when its turn comes."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def export_gguf(
    config: ModelConfig, weights: Mapping[str, Tensor], folder: Path, path: Path, *, dtype: torch.dtype
) -> None:
    """Writes `path`, whole or not at all; holds one weight in memory at a time.

    llama.cpp never normalises text: where the tokenizer asks for NFC (Qwen's do), text has to come in NFC.

    Args:
        weights: CPU tensors by the names of `LanguageModel(config).named_parameters()`; each is read once.
        folder: the model's folder, for `tokenizer.json` and, where they stand beside it, `tokenizer_config.json`,
            `generation_config.json`, `config.json` and `chat_template.jinja`.
        dtype: of the matrices: float32, float16 or bfloat16. Vectors are float32.

    Raises:
        ConfigError: the package `gguf` isn't installed.
        CheckpointError: llama.cpp would compute or tokenise otherwise, or a weight is too large for float16.
        DataError: `tokenizer.json` is missing, or a file is not JSON.
        RunFolderError: the disk is full, or `path` cannot be written.

    The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """
    try:
        import gguf
    except ImportError as error:
        raise ConfigError("GGUF needs one more package: pip install 'open-exaone[gguf]'") from error
    for objection in _objections(config):
        raise CheckpointError(f"{folder}: cannot become GGUF: {objection}. {FIX}")
    writer = gguf.GGUFWriter(None, config.family)
    writer.add_name(path.stem)
    _add_shape(writer, config, dtype)
    add_tokenizer(writer, folder, config.vocab_size)
    items = list(_items(config, weights, folder, dtype))
    write_atomically(path, lambda temporary: _write(writer, items, temporary, dtype))


def _objections(config: ModelConfig) -> Iterator[str]:
    """What llama.cpp would do otherwise than we do."""
    family, heads = config.family, config.num_heads * config.head_width
    architecture = _ARCHITECTURES[family]
    if config.num_layers > _MAX_LAYERS:
        yield f"it has {config.num_layers} layers, and llama.cpp takes at most {_MAX_LAYERS}"
    if architecture.heads_fill_width and heads != config.width:
        yield (
            f"its {config.num_heads} heads of {config.head_width} make {heads} channels and its width is "
            f"{config.width}; llama.cpp opens {family} only where the two are equal"
        )
    if config.rope_scaling and not architecture.reads_rope_factors:
        yield f"it has Llama 3's RoPE scaling, which llama.cpp leaves out of {family}"
    if family == "exaone4":
        yield from _objections_to_layer_kinds(config)
    elif config.is_hybrid:
        yield f"it has local layers, and llama.cpp's {family} has none: each would see the whole context"


def _objections_to_layer_kinds(config: ModelConfig) -> Iterator[str]:
    """llama.cpp derives EXAONE 4.0's layer kinds from the number of layers.

    At 64 layers it leaves RoPE out of every layer that isn't local; at another depth it has no local layers. It reads
    the window from the file, and in new releases the pattern too, but older ones would take LLLG silently.
    """
    expected = config.model_copy(update={"pattern": _HYBRID_PATTERN}).layer_kinds
    if config.num_layers == _HYBRID_LAYERS and not config.is_hybrid:
        yield f"llama.cpp takes every exaone4 of {_HYBRID_LAYERS} layers for a hybrid, and this one is all global"
    elif config.is_hybrid and config.num_layers != _HYBRID_LAYERS:
        yield (
            f"it has local layers, and llama.cpp takes an exaone4 for a hybrid only at {_HYBRID_LAYERS} layers: "
            f"at {config.num_layers} each layer would see the whole context"
        )
    elif config.is_hybrid and config.layer_kinds != expected:
        yield f"its layers follow {config.pattern!r}, and llama.cpp's exaone4 follows {_HYBRID_PATTERN!r}"


def _add_shape(writer: "GGUFWriter", config: ModelConfig, dtype: torch.dtype) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    file_types = {
        torch.float32: LlamaFileType.ALL_F32,
        torch.float16: LlamaFileType.MOSTLY_F16,
        torch.bfloat16: LlamaFileType.MOSTLY_BF16,
    }
    if dtype not in file_types:
        raise ValueError(f"dtype = {dtype}: must be one of {', '.join(map(str, file_types))}")
    writer.add_file_type(file_types[dtype])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.ffn_width)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_width)
    writer.add_rope_freq_base(config.rope_theta)
    if config.window is not None and config.is_hybrid:
        writer.add_sliding_window(config.window)
        writer.add_sliding_window_pattern([kind is LayerKind.LOCAL for kind in config.layer_kinds])


def _items(config: ModelConfig, weights: Mapping[str, Tensor], folder: Path, dtype: torch.dtype) -> Iterator[_Item]:
    """The file's tensors, in order; none is read yet."""
    from gguf import MODEL_ARCH, MODEL_TENSOR, TENSOR_NAMES, get_tensor_name_map

    names = get_tensor_name_map(MODEL_ARCH[config.family.upper()], config.num_layers)
    if config.rope_scaling:
        rope_name = f"{TENSOR_NAMES[MODEL_TENSOR.ROPE_FREQS]}.weight"
        yield _Item(rope_name, (config.head_width // 2,), partial(_rope_factors, config))
    for name, shape in expected_shapes(config).items():
        gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert gguf_name is not None, name
        yield _Item(gguf_name, shape, partial(_read, config, weights, name, folder, dtype))


def _rope_factors(config: ModelConfig) -> Tensor:
    """What llama.cpp divides RoPE's frequencies by, [H/2]."""
    plain = inverse_frequencies(config.model_copy(update={"rope_scaling": None}))
    return plain / inverse_frequencies(config)


def _read(config: ModelConfig, weights: Mapping[str, Tensor], name: str, folder: Path, dtype: torch.dtype) -> Tensor:
    weight = weights[name]
    if _ARCHITECTURES[config.family].rope_on_neighbours and name.endswith(("q_proj.weight", "k_proj.weight")):
        weight = _as_neighbours(weight, config.head_width)
    stored = weight.to(dtype if weight.ndim > 1 else torch.float32)
    if stored.dtype is torch.float16 and not stored.isfinite().all():
        raise CheckpointError(f"{folder}: {name} holds values beyond float16's 65504: export as bfloat16 or float32")
    return stored.contiguous()


def _as_neighbours(weight_ND: Tensor, head_width: int) -> Tensor:
    """Orders each head's channels so that those which RoPE turns together, i and i + H/2, are neighbours."""
    halves = weight_ND.reshape(-1, 2, head_width // 2, weight_ND.shape[1])
    return halves.transpose(1, 2).reshape(weight_ND.shape)


def _write(writer: "GGUFWriter", items: list[_Item], path: Path, dtype: torch.dtype) -> None:
    """Writes the file, tensor by tensor."""
    import numpy as np
    from gguf import GGMLQuantizationType

    kinds = {
        torch.float32: GGMLQuantizationType.F32,
        torch.float16: GGMLQuantizationType.F16,
        torch.bfloat16: GGMLQuantizationType.BF16,
    }
    with contextlib.closing(writer):
        for item in items:
            stored = dtype if len(item.shape) > 1 else torch.float32
            num_bytes = torch.Size(item.shape).numel() * stored.itemsize
            writer.add_tensor_info(item.name, item.shape, np.dtype(np.int16), num_bytes, raw_dtype=kinds[stored])
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        [file] = writer.fout
        for item in items:
            tensor = item.read()
            assert tensor.shape == item.shape, f"{item.name}: {tuple(tensor.shape)} for {item.shape}"
            writer.write_padding(file, file.tell())
            file.write(tensor.view(torch.uint8).numpy().data)  # gguf's own `tofile` hides why a write fails
            del tensor  # or it would live on while the next is read
        writer.write_padding(file, file.tell())
