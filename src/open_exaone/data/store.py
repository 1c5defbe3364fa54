"""Prepared data on disk: token ids of all examples end to end, memory-mapped; nothing of them stays in memory.

    Prepared(folder)                 opens what `data.prepare.prepare` wrote
      .kind                          "pretrain" | "sft" | "preference" | "rl"
      .documents                     Sequence[Document]                      of "pretrain" and "sft"
      .units                         Sequence[Unit]                          of "preference", such as (chosen, rejected)
      .problems                      Sequence[Problem]                       of "rl"
      .tokens_N .learned_N .group_N  per example (a unit is one): its tokens, those learned, its group
      .unit_sizes_N                  per example of "preference": its documents
      .thinks_N                      per example: whether it is in reasoning mode
      .groups                        tuple[Group(source, name, mode, examples, tokens)]
      .fingerprint                   a hash of all content: `train(..., fingerprint={"data": prepared.fingerprint})`
      .manifest                      counts: kept, dropped and why, truncated, split, tokens, tokens learned

A folder holds ids.bin (int32), loss_mask.bin (bool), ends.bin (int64: where each document ends), examples.bin (per
example: group, tokens, tokens learned, the row it came from, a hash of its prompt), for "preference" units.bin (int64:
where each unit's documents end) and advantages.bin (float32, of each document), for "rl" problems.jsonl with
problems.bin, manifest.json.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from open_exaone.base import interrupt
from open_exaone.base.errors import DataError
from open_exaone.base.files import read_json
from open_exaone.base.links import own_folder
from open_exaone.base.records import REASONING, Problem
from open_exaone.data.document import Document, Unit

Kind = Literal["pretrain", "sft", "preference", "rl"]
MANIFEST = "manifest.json"
LAYOUT = 5  # of the folder; counts up when it changes
PROBLEM = tuple(field.name for field in fields(Problem))
_BLOCK_BYTES = 1 << 22
EXAMPLE = np.dtype([("group", "<i4"), ("tokens", "<i4"), ("learned", "<i4"), ("row", "<i8"), ("prompt", "<u8")])

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Group:
    """The examples of one source in one mode: what a mixture gives shares to."""

    source: int  # which of the configuration's sources
    name: str  # how the source is called
    mode: str  # "reasoning" or "non_reasoning"
    examples: int
    tokens: int


class Lazy(Sequence[Item], Generic[Item]):
    """A sequence whose items are made when they are asked for."""

    def __init__(self, length: int, make: Callable[[int], Item]) -> None:
        self._length, self._make = length, make

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self._make(place) for place in range(*index.indices(self._length))]
        place = int(index) + (self._length if index < 0 else 0)
        if not 0 <= place < self._length:
            raise IndexError(f"{index} of {self._length}")
        return self._make(place)


class Prepared:
    """Data that was prepared; see the head of this file.

    Args:
        verify: read every file once and compare its checksum (a gigabyte takes about a second).

    Raises:
        DataError: the folder is not whole; names the file.
    """

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        self.folder = own_folder(folder, DataError)
        self.manifest: dict[str, Any] = read_json(folder / MANIFEST)
        if not isinstance(self.manifest, dict) or self.manifest.get("layout") != LAYOUT:
            raise DataError(
                f"{folder}: was prepared by another version of this program; remove it and prepare the data again"
            )
        if self.manifest.get("sha256") != manifest_hash(self.manifest):
            raise DataError(f"{folder / MANIFEST}: was changed after it was written (its checksum differs); {_FIX}")
        for name, expected in self.manifest["files"].items():
            _check_file(folder / name, expected, verify=verify)
        self.kind: Kind = self.manifest["settings"]["kind"]
        self.groups = tuple(Group(**group) for group in self.manifest["groups"])

    @cached_property
    def documents(self) -> Sequence[Document]:
        self._wants("pretrain", "sft")
        return Lazy(len(self._ends_D), lambda index: self._document(index, 0.0))

    @cached_property
    def units(self) -> Sequence[Unit]:
        self._wants("preference")
        return Lazy(len(self._unit_ends), self._unit)

    @cached_property
    def problems(self) -> Sequence[Problem]:
        self._wants("rl")
        return Lazy(len(self._problem_ends), self._problem)

    @property
    def tokens_N(self) -> NDArray[np.int32]:
        return self.examples_N["tokens"]

    @property
    def learned_N(self) -> NDArray[np.int32]:
        return self.examples_N["learned"]

    @property
    def group_N(self) -> NDArray[np.int32]:
        return self.examples_N["group"]

    @property
    def unit_sizes_N(self) -> NDArray[np.int64]:
        self._wants("preference")
        return np.diff(self._unit_ends, prepend=0)

    @property
    def thinks_N(self) -> NDArray[np.bool_]:
        """Whether each example is in reasoning mode."""
        return np.array([group.mode == REASONING for group in self.groups], bool)[self.group_N]

    @property
    def rows_N(self) -> NDArray[np.int64]:
        """Which row of its source each example came from, counted from 0 over the source's files."""
        return self.examples_N["row"]

    @property
    def prompts_N(self) -> NDArray[np.uint64]:
        """A hash of each example's prompt, by which `data.overlap` finds those that two sets share; 0: it has none."""
        return self.examples_N["prompt"]

    def place(self, index: int) -> str:
        """Where an example came from, such as "train.jsonl, row 12"."""
        return f"{self.groups[int(self.group_N[index])].name}, row {int(self.rows_N[index]) + 1:,}"

    @property
    def fingerprint(self) -> str:
        return hash_of([self.manifest["settings"], self.manifest["files"], self.manifest["groups"]])

    def __len__(self) -> int:
        return len(self.examples_N)

    def _wants(self, *kinds: Kind) -> None:
        if self.kind not in kinds:
            raise DataError(f"{self.folder}: was prepared for {self.kind!r}; {' or '.join(kinds)} is needed")

    def _map(self, name: str, dtype: Any) -> NDArray[Any]:
        path = self.folder / name
        if not path.stat().st_size:
            return np.zeros(0, dtype)
        return np.memmap(path, dtype, mode="r").view(np.ndarray)  # slices of a memmap object itself are slow

    @cached_property
    def _ids(self) -> NDArray[np.int32]:
        return self._map("ids.bin", np.int32)

    @cached_property
    def _loss_mask(self) -> NDArray[np.bool_]:
        return self._map("loss_mask.bin", np.bool_)

    @cached_property
    def _ends_D(self) -> NDArray[np.int64]:
        return self._map("ends.bin", np.int64)

    @cached_property
    def examples_N(self) -> NDArray[Any]:
        """What examples.bin holds of each example: records of `EXAMPLE`."""
        return self._map("examples.bin", EXAMPLE)

    @cached_property
    def _unit_ends(self) -> NDArray[np.int64]:
        return self._map("units.bin", np.int64)

    @cached_property
    def _advantages_D(self) -> NDArray[np.float32]:
        return self._map("advantages.bin", np.float32)

    @cached_property
    def _problem_ends(self) -> NDArray[np.int64]:
        return self._map("problems.bin", np.int64)

    @cached_property
    def _problem_text(self) -> NDArray[np.uint8]:
        return self._map("problems.jsonl", np.uint8)

    def _document(self, index: int, advantage: float) -> Document:
        start = int(self._ends_D[index - 1]) if index else 0
        end = int(self._ends_D[index])
        ids = self._ids[start:end]
        loss_mask = self._loss_mask[start:end]
        return Document(ids, loss_mask, advantage)

    def _unit(self, index: int) -> Unit:
        start = int(self._unit_ends[index - 1]) if index else 0
        places = range(start, int(self._unit_ends[index]))
        return tuple(self._document(place, float(self._advantages_D[place])) for place in places)

    def _problem(self, index: int) -> Problem:
        start = int(self._problem_ends[index - 1]) if index else 0
        return Problem(**json.loads(self._problem_text[start : int(self._problem_ends[index])].tobytes()))


class Writer:
    """Writes a folder's files, example by example; `close` gives their sizes and checksums."""

    def __init__(self, folder: Path, *, with_problems: bool, with_units: bool = False) -> None:
        names = ["examples.bin", *(["problems.jsonl", "problems.bin"] if with_problems else [])]
        names += [] if with_problems else ["ids.bin", "loss_mask.bin", "ends.bin"]
        names += ["units.bin", "advantages.bin"] if with_units else []
        self._folder = folder
        self._files = {name: open(folder / name, "wb", buffering=1 << 20) for name in names}  # noqa: SIM115 - see close
        self._end = 0  # of the last document, in tokens
        self._num_documents = 0
        self._problem_end = 0  # in bytes

    def add(
        self,
        documents: Sequence[tuple[Sequence[int], Sequence[int]]],
        *,
        group: int,
        row: int,
        prompt: int,
        advantages: Sequence[float] = (),
    ) -> tuple[int, int]:
        """Writes one example: a document, or a unit with each document's advantage. Returns its tokens and those
        learned."""
        tokens = learned = 0
        for ids, loss_mask in documents:
            mask = bytes(loss_mask)
            self._files["ids.bin"].write(array("i", ids).tobytes())
            self._files["loss_mask.bin"].write(mask)
            self._end += len(ids)
            self._files["ends.bin"].write(self._end.to_bytes(8, "little"))
            tokens += len(ids)
            learned += mask.count(1, 1)  # nothing predicts the first token
        self._num_documents += len(documents)
        if "units.bin" in self._files:
            assert len(advantages) == len(documents)
            self._files["units.bin"].write(self._num_documents.to_bytes(8, "little"))
            self._files["advantages.bin"].write(array("f", advantages).tobytes())
        self._describe(group, tokens, learned, row, prompt)
        return tokens, learned

    def add_problem(self, problem: Problem, *, tokens: int, group: int, row: int, prompt: int) -> None:
        """Writes one problem.

        Args:
            tokens: of its prompt.
        """
        fields = {name: getattr(problem, name) for name in PROBLEM}
        line = json.dumps(fields, default=str).encode() + b"\n"
        self._files["problems.jsonl"].write(line)
        self._problem_end += len(line)
        self._files["problems.bin"].write(self._problem_end.to_bytes(8, "little"))
        self._describe(group, tokens, 0, row, prompt)

    def close(self) -> dict[str, dict[str, Any]]:
        """Flushes everything to disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        return {name: describe_file(self._folder / name) for name in sorted(self._files)}

    def abandon(self) -> None:
        for file in self._files.values():
            file.close()

    def _describe(self, *fields: int) -> None:
        self._files["examples.bin"].write(np.array(fields, EXAMPLE).tobytes())


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """What a manifest must say as its "sha256": the hash of all else in it."""
    return hash_of({name: value for name, value in manifest.items() if name != "sha256"})


def describe_file(path: Path) -> dict[str, Any]:
    """A file's size and SHA-256; between blocks it is a safe point.

    Raises:
        Interrupted: an interruption was requested.
    """
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            interrupt.check()
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


_FIX = "remove its folder and prepare the data again"


def _check_file(path: Path, expected: dict[str, Any], *, verify: bool) -> None:
    if not path.is_file():
        raise DataError(f"{path}: is missing; {_FIX}")
    if path.stat().st_size != expected["bytes"] or (verify and describe_file(path) != expected):
        raise DataError(f"{path}: was changed after it was written (its checksum differs); {_FIX}")


def hash_of(value: Any) -> str:
    """SHA-256, in hex, of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
