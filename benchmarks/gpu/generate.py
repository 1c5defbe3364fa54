"""Generation on one GPU: the engine's CUDA graphs beside its eager reference and transformers `generate`.

    python benchmarks/gpu/generate.py [--shape L,7.8B] [--workload parity,batch1,ragged] [--rounds 3]

Random bfloat16 weights. "parity": how far the log-probabilities of the graphs' tokens are from the eager reference's,
up to the first token that differs. "batch1": tokens a second of one reply, and the share of the memory bandwidth that
reading the weights and keys for each token is; the bandwidth is measured by summing a large tensor, and by copying it.
"ragged": 256 requests of 16 to 512 tokens, log-uniform; transformers at the best of its batches of 32, 64, 128 and
256, tuned beforehand. Contestants take turns; medians and spread, as benchmarks/generate.py prints them.

`--device cpu --shape nano --requests 4 --longest 32 --new 8` tries the script without a GPU; the steps that graphs
would replay are called then.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from open_exaone.base.machine import prepare_process

prepare_process()

import torch
from generate import batch1, ragged

from generators import LONGEST, Generator, Ours, Transformers, random_prompts
from lab import Lab
from open_exaone.base.records import Request, Sampling
from open_exaone.engine.engine import Engine
from shapes import SHAPES

WORKLOADS = ("parity", "batch1", "ragged")
NUM_PARITY, PARITY_PROMPT, PARITY_NEW = 32, 100, 64
READ_BYTES = 4 << 30


class TransformersOnDevice(Transformers):
    """The same on a GPU."""

    dtypes = ("bfloat16",)

    def __init__(self, folder: Path, batches: Sequence[int], device: torch.device) -> None:
        super().__init__(folder, batches)
        self._device = device

    def open(self, dtype: str, batch: int, context: int) -> None:
        super().open(dtype, batch, context)
        self._model.to(self._device)

    def _generate(self, prompts: Sequence[Sequence[int]], num_new: int, **settings: Any) -> list[list[int]]:
        with torch.device(self._device):
            return super()._generate(prompts, num_new, **settings)


class GpuLab(Lab):
    """One shape's weights on the device, and who generates with them."""

    def __init__(self, name: str, args: argparse.Namespace, scratch: Path, device: torch.device) -> None:
        super().__init__(name, args, scratch, torch.bfloat16)
        self.device = device
        self.model.to(device)

    def contestants(self, *, batches: Sequence[int], int8: bool = False) -> list[Generator]:
        most = max(batches)
        found: list[Generator] = [Ours(self.model, self.tokenizer, backend="graphs", num_slots=most)]
        if "plain" in self.args.peers:
            found.append(Ours(self.model, self.tokenizer, backend="plain", num_slots=most))
        if "transformers" in self.args.peers:
            found.append(TransformersOnDevice(self.folder, batches, self.device))
        return found


def bandwidth(device: torch.device, num_bytes: int) -> tuple[float, float]:
    """Bytes a second that the device reads when it sums, and reads and writes when it copies; the best of ten."""
    numbers = torch.ones(num_bytes // 4, device=device)
    other = torch.empty_like(numbers)

    def rate(act: Callable[[], object], moved: int) -> float:
        seconds = []
        for _ in range(10):
            started = synchronized(device)
            act()
            seconds.append(synchronized(device) - started)
        return moved / min(seconds)

    return rate(numbers.sum, num_bytes), rate(lambda: other.copy_(numbers), 2 * num_bytes)


def synchronized(device: torch.device) -> float:
    """The time once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def parity(lab: GpuLab) -> None:
    """Prints how far the graphs are from the eager reference, up to the first token of a reply that differs."""
    prompts = random_prompts(NUM_PARITY, PARITY_PROMPT, lab.model.config.vocab_size)
    prompts = [prompt[: 1 + number * PARITY_PROMPT // NUM_PARITY] for number, prompt in enumerate(prompts)]
    engines = [Engine(lab.model, lab.tokenizer, backend=name) for name in ("graphs", "plain")]
    gaps, num_same = [], 0
    for temperature in (0.0, 1.0):
        found = []
        for engine in engines:
            engine.end_ids = frozenset()
            sampling = Sampling(PARITY_NEW, temperature, 1.0)
            found.append(dict(engine.stream([Request((), tuple(prompt), False, sampling) for prompt in prompts])))
        for place, graph in found[0].items():
            plain = found[1][place]
            pairs = zip(graph.ids, plain.ids, strict=True)
            same = next((number for number, (one, other) in enumerate(pairs) if one != other), PARITY_NEW)
            num_same += same
            logprobs = zip(graph.logprobs[:same], plain.logprobs[:same], strict=True)
            gaps += [abs(one - other) for one, other in logprobs]
    print(
        f"\n{lab.title}, graphs beside the eager reference, greedy and sampled: {num_same:,} of "
        f"{2 * NUM_PARITY * PARITY_NEW:,} tokens stand before the first that differs; log-probabilities there "
        f"differ by {max(gaps, default=0.0):.4f} at most, {statistics.mean(gaps or [0.0]):.5f} on average",
        flush=True,
    )


def parse() -> argparse.Namespace:
    split = lambda text: text.split(",") if text else []  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", type=split, default=["L", "7.8B"], help=f"of {','.join(SHAPES)}")
    parser.add_argument("--workload", type=split, default=list(WORKLOADS), help=f"of {','.join(WORKLOADS)}")
    parser.add_argument("--peers", type=split, default=["plain", "transformers"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=256, help="of the ragged work")
    parser.add_argument("--longest", type=int, default=LONGEST, help="new tokens of a ragged request")
    parser.add_argument("--new", type=int, default=256, help="new tokens of batch1")
    parser.add_argument("--scratch", type=Path, help="where weights are written for transformers, up to 16 GB")
    args = parser.parse_args()
    for name, known in (("shape", SHAPES), ("workload", WORKLOADS)):
        if unknown := set(getattr(args, name)) - set(known):
            parser.error(f"--{name} {','.join(unknown)}: unknown; there are {', '.join(known)}")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch finds no GPU here: --device cpu --shape nano --requests 4 --longest 32 tries the script")
    return args


def main() -> None:
    args, started = parse(), time.perf_counter()
    device = torch.device(args.device)
    is_cuda = device.type == "cuda"
    read, copy = bandwidth(device, READ_BYTES if is_cuda else READ_BYTES >> 5)
    args.bandwidth = max(read, copy)
    print(f"{torch.cuda.get_device_name(device) if is_cuda else 'CPU'}, torch {torch.__version__}")
    print(f"memory is read at {read / 1e9:,.0f} GB/s, copied at {copy / 1e9:,.0f} GB/s (reads and writes)")
    measures = {"parity": parity, "batch1": batch1, "ragged": ragged}
    for name in args.shape:
        with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
            lab = GpuLab(name, args, Path(scratch), device)
            for workload in args.workload:
                measures[workload](lab)
        print(f"{name}: {(time.perf_counter() - started) / 60:.1f} minutes since the start", flush=True)


if __name__ == "__main__":
    main()
