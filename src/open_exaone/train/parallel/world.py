"""The ranks that train a model together, as a stage sees them. Loads no torch."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from open_exaone.base.errors import RankError
from open_exaone.rollout.team import OnRow, Row, Serve, Shared

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Result = TypeVar("Result")
Values = TypeVar("Values", bound="NDArray[Any]")


NOTE_S = 0.05  # between two looks for a note


class Notes:
    """What ranks leave for each other outside the order of their exchanges, from any thread: one note each."""

    rank = 0
    size = 1

    def __init__(self) -> None:
        self._own: dict[str, Any] | None = None

    def put(self, note: dict[str, Any]) -> None:
        """Leaves this rank's note, which JSON can hold: `error` is None, or why it could do nothing.

        Raises:
            RankError: the ranks cannot be reached any more.
        """
        self._own = note

    def get(self, rank: int) -> dict[str, Any] | None:
        """The note that a rank has left, if it has.

        Raises:
            RankError: as `put`.
        """
        return self._own

    def wait(self, rank: int, gives_up: Callable[[], bool]) -> dict[str, Any]:
        """The note of a rank, once it has left one.

        Raises:
            RankError: it holds an error, or did not come before `gives_up` held.
        """
        while (note := self.get(rank)) is None:
            if gives_up():
                raise RankError(f"rank {rank} did not write its part of the state in time")
            time.sleep(NOTE_S)
        if note["error"] is not None:
            raise RankError(f"rank {rank} could not write its part of the state: {note['error']}")
        return note


OWN_NOTES = Notes()


class Share(NamedTuple):
    """This rank's part of what the ranks share out; those that compute the same documents together have the same."""

    place: int  # from 0
    number: int  # of parts
    is_first: bool  # of those that have this part: what it has found counts once


def share_of(world: "World", sharing: Any) -> Share:
    """Args:
    sharing: `LanguageModel.sharing` of the model that computes.
    """
    num_together = 1 if sharing is None else sharing.num_together
    return Share(world.rank // num_together, world.size // num_together, world.rank % num_together == 0)


class World:
    """One process: it is the first rank and the only one, and every exchange gives back what it is given.

    With several ranks (`ranks.Ranks`), all of them make the same calls in the same order.
    """

    rank = 0
    size = 1
    timeout_s = 0.0  # how long a rank waits for another one
    is_in_pass = False  # through a sharded model, in which all ranks exchange weights and gradients

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the run's folder, prints and evaluates."""
        return self.rank == 0

    def gather(self, act: Callable[[], Result]) -> list[Result]:
        """Does something on every rank at once.

        Args:
            act: gives something that JSON can hold. Takes part in no exchange, but for those of a sharded model.

        Returns:
            what each rank got, in their order.

        Raises:
            what `act` raises. Where it raises on another rank: Interrupted, or RankError. Where it raises within a
                pass through a sharded model, this rank must end: the others get RankError once its connections close.
        """
        return [act()]

    def lead(self, act: Callable[[], Result], serve: Serve | None = None) -> Result:
        """Does something on the first rank, however long it takes; the others wait, and do their part of its jobs.

        Args:
            act: gives something that JSON can hold.
            serve: what another rank does for each job that `act` shares out (`share`); gives something that JSON can
                hold.

        Returns:
            on every rank, what the first one got.

        Raises:
            what `act` raises, on the first rank; on others Interrupted, or RankError.
        """
        return act()

    def first(self, act: Callable[[], Result], serve: Serve | None = None) -> Result:
        """Does something on the first rank and then on the others, which find on disk what it has left.

        Args:
            serve: as for `lead`.

        Raises:
            as `lead`.
        """
        return act()

    def share(self, head: Row, chunks: Sequence[Row], on_row: OnRow) -> Shared:
        """Shares a job out among the ranks; on the first one, within `lead`.

        Args:
            head: what all ranks know of it.
            chunks: each goes to one rank.
            on_row: gets the rows that the others send, in `Shared.receive` and `Shared.finish`.
        """
        raise AssertionError("one process has nobody to share with")

    def shared(self, value: Result) -> Result:
        """The first rank's value, which JSON can hold, on every rank."""
        return value

    def any(self, value: bool) -> bool:
        """Whether it holds on some rank."""
        return value

    def total(self, values: Values) -> Values:
        """The sum over ranks of an array that has the same shape on each."""
        return values

    def add_up(self, tensors: "Sequence[Tensor]") -> None:
        """Makes each tensor its sum over ranks, in place."""

    def broadcast(self, tensor: "Tensor", source: int) -> None:
        """Makes a tensor, in place, what rank `source` has; it has the same shape and dtype on each."""

    def notes(self) -> Notes:
        """Notes of this call alone: all ranks make it equally often."""
        return Notes()

    def watched(self) -> AbstractContextManager[None]:
        """Within it, what a sharded model exchanges by itself fails with RankError where a rank has ended."""
        return nullcontext()

    def close(self) -> None:
        """Leaves the others, once all have come to this."""


ALONE = World()
