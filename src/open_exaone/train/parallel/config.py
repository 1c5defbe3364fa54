"""How a run is shared among processes. No torch here, so that recipes parse quickly."""

from pydantic import Field

from open_exaone.base.config import Config


class ParallelConfig(Config):
    """How a run is shared among its ranks, the processes that `--ranks` or torchrun starts."""

    data: int | None = Field(default=None, ge=1, le=65_536)
    """Ranks that share out a step's documents, each with the whole model; all ranks if left out."""
    start_timeout_s: float = Field(default=300.0, ge=1, le=86_400)
    """The seconds that a rank waits for all others when a run begins."""
    step_timeout_s: float = Field(default=1800.0, ge=1, le=86_400)
    """The seconds that a rank waits for another one within a step before the run ends."""
