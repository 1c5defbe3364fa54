"""The body of `exaone train`."""

from pathlib import Path
from typing import Any

from open_exaone.base.terminal import Console
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.train_config import load_train_config


def train(file: Path, out: Path | None, overrides: list[str], device: str, dtype: str, unsafe: bool) -> int:
    from open_exaone.checkpoint.folder import resolve_device
    from open_exaone.pipeline.training import run_training
    from open_exaone.present.terminal import Progress

    config = load_train_config(file, overrides)
    resolve_device(device)
    out = out or Path("runs") / config.name
    console = Console()
    console.print(f"{config.name}: {config.stage.kind}, into {out}")
    with Progress(console) as progress:
        outcome = run_training(config, out, progress, Machine(device, dtype, unsafe))
    console.print(_closing(outcome))
    if config.lora is not None:
        console.print(f"Merge it: exaone convert {config.model} MERGED --adapter {outcome['result']}")
        console.print("Then: exaone chat MERGED · exaone eval MERGED --suite NAME")
    else:
        console.print(f"Talk to it: exaone chat {out} · measure it: exaone eval {out} --suite NAME")
    return 0


def _closing(outcome: dict[str, Any]) -> str:
    skipped = f", {outcome['skipped_steps']:,} of them skipped" if outcome["skipped_steps"] else ""
    return (
        f"{outcome['train_steps']:,} steps{skipped}, {outcome['train_tokens']:,} tokens in "
        f"{outcome['train_seconds'] / 60:.1f} minutes, {outcome['peak_rss_bytes'] / 2**30:.1f} GiB at most: "
        f"{outcome['result']}"
    )
