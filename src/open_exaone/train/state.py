"""A training state on disk: master weights, optimizer, counters; written whole, summed, read back bit for bit."""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from open_exaone.base.config import Config
from open_exaone.base.errors import DataError, RankError
from open_exaone.base.files import explain_os_errors, read_json, write_json
from open_exaone.model.sharding import Place
from open_exaone.train.parallel.world import OWN_NOTES, Notes
from open_exaone.train.settings import MAY_CHANGE, KeepConfig
from open_exaone.train.state_tensors import SavedTensors, Some, write_tensors

KINDS = ("master", "optimizer")  # of files of tensors: one each, or one each from every rank
_PART = re.compile(rf"({'|'.join(KINDS)})-\d{{5}}-of-(\d{{5}})\.safetensors")
STATE_FILE = "state.json"
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
    """A state as it goes to disk, or one rank's part of it."""

    step: int
    masters: dict[str, Tensor]
    tensors: dict[str, Tensor]  # the optimizer's
    values: dict[str, Any]  # JSON
    places: dict[str, Place] | None = None  # where each tensor begins in the whole one; None: all are whole


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
        score = read_json(path / STATE_FILE)["score"]
        return None if score is None else float(score)
    except (DataError, KeyError, TypeError, ValueError):  # broken: never the best
        return None


def read_state(path: Path) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], dict[str, Any]]:
    """Reads `folder/step-N`, whatever number of ranks wrote it.

    Returns:
        the master weights by name and the optimizer's tensors by name, each read when it is asked for, and what else
        state.json holds.

    Raises:
        DataError: a byte of it is not as it was written, or a file is missing.
    """
    if why := fault([checked(path)]):
        raise DataError(why)
    saved = SavedTensors(path)
    return Some(saved, weights=True), Some(saved, weights=False), read_json(path / STATE_FILE)


def checked(path: Path, rank: int = 0, size: int = 1) -> dict[str, Any]:
    """One rank's share of the checking of `folder/step-N`, as JSON: `fault` is given that of all ranks."""
    try:
        files = sorted(file.name for file in path.iterdir())
        if missing := [name for name in _required(files) if name not in files]:
            return {"error": f"it has no {', '.join(missing)}"}
        summed = [name for name in files if name != SUMS]
        sums = (path / SUMS).read_text(encoding="ascii", errors="replace")
        return {"error": None, "sums": sums, "lines": [_sum(path / name) for name in summed[rank::size]]}
    except OSError as error:
        return {"error": str(error)}


def fault(shares: Sequence[Mapping[str, Any]]) -> str | None:
    """What is wrong with a saved state; None where it is as it was written.

    Args:
        shares: what `checked` gave on each rank.
    """
    if errors := [share["error"] for share in shares if share["error"] is not None]:
        return str(errors[0])
    lines = {_file_of(line): line for share in shares for line in share["lines"]}
    found, written = "".join(lines[name] for name in sorted(lines)), str(shares[0]["sums"])
    if found == written:
        return None
    were = set(written.splitlines(keepends=True))
    wrong = [name for name in sorted(lines) if lines[name] not in were]
    return f"the checksum of {', '.join(wrong) or SUMS} is wrong"


def _required(files: Sequence[str]) -> list[str]:
    """The names that a state's folder must hold, by those of the parts that it holds."""
    parts = [match for name in files if (match := _PART.fullmatch(name))]
    number = max((int(match[2]) for match in parts), default=0)
    tensors = [_part_name(kind, rank, number) for kind in KINDS for rank in range(number)] if parts else []
    return [*(tensors or (f"{kind}.safetensors" for kind in KINDS)), STATE_FILE, SUMS]


def _part_name(kind: str, rank: int, size: int) -> str:
    return f"{kind}-{rank + 1:05d}-of-{size:05d}.safetensors"


def write_state(
    folder: Path, snapshot: Snapshot, notes: Notes = OWN_NOTES, gives_up: Callable[[], bool] = lambda: False
) -> Path:
    """Writes `folder/step-N`: to disk first, into its place then.

    Args:
        notes: of the ranks that each write a part of this state and call this at about the same time; the first of
            them puts the state into its place once all parts are on disk.
        gives_up: asked for as long as another rank is waited for.

    Returns:
        that folder.

    Raises:
        RunFolderError: the disk is full, or does not take it; nothing is left of it.
        RankError: another rank's part could not be written, or did not come; nothing is left of it.
    """
    final = folder / f"step-{snapshot.step:06d}"
    partial = folder / f".{final.name}.partial"
    with explain_os_errors(final):
        try:
            if notes.rank == 0:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                notes.put({"error": None})  # the others may begin
            else:
                notes.wait(0, gives_up)
                partial.mkdir(parents=True, exist_ok=True)  # another machine may see it late
            lines = _write_tensors(partial, snapshot, notes)
            if notes.rank:
                notes.put({"error": None, "lines": lines})
                return final
            for rank in range(1, notes.size):
                lines += notes.wait(rank, gives_up)["lines"]
            _complete(partial, final, snapshot, lines)
        except BaseException as error:
            if notes.rank == 0:
                shutil.rmtree(partial, ignore_errors=True)
            with contextlib.suppress(RankError):
                notes.put({"error": str(error) or type(error).__name__})
            raise
    return final


def _write_tensors(partial: Path, snapshot: Snapshot, notes: Notes) -> list[str]:
    """Writes this rank's files: their lines of SHA256SUMS."""
    lines = []
    for kind, tensors in zip(KINDS, (snapshot.masters, snapshot.tensors), strict=True):
        name = f"{kind}.safetensors" if snapshot.places is None else _part_name(kind, notes.rank, notes.size)
        write_tensors(partial / name, tensors, snapshot.places)
        lines.append(_sum(partial / name))
        _flush(partial / name)
    return lines


def _complete(partial: Path, final: Path, snapshot: Snapshot, lines: list[str]) -> None:
    """Adds what is not tensors, and moves a state into its place."""
    write_json(partial / STATE_FILE, snapshot.values)
    lines = sorted([*lines, _sum(partial / STATE_FILE)], key=_file_of)
    (partial / SUMS).write_bytes("".join(lines).encode())
    for path in (partial / STATE_FILE, partial / SUMS, partial):
        _flush(path)
    _remove(final)  # only there where it turned out broken
    partial.rename(final)
    _flush(final.parent)


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


def _sum(path: Path) -> str:
    """A file's line of SHA256SUMS."""
    with open(path, "rb") as opened:
        return f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {path.name}\n"


def _file_of(line: str) -> str:
    return line[66:].rstrip("\n")


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
