"""Whether the base stage pays: SFT from its model beside SFT from random weights, after as many tokens in all.

    python benchmarks/base_stage.py                      # three seeds, both ways; half an hour on two cores
    python benchmarks/base_stage.py --seeds 1 --quick    # a minute: shows that it runs, not more

Both ways train and measure as the recipe says. The way without a base gets more SFT problems, all new, until its
tokens are the other's; more epochs over the same ones would be worse for it. Test problems are the same for all; the
differences are paired by problem. The same command continues what was interrupted.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from open_exaone.api.compute import run_recipe
from open_exaone.evaluation.compare import compare_runs
from open_exaone.pipeline.recipe import load_recipe

BASE, SFT = "base", "sft"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="nano/exaone-deep", help='a recipe whose stages "base" and "sft" are taken')
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/base-stage"))
    parser.add_argument("--quick", action="store_true", help="the recipe's short form")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below

    seeds = range(args.seeds)
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        both = [pool.submit(train, args, seed, (BASE, SFT), 1.0, f"{seed}-from-base") for seed in seeds]
        more = 1 + tokens(both[0].result(), BASE) / tokens(both[0].result(), SFT)
        alone = [pool.submit(train, args, seed, (SFT,), more, f"{seed}-from-random") for seed in seeds]
        reports = [(one.result(), other.result()) for one, other in zip(both, alone, strict=True)]

    print("seed  tokens          SFT from base  SFT from random weights  difference (95 %)")
    differences = []
    for seed, pair in zip(seeds, reports, strict=True):
        found = compare_runs(
            *(
                args.out / f"{seed}-from-{start}" / folder(report)
                for start, report in zip(("base", "random"), pair, strict=True)
            )
        )
        for row in found:
            change = row.difference
            print(
                f"{seed:4}  {' '.join(f'{total(report):,}' for report in pair)}  {row.task:12} {row.ours:6.1%} "
                f"{row.theirs:12.1%}  {change.value:+12.1%} ({change.low:+.1%} to {change.high:+.1%})"
            )
        differences.append(found[0].difference.value)
    spread = f", standard deviation {stdev(differences):.1%}" if len(differences) > 1 else ""
    print(f"mean difference on {found[0].task}: {fmean(differences):+.1%}{spread}")


def train(args: argparse.Namespace, seed: int, names: tuple[str, ...], more: float, out: str) -> dict[str, Any]:
    """Runs these stages of the recipe, with so many times its SFT problems.

    Returns:
        the run's report.
    """
    values = load_recipe(args.recipe, [f"seed={seed}"], quick=args.quick).model_dump(mode="json")
    values["stages"] = [stage for stage in values["stages"] if stage["name"] in names]
    [source] = values["data"][SFT]["sources"]
    source["num_problems"] = round(more * source["num_problems"])
    return run_recipe(values, args.out / out)


def tokens(report: dict[str, Any], name: str) -> int:
    return next(stage["train_tokens"] for stage in report["stages"] if stage["name"] == name)


def total(report: dict[str, Any]) -> int:
    return sum(stage["train_tokens"] for stage in report["stages"])


def folder(report: dict[str, Any]) -> Path:
    """Where the last stage's evaluation is."""
    return Path(report["stages"][-1]["folder"]) / "eval"


if __name__ == "__main__":
    main()
