"""What other busy processes cost: decoding and training beside k spinning processes, by one thread or several.

    python benchmarks/busy.py [--shapes nano,S,M] [--spinners 0,1,2,4] [--parts decode,train] [--rounds 3]
    python benchmarks/busy.py --story [--spinners 0,1,4] [--out FOLDER] [-- arguments of `exaone run`, such as --quick]

The first shows from which size several threads pay, idle and beside others: the sizes in model/threads.py come from it
(docs/decisions.md). All ways and numbers of spinning processes take turns in one process, round after round; the
figures are medians. The second runs `exaone run` once beside each number of spinning processes and prints how many
times its idle time each took. Spinning processes have this one's priority, stand still when they are not wanted, and
end with it, at the latest after --minutes.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from open_exaone.base.machine import num_cores, prepare_process

AS_FOUND = dict(os.environ)  # for the story, which chooses its threads itself
os.environ.setdefault("OMP_NUM_THREADS", str(num_cores()))  # so that nobody but this script chooses threads
prepare_process()

import torch

from open_exaone.base.records import Sampling
from open_exaone.checkpoint.folder import resolve_dtype
from open_exaone.data.batch import pack
from open_exaone.engine import sharded
from open_exaone.engine.engine import Engine
from open_exaone.engine.sharded import ShardedEngine
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.config import SupervisedStage
from open_exaone.train.supervised import Supervised
from shapes import SHAPES, ragged

sharded.MIN_TOKENS = 1  # a round is short, and its second process is there
sharded.is_ours_to_choose = lambda: True
Work = Callable[[], float]  # returns how many tokens it went through
SPIN = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"
PROMPT_TOKENS = 48
DECODE = {"nano": (64, 32), "S": (32, 8), "M": (16, 6)}  # prompts of 4 samples, new tokens
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, matrix_learning_rate=1e-3)
TRAIN = {"nano": (16, 100), "S": (16, 256), "M": (4, 256)}  # documents, the longest


@contextmanager
def spinning(number: int, minutes: float) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes that compute nothing; they stand still until `beside` wants them."""
    made = [subprocess.Popen([sys.executable, "-c", SPIN, str(60 * minutes)]) for _ in range(number)]
    for process in made:
        process.send_signal(signal.SIGSTOP)
    try:
        yield made
    finally:
        for process in made:
            process.kill()
            process.wait()


@contextmanager
def beside(processes: Sequence[subprocess.Popen[bytes]], number: int) -> Iterator[None]:
    """Lets so many of them spin."""
    for process in processes[:number]:
        process.send_signal(signal.SIGCONT)
    time.sleep(0.05)
    try:
        yield
    finally:
        for process in processes[:number]:
            process.send_signal(signal.SIGSTOP)


def decoding(shape: str, dtype: torch.dtype, kind: type[Engine]) -> Work:
    model = LanguageModel(SHAPES[shape])
    model.reset_parameters(0)
    engine = kind(model.to(dtype), Tokenizer.train(["0 1 2 3"], 320), num_slots=256)
    engine.end_ids = frozenset()  # every reply is as long as it may be
    num_prompts, num_new = DECODE[shape]
    draw = torch.Generator().manual_seed(0)
    prompts = torch.randint(20, 320, (num_prompts, PROMPT_TOKENS), generator=draw).tolist()
    sampling = Sampling(max_new_tokens=num_new, num_samples=4, temperature=1.0, top_p=1.0)

    def work() -> float:
        return sum(len(completion.ids) for group in engine.generate(prompts, sampling) for completion in group)

    return work


def training(shape: str, dtype: torch.dtype) -> Work:
    model = LanguageModel(SHAPES[shape])
    model.reset_parameters(0)
    optimizer = MasterOptimizer(model.to(dtype), None, OPTIMIZER)
    number, longest = TRAIN[shape]
    documents = ragged(SHAPES[shape], number, shortest=longest // 2, longest=longest)
    stage = SupervisedStage(
        kind="sft", name="sft", data="sft", num_epochs=1, batch_documents=number, optimizer=OPTIMIZER
    )
    objective = Supervised(stage, documents, [list(range(len(documents)))])

    def work() -> float:
        data, num_tokens = objective.step_data(0), 0
        for batch in pack(data.units, stage.micro_batch_tokens):
            loss, _ = objective.loss(model, batch, data.denominator)
            loss.backward()
            optimizer.accumulate()
            num_tokens += batch.num_tokens
        optimizer.step(1.0)
        return num_tokens

    return work


def ways(part: str, shape: str) -> dict[str, tuple[int, Work]]:
    """By name: how many threads this process has, and what it does."""
    cores, dtype = num_cores(), resolve_dtype()
    if part == "train":
        work = training(shape, dtype)
        return {"1 thread": (1, work), f"{cores} threads": (cores, work)}
    alone, shared = decoding(shape, dtype, Engine), decoding(shape, dtype, ShardedEngine)
    return {"1 thread": (1, alone), f"{cores} threads": (cores, alone), f"{cores} processes": (1, shared)}


def rate(threads: int, work: Work, seconds: float) -> float:
    """Tokens a second with so many threads."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    tokens = work()
    while time.perf_counter() - started < seconds:
        tokens += work()
    return tokens / (time.perf_counter() - started)


def compare(shape: str, part: str, args: argparse.Namespace, spinners: Sequence[subprocess.Popen[bytes]]) -> None:
    """Prints a table: a row for each number of threads, a column for each number of spinning processes."""
    found: dict[tuple[str, int], list[float]] = {}
    contestants = ways(part, shape)
    for threads, work in contestants.values():  # to warm up
        rate(threads, work, 0.0)
    for _ in range(args.rounds):
        for number in args.spinners:
            for name, (threads, work) in contestants.items():
                with beside(spinners, number):
                    found.setdefault((name, number), []).append(rate(threads, work, args.seconds))
    size = SHAPES[shape].num_parameters / 1e6
    print(f"\n{shape} ({size:.1f}M), {part}, {resolve_dtype()}: tokens a second; times one thread beside none")
    print(" " * 14 + "".join(f"{f'beside {number}':>20}" for number in args.spinners))
    first = statistics.median(found["1 thread", args.spinners[0]])
    for name in contestants:
        medians = [statistics.median(found[name, number]) for number in args.spinners]
        print(f"  {name:<12}" + "".join(f"{median:>12,.0f} {median / first:>6.2f}x" for median in medians), flush=True)


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
    parser.add_argument("--parts", type=split, default=["decode", "train"])
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
