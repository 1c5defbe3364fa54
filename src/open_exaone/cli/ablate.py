"""`exaone run --ablate`, `--controls` and `--seeds`: runs that are trained side by side and compared."""

from pathlib import Path
from typing import TYPE_CHECKING

from open_exaone.base.terminal import Console
from open_exaone.base.text import count
from open_exaone.cli.flags import MachineFlags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open_exaone.pipeline.ablation_arms import Ablation
    from open_exaone.pipeline.config import Recipe
    from open_exaone.train.config import AnyStage


def show_arms(ablation: "Ablation") -> None:
    """Prints what an ablation would run."""
    console, config = Console(), ablation.config
    console.print(config.what, soft_wrap=True)
    compared = f"Compared on {ablation.measure or 'the suite'}."
    if config.begins_from_run:
        console.print(f"{ablation.baseline}: a finished run of {ablation.recipe.name} (--from). {compared}")
        for arm in list(config.arms)[1:]:
            console.print(_of_run(ablation, arm), soft_wrap=True)
        console.print(f"{count(len(config.arms) - 1, 'run')}; nothing was trained.")
        return
    shared, own = (_named(stages) for stages in (ablation.shared, ablation.own(ablation.baseline)))
    console.print(f"Shared: {shared or 'nothing'}. Each arm and seed: {own}. {compared}")
    for arm, changes in config.arms.items():
        console.print(f"{arm}: {', '.join(changes) or 'the recipe as it is'}", soft_wrap=True)
    seeds = ", ".join(map(str, config.seeds))
    number = count(len(config.arms) * len(config.seeds), "run")
    console.print(f"{count(len(config.arms), 'arm')}, with the seeds {seeds}: {number}; nothing was trained.")


def _named(stages: "Sequence[AnyStage]") -> str:
    return ", ".join(stage.name for stage in stages)


def _of_run(ablation: "Ablation", arm: str) -> str:
    """What an arm that begins from a run would train, and how long."""
    taken, match = ablation.taken(arm), ablation.config.match.get(arm)
    start = f"that run's model of {taken[-1].name}" if taken else "the recipe's own model"
    text = f"{arm}: {_named(ablation.stages_of(arm)[len(taken) :])}, from {start}"
    if match is None:
        return text
    what = "FLOPs" if match.flops_of else "trained tokens"
    return f"{text}, for as many {what} as its {', '.join(match.flops_of or match.tokens_of)} took"


def ablate_and_show(
    ablation: "Ablation", out: Path, machine: MachineFlags, *, jobs: int | None, begun_from: Path | None
) -> int:
    """Runs an ablation and prints its progress and what it found; 1 where a run failed."""
    from open_exaone.checkpoint.folder import resolve_device
    from open_exaone.pipeline.ablation import run_ablation
    from open_exaone.pipeline.ablation_report import failed
    from open_exaone.present.ablation import DROPPED_FIRST, arms_table, others_table, sentences
    from open_exaone.present.terminal import Progress, rich_table

    resolve_device(machine.device)
    console, number = Console(), len(ablation.arms) * len(ablation.seeds) - ablation.config.begins_from_run
    console.print(f"{ablation.recipe.name}, ablation {ablation.name}: {count(number, 'run')} in {out}", soft_wrap=True)
    with Progress(console) as progress:
        found = run_ablation(ablation, out, progress, machine.machine(), jobs=jobs, begun_from=begun_from)
    for sentence in (found["what"], *sentences(found)):
        console.print(sentence, soft_wrap=True)
    for table in filter(None, (arms_table(found), others_table(found))):
        shown = rich_table(*table, console.width, DROPPED_FIRST)
        shown.columns[0].justify = "left"
        console.print(shown)
    console.print(f"Report: {out / 'ablation.html'}; every number is in {out / 'ablation.json'}", soft_wrap=True)
    return 1 if failed(found) else 0


def seeds_and_show(
    recipe: "Recipe",
    seeds: "Sequence[int]",
    out: Path,
    machine: MachineFlags,
    *,
    jobs: int | None,
    begun_from: Path | None,
) -> int:
    """Runs a recipe with several seeds and prints progress and scores; 1 where a run failed."""
    from open_exaone.checkpoint.folder import resolve_device
    from open_exaone.pipeline.seeds import run_seeds
    from open_exaone.present.seeds import DROPPED_FIRST, gains_table, sentences, stages_table
    from open_exaone.present.terminal import Progress, rich_table

    resolve_device(machine.device)
    console = Console()
    console.print(f"{recipe.name}: {count(len(seeds), 'seed')} in {out}", soft_wrap=True)
    with Progress(console) as progress:
        found = run_seeds(recipe, seeds, out, progress, machine.machine(), jobs=jobs, begun_from=begun_from)
    for sentence in sentences(found):
        console.print(sentence, soft_wrap=True)
    for table in (stages_table(found), gains_table(found)) if found["ways"] else ():
        shown = rich_table(*table, console.width, DROPPED_FIRST)
        shown.columns[0].justify = "left"
        console.print(shown)
    console.print(f"Report: {out / 'seeds.html'}; every number is in {out / 'seeds.json'}", soft_wrap=True)
    return 1 if found["errors"] else 0
