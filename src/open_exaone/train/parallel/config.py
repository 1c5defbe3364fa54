"""How a run is shared among processes. No torch here, so that recipes parse quickly."""

from typing import Literal

from pydantic import Field

from open_exaone.base.config import Config


class ParallelConfig(Config):
    """How a run is shared among its ranks, the processes that `--ranks` or torchrun starts."""

    data: int | None = Field(default=None, ge=1, le=65_536)
    """Copies of the model, each with a share of a step's documents; as many as the run's ranks give if left out."""
    shard: int = Field(default=1, ge=1, le=65_536)
    """Ranks that keep one copy of the model, its gradients and its optimizer's state together (FSDP2), each a part; 1:
    each rank keeps all of it."""
    tensor: int = Field(default=1, ge=1, le=65_536)
    """Ranks that each have a part of every matrix and compute with it (tensor parallelism), best inside one machine; it
    must divide the model's heads, key and value heads, feed-forward width and vocabulary."""
    context: int = Field(default=1, ge=1, le=65_536)
    """Ranks that each have a part of a micro-batch's tokens (context parallelism), for documents that are too long for
    one; like `shard`, they keep a part of the model each."""
    reduce_dtype: Literal["float32", "bfloat16"] = "float32"
    """The format in which gradients of a model that is sharded are added up over ranks."""
    reshard_after_forward: bool = True
    """Free a layer's gathered weights behind its forward pass, and gather them again for the backward pass: less
    memory, half as much again to be sent."""
    start_timeout_s: float = Field(default=300.0, ge=1, le=86_400)
    """The seconds that a rank waits for all others when a run begins."""
    step_timeout_s: float = Field(default=1800.0, ge=1, le=86_400)
    """The seconds that a rank waits for another one within a step before the run ends."""

    @property
    def num_together(self) -> int:
        """Ranks that go through the same documents together."""
        return self.tensor * self.context

    @property
    def splits_model(self) -> bool:
        """Whether a rank keeps less than the whole model."""
        return self.shard * self.num_together > 1
