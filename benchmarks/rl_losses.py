"""GRPO, GRPO with refill and AGAPO from one shared SFT model, after equally many samples, over several seeds.

    exaone run --set seed=2 --out runs/seed-2        # or any finished run with a stage "sft" and data "rl" and "test"
    python benchmarks/rl_losses.py runs/seed-2       # three arms x five seeds; about three minutes a run and core

Every arm asks the run's own RL prompts and is measured on the run's own test problems; a seed draws other samples in
another order. The share of useful groups is that of groups that the loss learns from, among all that were sampled; the
constant's share is how much of the test's score a family's commonest answer would explain: the mean over families of
the share of samples that gave it. Differences are paired by problem. The same command continues what was interrupted.
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

GRPO = {"name": "grpo", "aggregate": "tokens"}
ARMS: dict[str, dict[str, Any]] = {
    "grpo": {"loss": GRPO},
    "grpo_refill": {"loss": GRPO, "batch_prompts": 12, "max_prompts": 64},  # as many useful groups a step as "grpo" has
    "agapo": {"loss": {"name": "agapo"}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", nargs="*", default=[], help="further settings of the stage, such as num_steps=90")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/rl-losses"))
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below

    work = [
        (args.run, arm, seed, args.out / f"{arm}-{seed}", args.set) for seed in range(args.seeds) for arm in args.arms
    ]
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        folders = dict(
            zip([(arm, seed) for _, arm, seed, *_ in work], pool.map(train, *zip(*work, strict=True)), strict=True)
        )
    report(args.run, args.arms, folders, args.seeds)


def train(run: Path, arm: str, seed: int, out: Path, changes: list[str]) -> Path:
    """Runs RL from a run's SFT model.

    Returns:
        its folder.
    """
    values = RunFolder(run).recipe().model_dump(mode="json")
    [stage] = [stage for stage in values["stages"] if stage["kind"] == "rl"]
    values |= {"seed": seed, "model": str((run / "02-sft" / "model").resolve()), "disjoint": False}
    values["data"] = {
        name: {"sources": [{"path": str((run / "problems" / f"{name}.jsonl").resolve()), "format": "problems"}]}
        for name in ("test", stage["data"])
    }
    values["evaluation"] |= {"data": ["test"], "shown": "test"}
    values["stages"] = [stage | ARMS[arm] | {"start": None}]
    run_recipe(values, out, overrides=[f"{stage['name']}.{change}" for change in changes])
    return out


def report(run: Path, arms: list[str], folders: dict[tuple[str, int], Path], num_seeds: int) -> None:
    before = scores(run, "sft")
    print(f"SFT: {fmean(before.values()):.1%} of {len(before):,} test problems")
    print("arm          seed  pass@1  against SFT (95 %)        samples  useful groups  constant's share  seconds")
    means: dict[str, list[float]] = {arm: [] for arm in arms}
    for (arm, seed), folder in sorted(folders.items()):
        after, rows = scores(folder, "rl"), read_jsonl(folder / "01-rl" / "metrics.jsonl")
        [stage] = read_json(folder / "report.json")["stages"]
        found, group_size = paired_difference(after, before), RunFolder(folder).recipe().stages[0].group_size
        prompts = [row.get("asked_prompts", RunFolder(folder).recipe().stages[0].batch_prompts) for row in rows]
        useful = sum(row["useful_groups"] for row in rows) / sum(prompts)
        shares = [task["commonest_answer_share"] for task in stage["per_task"].values()]
        means[arm].append(fmean(after.values()))
        gain = f"{found.value:+.1%} ({found.low:+.1%} to {found.high:+.1%})"
        print(
            f"{arm:12} {seed:4} {fmean(after.values()):7.1%}  {gain:28} {sum(prompts) * group_size:9,} {useful:14.1%} "
            f"{fmean(shares):17.1%} {stage['train_seconds']:8.0f}"
        )
    for arm, values in means.items():
        print(
            f"{arm}: mean {fmean(values):.1%}"
            + (f", standard deviation {stdev(values):.1%}" if len(values) > 1 else "")
        )
    for arm in arms[1:]:
        pairs = [(scores(folders[arm, s], "rl"), scores(folders[arms[0], s], "rl")) for s in range(num_seeds)]
        gains = [paired_difference(*pair) for pair in pairs]
        listed = ", ".join(f"{g.value:+.1%} ({g.low:+.1%} to {g.high:+.1%})" for g in gains)
        print(f"{arm} - {arms[0]}, by seed: {listed}; mean {fmean(g.value for g in gains):+.1%}")


def scores(run: Path, name: str) -> dict[str, float]:
    """The share of correct samples of each test problem after a stage."""
    [stage] = [stage for stage in read_json(run / "report.json")["stages"] if stage["name"] == name]
    verdicts: dict[str, list[bool]] = {}
    for row in read_jsonl(run / stage["folder"] / "eval" / "samples.jsonl"):
        if row["task"] == "test":
            verdicts.setdefault(row["problem"], []).append(row["verdict"] == "correct")
    return {problem: fmean(found) for problem, found in verdicts.items()}


if __name__ == "__main__":
    main()
