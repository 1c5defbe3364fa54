"""`exaone plan`: what a recipe takes on a cluster."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from open_exaone.base.errors import ConfigError, OpenExaoneError
from open_exaone.base.output import say
from open_exaone.base.terminal import Console
from open_exaone.cli.flags import Overrides, Switch

if TYPE_CHECKING:
    from open_exaone.model.speed import Assumptions
    from open_exaone.present.cluster import Section


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AssumedFlags:
    """What no data sheet says."""

    mfu: float = 0.4
    """The share of the GPU's peak that forward and backward passes reach; 0.4 is what large dense models reach in
    public reports."""
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

    gpus: int
    """How many GPUs there are, those that only sample included."""
    gpu: str = "h100"
    """Which GPU: a100-80, b200, h100, h100-pcie, h200, l40s, mi300x or rtx-4090."""
    parallel: str | None = None
    """The mesh of the GPUs that train, such as data=2,shard=4,tensor=1,context=1; all are tried if left out."""
    sampler_gpus: int = 0
    """So many of the GPUs sample and do not train; if 0, those that train sample too."""
    set_: Overrides = None
    """Change one value of the recipe: STAGE.KEY=VALUE or TABLE.KEY=VALUE; may be repeated."""
    assumed: AssumedFlags = field(default_factory=AssumedFlags)
    json: Switch = False
    """Print the plan as JSON."""
    out: Path | None = None
    """Write plan.html and plan.json into this folder."""


def plan(
    recipe: Annotated[str, Parameter(help="The name of a shipped recipe, or a TOML file.")],
    /,
    *,
    args: PlanArguments,
) -> int:
    """Plan a recipe on a cluster: compute, memory of each GPU, time, energy and cost of each stage.

    Every mesh (data x shard x tensor x context) of the GPUs is tried; those whose
    GPUs hold every stage are ranked by time. Nothing is trained or downloaded.

        exaone plan exaone-deep-32b --gpus 64 --gpu h100
        exaone plan exaone-4.0-32b --gpus 64 --gpu h200 --sampler-gpus 16 --price 2.5
        exaone plan exaone-4.0-1.2b --gpus 8 --gpu a100-80 --parallel data=2,shard=4

    The sums and what is assumed: docs/scale.md.
    """
    from open_exaone.model.cluster import Cluster, plan_meshes
    from open_exaone.model.gpus import gpu_by_name
    from open_exaone.model.mesh import parse_mesh
    from open_exaone.model.registry import reported_of
    from open_exaone.pipeline.files_needed import check_names
    from open_exaone.pipeline.plan import plan_recipe, shape_of
    from open_exaone.pipeline.recipe import load_recipe
    from open_exaone.present.cluster import Money, sections, too_large
    from open_exaone.present.plan_page import plan_record, write_plan

    _check(args.assumed)
    gpu = gpu_by_name(args.gpu)
    cluster = Cluster(gpu, args.gpus, args.sampler_gpus, _assumptions(args.assumed))
    cluster.check()
    mesh = None if args.parallel is None else parse_mesh(args.parallel, cluster.training_gpus)
    resolved = load_recipe(recipe, args.set_ or [])
    check_names(resolved)
    shape = shape_of(resolved)
    plans = plan_meshes(plan_recipe(resolved, shape), cluster, mesh)
    money = Money(args.assumed.power or gpu.power_w, args.assumed.price)
    reported = reported_of(resolved.model.partition("@")[0]) if isinstance(resolved.model, str) else None
    found = list(sections(plans, cluster, money, reported))
    heading = f"{resolved.name} on {cluster.num_gpus:,} x {gpu.name}"
    begins = "random weights" if resolved.shape is not None else resolved.model
    lead = f"{shape.num_parameters:,} parameters, from {begins}; computes in bfloat16."
    if args.sampler_gpus:
        lead += f" {args.sampler_gpus:,} of the GPUs only sample."
    record = plan_record(resolved.name, plans, cluster, money, reported)
    if args.json:
        say(json.dumps(record, indent=2))
    else:
        _show(heading, lead, found)
    if args.out is not None:
        page = write_plan(args.out, heading, lead, found, plans, cluster, record)
        if not args.json:
            Console().print(f"Page: {page}", soft_wrap=True)
    if not plans[0].fits(cluster):
        raise OpenExaoneError(too_large(plans[0], cluster))
    return 0


def _check(assumed: AssumedFlags) -> None:
    """Refuses what is no share, and no number above 0."""
    for flag, share in (
        ("--mfu", assumed.mfu),
        ("--bandwidth-share", assumed.bandwidth_share),
        ("--memory-share", assumed.memory_share),
    ):
        if not 0 < share <= 1:
            raise ConfigError(f"{flag} {share:g}: must be above 0 and at most 1")
    for flag, value in (("--node-gpus", assumed.node_gpus), ("--network", assumed.network), ("--power", assumed.power)):
        if value is not None and not 0 < value < 1e9:
            raise ConfigError(f"{flag} {value:g}: must be above 0")
    if assumed.price is not None and not 0 <= assumed.price < 1e9:
        raise ConfigError(f"--price {assumed.price:g}: must be at least 0")


def _assumptions(assumed: AssumedFlags) -> "Assumptions":
    from open_exaone.model.speed import Assumptions

    return Assumptions(
        assumed.mfu, assumed.bandwidth_share, assumed.memory_share, assumed.node_gpus, assumed.network * 1e9 / 8
    )


def _show(heading: str, lead: str, found: "Sequence[Section]") -> None:
    from open_exaone.present.terminal import rich_table

    console = Console()
    console.print(heading, style="bold")
    console.print(lead)
    for section in found:
        console.print()
        console.print(section.title, style="bold")
        console.print(rich_table(section.titles, section.rows, console.width, ()))
        for note in section.notes:
            console.print(note, style="dim")
