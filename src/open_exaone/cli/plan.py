"""`exaone plan`: what a recipe takes on a cluster."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from open_exaone.base.errors import ConfigError, OpenExaoneError
from open_exaone.base.output import say
from open_exaone.base.terminal import Console
from open_exaone.cli.plan_flags import AssumedFlags, PlanArguments

if TYPE_CHECKING:
    from open_exaone.model.config import ModelConfig
    from open_exaone.model.speed import Assumptions
    from open_exaone.pipeline.config import Recipe
    from open_exaone.present.cluster import Section


def plan(
    recipe: Annotated[str, Parameter(help="The name of a shipped recipe, or a TOML file.")],
    /,
    *,
    args: PlanArguments = PlanArguments(),
) -> int:
    """Plan a recipe on a cluster: compute, memory of each GPU, time, energy and cost of each stage.

    Every mesh (data x shard x tensor x context) of the GPUs is tried; those whose
    GPUs hold every stage are ranked by time. Nothing is trained or downloaded.
    --write leaves a file that starts the run on the first of them.

        exaone plan exaone-deep-32b --gpus 64 --gpu h100
        exaone plan exaone-4.0-32b --gpus 64 --gpu h200 --sampler-gpus 16 --price 2.5
        exaone plan exaone-4.0-1.2b --gpus 8 --gpu a100-80 --parallel data=2,shard=4
        exaone plan exaone-deep-7.8b --gpus 16 --gpu h200 --write slurm --shared /shared

    The sums and what is assumed: docs/scale.md.
    """
    from open_exaone.cli.launch import write_launch
    from open_exaone.model.cluster import Cluster, plan_meshes
    from open_exaone.model.gpus import gpu_by_name
    from open_exaone.model.mesh import parse_mesh
    from open_exaone.model.registry import reported_of
    from open_exaone.pipeline.files_needed import check_names
    from open_exaone.pipeline.plan import mesh_of, plan_recipe, shape_of
    from open_exaone.pipeline.recipe import load_recipe
    from open_exaone.present.cluster import Money, sections, too_large
    from open_exaone.present.plan_page import plan_record, write_plan

    gpu = gpu_by_name(args.gpu)
    cluster = Cluster(gpu, args.gpus, args.sampler_gpus, _assumptions(args.assumed))
    cluster.check()
    resolved = load_recipe(recipe, args.set_ or [])
    own = mesh_of(resolved.parallel, cluster.training_gpus) if args.parallel is None else None
    mesh = own if args.parallel is None else parse_mesh(args.parallel, cluster.training_gpus)
    check_names(resolved)
    shape = shape_of(resolved)
    plans = plan_meshes(plan_recipe(resolved, shape), cluster, mesh, "parallel" if own else "--parallel")
    money = Money(args.assumed.power or gpu.power_w, args.assumed.price)
    reported = reported_of(resolved.model.partition("@")[0]) if isinstance(resolved.model, str) else None
    found = list(sections(plans, cluster, money, reported))
    heading = f"{resolved.name} on {cluster.num_gpus:,} x {gpu.name}"
    lead = _lead(resolved, shape, args.sampler_gpus, is_own=own is not None)
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
    if args.write is not None:
        command = write_launch(args.write, recipe, resolved, args, plans[0])
        if not args.json:
            Console().print(f"Start the run: {command}", soft_wrap=True)
    return 0


def _lead(recipe: "Recipe", shape: "ModelConfig", sampler_gpus: int, *, is_own: bool) -> str:
    begins = "random weights" if recipe.shape is not None else recipe.model
    lead = f"{shape.num_parameters:,} parameters, from {begins}; computes in bfloat16."
    if sampler_gpus:
        lead += f" {sampler_gpus:,} of the GPUs only sample."
    return lead + is_own * " The mesh is that of the recipe's [parallel]; --parallel plans another one."


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

    _check(assumed)
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
