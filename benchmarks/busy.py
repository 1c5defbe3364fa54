"""What other busy processes cost: decoding and training beside k spinning processes, by one thread or several.

    python benchmarks/busy.py [--shapes nano,S,30M,M] [--spinners 0,1,2] [--parts decode,train,rl] [--rounds 3]
    python benchmarks/busy.py --story [--spinners 0,1,4] [--out FOLDER] [-- arguments of `exaone run`, such as --quick]

The first shows from which size several threads pay, idle and beside others: the sizes in model/threads.py come from it
(docs/decisions.md). All ways and numbers of spinning processes take turns in one process, round after round; the
figures are medians. The second runs `exaone run` once beside each number of spinning processes and prints how many
times its idle time each took. Spinning processes have this one's priority, stand still when they are not wanted, and
end with it, at the latest after --minutes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from open_exaone.base.machine import num_cores, prepare_process

AS_FOUND = dict(os.environ)  # for the story, which chooses its threads itself
os.environ.setdefault("OMP_NUM_THREADS", str(num_cores()))  # so that nobody but this script chooses threads
prepare_process()

import torch

from busy_processes import beside, spinning
from open_exaone.base.records import Sampling
from open_exaone.checkpoint.folder import resolve_dtype
from open_exaone.data.batch import singles
from open_exaone.engine.engine import Engine
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.threads import ALONE, sharing
from open_exaone.model.transformer import LanguageModel
from open_exaone.rollout.provider import Provider
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.accumulate import accumulate
from open_exaone.train.config import RlStage, SupervisedStage
from open_exaone.train.loop import Objective
from open_exaone.train.rl import OnlineRl
from open_exaone.train.supervised import Supervised
from shapes import SHAPES as COMMON_SHAPES
from shapes import ragged

Work = Callable[[], float]  # returns how many tokens it went through
PROMPT_TOKENS = 48
DECODE = {"nano": (64, 96), "S": (32, 24), "M": (16, 6)}  # prompts of 4 samples, new tokens
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, matrix_learning_rate=1e-3)
# Documents, the longest: an SFT step of the nano recipe, and the samples of an RL step, half of whose groups teach.
TRAIN = {"nano": (16, 180), "S": (16, 256), "30M": (8, 256), "M": (4, 256)}
RL = {"nano": (128, 180), "S": (64, 256), "30M": (16, 256), "M": (4, 256)}
THIRTY = {"vocab_size": 8192, "width": 512, "num_heads": 16, "num_kv_heads": 8, "ffn_width": 1536}
SHAPES = {**COMMON_SHAPES, "30M": COMMON_SHAPES["S"].model_copy(update=THIRTY)}


def decoding(shape: str, dtype: torch.dtype) -> Work:
    model = LanguageModel(SHAPES[shape])
    model.reset_parameters(0)
    engine = Engine(model.to(dtype), Tokenizer.train(["0 1 2 3"], 320), num_slots=256)
    engine.end_ids = frozenset()  # every reply is as long as it may be
    num_prompts, num_new = DECODE[shape]
    draw = torch.Generator().manual_seed(0)
    prompts = torch.randint(20, 320, (num_prompts, PROMPT_TOKENS), generator=draw).tolist()
    sampling = Sampling(max_new_tokens=num_new, num_samples=4, temperature=1.0, top_p=1.0)

    def work() -> float:
        return sum(len(completion.ids) for group in engine.generate(prompts, sampling) for completion in group)

    return work


def training(part: str, shape: str, dtype: torch.dtype, num_workers: int | None) -> Work:
    """Optimizer steps: "train" on written documents, "rl" on samples.

    Args:
        num_workers: that compute a step's shares; None: torch's threads compute micro-batch by micro-batch.
    """
    model = LanguageModel(SHAPES[shape])
    model.reset_parameters(0)
    optimizer = MasterOptimizer(model.to(dtype), None, OPTIMIZER)
    number, longest = (RL if part == "rl" else TRAIN)[shape]
    documents = ragged(SHAPES[shape], number, shortest=longest // 2, longest=longest)
    units = singles(replace(document, advantage=(-1.0) ** row) for row, document in enumerate(documents))
    num_learned = sum(int(document.loss_mask[1:].sum()) for document in documents)
    fields: dict[str, Any] = {
        "kind": "rl" if part == "rl" else "sft",
        "name": "stage",
        "data": "data",
        "optimizer": OPTIMIZER,
    }
    objective: Objective
    if part == "rl":
        provider = cast(Provider, SimpleNamespace(gives_ids=True))
        stage = RlStage(**fields, num_steps=1, max_new_tokens=longest)
        objective = OnlineRl(stage, [], [], provider, Path(), 0, model, [])
    else:
        objective = Supervised(SupervisedStage(**fields, num_epochs=1), [], [])
    max_tokens = objective.config.micro_batch_tokens

    def work() -> float:
        with nullcontext(ALONE) if num_workers is None else sharing(num_workers) as workers:
            shares = accumulate(
                lambda batch: objective.loss(model, batch, num_learned), optimizer, units, max_tokens, workers
            )
            num_tokens = sum(share.num_tokens for share in shares)
            optimizer.step(1.0, workers=workers)
        return num_tokens

    return work


def ways(part: str, shape: str) -> dict[str, tuple[int, Work]]:
    """By name: how many threads torch has, and what is done."""
    cores, dtype = num_cores(), resolve_dtype()
    if part != "decode":
        alone, shared = (training(part, shape, dtype, num_workers) for num_workers in (None, cores))
        return {"1 thread": (1, alone), f"{cores} threads": (cores, alone), f"{cores} workers": (1, shared)}
    work = decoding(shape, dtype)
    return {"1 thread": (1, work), f"{cores} threads": (cores, work)}


def rate(threads: int, work: Work, seconds: float) -> tuple[float, float]:
    """Tokens a second with so many threads, and tokens a second of processor time, of all of this process's threads."""
    torch.set_num_threads(threads)
    started, started_cpu = time.perf_counter(), time.process_time()
    tokens = work()
    while time.perf_counter() - started < seconds:
        tokens += work()
    return tokens / (time.perf_counter() - started), tokens / (time.process_time() - started_cpu)


def compare(shape: str, part: str, args: argparse.Namespace, spinners: Sequence[subprocess.Popen[bytes]]) -> None:
    """Prints a table: a row for each way, a column for each number of spinning processes, and the fair shares."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    contestants = ways(part, shape)
    for threads, work in contestants.values():  # to warm up
        rate(threads, work, 0.0)
    for _ in range(args.rounds):
        for number in args.spinners:
            for name, (threads, work) in contestants.items():
                with beside(spinners, number):
                    found.setdefault((name, number), []).append(rate(threads, work, args.seconds))
    size = SHAPES[shape].num_parameters / 1e6
    print(f"\n{shape} ({size:.1f}M), {part}, {resolve_dtype()}: tokens a second; times one thread beside none;")
    print("in brackets tokens a second of processor time (of this process alone)")
    print(" " * 14 + "".join(f"{f'beside {number}':>29}" for number in args.spinners))
    first = statistics.median(rate for rate, _ in found["1 thread", args.spinners[0]])
    for name in contestants:
        line = f"  {name:<12}"
        for number in args.spinners:
            by_clock, by_cpu = (statistics.median(rates) for rates in zip(*found[name, number], strict=True))
            line += f"{by_clock:>12,.0f} {by_clock / first:>6.2f}x {f'({by_cpu:,.0f})':>8}"
        print(line, flush=True)
    fair = [num_cores() / (num_cores() + number) for number in args.spinners]
    print("  fair share  " + "".join(f"{share:>19.2f} of idle  " for share in fair), flush=True)
    if args.spinners[0] == 0:
        for name in contestants:
            rates = [statistics.median(rate for rate, _ in found[name, number]) for number in args.spinners]
            kept = [rate / rates[0] / share for rate, share in zip(rates, fair, strict=True)]
            print(f"  {name:<12}" + "".join(f"{share:>14.2f} of its fair share" for share in kept), flush=True)


def stories(args: argparse.Namespace, spinners: Sequence[subprocess.Popen[bytes]]) -> None:
    """Prints what one story takes beside each number of spinning processes."""
    idle = None
    for number in args.spinners:
        with tempfile.TemporaryDirectory(dir=args.out) as folder, beside(spinners, number):
            command = [sys.executable, "-m", "open_exaone", "run", *args.arguments, "--out", f"{folder}/run"]
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=AS_FOUND)
            seconds = time.perf_counter() - started
        idle = idle or seconds
        allowed = 1.9 if number == 1 else (2 + number) / 2 * 1.5
        print(
            f"  story beside {number}: {seconds:,.1f} s, {seconds / idle:.2f} times idle (at most {allowed:g})",
            flush=True,
        )


def main() -> None:
    split, numbers = partial(str.split, sep=","), lambda text: [int(number) for number in text.split(",")]
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", type=split, default=["nano", "S", "M"])
    parser.add_argument("--parts", type=split, default=["decode", "train", "rl"])
    parser.add_argument("--spinners", type=numbers, default=[0, 1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--story", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("arguments", nargs="*")
    args = parser.parse_args()
    with spinning(max(args.spinners), args.minutes) as spinners:
        if args.story:
            stories(args, spinners)
            return
        for shape in args.shapes:
            for part in args.parts:
                compare(shape, part, args, spinners)


if __name__ == "__main__":
    main()
