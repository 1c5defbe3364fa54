"""The ranks that train a model together, as a stage sees them. Loads no torch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from open_exaone.rollout.team import OnRow, Row, Serve, Shared

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Result = TypeVar("Result")
Values = TypeVar("Values", bound="NDArray[Any]")


class World:
    """One process: it is the first rank and the only one, and every exchange gives back what it is given.

    With several ranks (`ranks.Ranks`), all of them make the same calls in the same order.
    """

    rank = 0
    size = 1

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
            what `act` raises. Where it raises on another rank: Interrupted, or RankError.
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

    def watched(self) -> AbstractContextManager[None]:
        """Within it, what a sharded model exchanges by itself fails with RankError where a rank has ended."""
        return nullcontext()

    def close(self) -> None:
        """Leaves the others, once all have come to this."""


ALONE = World()
