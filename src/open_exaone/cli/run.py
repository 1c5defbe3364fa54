"""`exaone run`: a whole recipe."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from open_exaone.base.errors import ConfigError
from open_exaone.base.machine import free_memory_bytes
from open_exaone.base.terminal import Console
from open_exaone.base.text import count
from open_exaone.cli.ablate import ablate_and_show, seeds_and_show, show_arms
from open_exaone.cli.flags import MachineFlags, Overrides, Switch, parse_seeds
from open_exaone.cli.ranks import start_ranks, starts_ranks

if TYPE_CHECKING:
    from open_exaone.pipeline.config import Recipe
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
    dry_run: Switch = False
    """Check the recipe and print what it would cost, stage by stage; nothing is trained, downloaded or written."""
    until: str | None = None
    """Stop after this stage; the same command without it runs the others."""
    ablate: str | None = None
    """Run an ablation of the recipe, [ablations.NAME], such as preference_loss of nano/exaone-deep."""
    controls: Switch = False
    """Train the recipe's controls, [ablations.controls], beside its finished run: simpler training with as much
    compute."""
    seeds: str | None = None
    """Run the whole recipe once with each of these seeds, such as 0,1,2,3,4, and compare its stages over them."""
    jobs: int | None = None
    """With --ablate, --controls or --seeds: runs at once, each in a process of one thread; if left out, one a core, and
    one on a GPU."""
    from_: Annotated[Path | None, Parameter(name="--from")] = None
    """With --ablate, --controls or --seeds: a finished run of the same recipe and settings, which is not trained again;
    for --controls the run in runs/NAME if left out."""
    ranks: int | None = None
    """Train in so many processes on this machine, each on its GPU or its share of the cores; torchrun starts them too,
    also on several machines."""
    restarts: int | None = None
    """With --ranks: where a rank fails or is killed, start all ranks again from the last saved state, at most so many
    times; never if left out."""
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

    --ablate compares variants of the recipe over several seeds: what they share
    is trained once, and the same command continues what was interrupted. A dry
    run names the recipe's ablations, or the arms of one:

        exaone run nano/exaone-deep --ablate preference_loss
        exaone run nano/exaone-deep --ablate rl_loss --dry-run

    --ranks shares a run among processes on this machine, which end where one
    process alone would; on several machines torchrun starts them:

        exaone run nano/exaone-deep --ranks 2
        torchrun --nproc-per-node 8 -m open_exaone run my.toml

    --controls compares a finished run with simpler training that takes as much
    compute; --seeds shows how far the results depend on the seed:

        exaone run nano/exaone-deep --controls
        exaone run nano/exaone-deep --seeds 0,1,2,3,4 --from runs/nano-exaone-deep
    """
    from open_exaone.pipeline.ablation_arms import ablation_names
    from open_exaone.pipeline.recipe import load_recipe, part_of

    _check_flags(args)
    if starts_ranks(args.ranks, args.restarts) and not args.dry_run:
        load_recipe(recipe, args.set_ or [], quick=args.quick)  # what is wrong with it is said once
        return start_ranks(args.ranks or 1, args.restarts)
    if args.ablate is not None or args.controls:
        return _ablate(recipe, args)
    if args.seeds is not None:
        seeds, resolved = parse_seeds(args.seeds), load_recipe(recipe, args.set_ or [], quick=args.quick)
        out = args.out or Path("runs") / f"{_folder_name(resolved, args)}-seeds"
        return seeds_and_show(resolved, seeds, out, args.machine, jobs=args.jobs, begun_from=args.from_)
    resolved = load_recipe(recipe, args.set_ or [], quick=args.quick)
    if args.dry_run:
        show_plan(part_of(resolved, args.until), args.machine, quick=args.quick)
        if names := ablation_names(recipe):
            Console().print(f"Ablations (--ablate NAME): {', '.join(names)}", soft_wrap=True)
        return 0
    run_and_show(resolved, args.out or Path("runs") / _folder_name(resolved, args), args.machine, until=args.until)
    return 0


def _ablate(recipe: str, args: RunArguments) -> int:
    """Runs an ablation, or the controls."""
    from open_exaone.pipeline.ablation_arms import load_ablation
    from open_exaone.pipeline.ablation_config import CONTROLS
    from open_exaone.pipeline.controls import base_run, check_controls

    begun_from = args.from_
    if args.controls:
        check_controls(recipe, args.set_ or [], quick=args.quick)
    ablation = load_ablation(args.ablate or CONTROLS, recipe, args.set_ or [], quick=args.quick)
    if args.dry_run:
        show_arms(ablation)
        return 0
    folder = _folder_name(ablation.recipe, args)
    if args.controls and begun_from is None:
        flags = [*(["--quick"] if args.quick else []), *(f"--set {shlex.quote(text)}" for text in args.set_ or [])]
        begun_from = base_run(ablation.recipe, Path("runs") / folder, " ".join(["exaone run", recipe, *flags]))
    out = args.out or Path("runs") / f"{folder}-{ablation.name}"
    return ablate_and_show(ablation, out, args.machine, jobs=args.jobs, begun_from=begun_from)


def _check_flags(args: RunArguments) -> None:
    """Refuses flags that go only with --ablate, --controls or --seeds, or not with these."""
    from open_exaone.train.parallel.place import own_place

    chosen = {"--ablate": args.ablate is not None, "--controls": args.controls, "--seeds": args.seeds is not None}
    several = [flag for flag, is_given in chosen.items() if is_given]
    if several and (args.ranks is not None or own_place() is not None):
        raise ConfigError(f"{several[0]}: its runs are processes of their own (--jobs): run it without ranks")
    if len(several) > 1:
        raise ConfigError(f"{' and '.join(several)}: are run one by one: leave one out")
    if args.ablate is not None and args.until is not None:
        raise ConfigError(f"--until {args.until}: an ablation's own `until` says where its runs end: set that")
    if several and args.until is not None:
        raise ConfigError(f"--until {args.until}: {several[0]} compares whole runs: leave one of the two out")
    if args.seeds is not None and args.dry_run:
        raise ConfigError("--seeds: every seed costs what the recipe does: leave it out of a dry run")
    for flag, value in (("--jobs", args.jobs), ("--from", args.from_)):
        if value is not None and not several:
            raise ConfigError(f"{flag} {value}: goes with --ablate, --controls or --seeds alone: leave it out")
        if value is not None and args.dry_run:
            raise ConfigError(f"{flag} {value}: a dry run trains nothing: leave one of the two out")


def _folder_name(recipe: "Recipe", args: RunArguments) -> str:
    return recipe.name.replace("/", "-") + ("-quick" if args.quick else "")


def show_plan(recipe: "Recipe", machine: MachineFlags, *, quick: bool) -> None:
    """Prints what each stage would cost, and the files that are not there yet."""
    from open_exaone.pipeline.files_needed import check_names, missing_files
    from open_exaone.pipeline.plan import Numbers, plan_recipe, shape_of
    from open_exaone.present.plan import DROPPED_FIRST, LEGEND, TITLES, memory_sentence, plan_rows
    from open_exaone.present.terminal import rich_table

    check_names(recipe)
    console, shape, is_float32 = Console(), shape_of(recipe), machine.dtype == "float32"
    costs = plan_recipe(recipe, shape, Numbers(4 if is_float32 else 2))
    begins = "random weights" if recipe.shape is not None else recipe.model
    dtype = "float32" if is_float32 else "bfloat16"
    name = f"{recipe.name}{' --quick' if quick else ''}"
    console.print(f"{name}: {shape.num_parameters:,} parameters, {dtype}, from {begins}", soft_wrap=True)
    console.print(rich_table(TITLES, plan_rows(costs), console.width, DROPPED_FIRST))
    console.print(memory_sentence(costs, _free_memory(machine)), soft_wrap=True)
    console.print(LEGEND, soft_wrap=True)
    for line in missing_files(recipe):
        console.print(f"Missing: {line}", soft_wrap=True)


def _free_memory(machine: MachineFlags) -> int | None:
    """The free memory of the device that this machine would train on, in bytes; None where it has no such device."""
    import torch

    if machine.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return free_memory_bytes() if machine.device != "cuda" else None


def run_and_show(recipe: "Recipe", out: Path, machine: MachineFlags, *, until: str | None = None) -> None:
    """Runs a recipe and prints its progress, its results and what to do next."""
    from open_exaone.checkpoint.folder import resolve_device
    from open_exaone.pipeline.run import run_recipe
    from open_exaone.present.faithfulness import show_thought_use, stage_sections
    from open_exaone.present.formatting import duration, size
    from open_exaone.present.terminal import Progress, change_tables, closing_table_rich
    from open_exaone.train.parallel.place import own_place

    resolve_device(machine.device)
    if (place := own_place()) is not None and place.rank:
        run_recipe(recipe, out, lambda event: None, machine.machine(), until=until)
        return
    console = Console()
    console.print(
        f"{recipe.name}: {', '.join(stage.name for stage in recipe.stages)}; the run's folder is {out}", soft_wrap=True
    )
    with Progress(console) as progress:

        def show(event: dict[str, Any]) -> None:
            progress(event)
            if "measured" in event:
                _show_measured(console, progress, event)

        report = run_recipe(recipe, out, show, machine.machine(), until=until)
    for entry in report["stages"]:
        console.print(_trained(entry), soft_wrap=True)
    has_model = any("filter" not in entry for entry in report["stages"])
    if recipe.evaluation is not None and has_model:
        console.print(closing_table_rich(report, console.width))
        for table in change_tables(report, console.width):
            console.print(table)
        show_thought_use(stage_sections(report["stages"]), console)
    console.print(f"{duration(report['seconds'])}, with at most {size(report['peak_rss_bytes'])} of memory.")
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True)
    if not has_model:
        return
    console.print(f"Model card: {out / 'card.md'}", soft_wrap=True)
    suite = "" if recipe.evaluation is not None else " --suite NAME"
    run = shlex.quote(str(out))
    console.print(f"Talk to the model: exaone chat {run}\nMeasure it: exaone eval {run}{suite}", soft_wrap=True)


def _trained(entry: Mapping[str, Any]) -> str:
    """What a stage's training took, or what a filter kept, in one line."""
    from open_exaone.present.filtered import sentence
    from open_exaone.present.formatting import duration

    if "filter" in entry:
        return f"{entry['name']}: {sentence(entry['filter'])} in {duration(entry['sample_seconds'])}"
    skipped = f" ({entry['skipped_steps']:,} of them skipped)" if entry["skipped_steps"] else ""
    steps, tokens = count(entry["train_steps"], "step") + skipped, count(entry["train_tokens"], "token")
    return f"{entry['name']}: {steps}, {tokens} in {duration(entry['train_seconds'])}"


def _show_measured(console: Console, progress: "Progress", event: Mapping[str, Any]) -> None:
    from open_exaone.present.formatting import percent
    from open_exaone.present.stages import mode_name
    from open_exaone.present.terminal import show_replies

    for entry in event["measured"].get("tasks", [event["measured"]]):
        low, high = map(percent, entry["ci95"])
        not_judged = f"; {percent(entry['error_share'])} could not be judged" if entry["error_share"] else ""
        asked = f"{count(entry['num_problems'], 'problem')} x {count(entry['k'], 'sample')}, {mode_name(entry)} mode"
        score = f"{entry['measured_on']}: pass@1 {percent(entry['pass_at_1'])} [{low}, {high}]"
        progress.message(f"{event['stage']}: {score} on {asked}{not_judged}")
    for shown in event["showcase"]:
        show_replies(shown["problem"], shown["replies"], console)
