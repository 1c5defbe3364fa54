"""Training on one GPU: useful tokens a second, MFU and memory, ours beside the bare loop over transformers.

    python benchmarks/gpu/train.py [--shape L] [--length 4096] [--rounds 5] [--only ours,loop]

Two sets of documents, one optimizer step each: "dense", all of `--length` tokens and all learned; "packed", log-uniform
from 16 tokens to `--length`, about as many tokens in all, a quarter of each a prompt. Ours packs them into
micro-batches of `--micro-batch-tokens`; the loop pads rows to the longest under bf16 autocast. MFU is useful operations
a second over `--peak` (989 TFLOP/s: an H100's or H200's dense bf16, from NVIDIA's data sheet); padding and recomputed
activations do not count as useful. Rounds are in turn, after one that does not count.

`--device cpu --shape nano --length 128 --documents 4` tries the script without a GPU; its MFU then means nothing.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from open_exaone.base.machine import prepare_process

prepare_process()

import torch

from contestants import Contestant, Ours, Pass, Peers
from open_exaone.data.document import Document
from shapes import SHAPES, dense, num_tokens, ragged, training_flops

CONTESTANTS = {
    "ours": "open-exaone",
    "ours-recomputed": "open-exaone, activations recomputed",
    "loop": "bare loop",
    "loop-compiled": "bare loop, torch.compile",
}


class Lab:
    """Weights on the device, and who trains them; made when first asked for."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.device, self.config = args, torch.device(args.device), SHAPES[args.shape]
        self._ours: Ours | None = None
        self._peers: Peers | None = None

    def contestant(self, name: str, documents: Sequence[Document]) -> Contestant:
        if name.startswith("ours"):
            if self._ours is None:
                self._ours = Ours(self.config, self.device, micro_batch_tokens=self.args.micro_batch_tokens)
            ours = self._ours

            def run() -> Pass:
                ours.model.model.recomputes = name == "ours-recomputed"
                return ours.contestant(documents, 1)()

            return run
        if self._peers is None:
            self._peers = Peers(self.config, self.device)
        return self._peers.loop(documents, 1, self.args.rows, compiled=name == "loop-compiled")

    def watched(self, run: Contestant) -> tuple[Pass, float]:
        """Runs it; also the most GB allocated on the device meanwhile, all contestants' weights included."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        done = run()
        return done, torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device.type == "cuda" else 0.0


def report(lab: Lab, title: str, documents: Sequence[Document]) -> None:
    """Runs all in turn and prints a line each."""
    args = lab.args
    num_useful, flops = num_tokens(documents), training_flops(lab.config, documents)
    contestants: dict[str, Contestant] = {}
    for name in args.only:
        try:
            contestants[name] = lab.contestant(name, documents)
            contestants[name]()
        except (RuntimeError, ImportError) as error:  # out of memory is a RuntimeError
            contestants.pop(name, None)
            print(f"  {name}: left out: {str(error).strip().splitlines()[0][:100]}", file=sys.stderr)
    found: dict[str, list[tuple[Pass, float]]] = {name: [] for name in contestants}
    for _ in range(args.rounds):
        for name, run in contestants.items():
            found[name].append(lab.watched(run))
    print(f"\n{title}: {len(documents)} documents, {num_useful:,} tokens, one step, {args.rounds} rounds in turn")
    print(f"{'':<38}{'useful tok/s':>13}  {'[least … most]':<20}{'padding':>8}{'TFLOP/s':>9}{'MFU':>8}{'GB':>7}")
    for name, runs in found.items():
        speeds = [num_useful / one.seconds for one, _ in runs]
        median = statistics.median(speeds)
        tflops = flops / num_useful * median / 1e12
        spread = f"[{min(speeds):,.0f} … {max(speeds):,.0f}]"
        padding = 1 - num_useful / runs[0][0].num_computed
        line = f"{CONTESTANTS[name]:<38}{median:>13,.0f}  {spread:<20}{padding:>8.1%}{tflops:>9.1f}"
        print(f"{line}{tflops / args.peak:>8.1%}{max(gb for _, gb in runs):>7.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", choices=SHAPES, default="L")
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--documents", type=int, default=16, help="of the dense set; the packed one has as many tokens")
    parser.add_argument("--micro-batch-tokens", type=int, default=16_384, help="ours")
    parser.add_argument("--rows", type=int, default=4, help="documents in a batch of the loop's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s that MFU is measured against")
    parser.add_argument("--only", type=lambda text: text.split(","), default=["ours", "loop", "loop-compiled"])
    args = parser.parse_args()
    if unknown := set(args.only) - set(CONTESTANTS):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch finds no GPU here: --device cpu --shape nano --length 128 tries the script")
    lab = Lab(args)
    where = torch.cuda.get_device_name(lab.device) if lab.device.type == "cuda" else "CPU"
    weights = f"{lab.config.num_parameters / 1e6:,.1f}M weights"
    print(f"{where}, torch {torch.__version__}, shape {args.shape}, {weights}, peak {args.peak:g} TFLOP/s")
    even = dense(lab.config, args.documents, args.length)
    report(lab, f"dense, {args.length} tokens", even)
    mean = num_tokens(ragged(lab.config, 256, longest=args.length)) / 256
    uneven = ragged(lab.config, round(num_tokens(even) / mean), longest=args.length)
    report(lab, f"packed, 16 to {args.length} tokens", uneven)


if __name__ == "__main__":
    main()
