"""What the engine asks of whatever computes: reading prompts and drawing tokens over blocks of keys and values."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from open_exaone.base.records import TopLogprobs
from open_exaone.engine.request import Sample
from open_exaone.engine.scheduler import Chunk


class Tokens(NamedTuple):
    """What was drawn for one sample, T tokens."""

    ids_T: list[int]
    logprobs_T: list[float]  # under the raw model at temperature 1
    sampling_logprobs_T: list[float]  # under the distribution sampled from; 0 when greedy or forced
    is_valid: bool  # False where the logits behind these were no numbers
    was_cut: bool  # a forced token took the place of another
    top_logprobs_T: Sequence[TopLogprobs] = ()  # where its request asks for some


class Backend(Protocol):
    """Computes with one model; see `plain.py` for the reference."""

    def most_steps(self, num_samples: int) -> int:
        """Tokens that one call may draw for each of so many samples."""

    def refresh(self) -> bool:
        """Takes the model's weights as they are now; whether they have changed."""

    def make_pools(self, sizes: Sequence[int]) -> None:
        """Makes room for so many blocks of each kind; the earlier ones, and all that is kept for samples, are gone."""

    def copy_block(self, kind: int, source: int, target: int) -> None:
        """Copies keys and values."""

    def prefill(self, chunks: Sequence[Chunk]) -> None:
        """Reads tokens into the blocks of their tables."""

    def decode(self, samples: Sequence[Sample], num_steps: Sequence[int]) -> list[Tokens]:
        """Draws up to so many tokens for each sample, fewer where one ends it; tables have the blocks for them."""

    def forget(self, sample: Sample) -> None:
        """Drops what it keeps for a sample."""
