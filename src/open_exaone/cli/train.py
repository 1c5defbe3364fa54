"""The body of `exaone train`."""

from pathlib import Path

from open_exaone.base.terminal import Console
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import check_one_stage, load_recipe


def train(file: Path, out: Path | None, overrides: list[str], device: str, dtype: str, unsafe: bool) -> int:
    from open_exaone.checkpoint.folder import resolve_device
    from open_exaone.pipeline.run import run_recipe
    from open_exaone.present.terminal import Progress

    recipe = load_recipe(file, overrides)
    check_one_stage(recipe)
    resolve_device(device)
    out = out or Path("runs") / recipe.name
    console = Console()
    console.print(f"{recipe.name}: {recipe.stages[0].kind}, into {out}")
    with Progress(console) as progress:
        report = run_recipe(recipe, out, progress, Machine(device, dtype, unsafe))
    entry = report["stages"][0]
    skipped = f", {entry['skipped_steps']:,} of them skipped" if entry["skipped_steps"] else ""
    console.print(
        f"{entry['train_steps']:,} steps{skipped}, {entry['train_tokens']:,} tokens in "
        f"{entry['train_seconds'] / 60:.1f} minutes, {entry['peak_rss_bytes'] / 2**30:.1f} GiB at most"
    )
    console.print(f"Talk to it: exaone chat {out} · measure it: exaone eval {out} --suite NAME")
    return 0
