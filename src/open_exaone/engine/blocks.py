"""Blocks of keys and values: which are free, which sequences share them, which prompts are remembered. No torch.

A block holds BLOCK positions of one sequence, of all global layers or of all local ones. Sequences that begin alike
share blocks. A full block stays when nobody uses it any more, until its room is needed: another prompt may begin with
its tokens.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from open_exaone.model.config import BLOCK

GLOBAL, LOCAL = range(2)  # the kinds of layers; a local one sees a window


def num_blocks(length: int) -> int:
    """Blocks that so many positions take."""
    return -(-length // BLOCK)


@dataclass(slots=True, eq=False)
class Entry:
    """A remembered block: its tokens, behind those of `parent`."""

    parent: "Entry | None"
    ids: tuple[int, ...]
    blocks: list[int | None] = field(default_factory=lambda: [None, None])  # one a kind, where it is still there
    children: dict[tuple[int, ...], "Entry"] = field(default_factory=dict)


class Pool:
    """The blocks of one kind."""

    def __init__(self, kind: int, size: int, most_remembered: int) -> None:
        """Args:
        most_remembered: blocks that are kept though no sequence uses them.
        """
        self.kind, self.size = kind, size
        self._most_remembered = most_remembered
        self._num_touched = 0  # blocks above have never been used
        self._free: list[int] = []
        self._num_users: dict[int, int] = {}
        self._entries: dict[int, Entry] = {}  # of blocks that are remembered
        self._idle: OrderedDict[int, None] = OrderedDict()  # remembered and unused, the longest unused first

    @property
    def num_free(self) -> int:
        """Blocks that can be taken."""
        return self.size - self._num_touched + len(self._free) + len(self._idle)

    def take(self) -> int:
        """A block for one sequence; there must be a free one."""
        if self._free:
            block = self._free.pop()
        elif self._num_touched < self.size:
            block, self._num_touched = self._num_touched, self._num_touched + 1
        else:
            block = next(iter(self._idle))
            self._forget(block)
            self._free.pop()
        self._num_users[block] = 1
        return block

    def share(self, block: int) -> None:
        """One sequence more uses a block."""
        self._num_users[block] = self._num_users.get(block, 0) + 1
        self._idle.pop(block, None)

    def release(self, block: int) -> None:
        """One sequence less uses a block."""
        self._num_users[block] -= 1
        if self._num_users[block]:
            return
        del self._num_users[block]
        if block not in self._entries:
            self._free.append(block)
            return
        self._idle[block] = None
        if len(self._idle) > self._most_remembered:
            self._forget(next(iter(self._idle)))

    def remember(self, block: int, entry: Entry) -> None:
        """Keeps a block for those that begin alike; one of the same tokens that is remembered already stays instead."""
        if entry.blocks[self.kind] is None and block not in self._entries:
            entry.blocks[self.kind] = block
            self._entries[block] = entry

    def _forget(self, block: int) -> None:
        entry = self._entries.pop(block)
        entry.blocks[self.kind] = None
        while entry.parent is not None and entry.blocks == [None, None] and not entry.children:
            entry.parent.children.pop(entry.ids, None)
            entry = entry.parent
        self._idle.pop(block, None)
        self._free.append(block)

    def forget_all(self) -> None:
        """Remembers nothing any more, as where the weights have changed."""
        for block in list(self._idle):
            self._forget(block)
        for entry in self._entries.values():
            entry.blocks[self.kind] = None
        self._entries.clear()


class Blocks:
    """The pools of a model, and the prompts that they remember."""

    def __init__(self, sizes: Sequence[int], window: int | None) -> None:
        """Args:
        sizes: blocks of the global and of the local layers; 0 where there are no such layers.
        window: positions that a local layer sees.
        """
        self.window = window
        self.pools = [Pool(kind, size, size // 8) for kind, size in enumerate(sizes)]
        self.used = [pool for pool in self.pools if pool.size]
        self.root = Entry(None, ())

    def needed(self, length: int) -> list[int]:
        """Blocks of each used kind that one sequence of so many positions holds at most at a time."""
        window = self.window or 0
        return [
            num_blocks(length) if pool.kind == GLOBAL else min(num_blocks(length), num_blocks(window) + 2)
            for pool in self.used
        ]

    def forget_all(self) -> None:
        """Remembers no prompt any more."""
        for pool in self.pools:
            pool.forget_all()
        self.root = Entry(None, ())

    def remembered(self, ids: Sequence[int]) -> "Table":
        """A table whose first blocks are those of a remembered prompt that begins as `ids` does."""
        found: list[Entry] = []
        entry = self.root
        for start in range(0, len(ids) - BLOCK + 1, BLOCK):
            child = entry.children.get(tuple(ids[start : start + BLOCK]))
            if child is None or any(pool.kind == GLOBAL and child.blocks[GLOBAL] is None for pool in self.used):
                break
            found.append(child)
            entry = child
        while found and not self._reaches(found):
            found.pop()
        table = Table(self)
        for number, entry in enumerate(found):
            for pool in self.used:
                block = entry.blocks[pool.kind]
                if block is not None and (pool.kind == GLOBAL or number >= self.first_seen(len(found) * BLOCK)):
                    table.share(pool, number, block)
        table.length = len(found) * BLOCK
        table.num_taken = [len(found)] * 2
        return table

    def _reaches(self, found: Sequence[Entry]) -> bool:
        """Whether the local layers' window before the end of these blocks is there."""
        if not any(pool.kind == LOCAL for pool in self.used):
            return True
        return all(entry.blocks[LOCAL] is not None for entry in found[self.first_seen(len(found) * BLOCK) :])

    def first_seen(self, position: int) -> int:
        """The first block that a local layer sees from a position."""
        return max(0, position - (self.window or 0) + 1) // BLOCK


class Table:
    """The blocks of one sequence, by position / BLOCK; -1 where there is none."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._root = blocks.root  # of the weights that what it reads is computed with
        self.arrays: list[NDArray[np.int32]] = [np.full(8, -1, np.int32) for _ in range(2)]
        self.num_taken = [0, 0]  # blocks from the sequence's beginning, those let go of included
        self._num_passed = [0, 0]  # blocks that have left the window
        self.length = 0  # positions that have been read

    def share(self, pool: Pool, number: int, block: int) -> None:
        """Has another sequence's block as block `number`."""
        pool.share(block)
        self._put(pool.kind, number, block)

    def _put(self, kind: int, number: int, block: int) -> None:
        if number >= len(self.arrays[kind]):
            longer = np.full(max(number + 1, 2 * len(self.arrays[kind])), -1, np.int32)
            longer[: len(self.arrays[kind])] = self.arrays[kind]
            self.arrays[kind] = longer
        self.arrays[kind][number] = block

    def first_seen(self, kind: int) -> int:
        """The first block that the layers of a kind see from the next position."""
        return self._blocks.first_seen(self.length) if kind == LOCAL and self._blocks.window is not None else 0

    def grow(self, length: int) -> bool:
        """Takes the blocks that `length` positions need; where there are too few, none, and it gives False."""
        wanted = num_blocks(length)
        if any(wanted - self.num_taken[pool.kind] > pool.num_free for pool in self._blocks.used):
            return False
        for pool in self._blocks.used:
            for number in range(self.num_taken[pool.kind], wanted):
                self._put(pool.kind, number, pool.take())
            self.num_taken[pool.kind] = max(wanted, self.num_taken[pool.kind])
        return True

    def trim(self) -> None:
        """Lets go of the local blocks that no later position sees."""
        seen = self._blocks.first_seen(self.length)
        for pool in self._blocks.used:
            if pool.kind == LOCAL:
                for number in range(self._num_passed[LOCAL], min(seen, self.num_taken[LOCAL])):
                    self._let_go(pool, number)
                self._num_passed[LOCAL] = max(self._num_passed[LOCAL], min(seen, self.num_taken[LOCAL]))

    def _let_go(self, pool: Pool, number: int) -> None:
        block = int(self.arrays[pool.kind][number])
        if block >= 0:
            pool.release(block)
            self.arrays[pool.kind][number] = -1

    def release(self) -> None:
        """Lets go of all blocks, the last first: of those that are remembered, the first are needed longest."""
        for pool in self._blocks.used:
            for number in reversed(range(self._num_passed[pool.kind], self.num_taken[pool.kind])):
                self._let_go(pool, number)
        self.num_taken, self._num_passed, self.length = [0, 0], [0, 0], 0

    def fork(self) -> tuple["Table", list[tuple[int, int, int]]] | None:
        """A second table of what has been read: full blocks are shared, one that is begun is to be copied.

        Returns:
            the table, and (kind, source, target) of what is to be copied; None where no block is free for that.
        """
        is_begun = self.length % BLOCK != 0
        if is_begun and any(pool.num_free < 1 for pool in self._blocks.used):
            return None
        other, copies = Table(self._blocks), []
        num_full = self.length // BLOCK
        for pool in self._blocks.used:
            for number in range(self._num_passed[pool.kind], num_full):
                block = int(self.arrays[pool.kind][number])
                if block >= 0:
                    other.share(pool, number, block)
            if is_begun:
                block = pool.take()
                other._put(pool.kind, num_full, block)
                copies.append((pool.kind, int(self.arrays[pool.kind][num_full]), block))
        other.length, other._root = self.length, self._root
        other.num_taken = [num_full + is_begun] * 2
        other._num_passed = list(self._num_passed)
        return other, copies

    def remember(self, ids: Sequence[int]) -> None:
        """Keeps the full blocks of what has been read, `ids`, for prompts that begin alike, unless weights changed."""
        entry = self._root
        if entry is not self._blocks.root:
            return
        for number in range(min(len(ids), self.length) // BLOCK):
            some = tuple(ids[number * BLOCK : (number + 1) * BLOCK])
            child = entry.children.get(some)
            if child is None:
                child = entry.children[some] = Entry(entry, some)
            for pool in self._blocks.used:
                if (block := int(self.arrays[pool.kind][number])) >= 0:
                    pool.remember(block, child)
            entry = child
