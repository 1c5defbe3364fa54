"""How a run is shared among processes. No torch here, so that recipes parse quickly."""

from typing import Literal

from pydantic import Field

from open_exaone.base.config import Config


class ParallelConfig(Config):
    """How a run is shared among its ranks, the processes that `--ranks` or torchrun starts."""

    data: int | None = Field(default=None, ge=1, le=65_536)
    """Copies of the model, each with a share of a step's documents. If left out, it is the number of ranks divided by
    `shard` x `tensor` x `context`."""
    shard: int = Field(default=1, ge=1, le=65_536)
    """The number of ranks that one copy of the model, its gradients and its optimizer state are sharded over (FSDP2).
    With 1, each rank keeps all of them."""
    tensor: int = Field(default=1, ge=1, le=65_536)
    """The number of ranks that every matrix is split over (tensor parallelism), best inside one machine. It must divide
    the model's heads, key and value heads, feed-forward width and vocabulary."""
    context: int = Field(default=1, ge=1, le=65_536)
    """The number of ranks that a micro-batch's tokens are split over (context parallelism), for documents that are too
    long for one GPU. As with `shard`, each of them keeps a part of the model."""
    reduce_dtype: Literal["float32", "bfloat16"] = "float32"
    """The dtype in which the gradients of a sharded model are summed over ranks."""
    reshard_after_forward: bool = True
    """Free a layer's gathered weights after its forward pass and gather them again for the backward pass. This needs
    less memory and half as much communication again."""
    start_timeout_s: float = Field(default=300.0, ge=1, le=86_400)
    """How many seconds a rank waits for all other ranks when a run starts."""
    step_timeout_s: float = Field(default=1800.0, ge=1, le=86_400)
    """How many seconds a rank waits for another one within a step before the run ends with an error."""

    @property
    def num_together(self) -> int:
        """Ranks that go through the same documents together."""
        return self.tensor * self.context

    @property
    def splits_model(self) -> bool:
        """Whether a rank keeps less than the whole model."""
        return self.shard * self.num_together > 1
