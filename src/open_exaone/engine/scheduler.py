"""Which sample decodes in which slot: a finished one gives its slot to the next. No torch."""

from collections import deque
from collections.abc import Iterable

from open_exaone.engine.request import Group, Sample


class Scheduler:
    """Fills `num_slots` slots from a queue of groups, in order.

    Groups are started a few at a time, so that their prompts can be computed as one batch; a group's
    samples may enter at different times, all from the one computed prompt.
    """

    def __init__(self, groups: Iterable[Group], num_slots: int) -> None:
        self.slots: list[Sample | None] = [None] * num_slots
        self._groups = deque(groups)
        self._started: deque[tuple[Group, deque[Sample]]] = deque()

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._groups and not self._started and not any(self.slots)

    @property
    def free_slots(self) -> list[int]:
        return [slot for slot, sample in enumerate(self.slots) if sample is None]

    @property
    def running(self) -> list[tuple[int, Sample]]:
        """Slots that hold an unfinished sample, in order of slot."""
        return [(slot, sample) for slot, sample in enumerate(self.slots) if sample is not None]

    @property
    def has_waiting(self) -> bool:
        return bool(self._groups or self._started)

    def start_groups(self) -> list[Group]:
        """Takes as many groups from the queue as fill the free slots; their prompts are due now."""
        free = len(self.free_slots) - sum(len(samples) for _, samples in self._started)
        new = []
        while self._groups and free > 0:
            group = self._groups.popleft()
            self._started.append((group, deque(group.samples)))
            free -= len(group.samples)
            new.append(group)
        return new

    def admit(self) -> list[tuple[Group, list[int]]]:
        """Places waiting samples of started groups into free slots; returns each group with its slots."""
        placed = []
        free = deque(self.free_slots)
        while free and self._started:
            group, samples = self._started[0]
            slots = []
            while free and samples:
                slot = free.popleft()
                self.slots[slot] = samples.popleft()
                slots.append(slot)
            placed.append((group, slots))
            if not samples:
                self._started.popleft()
        return placed

    def release(self, slot: int) -> None:
        """Frees a slot whose sample has finished."""
        self.slots[slot] = None

    def compact(self) -> list[int]:
        """Moves running samples to the first slots and drops the rest; returns the slots kept, in order."""
        kept = [slot for slot, _ in self.running]
        self.slots = [self.slots[slot] for slot in kept]
        return kept
