"""How a stage's states are kept and how its metrics are logged. No torch here, so that recipes parse quickly."""

from typing import Literal

from pydantic import Field

from open_exaone.base.config import Config

# Of a stage, between two sittings of one run.
MAY_CHANGE = ("name", "micro_batch_tokens", "recompute_activations", "checkpoint_steps", "keep", "logging")


class KeepConfig(Config):
    """Which saved states stay, and how they are written."""

    last: int = Field(default=2, ge=1, le=1000)
    """The newest states that are kept; where one turns out broken, the one before it is used."""
    best: str | None = Field(default=None, min_length=1)
    """Keep besides the state that this metric was best for, averaged over the steps since the state before it."""
    best_is: Literal["lowest", "highest"] = "lowest"
    """Which way the metric `best` is good: "lowest" for a loss, "highest" for a reward."""
    async_save: bool = True
    """Write states from a copy, in a thread, while training goes on; without memory for a copy, training waits."""
    stop_within_s: float = Field(default=30.0, gt=0, le=86_400)
    """The seconds that a machine leaves between SIGTERM and SIGKILL; where a stop would take longer, it is logged."""


class LoggingConfig(Config):
    """Where a stage's metrics go while it trains, and what stops it."""

    track: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    """Where metrics go besides metrics.jsonl, which is always written."""
    project: str = Field(default="open-exaone", min_length=1)
    """The project's name at trackio and wandb."""
    max_skipped_steps: int = Field(default=20, gt=0, le=1_000_000)
    """Steps skipped in a row, as their gradient was not finite or a spike, that stop the run with its state saved."""
    spike_factor: float | None = Field(default=None, gt=1, le=1e6)
    """A gradient norm of more than this many times the median of the last 64 steps is a spike: the step is skipped."""
