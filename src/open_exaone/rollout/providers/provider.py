"""What an evaluation needs of whatever answers."""

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

from open_exaone.base.records import Ask, Generation


class Provider(Protocol):
    """Answers asks, many at once, in whatever order they finish."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What tells its replies from another's: the engine, the model and a hash of it; goes into the report."""

    def prompts(self, asks: Sequence[Ask]) -> list[str]:
        """Each ask's prompt as it is sent (token ids or text); it goes into the hash of what is stored.

        Raises:
            DataError, CheckpointError: a question can't be rendered, such as by a model without a chat format.
        """

    @property
    def failure(self) -> str | None:
        """Why the first of the asks that were left out failed, with the mend; None where none was."""

    @property
    def notes(self) -> Sequence[str]:
        """What a report must say of it, such as that it takes no seeds."""

    def stream(self, asks: Sequence[Ask]) -> Generator[tuple[int, Generation], None, None]:
        """(place in `asks`, what was generated), each as soon as it is there. Closing it stops the rest.

        A provider may leave asks out that failed after all retries; whoever asked notices and can ask again.

        Raises:
            OpenExaoneError: nothing more can be had; says the mend.
        """

    def flops(self, generation: Generation) -> float | None:
        """Floating-point operations that one generation cost; None where the model's size is not known."""
