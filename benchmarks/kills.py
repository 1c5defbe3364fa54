"""Trainings killed at random moments, inside of saving too: they end in the weights of those that were not.

    python benchmarks/kills.py                                  # 25 kills of each kind, some minutes
    python benchmarks/kills.py --kinds rl --kills 100 --seed 1
    python benchmarks/kills.py --another-split                  # goes on in other micro-batches

Each training is a process of its own; SIGKILL ends it, half of the times while a state is being written, and the same
command goes on. Compared are the final weights, byte by byte, and what each step learned from. Exits 1 on a difference.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from open_exaone.base.machine import prepare_process

prepare_process()
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
import torch._dynamo  # an optimizer loads it, in seconds: once for all processes
from safetensors.torch import save_file

from open_exaone.base.files import read_jsonl, write_jsonl
from open_exaone.base.records import Problem
from open_exaone.data.document import Document
from open_exaone.engine.engine import Engine
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.config import ModelConfig
from open_exaone.model.transformer import LanguageModel
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.tasks.generated import GeneratedSource, draw_problems
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.config import PreferenceStage, RlStage, SupervisedStage
from open_exaone.train.loop import StepData, train
from open_exaone.train.preference import Preference
from open_exaone.train.rl import OnlineRl
from open_exaone.train.state import fingerprint_of
from open_exaone.train.supervised import Supervised

KINDS = ("pretrain", "sft", "preference", "rl")
MODEL = ModelConfig(
    vocab_size=512,
    width=128,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_width=32,
    ffn_width=256,
    max_positions=512,
)
COMMON: dict[str, Any] = {"optimizer": OptimizerConfig(learning_rate=2e-3), "checkpoint_steps": 3}
SEED = 5
REWARD = Path(__file__).parents[1] / "tests" / "train" / "thought_length.py"  # tells a random model's replies apart
SAVING_S = 0.01  # about what writing a state takes
FORK = multiprocessing.get_context("fork")  # so that a process begins in milliseconds; this one computes nothing


@dataclass
class Tally:
    """What became of one kind."""

    kills: int = 0
    in_saving: int = 0  # kills while a state was being written
    sittings: int = 0
    steps_again: int = 0
    faults: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--kills", type=int, default=25, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--another-split", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        ended(FORK.Process(target=prepare, args=(root,)))
        if asked.another_split:
            faults = [fault for kind in asked.kinds if kind != "rl" for fault in another_split(root, kind, asked)]
        else:
            faults = [fault for kind in asked.kinds for fault in kills(root, kind, asked)]
    for fault in faults:
        print(fault)
    sys.exit(bool(faults))


def kills(root: Path, kind: str, asked: argparse.Namespace) -> list[str]:
    """Kills trainings of one kind until there were as many kills as asked for, each let end then.

    Returns:
        what differs.
    """
    moments, tally = random.Random(f"{asked.seed} {kind}"), Tally()
    started = time.perf_counter()
    whole = root / f"{kind}-whole"
    ended(training(whole, kind, asked))
    whole_s = time.perf_counter() - started
    while tally.kills < asked.kills and not tally.faults:
        folder = root / f"{kind}-{tally.kills}"
        process = training(folder, kind, asked)
        while tally.kills < asked.kills and killed(process, folder, moments, whole_s / 10, tally):
            process = training(folder, kind, asked)
        ended(process)
        tally.sittings += 1
        tally.faults += [f"{kind}: {fault}" for fault in differences(whole, folder, tally)]
    verdict = "DIFFERENT" if tally.faults else "identical"
    print(
        f"{kind:<11} {tally.kills} kills, {tally.in_saving} of them while a state was written; {tally.sittings} "
        f"trainings of {asked.steps} steps, {tally.steps_again} steps run again; weights and samples {verdict}; "
        f"{time.perf_counter() - started:.0f} s",
        flush=True,
    )
    return tally.faults


def killed(process: Any, folder: Path, moments: random.Random, within_s: float, tally: Tally) -> bool:
    """Kills a process at some moment; False where it came to its end before."""
    choice = moments.random()
    if choice < 0.5:  # as it writes its first or second state
        wait_for_saving(process, folder, moments.randint(1, 2))
        time.sleep(moments.random() * SAVING_S)
    elif choice < 0.9:  # in its steps
        size = size_of(folder)
        while process.is_alive() and size_of(folder) == size:
            time.sleep(0.001)
        process.join(moments.random() * within_s)
    else:  # anywhere, from its first instruction on
        process.join(moments.random() * within_s)
    if not process.is_alive():
        return False
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    if process.exitcode == 0:
        return False
    tally.kills += 1
    tally.in_saving += any(folder.glob("checkpoints/.step-*"))
    return True


def size_of(folder: Path) -> int:
    """Of what grows with every step."""
    path = folder / "seen.jsonl"
    return path.stat().st_size if path.exists() else 0


def wait_for_saving(process: Any, folder: Path, nth: int) -> None:
    """Returns when the process writes its n-th state, or has ended."""
    seen = set(folder.glob("checkpoints/.step-*"))  # a kill's before
    num_before = len(seen)
    while process.is_alive() and len(seen) < num_before + nth:
        seen |= set(folder.glob("checkpoints/.step-*.partial"))
        time.sleep(0.0005)


def another_split(root: Path, kind: str, asked: argparse.Namespace) -> list[str]:
    """Goes on in other micro-batches behind a kill half-way.

    Returns:
        what differs by more than float noise.
    """
    whole, cut = root / f"{kind}-whole", root / f"{kind}-split"
    ended(training(whole, kind, asked))
    process = training(cut, kind, asked)
    while process.is_alive() and len(rows_of(cut)) < asked.steps // 2:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    ended(training(cut, kind, asked, micro_batch_tokens=300))
    losses = [[row["loss"] for row in rows_of(folder)] for folder in (whole, cut)]
    noise = max(abs(a - b) for a, b in zip(*losses, strict=True)) * len(losses[0]) / sum(map(abs, losses[0]))
    same_order = seen_of(whole)[0] == seen_of(cut)[0]
    print(
        f"{kind:<11} micro-batches of 300 tokens instead of 2,000 from step {asked.steps // 2} on, {asked.dtype}: "
        f"order of data {'the same' if same_order else 'DIFFERENT'}; losses differ by {noise:.1e} of their mean",
        flush=True,
    )
    allowed = 1e-3 if asked.dtype == "float32" else 0.05
    return [] if same_order and noise < allowed else [f"{kind}: another split gives another training"]


def differences(whole: Path, folder: Path, tally: Tally) -> list[str]:
    """What an uncut and a killed training do not share."""
    faults = []
    if (whole / "final.safetensors").read_bytes() != (folder / "final.safetensors").read_bytes():
        faults.append("the final weights differ")
    (wanted, _), (found, again) = seen_of(whole), seen_of(folder)
    tally.steps_again += again
    if wanted != found:
        faults.append("what the steps learned from differs")
    rows = [[(row["step"], row["tokens"], row.get("loss")) for row in rows_of(path)] for path in (whole, folder)]
    if rows[0] != rows[1]:
        faults.append("the metrics differ")
    return faults


def seen_of(folder: Path) -> tuple[dict[int, set[str]], int]:
    """What each step learned from, every way that it did, and how many steps were run again."""
    steps: dict[int, set[str]] = {}
    rows = read_jsonl(folder / "seen.jsonl")
    for row in rows:
        steps.setdefault(row["step"], set()).add(row["documents"])
    return steps, len(rows) - len(steps)


def rows_of(folder: Path) -> list[Any]:
    path = folder / "metrics.jsonl"
    return read_jsonl(path, drop_cut_tail=True) if path.exists() else []


def training(folder: Path, kind: str, asked: argparse.Namespace, micro_batch_tokens: int = 2000) -> Any:
    """A training, begun or gone on with, in a process of its own."""
    folder.mkdir(exist_ok=True)
    process = FORK.Process(target=run_training, args=(folder, kind, asked, micro_batch_tokens))
    process.start()
    return process


def ended(process: Any) -> None:
    """Lets a process come to its end."""
    if process.pid is None:
        process.start()
    process.join()
    if process.exitcode != 0:
        sys.exit(f"a process ended with {process.exitcode}")


# Within the processes


def prepare(root: Path) -> None:
    """Problems with worked replies, and a tokenizer."""
    source = GeneratedSource(families=("height_order",), num_problems=96, with_thoughts_only=True)
    problems = draw_problems(source, 0, set(), "problems")
    texts = (text for p in problems for text in (p.question, p.thought, p.reply) if text)
    Tokenizer.train(texts, MODEL.vocab_size).save(root / "tokenizer")
    write_jsonl(root / "problems.jsonl", [asdict(problem) for problem in problems])


def run_training(folder: Path, kind: str, asked: argparse.Namespace, micro_batch_tokens: int) -> None:
    torch.set_num_threads(asked.threads)
    model = LanguageModel(MODEL)
    model.reset_parameters(SEED)
    masters = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model = model.to(getattr(torch, asked.dtype))
    objective = Seen(make_objective(folder, kind, asked, model, micro_batch_tokens), folder / "seen.jsonl")
    optimizer = MasterOptimizer(model, masters, objective.config.optimizer)
    train(model, optimizer, objective, folder, lambda row: None, fingerprint=fingerprint_of(objective.config))
    save_file({name: master.detach() for name, master in optimizer.masters.items()}, folder / "final.safetensors")


class Seen:
    """An objective that writes down what each step learns from."""

    def __init__(self, objective: Any, path: Path) -> None:
        self._objective = objective
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)

    def step_data(self, step: int) -> StepData:
        data: StepData = self._objective.step_data(step)
        learned = [(list(map(int, d.ids)), d.advantage, floats(d.sampler_logprobs)) for d in data.documents]
        digest = hashlib.sha256(json.dumps(learned).encode()).hexdigest()
        with open(self._path, "a") as file:
            file.write(json.dumps({"step": step, "documents": digest}) + "\n")
        return data


def floats(values: Any) -> list[float]:
    """As training takes them: in float32."""
    return np.asarray(values, np.float32).tolist()


def make_objective(
    folder: Path, kind: str, asked: argparse.Namespace, model: LanguageModel, micro_batch_tokens: int
) -> Any:
    common = {**COMMON, "kind": kind, "name": kind, "data": "problems", "micro_batch_tokens": micro_batch_tokens}
    tokenizer = Tokenizer.load(folder.parent / "tokenizer")
    problems = [Problem(**row) for row in read_jsonl(folder.parent / "problems.jsonl")]
    if kind == "rl":
        rl = RlStage(
            num_steps=asked.steps, batch_prompts=4, group_size=4, max_new_tokens=24, reward=f"{REWARD}:score", **common
        )
        steps = shuffled(len(problems), 4, asked.steps)
        return OnlineRl(
            rl, problems, [True] * len(problems), LocalProvider(Engine(model, tokenizer)), folder, SEED, model, steps
        )
    documents = worked_documents(problems, tokenizer, learn_prompts=kind == "pretrain")
    if kind == "preference":
        chosen, rejected = documents[: len(documents) // 2], documents[len(documents) // 2 :]
        pairs = [(replace(a, advantage=1.0), replace(b, advantage=-1.0)) for a, b in zip(chosen, rejected, strict=True)]
        stage = PreferenceStage(batch_pairs=4, max_new_tokens=24, **common)
        return Preference(stage, pairs, shuffled(len(pairs), 4, asked.steps))
    stage = SupervisedStage(num_epochs=1, batch_documents=8, **common)
    return Supervised(stage, documents, shuffled(len(documents), 8, asked.steps))


def worked_documents(problems: Sequence[Problem], tokenizer: Tokenizer, *, learn_prompts: bool) -> list[Document]:
    """Each problem with its worked thought and reply."""
    turns = [
        [
            {"role": "user", "content": problem.question},
            {"role": "assistant", "content": problem.reply, "reasoning_content": problem.thought},
        ]
        for problem in problems
    ]
    rendered = tokenizer.render_many(turns, thinking=True)
    return [Document(ids, [True] * len(ids) if learn_prompts else mask) for ids, mask in rendered]


def shuffled(number: int, per_step: int, num_steps: int) -> list[list[int]]:
    """Steps that take `per_step` of so many examples each, epoch behind epoch in an order of its own."""
    draw, order = random.Random(SEED), []
    while len(order) < per_step * num_steps:
        order += draw.sample(range(number), number)
    return [order[step * per_step : (step + 1) * per_step] for step in range(num_steps)]


if __name__ == "__main__":
    main()
