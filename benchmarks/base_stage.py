"""Whether the base stage pays: SFT from its model beside SFT from random weights, after as many tokens in all.

    exaone run --out runs/seed-0 && exaone run --set seed=1 --out runs/seed-1
    python benchmarks/base_stage.py runs/seed-0 runs/seed-1      # for each run SFT without a base; minutes a run

For each finished run of a recipe with the stages "base" and "sft", a recipe with the stage "sft" alone is run, with the
same seed and settings and more problems, all new, until its tokens are those of both stages: more epochs over the same
problems would be worse for it. It trains its own tokenizer, as every run does. Test problems are the same both ways;
differences are paired by problem, for families with worked thoughts and without. The same command continues what was
interrupted.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from open_exaone.api.compute import run_recipe
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.evaluation.paired import paired_difference
from open_exaone.pipeline.folder import RunFolder
from open_exaone.tasks.registry import get_family

BASE, SFT = "base", "sft"
GROUPS = ("all", "worked", "unworked")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs, one for each seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/without-base"))
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below

    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        folders = list(pool.map(train_without_base, args.runs, [args.out / run.name for run in args.runs]))

    print("pass@1 after SFT     from base  from random weights  difference (95 %)")
    differences: dict[str, list[float]] = {group: [] for group in GROUPS}
    for run, alone in zip(args.runs, folders, strict=True):
        ours, theirs = scores(run), scores(alone)
        tokens = [f"{sum(trained(folder).values()):,} tokens" for folder in (run, alone)]
        print(f"{run.name}: {tokens[0]} with a base, {tokens[1]} without")
        for group in GROUPS:
            names = [name for name in ours if group in ("all", get_family(name.split("/")[0]).group)]
            found = paired_difference({name: ours[name] for name in names}, {name: theirs[name] for name in names})
            differences[group].append(found.value)
            means = [fmean(of[name] for name in names) for of in (ours, theirs)]
            print(
                f"  {group:10} {len(names):5,} {means[0]:11.1%} {means[1]:20.1%}  "
                f"{found.value:+.1%} ({found.low:+.1%} to {found.high:+.1%})"
            )
    for group, values in differences.items():
        spread = f", standard deviation {stdev(values):.1%}" if len(values) > 1 else ""
        print(f"mean difference, {group}: {fmean(values):+.1%}{spread}")


def train_without_base(run: Path, out: Path) -> Path:
    """Runs SFT from random weights for the tokens that a run's base and SFT had.

    Returns:
        its folder.
    """
    tokens = trained(run)
    values = RunFolder(run).recipe().model_dump(mode="json")
    values["stages"] = [stage for stage in values["stages"] if stage["name"] == SFT]
    [source] = values["data"][SFT]["sources"]
    source["num_problems"] = round(source["num_problems"] * sum(tokens.values()) / tokens[SFT])
    run_recipe(values, out)
    return out


def trained(run: Path) -> dict[str, int]:
    """How many tokens the base and the SFT of a run learned from, by their names."""
    stages: list[dict[str, Any]] = read_json(run / "report.json")["stages"]
    return {stage["name"]: stage["train_tokens"] for stage in stages if stage["name"] in (BASE, SFT)}


def scores(run: Path) -> dict[str, float]:
    """The share of correct samples of each test problem after SFT."""
    report = read_json(run / "report.json")
    [stage] = [stage for stage in report["stages"] if stage["name"] == SFT]
    verdicts: dict[str, list[bool]] = {}
    for row in read_jsonl(run / stage["folder"] / "eval" / "samples.jsonl"):
        if row["task"] == stage["measured_on"]:
            verdicts.setdefault(row["problem"], []).append(row["verdict"] == "correct")
    return {problem: fmean(found) for problem, found in verdicts.items()}


if __name__ == "__main__":
    main()
