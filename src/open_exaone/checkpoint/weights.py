"""A folder's weights: safetensors, in one file or in shards with an index; mapped from disk, not copied."""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from open_exaone.base.errors import CheckpointError, DataError
from open_exaone.base.files import read_json, write_atomically, write_json
from open_exaone.base.links import own_file
from open_exaone.model.config import ModelConfig
from open_exaone.model.family import published_name
from open_exaone.model.transformer import LanguageModel

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
EMBEDDING = "model.embed_tokens.weight"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
# Tables of RoPE's angles, which old versions of transformers stored with the weights; everyone computes them anew.
DERIVED = (".rotary_emb.inv_freq", ".rotary.inv_freq")
SPARSE_BYTES = 256 << 20  # a smaller file may be all holes: reading them takes no time
MAX_SHARD_BYTES = 5_000_000_000
_WRITTEN = re.compile(r"model(-\d{5}(-of-\d{5})?)?\.safetensors(\.index\.json)?")


class Weights(Mapping[str, Tensor]):
    """A folder's weights under our names, checked against the config; each is mapped from its file when asked for.

    A tensor's pages are the file's own until something writes to them, so that a model costs no memory of its own
    before it is trained; the file must not be cut or overwritten in place meanwhile (whole-file replacement, as
    everything here writes, is safe).

    Raises:
        CheckpointError: names the file and the tensor that is missing, unknown, of another shape or dtype, or, when
            it is read, not finite.
    """

    def __init__(self, folder: Path, config: ModelConfig, dtype: torch.dtype | None = None) -> None:
        """Args:
        dtype: what to read the weights as; each as it is stored if left out.
        """
        self._config, self._dtype = config, dtype
        self._handles: dict[str, tuple[Path, Any]] = {}  # by published name: the file, and safetensors' handle to it
        self._names = {name: published_name(config.family, name) for name in expected_shapes(config)}
        head = published_name(config.family, "lm_head.weight")
        tied_heads: list[tuple[Path, Any]] = []
        for path, names in _files(folder).items():
            handle = open_safetensors(path)
            stored = {name for name in list(handle.keys()) if not name.endswith(DERIVED)}
            if config.tied_embeddings:  # a tied head is the embedding, wherever files name it
                tied_heads += [(path, handle)] * (head in stored)
                stored, names = stored - {head}, None if names is None else names - {head}
            if names is not None and (strangers := sorted(stored ^ names)):
                place = "missing there" if strangers[0] in names else f"there, where {INDEX} has them elsewhere or not"
                raise CheckpointError(f"{path}: tensors are {place} ({len(strangers)}), such as {strangers[0]}")
            self._handles |= dict.fromkeys(stored, (path, handle))
        if tied_heads and self._names[EMBEDDING] not in self._handles:  # one of the two was left out, the other one
            self._names[EMBEDDING] = head
            self._handles[head] = tied_heads.pop()
        self._check_headers(folder)
        for path, handle in tied_heads:
            self._check_tied_head(path, handle, head)

    def __getitem__(self, name: str) -> Tensor:
        return self._read(name, lambda handle, stored: handle.get_tensor(stored))

    def part(self, name: str, place: tuple[slice, ...]) -> Tensor:
        """The values of a weight that lie in these slices, one a dimension; nothing else of it is read."""
        return self._read(name, lambda handle, stored: handle.get_slice(stored)[place])

    def _read(self, name: str, read: Callable[[Any, str], Tensor]) -> Tensor:
        path, handle = self._handles[self._names[name]]
        try:
            tensor = read(handle, self._names[name])
        except (SafetensorError, RuntimeError) as error:
            raise CheckpointError(f"{path}: {self._names[name]} cannot be read: {error}") from error
        if not is_finite(tensor):
            raise CheckpointError(
                f"{path}: {self._names[name]} holds NaN or infinity: the model is broken; copy or download it again"
            )
        try:
            return cast(tensor, self._dtype or tensor.dtype)
        except OverflowError as error:
            raise CheckpointError(f"{path}: {self._names[name]} {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def dtype_of(self, name: str) -> torch.dtype:
        """What a weight is read as, by its file's header."""
        _, handle = self._handles[self._names[name]]
        return self._dtype or DTYPES[handle.get_slice(self._names[name]).get_dtype()]

    def _check_tied_head(self, path: Path, handle: Any, head: str) -> None:
        """A tied head may be stored once more; then it must be the embedding."""
        name = self._names[EMBEDDING]
        embedding, stored = self._handles[name][1].get_tensor(name), handle.get_tensor(head)
        if not torch.equal(stored.to(embedding.dtype), embedding):
            raise CheckpointError(
                f'{path}: {head} differs from {name}, and config.json ties them: set "tie_word_embeddings": false there'
            )

    def _check_headers(self, folder: Path) -> None:
        wanted = set(self._names.values())
        for problem, names in (("missing", wanted - self._handles.keys()), ("unknown", self._handles.keys() - wanted)):
            if names:
                whole = folder / (INDEX if (folder / INDEX).exists() and not (folder / SINGLE).exists() else SINGLE)
                where = whole if problem == "missing" else self._handles[min(names)][0]
                raise CheckpointError(
                    f"{where}: tensors are {problem} ({len(names)}), such as {min(names)}: "
                    f"config.json describes another model"
                )
        for name, shape in expected_shapes(self._config).items():
            path, handle = self._handles[self._names[name]]
            header = handle.get_slice(self._names[name])
            if tuple(header.get_shape()) != shape:
                raise CheckpointError(
                    f"{path}: {self._names[name]} has shape {tuple(header.get_shape())}; config.json asks for {shape}"
                )
            if header.get_dtype() not in DTYPES:
                raise CheckpointError(
                    f"{path}: {self._names[name]} is stored as {header.get_dtype()}; only {', '.join(DTYPES)} are "
                    f"read: take the model's unquantised weights"
                )


@functools.cache
def expected_shapes(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """The shape of each weight of a model, by our name; a tied head is left out."""
    with torch.device("meta"):
        model = LanguageModel(config)
    return MappingProxyType({name: tuple(weight.shape) for name, weight in model.named_parameters()})


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite, in one pass without a copy: both survive a minimum and maximum."""
    if not tensor.numel():  # a rank may have no part of a weight
        return True
    low, high = tensor.aminmax()
    return bool(torch.isfinite(low) and torch.isfinite(high))


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor in another dtype, or itself if that is its own.

    Raises:
        OverflowError: it holds values that the dtype is too narrow for.
    """
    fitted = tensor.to(dtype)
    is_narrower = torch.finfo(dtype).max < torch.finfo(tensor.dtype).max
    if is_narrower and not is_finite(fitted):
        raise OverflowError(f"does not fit into {str(dtype).removeprefix('torch.')}: choose a wider dtype")
    return fitted


def save_weights(
    folder: Path, config: ModelConfig, weights: Mapping[str, Tensor], *, max_shard_bytes: int = MAX_SHARD_BYTES
) -> int:
    """Writes a model's weights in its family's own layout, one shard in memory at a time; each file appears whole.

    Args:
        weights: by our names; each is read once.

    Returns:
        how many bytes of weights were written.
    """
    shards: list[tuple[Path, list[str]]] = []  # each file, and the published names in it
    shard: dict[str, Tensor] = {}
    total = shard_bytes = 0

    def write_shard() -> None:
        path = folder / f"model-{len(shards) + 1:05d}.safetensors"
        write_atomically(path, lambda partial: save_file(shard, partial, metadata={"format": "pt"}))
        shards.append((path, list(shard)))

    for stale in filter(lambda path: _WRITTEN.fullmatch(path.name), list(folder.iterdir())):
        stale.unlink()  # what an earlier model left would be opened as well, or instead
    for name in expected_shapes(config):
        tensor = weights[name].detach().cpu().contiguous()
        num_bytes = tensor.numel() * tensor.element_size()
        if shard and shard_bytes + num_bytes > max_shard_bytes:
            write_shard()
            shard, shard_bytes = {}, 0
        shard[published_name(config.family, name)] = tensor
        total, shard_bytes = total + num_bytes, shard_bytes + num_bytes
    write_shard()
    if len(shards) == 1:
        shards[0][0].rename(folder / SINGLE)
        return total
    weight_map: dict[str, str] = {}
    for number, (path, names) in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        path.rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    return total


def open_safetensors(path: Path) -> Any:
    """safetensors' handle to a file of a model's or an adapter's folder.

    Raises:
        CheckpointError: it cannot be read, a link leads elsewhere, or most of it is not on the disk.
    """
    own_file(path)
    try:
        found = path.stat()
        on_disk = 512 * found.st_blocks
        if found.st_size > SPARSE_BYTES and 0 < on_disk < found.st_size // 8:  # reading its holes may take days
            raise CheckpointError(
                f"{path}: is {found.st_size:,} bytes long, of which {on_disk:,} are on the disk: it was never written "
                f"or downloaded in full. Copy or download it again"
            )
        with open(path, "rb"):  # safetensors says that a file which it may not read is missing
            return safe_open(path, framework="pt")
    except PermissionError as error:
        raise CheckpointError(f"{path}: permission is denied: let this user read it") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}. Copy or download it again") from error


def _files(folder: Path) -> dict[Path, set[str] | None]:
    """The files of weights, and which tensors the index says are in each (None without an index)."""
    if (folder / SINGLE).exists() or (folder / SINGLE).is_symlink():
        return {_inside(folder, SINGLE, SINGLE): None}
    index = folder / INDEX
    if not index.exists():
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
        beside = f" ({pickles[0]} is a pickle, which may run code)" if pickles else ""
        if folder.resolve().parent.name == "snapshots":
            beside += "; or the download was cut: name the model again, with a network"
        raise CheckpointError(f"{folder / SINGLE}: no such file; only safetensors are read{beside}")
    try:
        weight_map = read_json(own_file(index))["weight_map"]
        pairs = {name: file for name, file in weight_map.items() if not name.endswith(DERIVED)}
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f'{index}: weight_map: must be an object {{"tensor": "file", …}}') from error
    tensors_of: dict[str, set[str]] = {}
    for name, file in pairs.items():
        if not isinstance(file, str):
            raise CheckpointError(f"{index}: weight_map.{name} = {file!r}: must be a file's name")
        tensors_of.setdefault(file, set()).add(name)
    return {_inside(folder, file, f"{INDEX}: weight_map"): names for file, names in tensors_of.items()}


def _inside(folder: Path, file: str, index: str) -> Path:
    """A file of weights that stands in the folder itself, or, in the hub's cache, in the same model's blobs."""
    path = folder / file
    if Path(file).name != file or not file.endswith(".safetensors"):
        raise CheckpointError(f"{folder / index}: {file!r} must be the name of a .safetensors file in the same folder")
    own_file(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file, though {folder / index} names it: copy or download it again")
    return path
