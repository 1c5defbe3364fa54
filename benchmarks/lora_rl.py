"""Online RL with LoRA on EXAONE 4.0 1.2B's shape, on this machine: peak memory and seconds of each part of a run.

    python benchmarks/lora_rl.py [--limit-gb 12] [--shape M] [--work FOLDER]

Makes a folder of random weights in bfloat16, and has `exaone run` take a few steps of AGAPO from it in a process of its
own. The divergence is measured from the model with its adapters off, so that there is no second model. Replies are
noise and judged wrong, which AGAPO learns from too.

Each part's peak is the kernel's own (VmHWM), begun anew at every part's end; a part ends when its output is there: the
line that announces the stage, a step's rollouts, its row of metrics. Pages of the mapped weights count. Processes that
the run starts, which judge replies, are added at their largest, without what they share with it. The sums beside it are
those of model/memory.py, and of the engine's packed copy. GB are 10^9 bytes. Exit status 1 where the run fails or takes
more than --limit-gb. Linux only.
"""

import argparse
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from open_exaone.base.files import read_jsonl
from open_exaone.kernels.build import library
from open_exaone.model.config import ModelConfig
from open_exaone.model.memory import Training, activation_bytes, num_adapter_parameters, packed_bytes, weight_bytes
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.train.config import RlStage
from shapes import SHAPES

RECIPE = """
name = "lora-rl"
model = "{model}"

[data]
prompts = {{ sources = [{{ families = ["height_order", "bus_ride"], num_problems = 64 }}] }}

[[stages]]
kind = "rl"
name = "rl"
data = "prompts"
lora = {{ rank = {rank}, alpha = {alpha} }}
loss = {{ name = "agapo", kl = {{ beta = 0.01, estimator = "sequence" }} }}
num_steps = {steps}
batch_prompts = {prompts}
group_size = {samples}
max_new_tokens = {new}
micro_batch_tokens = {micro}
optimizer = {{ kind = "adamw", learning_rate = 1e-4 }}
"""
POLL_S = 0.02


def main() -> int:
    args = parse()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(work / "run", ignore_errors=True)
        if not (work / "model").exists():
            make_folder(work / "model", SHAPES[args.shape])
        recipe = work / "recipe.toml"
        recipe.write_text(
            RECIPE.format(
                model=work / "model",
                rank=args.rank,
                alpha=2 * args.rank,
                steps=args.steps,
                prompts=args.prompts,
                samples=args.samples,
                new=args.new,
                micro=args.micro_batch_tokens,
            ),
            encoding="utf-8",
        )
        run = Run(recipe, work / "run", args.dtype, args.steps)
        status = run.finish()
        rows = read_jsonl(work / "run" / "01-rl" / "metrics.jsonl") if status == 0 else []
        stage = load_recipe(recipe).stages[0]
    if status:
        print("\n".join(run.lines), file=sys.stderr)
        return 1
    assert isinstance(stage, RlStage)
    for row in rows:
        shown = {name: row[name] for name in ("step", "loss", "kl", "gradient_norm", "max_logprob_gap")}
        print("  ".join(f"{name} {value:.4g}" for name, value in shown.items()))
    print_sums(SHAPES[args.shape], stage, run, 4 if args.dtype == "float32" else 2)
    peak = max(part.peak for part in run.parts) / 1e9
    print(f"peak {peak:.2f} GB: {'within' if peak <= args.limit_gb else 'ABOVE'} the {args.limit_gb:g} GB it may take")
    return int(peak > args.limit_gb)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="L", choices=SHAPES)
    parser.add_argument("--limit-gb", type=float, default=12.0)
    parser.add_argument(
        "--work", type=Path, help="keeps the model there, and the latest run; a temporary folder if left out"
    )
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--new", type=int, default=64, help="tokens of a reply at most")
    parser.add_argument("--micro-batch-tokens", type=int, default=1024)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    return parser.parse_args()


def make_folder(folder: Path, config: ModelConfig) -> None:
    """Random weights in bfloat16 and a tokenizer of the prompts' words; its other ids stay without a text."""
    from finetune import random_model

    from open_exaone.checkpoint.folder import save_model
    from open_exaone.tasks.generated import GeneratedSource, draw_problems
    from open_exaone.text.tokenizer import Tokenizer

    problems = draw_problems(
        GeneratedSource(families=("height_order", "bus_ride"), num_problems=256), 0, set(), "prompts"
    )
    tokenizer = Tokenizer.train((problem.question for problem in problems), 4096)
    model = random_model(config, recomputes=False)
    save_model(folder, config, dict(model.named_parameters()), tokenizer, {"temperature": 1.0})
    del model
    gc.collect()


@dataclass
class Part:
    """One part of the run, such as the sampling of a step."""

    name: str
    step: int
    seconds: float
    own_peak: int  # bytes of the run's own process
    children: int  # bytes of the processes that it started, at their largest

    @property
    def peak(self) -> int:
        return self.own_peak + self.children


@dataclass
class Run:
    """`exaone run` in a process of its own, watched from outside."""

    recipe: Path
    out: Path
    dtype: str
    num_steps: int
    lines: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    def finish(self) -> int:
        """Runs it to its end: its exit status."""
        command = [sys.executable, "-m", "open_exaone", "run", str(self.recipe), "--out", str(self.out)]
        process = subprocess.Popen(
            [*command, "--dtype", self.dtype], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        reader = threading.Thread(target=self._read, args=(process,))
        reader.start()
        print(f"{'part':<10}{'step':>5}{'seconds':>9}{'peak':>10}{'others':>8}")
        try:
            for name, step in self._order():
                self._watch(process, name, step)
            return process.wait()
        finally:
            process.kill()
            process.wait()
            reader.join()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.lines += iter(process.stdout.readline, "")

    def _order(self) -> Iterator[tuple[str, int]]:
        yield "load", 0
        for step in range(1, self.num_steps + 1):
            yield "sampling", step
            yield "update", step
        yield "save", 0

    def _is_over(self, name: str, step: int) -> bool:
        stage = self.out / "01-rl"
        match name:
            case "load":
                return any("of them trained" in line for line in list(self.lines))
            case "sampling":
                return (stage / "rollouts" / f"step-{step:06d}.jsonl").exists()
            case "update":
                metrics = stage / "metrics.jsonl"
                return metrics.exists() and metrics.read_bytes().count(b"\n") >= step
            case _:
                return False

    def _watch(self, process: "subprocess.Popen[str]", name: str, step: int) -> None:
        """Waits for a part to end; its peak, and the next one's begun anew."""
        started, own, children = time.perf_counter(), 0, 0
        while process.poll() is None and not self._is_over(name, step):
            with suppress(OSError):  # a process may end meanwhile
                own = max(own, field_bytes(process.pid, "VmHWM"))
                children = max(children, sum(map(own_bytes, descendants(process.pid))))
            time.sleep(POLL_S)
        with suppress(OSError):
            own = max(own, field_bytes(process.pid, "VmHWM"))
            Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")
        part = Part(name, step, time.perf_counter() - started, own, children)
        self.parts.append(part)
        print(
            f"{name:<10}{step or '':>5}{part.seconds:>9.1f}{part.peak / 1e9:>7.2f} GB{children / 1e9:>8.2f}", flush=True
        )


def field_bytes(pid: int, name: str) -> int:
    """A field of a process's status; 0 of one that has ended."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def own_bytes(pid: int) -> int:
    """A process's memory, without its share in what it has in common with others: a fork counts once."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    return 0


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process started, theirs included."""
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii").split():
            yield int(child)
            with suppress(OSError):
                yield from descendants(int(child))


def print_sums(config: ModelConfig, stage: RlStage, run: Run, value_bytes: int) -> None:
    """What each part holds by the sums, beside what was measured."""
    assert stage.lora is not None
    training = Training(value_bytes=value_bytes, uses_muon=False, lora=stage.lora, is_native=library() is not None)
    weights, *kept = weight_bytes(config, training)
    optimizer = sum(kept)
    adapters = value_bytes * num_adapter_parameters(config, stage.lora)
    packed = packed_bytes(config, value_bytes)
    activations = activation_bytes(config, stage.micro_batch_tokens, training)
    sums = {
        "load": {"weights": weights - adapters},
        "sampling": {"weights": weights, "masters": 4 * adapters // value_bytes, "packed copy": packed},
        "update": {"weights": weights, "optimizer": optimizer, "packed copy": packed, "activations": activations},
    }
    print(f"{'part':<12}{'by the sums':>12}{'measured':>11}   of which")
    for name, parts in sums.items():
        measured = max(part.own_peak for part in run.parts if part.name == name)
        listed = ", ".join(f"{what} {size / 1e9:.2f}" for what, size in parts.items())
        print(f"{name:<12}{sum(parts.values()) / 1e9:>9.2f} GB{measured / 1e9:>8.2f} GB   {listed}")


if __name__ == "__main__":
    sys.exit(main())
