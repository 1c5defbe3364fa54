"""A reply as a row of blocks, each a thought, a text or a tool call, as the APIs write it that have such."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from open_exaone.text.split import Part, Piece


@dataclass(slots=True)
class Block:
    """One of them, so far."""

    index: int
    part: Part
    text: str = ""  # of a tool call, its JSON


class Act(Enum):
    """What happens to a block."""

    OPEN = auto()
    MORE = auto()
    CLOSE = auto()


Step = tuple[Act, Block, str]  # the text is what has come, where there is more


class Blocks:
    """Folds a reply's pieces to blocks, and says what happens to them meanwhile."""

    def __init__(self) -> None:
        self.all: list[Block] = []
        self._open: Block | None = None

    def take(self, pieces: Iterable[Piece]) -> Iterator[Step]:
        """What some more pieces do."""
        for part, text in pieces:
            if self._open is not None and (self._open.part is not part or part is Part.TOOL_CALL):
                yield from self.finish()
            if self._open is None:
                self._open = Block(len(self.all), part)
                self.all.append(self._open)
                yield Act.OPEN, self._open, ""
            self._open.text += text
            yield Act.MORE, self._open, text

    def finish(self) -> Iterator[Step]:
        """Closes the block that is open, at the end of the reply."""
        if self._open is not None:
            yield Act.CLOSE, self._open, ""
            self._open = None


def blocks_of(pieces: Iterable[Piece]) -> list[Block]:
    """A whole reply's blocks."""
    blocks = Blocks()
    for _ in blocks.take(pieces):
        pass
    return blocks.all
