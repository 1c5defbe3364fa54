"""What crosses between a program and its tests: frames over a socket, and plain values in them.

This file and the other two `harness_*` files run only inside the sandbox; `pair.py` reads them as text. The tests and
the program share no interpreter, only a stream socket. Plain data cross it by value, everything else as the number of
an object that stays on the program's side. So whatever a program does to its own Python, it can only send wrong data.
"""

import builtins
import contextlib
import gc
import json
import os
import struct
from collections import deque
from collections.abc import Callable, Container, Iterator
from itertools import count
from operator import is_
from types import NoneType
from typing import Any

FD = 3  # the socket
MAX_FRAME_BYTES = 32 << 20  # of one answer of a program
MAX_INT = 1 << 63  # larger integers travel as hexadecimal text: JSON has a limit on digits, and decimal text is slow
MAX_DIGITS = 10_000  # of decimals and fractions, with which even building them can take for ever
KINDS = {"l": list, "d": dict, "t": tuple, "s": set, "f": frozenset, "q": deque, "b": bytearray}  # containers
KIND_OF: dict[type, str] = {plain: kind for kind, plain in KINDS.items()}
TREE = "j"  # a whole tree of lists and dicts, as JSON has it
MAX_TREE_DEPTH = 50
FIXED = ("t", "f")  # the ones that cannot change
SCALARS = (int, str, float, bool, NoneType)  # what JSON holds as it is
_IN_TREES = {*SCALARS, list, dict}


class Wire:
    """Frames of JSON over the socket, each after its length."""

    num_bytes = 0  # that have crossed

    def send(self, frame: object) -> None:
        data = json.dumps(frame).encode()
        self.num_bytes += len(data)
        rest = memoryview(struct.pack(">I", len(data)) + data)
        while rest:
            rest = rest[os.write(FD, rest) :]

    def receive(self) -> Any:
        (size,) = struct.unpack(">I", self._read(4))
        if size > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {size} bytes")
        self.num_bytes += size
        return json.loads(self._read(size))

    def _read(self, size: int) -> bytes:
        chunks = []
        while size:
            chunk = os.read(FD, min(size, 1 << 20))
            if not chunk:
                raise EOFError
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)


class Graph:
    """The containers of one call, numbered alike on both sides, so that identity, cycles and changes survive.

    A value on the wire is a JSON scalar, [number] for a container, or [tag, ...] for other plain data. A container is
    [number, kind, values]; those that cannot change come after what they hold. A tree of lists and dicts is one node,
    [number, TREE, tree], and its containers have the next numbers, level by level. No step recurses.

    Args:
        close: makes a [tag, ...] of what is no plain data.
        open: the reverse.
    """

    def __init__(self, close: Callable[[Any], Any], open: Callable[[Any], Any]) -> None:
        self.close, self.open = close, open
        self.objects: list[Any] = []  # by number
        self.numbers: dict[int, int] = {}  # by id

    def pack(self, *roots: object) -> list[Any]:
        """The containers within `roots` that have no number yet; they get one."""
        nodes: list[Any] = []
        stack = [(root, False, True) for root in roots]
        while stack:
            value, is_done, may_be_tree = stack.pop()
            kind = kind_of(value)
            if kind and is_done:
                nodes.append(self.node(value, kind))
            elif kind and id(value) not in self.numbers:
                tree = containers_in(value, self.numbers) if may_be_tree else None
                if tree:
                    nodes.append([len(self.objects), TREE, value])
                    self._number(tree)
                    continue
                self._number([value])
                stack.append((value, True, False))
                parts = parts_of(value, kind)
                if not are_scalars(parts):  # parts of what was searched for a tree in vain are not searched again
                    stack.extend((part, False, kind in FIXED) for part in parts if type(part) not in SCALARS)
        return nodes

    def _number(self, values: list[Any]) -> None:
        self.numbers.update(zip(map(id, values), count(len(self.objects)), strict=False))
        self.objects += values

    def contents(self) -> list[tuple[Any, str, list[Any]]]:
        """What each container that can change holds now: the container, its kind, its parts."""
        kinds = ((value, kind_of(value)) for value in self.objects)
        return [(value, kind, parts_of(value, kind)) for value, kind in kinds if kind and kind not in FIXED]

    def node(self, value: Any, kind: str) -> list[Any]:
        parts = parts_of(value, kind)
        if not are_scalars(parts) or not are_short(parts):
            parts = [self.closed(part) for part in parts]
        return [self.numbers[id(value)], kind, parts]

    def unpack(self, nodes: list[Any]) -> None:
        """Builds the containers of `nodes`, which carry the next numbers."""
        made: dict[int, Any] = {}
        num_new = 0
        for number, kind, parts in nodes:
            new = containers_in(parts) if kind == TREE else [None if kind in FIXED else KINDS[kind]()]
            if new is None:
                raise ValueError("a tree that is none")
            made.update(zip(count(number), new, strict=False))
            num_new += len(new)
        if sorted(made) != list(range(len(self.objects), len(self.objects) + num_new)):
            raise ValueError("the numbers of new containers do not follow the old ones")
        self.objects += [made[number] for number in range(len(self.objects), len(self.objects) + num_new)]
        for number, kind, parts in nodes:
            if kind in FIXED:
                self.objects[number] = KINDS[kind](part for part in self.all_opened(parts))
        self.change([node for node in nodes if node[1] not in FIXED and node[1] != TREE])
        self.numbers = dict(zip(map(id, self.objects), count(), strict=False))

    def change(self, nodes: list[Any]) -> None:
        """Gives containers that are there already their new contents, in place."""
        for number, kind, parts in nodes:
            target, kind_there = self.objects[number], kind_of(self.objects[number])
            if kind != kind_there or kind in FIXED:
                raise ValueError("a change to another kind of container")
            new = self.all_opened(parts)
            if kind == "d":
                dict.clear(target)
                for key, part in zip(new[::2], new[1::2], strict=True):  # where many collide, an alarm can end this
                    dict.__setitem__(target, key, part)
            elif kind == "b":
                target[:] = bytes(new)
            elif kind == "l":
                list.__setitem__(target, slice(None), new)
            else:
                target.clear()
                for part in new:
                    (target.add if kind == "s" else target.append)(part)

    def closed(self, value: Any) -> Any:
        """A value, ready for the wire; its containers have numbers already."""
        if type(value) in SCALARS and not (type(value) is int and not -MAX_INT < value < MAX_INT):
            return value
        if id(value) in self.numbers:
            return [self.numbers[id(value)]]
        if isinstance(value, int):
            return bool(value) if isinstance(value, bool) else ["i", hex(value)]
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, complex):
            return ["c", value.real, value.imag]
        if isinstance(value, bytes):
            return ["y", bytes(value).hex()]
        if isinstance(value, slice) and all(type(part) in (int, NoneType) for part in _parts_of_slice(value)):
            return ["z", *(None if part is None else hex(part) for part in _parts_of_slice(value))]
        if isinstance(value, range):
            return ["r", *map(hex, (value.start, value.stop, value.step))]
        kind = f"{type(value).__module__}.{type(value).__name__}"
        if kind == "decimal.Decimal":
            return ["D", str(value)]
        if kind == "fractions.Fraction":
            return ["F", hex(value.numerator), hex(value.denominator)]
        if kind == "builtins.type" and vars(builtins).get(name := str(getattr(value, "__name__", ""))) is value:
            return ["T", name]
        return self.close(value)

    def all_opened(self, values: list[Any]) -> list[Any]:
        return values if are_scalars(values) else [self.opened(value) for value in values]

    def opened(self, value: Any) -> Any:
        """The reverse of `closed`."""
        if type(value) in SCALARS:
            return value
        if len(value) == 1:
            return self.objects[value[0]]
        tag, *parts = value
        return OPENED[tag](*parts) if tag in OPENED else self.open(value)


def _builtin_type(name: str) -> type:
    found = getattr(builtins, name)
    if not isinstance(found, type):
        raise ValueError(f"{name} is no type")
    return found


def _parts_of_slice(value: slice) -> tuple[Any, Any, Any]:
    return value.start, value.stop, value.step


def _slice(*texts: str | None) -> slice:
    return slice(*(None if text is None else _int(text) for text in texts))


def _int(text: str) -> int:
    return int(text, 16)


def _decimal(text: str) -> object:
    from decimal import Decimal  # slow to import, and rarely needed; so is the next one

    return Decimal(_bounded(text))


def _fraction(numerator: str, denominator: str) -> object:
    from fractions import Fraction

    return Fraction(_int(_bounded(numerator)), _int(_bounded(denominator)))


def _bounded(text: str) -> str:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return text


OPENED: dict[str, Callable[..., Any]] = {
    "i": _int,
    "c": complex,
    "y": bytes.fromhex,
    "r": lambda *texts: range(*map(_int, texts)),
    "z": _slice,
    "D": _decimal,
    "F": _fraction,
    "T": _builtin_type,
}


def kind_of(value: object) -> str | None:
    if type(value) in SCALARS:
        return None
    if type(value) in (list, dict):
        return KIND_OF[type(value)]
    return next((kind for kind, plain in KINDS.items() if isinstance(value, plain)), None)


def containers_in(root: Any, numbered: Container[int] = ()) -> list[Any] | None:
    """The containers of a tree of lists and dicts as JSON has them, level by level; None where it is no such tree.

    Args:
        numbered: the ids of containers that it must not hold.
    """
    found: list[Any] = []
    seen: set[int] = set()
    level = [root] if type(root) in (list, dict) else []
    for _ in range(MAX_TREE_DEPTH):
        found += level
        seen.update(ids := list(map(id, level)))
        if len(seen) < len(found) or any(map(numbered.__contains__, ids)):
            return None
        below: list[Any] = []
        for value in level:
            if type(value) is dict and not set(map(type, value)) <= {str}:
                return None
            parts = list(value.values()) if type(value) is dict else value
            kinds = set(map(type, parts))
            if not kinds <= _IN_TREES or (int in kinds and not are_short(parts)):
                return None
            if list in kinds or dict in kinds:
                below += [part for part in parts if type(part) in (list, dict)]
        if not below:
            return found or None
        level = below
    return None


def is_changed(value: Any, kind: str, before: list[Any]) -> bool:
    """Whether a container holds other things than before: other objects, which may well be equal."""
    now = parts_of(value, kind)
    return len(now) != len(before) or not all(map(is_, now, before))


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Among many new containers the search for rings of them takes longer than all else."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def are_scalars(parts: list[Any]) -> bool:
    """Whether all are what JSON holds as it is; long lists mostly are, and then need no second look."""
    return set(map(type, parts)) <= set(SCALARS)


def are_short(parts: list[Any]) -> bool:
    """Whether every integer among scalars is short enough to travel as JSON's."""
    integers = [part for part in parts if type(part) is int]
    return not integers or (-MAX_INT < min(integers) and max(integers) < MAX_INT)


def parts_of(value: Any, kind: str) -> list[Any]:
    """What a container holds; of a dict keys and values in turn."""
    return [part for item in dict.items(value) for part in item] if kind == "d" else list(value)
