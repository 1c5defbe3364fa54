"""Training on this CPU: useful tokens a second, ours beside loops over transformers, the Trainer and TRL's SFTTrainer.

    python benchmarks/train.py [--shape S] [--rounds 3] [--minutes 12] [--only ours,loop] [--parts ragged,dense,lengths]

Needs transformers; `trainer` and `trl-*` also accelerate, datasets and trl. All train the same weights on the same
documents in one process, in turn, round after round, after one round that does not count (it compiles, too); see
contestants.py. Trainers cannot be stepped one by one: their `train()` is timed from its first batch to its last step.
Useful are prompt and completion tokens, padding not; GFLOP/s too count useful work alone (shapes.py says how). The
ceiling is the fastest product of two bfloat16 matrices, measured in each round.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from open_exaone.base.machine import prepare_process

prepare_process()

import torch
from torch.profiler import ProfilerActivity, profile

from contestants import Contestant, Ours, Pass, Peers
from open_exaone.data.document import Document
from open_exaone.kernels.build import status
from shapes import BUCKETS, SHAPES, dense, num_tokens, ragged, training_flops

CPU = torch.device("cpu")
CEILING = "ceiling"
ROWS = {"nano": 16, "S": 4, "M": 2, "L": 1}  # documents in a peer's padded batch
NUM_DOCUMENTS = {"nano": 96, "S": 24, "M": 8, "L": 4}
STEPS = 2
PARTS = ("ragged", "dense", "lengths", "profile")


@dataclass(frozen=True)
class Way:
    """A way to train: how the table says it, and how it is made from the documents, steps and rows."""

    says: str
    make: Callable[[Peers, Sequence[Document], int, int], Contestant]
    mixes: bool = False  # documents see each other: another computation than the rest


WAYS: dict[str, Way] = {
    "loop": Way("bare loop, padded", lambda p, d, s, r: p.loop(d, s, r)),
    "loop-sorted": Way("bare loop, padded, sorted by length", lambda p, d, s, r: p.loop(d, s, r, by_length=True)),
    "loop-1": Way("bare loop, one document at a time", lambda p, d, s, r: p.loop(d, s, 1)),
    "loop-compiled": Way("bare loop, padded, torch.compile", lambda p, d, s, r: p.loop(d, s, r, compiled=True)),
    "trainer": Way("HF Trainer, padded", lambda p, d, s, r: p.trainer(d, s, r)),
    "trl-padded": Way("TRL SFT, padded", lambda p, d, s, r: p.trl(d, s, r)),
    "trl-sorted": Way(
        "TRL SFT, padded, grouped by length",
        lambda p, d, s, r: p.trl(d, s, r, train_sampling_strategy="group_by_length"),
    ),
    "trl-1": Way("TRL SFT, one document at a time", lambda p, d, s, r: p.trl(d, s, 1)),
    "trl-bfd": Way("TRL SFT, packing", lambda p, d, s, r: p.trl(d, s, 1, packing="bfd")),
    "trl-default": Way(
        "TRL SFT, packing, defaults but for 2 rows",  # of its 8 rows one batch, dense mask and all, takes minutes
        lambda p, d, s, r: p.trl(d, s, 2, packing="bfd", gradient_checkpointing=True),
    ),
    "trl-wrapped": Way("TRL SFT, packing wrapped", lambda p, d, s, r: p.trl(d, s, 1, packing="wrapped"), mixes=True),
}
ON_LARGE = ("ours", "loop", "loop-1", "trl-1", "trl-bfd")  # what M and L compare if nobody says
DENSE = ("ours", "loop", "loop-compiled")
LENGTHS = ("ours", "loop", "loop-1", "trl-1")
TARGETS = {  # shape -> (ours at least so many times, whom); "trl-best" is TRL's fastest that mixes no documents
    "S": ((4.0, "trl-best"), (8.0, "trl-default"), (2.5, "loop"), (2.0, "loop-compiled")),
    "M": ((1.6, "loop"),),
}
DENSE_TARGET = 10_700  # tokens a second on S at 512 tokens; set on a machine with AMX


def ceiling() -> float:
    """GFLOP/s of the faster of two products of bfloat16 matrices."""
    best = 0.0
    for rows, inner, columns in ((1024, 1024, 1024), (4096, 2048, 2048)):
        left, right = torch.randn(rows, inner).bfloat16(), torch.randn(inner, columns).bfloat16()
        torch.mm(left, right)
        for _ in range(3):
            started = time.perf_counter()
            torch.mm(left, right)
            best = max(best, 2e-9 * rows * inner * columns / (time.perf_counter() - started))
    return best


class Bench:
    """One shape's contestants, made when asked for."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.config, self.args = SHAPES[args.shape], args
        self.rows = args.rows or ROWS[args.shape]
        self.ours = Ours(self.config, CPU, micro_batch_tokens=args.micro_batch_tokens)
        self.peers = Peers(self.config, CPU)
        self.started = time.perf_counter()
        self.peaks: list[float] = []  # GFLOP/s of matrix products, one a round

    def passes(
        self, names: Sequence[str], documents: Sequence[Document], steps: int, rows: int, until: float
    ) -> dict[str, list[Pass]]:
        """Goes over the documents in every way of `names` that was asked for.

        Args:
            until: the share of the minutes after which no further round begins.
        """
        contestants: dict[str, Contestant] = {}
        for name in names:
            if name not in self.args.only:
                continue
            if name == "ours":
                contestants[name] = self.ours.contestant(documents, steps)
            else:
                contestants[name] = self._late(name, documents, steps, rows)
        return self._interleave(contestants, self.started + 60 * self.args.minutes * until)

    def _interleave(self, contestants: Mapping[str, Contestant], deadline: float) -> dict[str, list[Pass]]:
        """Runs all in turn, once to warm up and then the rounds; after the deadline no third one or later begins.

        A contestant that fails in its first pass is left out, and why is said.
        """
        passes: dict[str, list[Pass]] = {}
        for name, run in contestants.items():
            try:
                first = run()
            except (RuntimeError, ImportError, ValueError, TypeError, AssertionError) as error:
                print(f"  {name}: left out: {str(error).strip().splitlines()[0][:100]}", file=sys.stderr)
                continue
            passes[name] = []
            print(f"  {name}: first pass {first.seconds:.1f} s", file=sys.stderr, flush=True)
        for number in range(self.args.rounds):
            if number >= 2 and time.perf_counter() > deadline:
                break
            self.peaks.append(ceiling())
            for name in passes:
                passes[name].append(contestants[name]())
        return passes

    def _late(self, name: str, documents: Sequence[Document], steps: int, rows: int) -> Contestant:
        """Made in its first pass, so that what fails there is left out."""
        made: list[Contestant] = []

        def run() -> Pass:
            if not made:
                made.append(WAYS[name].make(self.peers, documents, steps, rows))
            return made[0]()

        return run


def rates(passes: Sequence[Pass], num_useful: float) -> tuple[float, float, float]:
    """Median, least and most a second."""
    values = [num_useful / one.seconds for one in passes]
    return statistics.median(values), min(values), max(values)


def print_table(title: str, bench: Bench, passes: Mapping[str, list[Pass]], documents: Sequence[Document]) -> None:
    """One line a contestant."""
    flops, peak = training_flops(bench.config, documents), statistics.median(bench.peaks)
    num_useful = num_tokens(documents)
    ours = rates(passes["ours"], num_useful)[0] if "ours" in passes else None
    rounds = max(map(len, passes.values()), default=0)
    print(f"\n{title}: {len(documents)} documents, {num_useful:,} tokens, {rounds} rounds in turn")
    print(f"bfloat16 products reach {peak:,.0f} GFLOP/s on {torch.get_num_threads()} threads")
    columns = f"{'useful tok/s':>13}  {'[least … most]':<18}{'padding':>8}{'steps':>6}{'GFLOP/s':>9}{'of peak':>9}"
    print(f"{'':<44}{columns}{'ours is':>9}")
    for name, runs in passes.items():
        median, least, most = rates(runs, num_useful)
        padding = 1 - num_useful / runs[0].num_computed
        says = "open-exaone" if name == "ours" else WAYS[name].says + (" (MIXES DOCUMENTS)" if WAYS[name].mixes else "")
        gflops = flops / num_useful * median / 1e9
        spread = f"[{least:,.0f} … {most:,.0f}]"
        line = f"{says:<44}{median:>13,.0f}  {spread:<18}{padding:>8.1%}{runs[0].num_steps:>6}{gflops:>9,.0f}"
        print(f"{line}{gflops / peak:>9.1%}" + (f"{ours / median:>8.2f}x" if ours else ""))
    print(flush=True)


def print_targets(shape: str, bench: Bench, passes: Mapping[str, list[Pass]], documents: Sequence[Document]) -> None:
    """What the ragged part must reach, and how far matrix products alone at the ceiling's rate would be ahead."""
    speed = {name: 1 / statistics.median(one.seconds for one in runs) for name, runs in passes.items()}
    most = 1e9 * statistics.median(bench.peaks) / training_flops(bench.config, documents)  # passes a second
    trl = {n: v for n, v in speed.items() if n.startswith("trl") and n != "trl-default" and not WAYS[n].mixes}
    if trl:
        best = max(trl, key=lambda name: trl[name])
        speed["trl-best"] = trl[best]
        print(f"trl-best is {best}")
    if loops := [name for name in ("loop", "loop-sorted", "loop-1") if name in speed]:
        best = max(loops, key=lambda name: speed[name])
        print(f"the fastest of the plain loops is {best}; targets are told against `loop`, as they were set")
    for times, whom in TARGETS.get(shape, ()):
        if whom in speed and "ours" in speed:
            ratio = speed["ours"] / speed[whom]
            verdict = "met" if ratio >= times else "NOT met"
            print(f"target {times:g}x {whom}: {ratio:.2f}x, {verdict}; at the ceiling {most / speed[whom]:.1f}x")


def print_profile(bench: Bench, documents: Sequence[Document]) -> None:
    """Where our pass spends its time."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        bench.ours.contestant(documents, STEPS)()
    found = sorted(record.key_averages(), key=lambda one: -one.self_cpu_time_total)
    total = sum(one.self_cpu_time_total for one in found)
    print("where ours spends its time, by operation (self time; the profiler slows small ones)")
    for one in found[:12]:
        print(f"  {one.key[:60]:<60}{one.self_cpu_time_total / total:>7.1%}{one.count:>8} calls")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="S")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=12, help="no further round begins after these")
    parser.add_argument("--only", type=lambda text: text.split(","), help=f"of ours,{','.join(WAYS)}")
    parser.add_argument("--parts", type=lambda text: text.split(","), help=f"of {','.join(PARTS)}; M and L: no lengths")
    parser.add_argument("--documents", type=int, help="in the ragged part")
    parser.add_argument("--rows", type=int, help="documents in a peer's padded batch")
    parser.add_argument("--micro-batch-tokens", type=int, default=4096, help="ours")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if unknown := {*(args.only or ())} - {"ours", *WAYS} | {*(args.parts or ())} - {*PARTS}:
        parser.error(f"unknown {', '.join(sorted(unknown))}")
    is_large = args.shape in ("M", "L")
    args.only = args.only or (ON_LARGE if is_large else ("ours", *WAYS))
    args.parts = args.parts or [part for part in PARTS if not (is_large and part == "lengths")]
    bench = Bench(args)
    config = bench.config
    weights = f"{config.num_parameters / 1e6:.1f}M weights"
    print(f"shape {args.shape}, {weights}, torch {torch.__version__}, {platform.machine()}, bfloat16, AdamW")
    print(f"ours: {status()}; a pass takes micro-batches of {args.micro_batch_tokens} tokens")
    documents = ragged(config, args.documents or NUM_DOCUMENTS[args.shape], seed=args.seed)
    short = ragged(config, 8, longest=128, seed=args.seed)
    ours, theirs = bench.ours.loss(short), bench.peers.loss(short)
    print(f"loss of 8 short documents before training: ours {ours:.3f}, transformers {theirs:.3f}")
    if abs(ours / theirs - 1) > 0.02:
        raise SystemExit("ours and transformers do not compute the same: the figures would mean nothing")
    longest = min(2048, config.max_positions)
    if "ragged" in args.parts:
        passes = bench.passes(("ours", *WAYS), documents, STEPS, bench.rows, until=0.6)
        title = f"ragged, 16 to {longest} tokens, log-uniform, peers' padded rows {bench.rows}"
        print_table(title, bench, passes, documents)
        print_targets(args.shape, bench, passes, documents)
    if "dense" in args.parts:
        length = min(512, longest)
        even = dense(config, bench.rows * 4, length, seed=args.seed)
        passes = bench.passes(DENSE, even, 1, bench.rows * 2, until=0.75)
        print_table(f"dense, {length} tokens, peers' rows {bench.rows * 2}", bench, passes, even)
        if args.shape == "S" and "ours" in passes:
            reached = rates(passes["ours"], num_tokens(even))[0]
            verdict = "met" if reached >= DENSE_TARGET else "NOT met"
            print(f"target {DENSE_TARGET:,} tok/s, set where products reach 2,700 GFLOP/s: {reached:,.0f}, {verdict}")
    if "lengths" in args.parts:
        for part, (shortest, most) in enumerate(BUCKETS):
            if shortest >= longest:
                continue
            mean = (shortest + min(most, longest)) / 2
            some = ragged(config, max(2, round(6000 / mean)), shortest=shortest, longest=most, seed=args.seed)
            rows = max(1, min(64, bench.rows * longest // most))
            passes = bench.passes(LENGTHS, some, 1, rows, until=0.75 + 0.25 * (part + 1) / len(BUCKETS))
            print_table(f"{shortest} to {min(most, longest)} tokens, peers' rows {rows}", bench, passes, some)
    if "profile" in args.parts and "ours" in args.only:
        print_profile(bench, documents)


if __name__ == "__main__":
    main()
