"""A saved state's tensors: safetensors files, each with the parts that one rank wrote.

They are in the format of torch.distributed.checkpoint (its HuggingFaceStorageReader): a file's header holds where each
of its tensors lies in the whole one, or nothing, where all are whole. What one number of ranks wrote, another reads.
"""

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from open_exaone.base.errors import DataError
from open_exaone.model.sharding import Place

SHARDING = "DCP_SHARDING_INFO"  # torch's name for it
STATE = "/"  # in the name of an optimizer's tensor, and in no weight's


def write_tensors(path: Path, tensors: Mapping[str, Tensor], places: Mapping[str, Place] | None) -> None:
    """Writes one file.

    Args:
        places: where each tensor begins in the whole one; None where all are whole.
    """
    if places is None:
        save_file(dict(tensors), path)
        return
    offsets = {name: {"saved_offsets": list(places[name])} for name in tensors}
    save_file(dict(tensors), path, metadata={SHARDING: json.dumps(offsets)})


class SavedTensors(Mapping[str, Tensor]):
    """Tensors of a saved state by name; each is read, whole, when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Args:
        path: the state's folder, whose sums were checked.

        Raises:
            DataError: a file is no safetensors file, or the parts of a tensor are not all there.
        """
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

        self._path = path
        self._reader = HuggingFaceStorageReader(str(path))
        try:
            metadata = self._reader.read_metadata()
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: the tensors cannot be read: {error}") from error
        self._reader.read_metadata = lambda: metadata  # type: ignore[method-assign]  # of hundreds of files, once
        self._found: dict[str, Any] = dict(metadata.state_dict_metadata)
        for name, found in self._found.items():
            if sum(math.prod(chunk.sizes) for chunk in found.chunks) != math.prod(found.size):
                raise DataError(f"{path}: parts of {name} are missing")

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._found[name].size)

    def dtype(self, name: str) -> torch.dtype:
        found: torch.dtype = self._found[name].properties.dtype
        return found

    def __getitem__(self, name: str) -> Tensor:
        target = torch.empty(self.shape(name), dtype=self.dtype(name))
        self.read_into({name: target})
        return target

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def read_into(self, targets: Mapping[str, Tensor]) -> None:
        """Fills tensors of the shapes that were saved; of those divided among ranks, each rank reads its own part.

        Raises:
            DataError: a file cannot be read.
        """
        from torch.distributed.checkpoint.api import CheckpointException
        from torch.distributed.checkpoint.state_dict_loader import load

        with warnings.catch_warnings(action="ignore", category=UserWarning):  # that each rank reads for itself
            try:
                load(dict(targets), storage_reader=self._reader, no_dist=True)
            except CheckpointException as error:
                why = next(iter(error.failures.values()))[0]
                raise DataError(f"{self._path}: the tensors cannot be read: {why}") from error


class Some(Mapping[str, Tensor]):
    """The weights among saved tensors, or the optimizer's."""

    def __init__(self, saved: SavedTensors, *, weights: bool) -> None:
        self._saved = saved
        self._names = [name for name in saved if (STATE not in name) == weights]

    def __getitem__(self, name: str) -> Tensor:
        return self._saved[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
