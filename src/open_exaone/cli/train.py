"""`exaone train`: one stage on data of the user's own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from open_exaone.base.terminal import Console
from open_exaone.base.text import count
from open_exaone.cli.flags import MachineFlags, Overrides


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """The flags of `exaone train`."""

    out: Path | None = None
    """The run's folder; runs/NAME, after the name in the file, if left out."""
    set_: Overrides = None
    """Change one value of the file, such as --set stage.num_epochs=2; may be repeated."""
    machine: MachineFlags = field(default_factory=MachineFlags)


def train(
    file: Annotated[Path, Parameter(help="A TOML file that names a model, its data and one stage of training.")],
    /,
    *,
    args: TrainArguments = TrainArguments(),
) -> int:
    """Train one stage on your own data: pretraining, SFT, preference optimisation or online RL.

    Give the same command again to continue a run that was interrupted.

    docs/training.md describes the file; examples/finetune/ has several.
    """
    from open_exaone.checkpoint.folder import resolve_device
    from open_exaone.cli.run import print_next_steps
    from open_exaone.pipeline.train_config import load_train_config
    from open_exaone.pipeline.training import run_training
    from open_exaone.present.formatting import duration, size
    from open_exaone.present.terminal import Progress

    config = load_train_config(file, args.set_ or [])
    resolve_device(args.machine.device)
    out = args.out or Path("runs") / config.name
    console = Console()
    console.print(f"{config.name}: {config.stage.kind}, into {out}")
    with Progress(console) as progress:
        outcome = run_training(config, out, progress, args.machine.machine())
    skipped = f" ({outcome['skipped_steps']:,} of them skipped)" if outcome["skipped_steps"] else ""
    steps, tokens = count(outcome["train_steps"], "step") + skipped, count(outcome["train_tokens"], "token")
    took, memory = duration(outcome["train_seconds"]), size(outcome["peak_rss_bytes"])
    console.print(f"{steps}, {tokens} in {took}, with at most {memory} of memory.")
    console.print(f"{'Adapters' if config.lora else 'Model'}: {outcome['result']}", soft_wrap=True)
    if (page := out / "report.html").is_file():
        console.print(f"Report: {page}", soft_wrap=True)
    if config.lora is not None:
        merge = f"exaone convert {config.model} MERGED --adapter {outcome['result']}"
        console.print(f"Merge the adapters into the model first: {merge}", soft_wrap=True)
    print_next_steps(console, "MERGED" if config.lora else str(out), " --suite NAME")
    return 0
