"""Which prompt is read and which sample goes on: admission, forks of a prompt, preemption. No torch.

A group's prompt, all but its last token, is read once, in chunks; then each of its samples forks the prompt's blocks
and goes on from that last token. Where blocks run out, the sample that entered last makes room and waits: it is read
anew later and goes on as if nothing had happened.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from open_exaone.engine.blocks import Blocks, Table
from open_exaone.engine.request import Group, Sample

CHUNK_TOKENS = 1024  # of prompts that are read between two decoding steps


@dataclass(slots=True, eq=False)
class Prompt:
    """A group whose prompt is being read, or has been."""

    ids: Sequence[int]  # of which the last is left to each sample
    samples: deque[Sample]
    table: Table

    @property
    def num_unread(self) -> int:
        return len(self.ids) - 1 - self.table.length


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of a prompt that are read next."""

    prompt: Prompt
    ids: Sequence[int]


@dataclass(slots=True, eq=False)
class Scheduler:
    """Fills at most `num_slots` places with samples of groups, in order."""

    blocks: Blocks
    num_slots: int
    copy: Callable[[int, int, int], None]  # (kind, source, target): a block's keys and values
    running: list[Sample] = field(default_factory=list)
    _waiting: OrderedDict[Group, None] = field(default_factory=OrderedDict)  # any of many leaves at once
    _prompts: deque[Prompt] = field(default_factory=deque)

    def submit(self, groups: Iterable[Group]) -> None:
        """Puts groups at the end of the queue."""
        self._waiting.update(dict.fromkeys(groups))

    def _wait_first(self, prompt_ids: Sequence[int], samples: Iterable[Sample]) -> None:
        """Puts a group at the head of the queue."""
        group = Group(prompt_ids, list(samples))
        self._waiting[group] = None
        self._waiting.move_to_end(group, last=False)

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not (self._waiting or self._prompts or self.running)

    def cancel(self, sample: Sample) -> None:
        """Takes a sample out, wherever it is."""
        if sample.table is not None:
            self.release(sample)
            return
        for prompt in self._prompts:
            if sample in prompt.samples:
                prompt.samples.remove(sample)
                if not prompt.samples:
                    prompt.table.release()
                    self._prompts.remove(prompt)
                return
        if (group := sample.group) is not None and group in self._waiting:
            group.samples.remove(sample)
            sample.group = None
            if not group.samples:
                del self._waiting[group]

    def chunks(self) -> list[Chunk]:
        """What of the prompts is due to be read: new ones are begun while places and blocks are free."""
        self._begin_prompts()
        chunks = self._next_chunks()
        while not chunks and not self.running and len(self._prompts) > 1 and self._prompts[0].num_unread:
            self._put_back(self._prompts.pop())
            chunks = self._next_chunks()
        return chunks

    def _next_chunks(self) -> list[Chunk]:
        """Half of the room is the first prompt's, who thus never waits; the other half goes to the shortest.

        However long the others are, a short prompt is read as soon as those that are no longer than it.
        """
        unread = [prompt for prompt in self._prompts if prompt.num_unread]
        nums: dict[Prompt, int] = {}
        room = CHUNK_TOKENS
        for prompt, most in [
            *((first, CHUNK_TOKENS // 2) for first in unread[:1]),
            *((prompt, CHUNK_TOKENS) for prompt in sorted(unread, key=lambda prompt: prompt.num_unread)),
        ]:
            before = nums.get(prompt, 0)
            nums[prompt] = self._most_read(prompt, min(prompt.num_unread, most, before + room))
            room -= nums[prompt] - before
        return [
            Chunk(prompt, prompt.ids[prompt.table.length : prompt.table.length + num])
            for prompt, num in nums.items()
            if num
        ]

    def _most_read(self, prompt: Prompt, num: int) -> int:
        """Takes blocks for the next tokens of a prompt; for as many of `num` as there are."""
        while num and not prompt.table.grow(prompt.table.length + num):
            num //= 2  # a window's blocks are let go of between chunks
        return num

    def _begin_prompts(self) -> None:
        free = self.num_slots - len(self.running) - sum(len(prompt.samples) for prompt in self._prompts)
        # Prompts are worth a batch of their own once an eighth of the places is free.
        num_waiting = len(self._waiting)
        if self.running and free * 8 < self.num_slots and num_waiting > free:
            return
        while self._waiting and free > 0:
            group = next(iter(self._waiting))
            table = self.blocks.remembered(group.prompt_ids[:-1])
            is_first = not self.running and not self._prompts
            if not is_first and not self._has_room(len(group.prompt_ids) - 1 - table.length):
                table.release()
                return
            del self._waiting[group]
            for sample in group.samples:
                sample.group = None  # nothing refers to each other in a circle, so memory is freed at once
                sample.num_cached = table.length if sample.num_cached is None else sample.num_cached
            self._prompts.append(Prompt(group.prompt_ids, deque(group.samples), table))
            free -= len(group.samples)

    def _has_room(self, num_tokens: int) -> bool:
        """Whether so many tokens fit beside a block more for each that runs."""
        needed = self.blocks.needed(num_tokens)
        return all(pool.num_free > num + len(self.running) for pool, num in zip(self.blocks.used, needed, strict=True))

    def read(self, chunks: Iterable[Chunk]) -> None:
        """The chunks have been read."""
        for chunk in chunks:
            table = chunk.prompt.table
            table.length += len(chunk.ids)
            table.trim()
            if not chunk.prompt.num_unread:
                table.remember(chunk.prompt.ids)

    def enter(self) -> list[Sample]:
        """Gives samples whose prompt has been read the free places; returns them."""
        entered: list[Sample] = []
        for prompt in list(self._prompts):
            while not prompt.num_unread and prompt.samples and len(self.running) < self.num_slots:
                table = self._table_for_next(prompt)
                if table is None:
                    break
                sample = prompt.samples.popleft()
                sample.table = table
                self.running.append(sample)
                entered.append(sample)
            if not prompt.samples:
                self._prompts.remove(prompt)
        return entered

    def _table_for_next(self, prompt: Prompt) -> Table | None:
        """A fork of a prompt's table, where a block is free for what is copied; the last sample takes the table."""
        if len(prompt.samples) == 1:
            return prompt.table
        if (forked := prompt.table.fork()) is not None:
            table, copies = forked
            for copy in copies:
                self.copy(*copy)
            return table
        if self.running:
            return None
        first, *rest = prompt.samples  # memory holds one of them at a time
        self._wait_first(prompt.ids, rest)
        prompt.samples = deque([first])
        return prompt.table

    def grow(self, wanted: Callable[[Sample], int]) -> None:
        """Takes the blocks that each running sample needs for so many more tokens; the last make room for the first."""
        for sample in list(self.running):
            table = sample.table
            while table is not None and sample.table is table and not table.grow(table.length + wanted(sample)):
                self._make_room(sample)

    def _make_room(self, sample: Sample) -> None:
        """Takes blocks from whoever entered last; a sample that is alone cannot be helped, and was refused before."""
        if self._prompts:
            self._put_back(self._prompts.pop())
            return
        last = self.running[-1]
        assert last is not sample or len(self.running) > 1
        self.release(last)
        self._wait_first(last.all_ids(), [last])

    def _put_back(self, prompt: Prompt) -> None:
        prompt.table.release()
        self._wait_first(prompt.ids, prompt.samples)

    def release(self, sample: Sample) -> None:
        """Frees the place and the blocks of a sample; its full blocks are remembered."""
        assert sample.table is not None
        if sample.error is None:
            sample.table.remember(sample.all_ids())
        sample.table.release()
        sample.table = None
        self.running.remove(sample)

    def release_all(self) -> None:
        """Frees everything, whatever still waits."""
        for sample in list(self.running):
            self.release(sample)
        for prompt in self._prompts:
            prompt.table.release()
        self._prompts.clear()
        self._waiting.clear()
