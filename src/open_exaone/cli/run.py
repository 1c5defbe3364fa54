"""`exaone run`: a whole recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from open_exaone.base.terminal import Console
from open_exaone.base.text import count
from open_exaone.cli.flags import MachineFlags, Overrides, Switch

if TYPE_CHECKING:
    from open_exaone.present.terminal import Progress


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """The flags of `exaone run`."""

    out: Path | None = None
    """The run's folder; runs/NAME, after the recipe's name, if left out."""
    set_: Overrides = None
    """Change one value of the recipe: STAGE.KEY=VALUE or TABLE.KEY=VALUE; may be repeated."""
    quick: Switch = False
    """Run the same stages cut down to about two minutes."""
    machine: MachineFlags = field(default_factory=MachineFlags)


def run(
    recipe: Annotated[str, Parameter(help="The name of a shipped recipe, or a TOML file.")] = "nano/exaone-deep",
    /,
    *,
    args: RunArguments = RunArguments(),
) -> int:
    """Train a model by a recipe, measure it after each stage and write a report.

    Give the same command again to continue a run that was interrupted.

    --set changes one value of the recipe. The value is written as in TOML; the
    key begins with the name of a stage or of a table of the recipe. A run with
    other values needs a folder of its own:

        exaone run --set rl.group_size=16 --set evaluation.num_samples=8 --out runs/group-16
    """
    from open_exaone.checkpoint.folder import resolve_device
    from open_exaone.pipeline.recipe import load_recipe
    from open_exaone.pipeline.run import run_story
    from open_exaone.present.card import write_card
    from open_exaone.present.formatting import duration, size
    from open_exaone.present.report import write_report
    from open_exaone.present.terminal import Progress, closing_table_rich

    resolved = load_recipe(recipe, args.set_ or [], quick=args.quick)
    resolve_device(args.machine.device)
    out = args.out or Path("runs") / (resolved.name.replace("/", "-") + ("-quick" if args.quick else ""))
    console = Console()
    console.print(f"{resolved.name}: {resolved.model.num_parameters:,} parameters, into {out}")
    with Progress(console) as progress:

        def show(event: dict[str, Any]) -> None:
            progress(event)
            if "measured" in event:
                _show_measured(console, progress, event)

        report = run_story(resolved, out, show, args.machine.machine())
    page, card = write_report(out), write_card(out)
    console.print(closing_table_rich(report, console.width))
    console.print(f"{duration(report['seconds'])}, with at most {size(report['peak_rss_bytes'])} of memory.")
    console.print(f"Report: {page}\nModel card: {card}")
    print_next_steps(console, str(out))
    return 0


def print_next_steps(console: Console, model: str, flags: str = "") -> None:
    """Prints how to talk to a trained model and how to measure it; `flags` are what `exaone eval` needs besides."""
    console.print(f"Talk to the model: exaone chat {model}\nMeasure it: exaone eval {model}{flags}", soft_wrap=True)


def _show_measured(console: Console, progress: "Progress", event: Mapping[str, Any]) -> None:
    from open_exaone.present.formatting import percent
    from open_exaone.present.terminal import show_replies

    entry = event["measured"]
    low, high = map(percent, entry["ci95"])
    not_judged = f"; {percent(entry['error_share'])} could not be judged" if entry["error_share"] else ""
    asked = f"{count(entry['num_problems'], 'problem')} x {count(entry['k'], 'sample')}, {entry['mode']} mode"
    progress.message(f"{event['stage']}: pass@1 {percent(entry['pass_at_1'])} [{low}, {high}] on {asked}{not_judged}")
    for shown in event["showcase"]:
        show_replies(shown["problem"], shown["replies"], console)
