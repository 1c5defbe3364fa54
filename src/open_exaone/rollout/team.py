"""Work that several ranks take a part of, as those see it who have it: `train.parallel` has the ranks. No torch.

The first rank shares a job out. All ranks claim its chunks, each as it has room, so that ranks whose replies are longer
claim fewer; what comes of them goes to the first rank, in rows of JSON.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Row = Mapping[str, Any]  # as JSON holds it
OnRow = Callable[[Row], None]


class Shared(Protocol):
    """A job, on the first rank."""

    def take(self) -> int | None:
        """Claims a chunk: its number, or None where none is left."""

    def receive(self) -> None:
        """Calls `on_row` with what the other ranks have sent by now.

        Raises:
            RankError, Interrupted: another rank has failed, or was interrupted.
        """

    def finish(self) -> list[Row]:
        """Waits for all rows of the other ranks, as long as they work: what each one's `serve` gave.

        Raises:
            RankError, Interrupted: another rank has failed, was interrupted, or does not answer any more.
        """


class Job(Protocol):
    """A job, on another rank."""

    @property
    def head(self) -> Row:
        """What the first rank says of the whole job."""

    def take(self) -> Row | None:
        """Claims a chunk; None where none is left.

        Raises:
            Exception: the first rank has ended the job, RankError where it cannot be reached; nothing is to be done.
        """

    def check(self) -> None:
        """Raises where the first rank has ended the job, as `take`; called often."""

    def send(self, rows: Sequence[Row]) -> None:
        """Sends rows to the first rank; threads may call it."""


Serve = Callable[[Job], Row]  # what another rank does for a job, until no chunk is left


class Team(Protocol):
    """The ranks, as the first one sees them while it leads (`World.lead`)."""

    @property
    def size(self) -> int:
        """How many they are."""

    def share(self, head: Row, chunks: Sequence[Row], on_row: OnRow) -> Shared:
        """Shares a job out. The one before ends, whether it is finished or not."""
