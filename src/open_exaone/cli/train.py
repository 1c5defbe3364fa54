"""`exaone train`: a recipe of one stage."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from open_exaone.cli.flags import MachineFlags, Overrides
from open_exaone.cli.ranks import start_ranks, starts_ranks
from open_exaone.cli.run import run_and_show


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """The flags of `exaone train`."""

    out: Path | None = None
    """The run's folder; runs/NAME, after the name in the file, if left out."""
    set_: Overrides = None
    """Change one value of the recipe, such as --set sft.num_epochs=2; may be repeated."""
    ranks: int | None = None
    """Train in so many processes on this machine; see `exaone run --help`."""
    restarts: int | None = None
    """With --ranks: where a rank fails or is killed, start all ranks again from the last saved state, at most so many
    times; never if left out."""
    machine: MachineFlags = field(default_factory=MachineFlags)


def train(
    file: Annotated[Path, Parameter(help="A TOML file: a recipe with a model, its data and one stage.")],
    /,
    *,
    args: TrainArguments = TrainArguments(),
) -> int:
    """Train one stage on your own data: pretraining, SFT, preference optimisation or online RL.

    Give the same command again to continue a run that was interrupted.

    The file is a recipe of one stage, and the run is one of `exaone run`.
    docs/training.md describes it; examples/finetune/ has several.
    """
    from open_exaone.pipeline.recipe import check_one_stage, load_recipe

    recipe = load_recipe(file, args.set_ or [])
    check_one_stage(recipe)
    if starts_ranks(args.ranks, args.restarts):
        return start_ranks(args.ranks or 1, args.restarts)
    run_and_show(recipe, args.out or Path("runs") / recipe.name.replace("/", "-"), args.machine)
    return 0
