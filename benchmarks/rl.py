"""A step of online RL on a CPU beside TRL's GRPOTrainer: sampling, scoring, the update.

    python benchmarks/rl.py --trl-python VENV/bin/python [--rounds 5] [--shape S]

Ours is the training loop itself (`train`) with the `rl` stage and the engine; TRL runs its own `train()` in a process
of its own (rl_worker.py), whose environment has `pip install torch trl datasets transformers`. Both begin with the same
weights and take the same prompts step by step, --prompts of them with --samples samples of --new tokens each, of which
none ends early, at temperature 1; the same reward of the reply's text; GRPO with DAPO's loss, clipped at 0.2 and 0.28;
one update by AdamW, gradients clipped at 1, weights and optimizer states in float32. TRL's dtype (float32, or its bf16
mixed precision) and the rows of a forward pass (all, a quarter) are tuned beforehand, and the fastest races. Steps take
turns: one of ours, one of TRL's. A step is timed by the clock from prompts to moved weights; what ours writes to disk
meanwhile, samples and metrics, counts as its time.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from open_exaone.base.machine import prepare_process

prepare_process()

import torch

import processor
from generators import PeerError, Worker, name_of
from open_exaone.base.records import Problem
from open_exaone.checkpoint.folder import resolve_dtype, save_model
from open_exaone.engine.engine import Engine
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.learn.policy import Dapo
from open_exaone.model.transformer import LanguageModel
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.config import RlStage
from open_exaone.train.loop import StepData, train
from open_exaone.train.rl import OnlineRl
from open_exaone.train.state import NOTHING, Memory
from shapes import SHAPES

WORKER = Path(__file__).with_name("rl_worker.py")
DOCS = Path(__file__).resolve().parent.parent / "docs"
RATE = 1e-5
TARGET = 5.0
TUNING_STEPS = 2  # the first warms up


class Timed:
    """The stage, with the seconds that a step's samples and their scores took."""

    def __init__(self, stage: OnlineRl) -> None:
        self.config, self.num_steps, self.loss, self._stage = stage.config, stage.num_steps, stage.loss, stage
        self.sampling_seconds = 0.0

    def step_data(self, step: int, memory: Memory = NOTHING) -> StepData:
        started = time.perf_counter()
        data = self._stage.step_data(step, memory)
        self.sampling_seconds = time.perf_counter() - started
        return data


class Step(NamedTuple):
    seconds: float
    sampling_seconds: float
    cpu_seconds: float
    num_tokens: int  # sampled
    others: float  # cores that other processes used meanwhile


class Work:
    """What both sides learn from: a folder with weights and tokenizer, and each step's questions."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        config = SHAPES[args.shape]
        texts = [path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))]
        self.tokenizer = Tokenizer.train(texts, config.vocab_size)
        self.model = LanguageModel(config)
        self.model.reset_parameters(0)
        self.masters = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}
        save_model(folder, config, self.masters, self.tokenizer, {})
        self.num_steps = max(args.rounds + 1, TUNING_STEPS)
        numbers = range(self.num_steps * args.prompts)
        self.questions = [f"How much is {37 * number} plus {91 * number + 5}? Explain each step." for number in numbers]
        turns = [[{"role": "user", "content": question}] for question in self.questions]
        rendered = self.tokenizer.render_many(turns, thinking=True, generation_prompt=True)
        self.prompt_tokens = [len(ids) * args.samples for ids, _ in rendered]

    def objective(self) -> Timed:
        args, dtype = self.args, resolve_dtype()
        self.model.to(dtype)
        engine = Engine(self.model, self.tokenizer, num_slots=args.prompts * args.samples)
        engine.end_ids = frozenset()  # every reply is as long as it may be
        stage = RlStage(
            kind="rl",
            name="rl",
            data="rl",
            num_steps=self.num_steps,
            batch_prompts=args.prompts,
            group_size=args.samples,
            max_new_tokens=args.new,
            loss=Dapo(),
            reward=f"{WORKER}:score",
            optimizer=OptimizerConfig(kind="adamw", learning_rate=RATE),
            checkpoint_steps=10_000,
        )
        problems = [Problem(str(row), "sum", "en", text, "0", "exact") for row, text in enumerate(self.questions)]
        places = lambda first, number: list(range(first, first + number))  # noqa: E731
        provider = LocalProvider(engine)
        return Timed(
            OnlineRl(stage, problems, [True] * len(problems), provider, self.folder / "ours", 0, self.model, places)
        )


class Trl:
    """TRL's trainer in a process."""

    def __init__(self, work: Work) -> None:
        self.work, self.args = work, work.args
        self.worker = Worker("trl", work.folder, self.args.trl_python, (), (), script=WORKER)
        self.num_steps = 0

    def open(self, dtype: str, rows: int) -> None:
        """From the first step on. Raises PeerError: it cannot."""
        settings = {
            "folder": str(self.work.folder),
            "dtype": dtype,
            "rows": rows,
            "questions": self.work.questions,
            "prompts_per_step": self.args.prompts,
            "num_samples": self.args.samples,
            "num_new": self.args.new,
            "learning_rate": RATE,
        }
        self.worker.start(settings)
        self.num_steps = 0

    def step(self) -> Step:
        """Raises PeerError: it cannot, or does other work than ours."""
        others = processor.Others()
        found = self.worker.ask({})
        first = self.num_steps * self.args.prompts
        wanted = sum(self.work.prompt_tokens[first : first + self.args.prompts])
        if (read := found.pop("num_prompt_tokens")) != wanted:
            raise PeerError(f"it read {read} prompt tokens where ours reads {wanted}")
        self.num_steps += 1
        return Step(**found, others=others.cores(found["cpu_seconds"]))

    def tune(self) -> str:
        """Opens the fastest way, and returns its name.

        Raises:
            PeerError: none works.
        """
        together = self.args.prompts * self.args.samples
        rows_of = self.args.trl_rows or (together, max(1, together // 4))
        choices = [(dtype, rows) for dtype in self.args.trl_dtypes for rows in rows_of]
        seconds: dict[tuple[str, int], float] = {}
        why = ""
        for dtype, rows in choices if len(choices) > 1 else ():
            try:
                self.open(dtype, rows)
                seconds[dtype, rows] = [self.step().seconds for _ in range(TUNING_STEPS)][-1]
                print(f"TRL in {dtype}, {rows} rows in a pass: {seconds[dtype, rows]:.2f} s a step", flush=True)
            except PeerError as error:
                why = str(error)
                print(f"TRL in {dtype}, {rows} rows in a pass: left out: {why}", flush=True)
        if why and not seconds:
            raise PeerError(why)
        dtype, rows = min(choices, key=lambda choice: seconds.get(choice, math.inf))
        self.open(dtype, rows)
        return f"TRL GRPOTrainer, {dtype}, {rows} rows"


def race(work: Work, trl: Trl | None) -> dict[str, list[Step]]:
    """A step of ours and one of TRL's in turn; the first of each warms up and is left out."""
    objective, ours, theirs = work.objective(), [], []
    optimizer = MasterOptimizer(work.model, work.masters, objective.config.optimizer)
    num_tokens = work.args.prompts * work.args.samples * work.args.new
    begun: list[tuple[float, float, processor.Others]] = []

    def begin() -> None:
        begun.append((time.perf_counter(), time.process_time(), processor.Others()))

    def on_step(row: dict[str, Any]) -> None:
        started, started_cpu, others = begun[-1]
        used = time.process_time() - started_cpu
        seconds = time.perf_counter() - started
        assert row["mean_reply_tokens"] == work.args.new and not row["equal_reward_groups"], row
        ours.append(Step(seconds, objective.sampling_seconds, used, num_tokens, others.cores(used)))
        if trl:
            theirs.append(trl.step())
            assert theirs[-1].num_tokens == num_tokens, "TRL's replies have another length"
        for step in (ours[-1], *theirs[-1:]):
            print(f"  {step.seconds:.2f} s, {step.cpu_seconds:.2f} CPU s", end="", file=sys.stderr)
        print(file=sys.stderr, flush=True)
        begin()

    begin()
    train(work.model, optimizer, objective, work.folder / "ours", on_step)
    name = f"open-exaone, {name_of(work.model.dtype)}"
    return {name: ours[1:]} | ({"TRL": theirs[1:]} if trl else {})


def table(measured: Mapping[str, Sequence[Step]]) -> None:
    """Medians [least … most] in seconds a step; ratios to the first, by the clock and by processor time."""
    head = "".join(f"{column:>12}" for column in ("s a step", "sampling", "training", "CPU s", "tokens/s", "others"))
    print(f"\n{'':<44}{head}  spread of s a step")
    first: Step | None = None
    for name, steps in measured.items():
        middle = Step(*(statistics.median(values) for values in zip(*steps, strict=True)))
        training = statistics.median(step.seconds - step.sampling_seconds for step in steps)
        values = f"{middle.seconds:>12.2f}{middle.sampling_seconds:>12.2f}{training:>12.2f}{middle.cpu_seconds:>12.2f}"
        values += f"{middle.num_tokens / middle.seconds:>12,.0f}{max(step.others for step in steps):>12.1f}"
        spread = [step.seconds for step in steps]
        print(f"{name:<44}{values}  [{min(spread):.2f} … {max(spread):.2f}]")
        if first:
            ratio = middle.seconds / first.seconds
            pairs = [theirs.seconds / ours.seconds for ours, theirs in zip(*measured.values(), strict=True)]
            verdict = "met" if ratio >= TARGET else "NOT met"
            print(
                f"ours is {ratio:.2f} times as fast [{min(pairs):.2f} … {max(pairs):.2f} step by step], "
                f"{middle.cpu_seconds / first.cpu_seconds:.2f} times per CPU second; target {TARGET:g}: {verdict}"
            )
        first = first or middle


def main() -> None:
    split = lambda text: text.split(",")  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", metavar="PATH", help="an interpreter with TRL; ours alone if left out")
    parser.add_argument("--trl-dtypes", type=split, default=["float32", "bfloat16"])
    numbers = lambda text: [int(number) for number in text.split(",")]  # noqa: E731
    parser.add_argument("--trl-rows", type=numbers, help="of a forward pass, to choose from; all and a quarter of them")
    parser.add_argument("--shape", choices=SHAPES, default="S")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--samples", type=int, default=8, help="of each prompt")
    parser.add_argument("--new", type=int, default=128, help="tokens of each sample")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"{processor.describe()}; torch {torch.__version__}")
    size = SHAPES[args.shape].num_parameters / 1e6
    print(f"{args.shape} ({size:.1f}M), {args.prompts} prompts x {args.samples} samples x {args.new} tokens a step")
    with tempfile.TemporaryDirectory() as folder:
        work = Work(args, Path(folder))
        trl = Trl(work) if args.trl_python else None
        try:
            name = trl.tune() if trl else ""
            measured = race(work, trl)
        except PeerError:
            print((work.folder / "trl.log").read_text(encoding="utf-8")[-4000:], file=sys.stderr)
            raise
        finally:
            if trl:
                trl.worker.close()
    table({name if key == "TRL" else key: steps for key, steps in measured.items()})


if __name__ == "__main__":
    main()
