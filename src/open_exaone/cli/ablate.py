"""`exaone run --ablate`: the arms of an ablation, trained and compared."""

from pathlib import Path
from typing import TYPE_CHECKING

from open_exaone.base.terminal import Console
from open_exaone.base.text import count
from open_exaone.cli.flags import MachineFlags

if TYPE_CHECKING:
    from open_exaone.pipeline.ablation_arms import Ablation


def show_arms(ablation: "Ablation") -> None:
    """Prints what an ablation would run."""
    console, config = Console(), ablation.config
    console.print(config.what, soft_wrap=True)
    shared, own = (", ".join(stage.name for stage in stages) for stages in (ablation.shared, ablation.own))
    console.print(
        f"Shared: {shared or 'nothing'}. Each arm and seed: {own}. Compared on {ablation.measure or 'the suite'}."
    )
    for arm, changes in config.arms.items():
        console.print(f"{arm}: {', '.join(changes) or 'the recipe as it is'}", soft_wrap=True)
    seeds = ", ".join(map(str, config.seeds))
    number = count(len(config.arms) * len(config.seeds), "run")
    console.print(f"{count(len(config.arms), 'arm')}, with the seeds {seeds}: {number}; nothing was trained.")


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
    console, number = Console(), len(ablation.arms) * len(ablation.config.seeds)
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
