"""`exaone plan --write`: a file that starts the planned run."""

import shlex
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

from open_exaone.model.mesh import AXES, Mesh

if TYPE_CHECKING:
    from open_exaone.cli.plan_flags import PlanArguments
    from open_exaone.model.cluster import MeshPlan
    from open_exaone.model.speed import Sampler
    from open_exaone.pipeline.config import Recipe


def write_launch(kind: str, source: str, recipe: "Recipe", args: "PlanArguments", plan: "MeshPlan") -> str:
    """Writes the file.

    Args:
        source: the recipe as it was named.
        plan: of the mesh that the run gets.

    Returns:
        the command that starts the run.

    Raises:
        ConfigError: a file of this kind cannot express the run; names what to change.
    """
    from open_exaone.base.files import write_text
    from open_exaone.pipeline.recipe import shipped_recipes
    from open_exaone.present.launch import KINDS, Launch, launch_name, launch_text

    is_shipped = source in shipped_recipes()
    job = Launch(
        name=recipe.name,
        recipe=source if is_shipped else str(Path(source).absolute()),
        recipe_text=None if is_shipped else Path(source).read_text(encoding="utf-8"),
        settings=(*(args.set_ or []), *_mesh_settings(recipe, plan.mesh)),
        shared=args.shared,
        gpu=args.gpu.lower(),
        mesh=plan.mesh,
        node_gpus=min(args.assumed.node_gpus, args.gpus),
        seconds=plan.seconds if all(stage.seconds for stage in plan.stages) else 0.0,
        stop_s=max(stage.keep.stop_within_s for stage in recipe.trained),
        sampler=_servers(plan) if args.sampler_gpus else None,
        model=recipe.model if isinstance(recipe.model, str) else "",
        longest=max(stage.cost.held.longest for stage in plan.stages),
    )
    text = launch_text(kind, job)
    path = (args.out or Path()) / launch_name(kind, job)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return f"{KINDS[kind].start} {shlex.quote(str(path))}"


def _mesh_settings(recipe: "Recipe", mesh: Mesh) -> Iterator[str]:
    """The mesh as `--set` takes it: always data and shard, and another axis where the recipe has another size."""
    given = recipe.parallel.model_dump()
    for axis, size in zip(AXES, astuple(mesh), strict=True):
        if axis in ("data", "shard") or size != given.get(axis, 1):
            yield f"parallel.{axis}={size}"


def _servers(plan: "MeshPlan") -> "Sampler | None":
    """The GPUs that only sample, in the largest groups that a stage needs; None where no stage samples."""
    found = [stage.sampler for stage in plan.stages if stage.sampler is not None]
    return max(found, key=lambda sampler: sampler.tensor, default=None)
