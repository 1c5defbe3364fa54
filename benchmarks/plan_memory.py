"""The memory that `exaone plan` computes beside what training takes: peaks of SFT and of online RL on this CPU.

    python benchmarks/plan_memory.py [--shapes S,M,SmolLM2] [--stages sft,rl]

Each run has a process of its own with one thread, and takes two steps through `run_recipe`: in the second one the
optimizer's state is there. Models have random weights: memory follows from the shape alone.

Measured is how far the process's memory (VmHWM) rises above its base. The base is what the process holds once it has
run the same recipe on a model of one layer of the same widths, and has handed freed memory back: Python, torch, code
that oneDNN made for these widths, prepared data. The peak is read when the second step ends; the run is given up there.
Planned are the sums of model/memory.py for this machine: the CPU's kernels and its engine's own copy of the weights. MB
are 10^6 bytes. Exit status 1 where a sum is more than a tenth off. Linux only.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from train_memory import field_bytes

from open_exaone.kernels.build import library
from open_exaone.model.config import ModelConfig
from open_exaone.model.memory import Memory
from open_exaone.model.registry import STARTS
from open_exaone.pipeline.plan import Numbers, plan_recipe
from open_exaone.pipeline.recipe import load_recipe
from shapes import SHAPES

KNOWN = {**SHAPES, "SmolLM2": STARTS["HuggingFaceTB/SmolLM2-135M-Instruct"]}
SETTINGS = {
    "sft": {"kind": "sft", "num_epochs": 1, "max_tokens": 256},
    "rl": {
        **{"kind": "rl", "num_steps": 2, "batch_prompts": 2, "group_size": 4, "max_tokens": 128, "max_new_tokens": 64},
        "loss": {"name": "agapo"},  # learns from groups of equal rewards, too
    },
}
FAMILIES = {"sft": "worked", "rl": ["height_order", "bus_ride"]}


def recipe_of(model: Path, kind: str, micro: int, recomputes: bool) -> dict[str, Any]:
    """Two steps of one stage, from a folder."""
    optimizer = {"kind": "adamw", "learning_rate": 1e-4}
    stage = {"name": "stage", "data": "rows", **SETTINGS[kind], "optimizer": optimizer, "micro_batch_tokens": micro}
    num_problems = 16
    if kind == "sft":  # about four micro-batches a step: a document has 116 tokens
        stage["batch_documents"] = max(8, micro // 32)
        num_problems = 2 * stage["batch_documents"]
    source = {"families": FAMILIES[kind], "num_problems": num_problems}
    data = {"rows": {"sources": [source]}}
    stage["recompute_activations"] = recomputes
    return {"name": "memory", "model": str(model), "data": data, "stages": [stage]}


def measure(work: Path, kind: str, micro: int, recomputes: bool, dtype: str) -> dict[str, float]:
    """In this process: its base, and the most above it at the second step's end."""
    from open_exaone.base.machine import prepare_process

    prepare_process()
    from open_exaone.pipeline.measure import Machine
    from open_exaone.pipeline.run import run_recipe

    peaks = []

    def note(event: dict[str, Any]) -> None:
        if event.get("step") == 2:
            peaks.append(field_bytes("VmHWM"))
            raise StopIteration  # nothing is saved

    for model in ("one-layer", "model"):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        base = field_bytes("VmRSS")
        recipe = load_recipe(recipe_of(work / model, kind, micro, recomputes))
        with suppress(StopIteration):
            run_recipe(recipe, work / f"run-{kind}-{model}", note, Machine("cpu", dtype))
    return {"base": base, "above": peaks[-1] - base}


def planned(shape: ModelConfig, work: Path, kind: str, micro: int, recomputes: bool, dtype: str) -> Memory:
    numbers = Numbers(4 if dtype == "float32" else 2, library() is not None)
    [cost] = plan_recipe(load_recipe(recipe_of(work / "model", kind, micro, recomputes)), shape, numbers)
    return cost.memory


def main() -> int:
    args = parse()
    if args.measure:
        print(json.dumps(measure(args.work, args.stages[0], args.micro, args.recompute, args.dtype)))
        return 0
    print(f"{'shape':<9}{'stage':<6}{'base':>8}{'planned':>10}{'measured':>10}{'ratio':>7}   planned parts, MB")
    worst = 0.0
    for name in args.shapes:
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch)
            make_folders(work, KNOWN[name])
            for kind in args.stages:
                memory = planned(KNOWN[name], work, kind, args.micro, args.recompute, args.dtype)
                found = in_own_process(work, kind, args)
                ratio = memory.total / found["above"]
                worst = max(worst, abs(ratio - 1))
                parts = ", ".join(f"{part} {value / 1e6:,.0f}" for part, value in memory.parts().items())
                values = (found["base"], memory.total, found["above"])
                shown = "".join(f"{value / 1e6:>{width},.0f}" for value, width in zip(values, (8, 10, 10), strict=True))
                print(f"{name:<9}{kind:<6}{shown}{ratio:>7.3f}   {parts}", flush=True)
    print(f"within 10 %: {'met' if worst <= 0.1 else 'NOT met'}, at most {100 * worst:.1f} % off")
    return int(worst > 0.1)


def make_folders(work: Path, shape: ModelConfig) -> None:
    """The model with random weights, and one of one layer."""
    from lora_rl import make_folder

    make_folder(work / "model", shape)
    make_folder(work / "one-layer", shape.model_copy(update={"num_layers": 1}))


def in_own_process(work: Path, kind: str, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", "--work", str(work), "--stages", kind, "--dtype", args.dtype]
    command += ["--micro", str(args.micro), *(["--recompute"] if args.recompute else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{kind}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=lambda text: text.split(","), default=["S", "M", "SmolLM2"])
    parser.add_argument("--stages", type=lambda text: text.split(","), default=["sft", "rl"])
    parser.add_argument("--micro", type=int, default=512, help="tokens of a micro-batch")
    parser.add_argument("--recompute", action="store_true", help="recompute activations")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
