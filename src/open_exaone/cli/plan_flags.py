"""The flags of `exaone plan`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from open_exaone.cli.flags import Overrides, Switch
from open_exaone.model.gpus import GPUS


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AssumedFlags:
    """What no data sheet says."""

    mfu: float = 0.4
    """The share of the GPU's peak that forward and backward passes reach; large dense models report about 0.4."""
    bandwidth_share: float = 0.6
    """The share of the GPU's memory bandwidth that writing replies reaches."""
    memory_share: float = 0.9
    """The share of a GPU's memory that a plan may fill; its sums are right to a tenth."""
    node_gpus: int = 8
    """GPUs of one machine."""
    network: float = 400.0
    """Gb/s of each GPU to other machines."""
    price: float | None = None
    """What one GPU costs for an hour, in any currency; no cost is shown if left out."""
    power: float | None = None
    """What one GPU draws, in watts; its data sheet's board power if left out."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PlanArguments:
    """The flags of `exaone plan`."""

    gpus: int = 1
    """How many GPUs there are, those that only sample included."""
    gpu: Annotated[str, Parameter(help=f"Which GPU: {', '.join(GPUS)}.")] = "h100"
    parallel: str | None = None
    """The GPUs' mesh, such as data=2,shard=4,tensor=1,context=1; if left out, the recipe's [parallel], or all."""
    sampler_gpus: int = 0
    """So many of the GPUs sample and do not train; if 0, those that train sample too."""
    set_: Overrides = None
    """Change one value of the recipe: STAGE.KEY=VALUE or TABLE.KEY=VALUE; may be repeated."""
    assumed: AssumedFlags = field(default_factory=AssumedFlags)
    json: Switch = False
    """Print the plan as JSON."""
    out: Path | None = None
    """Write plan.html and plan.json into this folder; with --write, the launch file too."""
    write: Literal["slurm", "skypilot", "kubernetes"] | None = None
    """Write a launch file that runs the recipe on the plan's first mesh, into --out or this folder."""
    shared: str = "/shared"
    """With --write: the folder that all machines see, with the environment and the runs."""
