"""The peak memory of a training step, less weights and optimizer state: ours beside TRL's SFTTrainer and a bare loop.

    python benchmarks/train_memory.py [--shape M] [--length 2048] [--documents 2] [--only ours,trl]

Each contestant has a process of its own. It first takes a step on documents of 16 tokens, so that weights, master
weights, the optimizer's state and the libraries are all in memory, drops the gradients, hands freed memory back, and
notes what the process then holds. The figure is how far the peak rises above that while it steps on the real documents:
gradients, activations, logits, and what the allocator keeps. Linux only.

Contestants compute one forward and backward pass over all documents (`--micro` gives ours fewer at a time).
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path

WAYS = {
    "ours": "open-exaone",
    "ours-recomputed": "open-exaone, activations recomputed",
    "loop": "bare loop, bf16 autocast",
    "trl": "TRL SFT, no checkpointing",
    "trl-default": "TRL SFT, gradient checkpointing (its default)",
    "trl-bfd": "TRL SFT, packing, no checkpointing",
}


def field_bytes(name: str) -> int:
    """VmRSS, what this process holds now, or VmHWM, the most since the last reset."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


def measure(name: str, shape: str, length: int, num_documents: int, micro: int | None) -> dict[str, float]:
    """Steps in this process; bytes before, and the most above them."""
    if name.startswith("ours"):
        from open_exaone.base.machine import prepare_process

        prepare_process()
    import torch

    from contestants import Contestant, Ours, Peers
    from shapes import SHAPES, dense

    config, cpu = SHAPES[shape], torch.device("cpu")
    short, real = dense(config, num_documents, 16), dense(config, num_documents, length)
    if name.startswith("ours"):
        ours = Ours(config, cpu, micro_batch_tokens=micro or length * num_documents)
        ours.model.model.recomputes = name == "ours-recomputed"
        runs: list[Contestant] = [ours.contestant(documents, 1) for documents in (short, real)]
    else:
        peers = Peers(config, cpu)
        if name == "loop":
            runs = [peers.loop(documents, 1, num_documents) for documents in (short, real)]
        else:
            settings = {"gradient_checkpointing": name == "trl-default"}
            if name == "trl-bfd":
                settings["packing"] = "bfd"
            runs = [peers.trl(documents, 1, num_documents, **settings) for documents in (short, real)]
    runs[0]()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = field_bytes("VmRSS")
    done = runs[1]()
    return {"before": before, "above": field_bytes("VmHWM") - before, "seconds": done.seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="M")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--documents", type=int, default=2)
    parser.add_argument("--micro", type=int, help="tokens of our micro-batches")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(WAYS))
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.shape, args.length, args.documents, args.micro)))
        return
    given = ["--shape", args.shape, "--length", str(args.length), "--documents", str(args.documents)]
    given += ["--micro", str(args.micro)] if args.micro else []
    print(f"shape {args.shape}, {args.documents} documents of {args.length} tokens, one step")
    print(f"{'':<48}{'before':>10}{'above it':>11}{'seconds':>9}{'of trl':>8}")
    found: dict[str, float] = {}
    for name in sorted(args.only, key=lambda name: name != "trl"):  # TRL first: the others are told against it
        command = [sys.executable, __file__, "--measure", name, *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{WAYS[name]:<48}failed: {done.stderr.strip().splitlines()[-1][:60]}")
            continue
        values = json.loads(done.stdout.strip().splitlines()[-1])
        found[name] = values["above"]
        share = f"{values['above'] / found['trl']:>8.2f}" if "trl" in found else ""
        sizes = f"{values['before'] / 1e6:>7,.0f} MB{values['above'] / 1e6:>8,.0f} MB"
        print(f"{WAYS[name]:<48}{sizes}{values['seconds']:>9.1f}{share}", flush=True)
    for ours, theirs in (("ours", "trl"), ("ours-recomputed", "trl-default")):
        if {ours, theirs} <= found.keys():
            ratio = found[ours] / found[theirs]
            print(f"target {ours} at most 0.5 of {theirs}: {ratio:.2f}, {'met' if ratio <= 0.5 else 'NOT met'}")


if __name__ == "__main__":
    main()
