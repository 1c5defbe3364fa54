"""A training state on disk: master weights, optimizer, counters. Written whole, read back bit for bit."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from open_exaone.base.errors import CheckpointError, DataError
from open_exaone.base.files import explain_os_errors, read_json, write_json
from open_exaone.base.log import logger
from open_exaone.learn.optimizer import MasterOptimizer

NUM_KEPT = 2  # checkpoints; one may turn out unreadable


@dataclass
class Progress:
    """How far a stage is. Nothing else is random: data order and samples follow from the seed and the step."""

    step: int = 0
    tokens: int = 0  # non-padding tokens, prompts included, counted once a backward pass
    seconds: float = 0.0  # spent training, over all sittings
    skipped_steps: int = 0  # whose gradient was not finite


def save_state(folder: Path, optimizer: MasterOptimizer, progress: Progress) -> None:
    """Writes `folder/step-N` by renaming a finished folder, then removes the oldest ones."""
    final = folder / f"step-{progress.step:06d}"
    partial = folder / f".{final.name}.partial"
    with explain_os_errors(final):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            masters = {name: master.detach().cpu() for name, master in optimizer.masters.items()}
            save_file(masters, partial / "master.safetensors")
            tensors, rest = _flatten(optimizer.state())
            save_file(tensors, partial / "optimizer.safetensors")
            write_json(partial / "state.json", {"progress": asdict(progress), "optimizer": rest})
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    for old in checkpoints(folder)[:-NUM_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """Saved states, oldest first."""
    return sorted(folder.glob("step-*"))


def load_state(folder: Path, optimizer: MasterOptimizer) -> Progress | None:
    """Restores the newest readable state into `optimizer`; None where nothing was saved.

    A state that cannot be read is named in a warning and the one before it is used.

    Raises:
        CheckpointError: states were saved and none can be read.
    """
    for path in reversed(checkpoints(folder)):
        try:
            masters = load_file(path / "master.safetensors")
            tensors = load_file(path / "optimizer.safetensors")
            values = read_json(path / "state.json")
            progress = Progress(**values["progress"])
            optimizer.restore(masters, _unflatten(tensors, values["optimizer"]))
            return progress
        except (SafetensorError, DataError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            logger.warning("%s: this saved state cannot be read (%s); the one before it is tried", path, error)
    if checkpoints(folder):
        raise CheckpointError(f"{folder}: no saved state can be read; to train this stage anew, remove the folder")
    return None


def _flatten(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Optimizer states as named tensors: `optimizer/parameter/key`, all of them tensors in torch's."""
    tensors = {}
    for index, optimizer in state.items():
        for parameter, values in optimizer["state"].items():
            for key, value in values.items():
                tensors[f"{index}/{parameter}/{key}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return tensors, {"keys": sorted(tensors)}


def _unflatten(tensors: dict[str, Tensor], rest: dict[str, list[str]]) -> dict[str, dict[int, dict[str, Tensor]]]:
    if sorted(tensors) != rest["keys"]:
        raise ValueError("optimizer.safetensors and state.json do not belong together")
    state: dict[str, dict[int, dict[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        index, parameter, key = name.split("/")
        state.setdefault(index, {}).setdefault(int(parameter), {})[key] = tensor
    return state
