"""A training state on disk: master weights, optimizer, counters; written whole, summed, read back bit for bit."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from open_exaone.base.config import Config
from open_exaone.base.errors import DataError
from open_exaone.base.files import explain_os_errors, read_json, write_json
from open_exaone.train.settings import MAY_CHANGE, KeepConfig

FILES = ("master.safetensors", "optimizer.safetensors", "state.json")
SUMS = "SHA256SUMS"  # beside the files that it is of; `sha256sum -c` reads it too


Memory = Mapping[str, Any]  # JSON
NOTHING: Memory = MappingProxyType({})


@dataclass
class Progress:
    """How far a stage is. The order of data and the samples follow from the seed and the step."""

    step: int = 0
    tokens: int = 0  # non-padding tokens, prompts included, counted once a backward pass
    seconds: float = 0.0  # spent training, over all sittings
    skipped_steps: int = 0  # whose gradient was not finite, or a spike
    skipped_in_a_row: int = 0
    empty_steps: int = 0  # that had nothing to learn from
    why_empty: str = ""  # the last of them
    norms: list[float] = field(default_factory=list)  # of the last steps' gradients: what a spike is measured by
    memory: Memory = field(default_factory=dict)  # what the objective's later steps need of its earlier ones


@dataclass(frozen=True)
class Snapshot:
    """A state as it goes to disk."""

    step: int
    masters: dict[str, Tensor]
    tensors: dict[str, Tensor]  # the optimizer's
    values: dict[str, Any]  # JSON


def checkpoints(folder: Path) -> list[Path]:
    """Saved states, oldest first."""
    return sorted(folder.glob("step-*"), key=lambda path: (len(path.name), path.name))


def best_checkpoint(folder: Path, keep: KeepConfig) -> Path | None:
    """The state whose score is best, the earliest of equal ones; None where none has a score."""
    scores = {path: _score(path) for path in checkpoints(folder)}
    scored = [
        (score if keep.best_is == "lowest" else -score, path) for path, score in scores.items() if score is not None
    ]
    return min(scored, key=lambda pair: pair[0])[1] if scored else None


def _score(path: Path) -> float | None:
    try:
        score = read_json(path / "state.json")["score"]
        return None if score is None else float(score)
    except (DataError, KeyError, TypeError, ValueError):  # broken: never the best
        return None


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Reads `folder/step-N`.

    Returns:
        the master weights by name, the optimizer's tensors by name, and what else state.json holds.

    Raises:
        DataError: a byte of it is not as it was written, or a file is missing.
    """
    missing = [name for name in (*FILES, SUMS) if not (path / name).is_file()]
    if missing:
        raise DataError(f"it has no {', '.join(missing)}")
    sums = (path / SUMS).read_bytes()
    if sums != _sums(path):
        lines = {line.split()[-1]: line for line in sums.decode("ascii", "replace").splitlines() if line.split()}
        wrong = [line.split()[-1] for line in _sums(path).decode().splitlines() if lines.get(line.split()[-1]) != line]
        raise DataError(f"the checksum of {', '.join(wrong) or SUMS} is wrong")
    masters, tensors = (load_file(path / f"{name}.safetensors") for name in ("master", "optimizer"))
    return masters, tensors, read_json(path / "state.json")


def write_state(folder: Path, snapshot: Snapshot) -> Path:
    """Writes `folder/step-N`: to disk first, into its place then.

    Returns:
        that folder.

    Raises:
        RunFolderError: the disk is full, or does not take it; nothing is left of it.
    """
    final = folder / f"step-{snapshot.step:06d}"
    partial = folder / f".{final.name}.partial"
    with explain_os_errors(final):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            save_file(snapshot.masters, partial / "master.safetensors")
            save_file(snapshot.tensors, partial / "optimizer.safetensors")
            write_json(partial / "state.json", snapshot.values)
            (partial / SUMS).write_bytes(_sums(partial))
            for path in (*partial.iterdir(), partial):
                _flush(path)
            _remove(final)  # only there where it turned out broken
            partial.rename(final)
            _flush(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return final


def remove_old(folder: Path, keep: KeepConfig, newest: Path) -> None:
    """Removes all states but `newest`, those just before it that are to be kept and, where one is asked for, the best.

    One behind `newest` was found broken when the run went on from before it.
    """
    saved = checkpoints(folder)
    end = saved.index(newest) + 1
    kept = set(saved[max(0, end - keep.last) : end])
    best = best_checkpoint(folder, keep) if keep.best else None
    for path in saved:
        if path not in kept and path != best:
            _remove(path)


def _remove(path: Path) -> None:
    """A state goes at once: renamed, then removed file by file."""
    gone = path.with_name(f".{path.name}.gone")
    if path.exists():
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _sums(path: Path) -> bytes:
    """What SHA256SUMS of a state's folder has to say."""
    lines = []
    for file in sorted(path.iterdir()):
        if file.name != SUMS:
            with open(file, "rb") as opened:
                lines.append(f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {file.name}\n")
    return "".join(lines).encode()


def _flush(path: Path) -> None:
    """Makes the disk hold a file, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fingerprint_of(config: Config) -> dict[str, str]:
    """A stage's settings that decide its outcome, by dotted name; a resumed run must have the same.

    Those left at their defaults are not named, so that a new version's new settings stop nobody. How tokens are split
    into micro-batches, how often states are saved, which are kept and what is watched may change.
    """
    return dict(_leaves(config.model_dump(mode="json", exclude=set(MAY_CHANGE), exclude_defaults=True)))


def _leaves(value: object, at: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [leaf for key, part in value.items() for leaf in _leaves(part, f"{at}.{key}".strip("."))]
    return [(at, str(value))]


def flatten(state: dict[str, Any]) -> dict[str, Tensor]:
    """Optimizer states as named tensors: `optimizer/parameter/key`, all of them tensors in torch's."""
    return {
        f"{index}/{parameter}/{key}": torch.as_tensor(value).detach()
        for index, optimizer in state.items()
        for parameter, values in optimizer["state"].items()
        for key, value in values.items()
    }


def unflatten(tensors: dict[str, Tensor]) -> dict[str, dict[int, dict[str, Tensor]]]:
    state: dict[str, dict[int, dict[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        index, parameter, key = name.split("/")
        state.setdefault(index, {}).setdefault(int(parameter), {})[key] = tensor
    return state
