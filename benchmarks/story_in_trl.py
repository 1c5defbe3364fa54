"""The twin of a recipe in TRL: the same base, rows, prompts and reward through SFTTrainer and GRPOTrainer.

    pip install -e '.[bench]'
    python benchmarks/story_in_trl.py [--out runs/twin] [--rate 3e-3] [--rl-rate 3e-4] [--quick] [--seed 0]

Ours is nano/exaone-deep without its preference stage, which TRL has none of: a base, SFT on worked thoughts, online RL
with GRPO. Both sides step AdamW, as TRL does; rates, batches, epochs, steps, group size, reply length and temperature
are the same. TRL's SFT begins from our base's folder and reads the token ids and loss masks that ours learned from; RL
of both sides begins from TRL's SFT model, since what RL gains depends on where it begins more than on anything else;
TRL's reward is the verdict of `open_exaone.judge`. What differs: each side shuffles by itself; TRL computes in float32
or, with --trl-bf16, under autocast; and TRL divides a step's loss by the tokens of all groups, ours by those of the
groups whose rewards differ, which AdamW hardly feels.

Each side runs in processes of its own, one after the other. Both models of both sides are then measured on the same
test problems with the same seeds; differences are paired by problem. The same command continues what was cut; only TRL
begins a stage that was cut anew. Exit status 1 where the interval of ours less TRL's lies below zero.
"""

import argparse
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

from open_exaone.base.files import read_json, read_jsonl, write_json
from open_exaone.evaluation.paired import paired_difference
from open_exaone.pipeline.recipe import load_recipe

SFT, RL = "sft", "rl"
SPLIT = "test"
STAGES = {"base": "01-base", SFT: "02-sft"}
FIX = "install the peers beside this package: pip install -e '.[bench]'"


def main() -> int:
    args = parse()
    try:
        import trl
    except ImportError as error:
        print(f"TRL is not installed ({error}); {FIX}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = recipe_of(args)
    write_json(args.out / "recipe.json", recipe)

    timed(args.out / "ours-sft.json", run_ours, recipe, args.out / "ours", SFT)
    timed(args.out / "trl-sft.json", sft_in_trl, recipe, args.out, args.trl_bf16)
    timed(args.out / "ours-rl.json", run_ours, rl_recipe(recipe, args.out), args.out / "ours-rl", RL)
    timed(args.out / "trl-rl.json", rl_in_trl, recipe, args.out, args.trl_bf16)

    scores = {(side, name): measure(recipe, args.out, side, name) for side in ("ours", "trl") for name in (SFT, RL)}
    num_samples = recipe["evaluation"]["num_samples"]
    print(f"\nTRL {trl.__version__}, {len(scores['ours', SFT])} test problems, {num_samples} samples each")
    print(f"{'stage':8}{'ours':>8}{'TRL':>8}   ours less TRL (95 %)")
    behind = False
    for name in (SFT, RL):
        found = paired_difference(scores["ours", name], scores["trl", name])
        means = [fmean(scores[side, name].values()) for side in ("ours", "trl")]
        print(f"{name:8}{means[0]:8.1%}{means[1]:8.1%}   {found.value:+.1%} ({found.low:+.1%} to {found.high:+.1%})")
        behind |= found.high < 0
    print_times(args.out)
    return int(behind)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/twin"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=3e-3, help="AdamW's peak rate in SFT")
    parser.add_argument("--rl-rate", type=float, default=3e-4, help="AdamW's peak rate in RL")
    parser.add_argument("--quick", action="store_true", help="the recipe's short form")
    parser.add_argument("--trl-bf16", action="store_true", help="TRL computes under autocast")
    return parser.parse_args()


def recipe_of(args: argparse.Namespace) -> dict[str, Any]:
    """The shipped recipe without its preference stage, stepped by AdamW; measured on the test problems alone."""
    recipe = load_recipe("nano/exaone-deep", [f"seed={args.seed}"], quick=args.quick).model_dump(mode="json")
    recipe["name"] = "twin"
    recipe["stages"] = [stage for stage in recipe["stages"] if stage["kind"] != "preference"]
    recipe["evaluation"] |= {"data": SPLIT, "shown": None}
    used = {SPLIT, *(stage["data"] for stage in recipe["stages"])}
    recipe["data"] = {name: data for name, data in recipe["data"].items() if name in used}
    recipe["ablations"] = {}
    for stage, rate in zip(recipe["stages"][1:], (args.rate, args.rl_rate), strict=True):
        # Weight decay, betas and the end of the schedule are written out: TRL is given the same.
        stage["optimizer"] = {
            "kind": "adamw",
            "learning_rate": rate,
            "schedule": "linear",
            "warmup": 0.05,
            "final": 0.0,
        }
    return recipe


def timed(done: Path, work: Callable[..., Any], *arguments: Any) -> None:
    """Does the work in a process of its own, unless its file is there; keeps its seconds and processor seconds."""
    if done.exists():
        return
    print(f"{done.stem} …", flush=True)
    process = get_context("spawn").Process(target=_measured, args=(done, work, arguments))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{done.stem}: failed, see above")


def _measured(done: Path, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    started = moment()
    by_stage = work(*arguments)
    write_json(done, by_stage or since(started))


def moment() -> tuple[float, float]:
    """By the clock, and seconds of the processor that this process and its children used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in used)


def since(started: tuple[float, float]) -> dict[str, float]:
    return dict(
        zip(("seconds", "cpu_seconds"), (now - then for now, then in zip(moment(), started, strict=True)), strict=True)
    )


def rl_recipe(recipe: dict[str, Any], out: Path) -> dict[str, Any]:
    """Our RL alone, from TRL's SFT model, on the problems that our run drew."""
    data = {
        name: {
            "sources": [
                {
                    "problems": str(out / "ours" / "problems" / f"{name}.jsonl"),
                    "num_problems": recipe["data"][name]["sources"][0]["num_problems"],
                }
            ]
        }
        for name in (SPLIT, RL)
    }
    return recipe | {"model": str(out / "trl" / SFT), "data": data, "stages": recipe["stages"][2:]}


def run_ours(recipe: dict[str, Any], folder: Path, until: str) -> dict[str, dict[str, float]]:
    """Returns the times of each stage, from its first step's end to its last one's; of one that was continued, none."""
    from open_exaone.pipeline.run import run_recipe

    begun: dict[str, tuple[float, float]] = {}
    times: dict[str, dict[str, float]] = {}

    def on_event(event: dict[str, Any]) -> None:
        stage, step = event.get("stage"), event.get("step")
        if step == 1:
            begun[stage] = moment()
        if step and step == event["num_steps"] and stage in begun:
            times[stage] = since(begun[stage])

    run_recipe(load_recipe(recipe), folder, on_event, until=until)
    return times


def sft_in_trl(recipe: dict[str, Any], out: Path, bf16: bool) -> None:
    """SFTTrainer on the ids and loss masks that ours learned from."""
    from trl import SFTConfig, SFTTrainer

    from contestants import dataset
    from open_exaone.data.store import Prepared

    stage = recipe["stages"][1]
    documents = Prepared(out / "ours" / STAGES[SFT] / "data").documents
    tokenizer, model = opened(out / "ours" / STAGES["base"] / "model")
    trainer = SFTTrainer(
        model,
        SFTConfig(
            **common(stage, out, recipe["seed"], bf16),
            per_device_train_batch_size=stage["batch_documents"],
            num_train_epochs=stage["num_epochs"],
            max_length=recipe["model"]["max_positions"],
        ),
        train_dataset=dataset(documents),
        processing_class=tokenizer,
    )
    trainer.train()
    save(trainer.model, out, SFT)


def rl_in_trl(recipe: dict[str, Any], out: Path, bf16: bool) -> None:
    """GRPOTrainer on the prompts of our stage, from TRL's own SFT."""
    from datasets import Dataset
    from datasets.fingerprint import generate_random_fingerprint
    from trl import GRPOConfig, GRPOTrainer

    stage = recipe["stages"][2]
    problems = list(read_jsonl(out / "ours" / "problems" / "rl.jsonl"))
    tokenizer, model = opened(out / "trl" / SFT)
    check_prompts(out, problems, tokenizer)
    rows = [
        {"prompt": [{"role": "user", "content": problem["question"]}], "problem": json.dumps(problem)}
        for problem in problems
    ]
    made = Dataset.from_list(rows)
    made._fingerprint = generate_random_fingerprint()  # some versions of pyarrow cannot be pickled for a hash
    num_rows = stage["batch_prompts"] * stage["group_size"]
    trainer = GRPOTrainer(
        model,
        Reward(out / "ours" / STAGES["base"] / "model"),
        GRPOConfig(
            **common(stage, out, recipe["seed"], bf16),
            per_device_train_batch_size=num_rows,
            num_generations=stage["group_size"],
            max_completion_length=stage["max_new_tokens"],
            max_steps=stage["num_steps"],
            chat_template_kwargs={"enable_thinking": True},
            loss_type="dapo",  # the mean over a step's tokens, as our `aggregate = "tokens"`
            beta=0.0,
            temperature=stage["temperature"],
            top_p=1.0,
            top_k=0,
        ),
        train_dataset=made,
        processing_class=tokenizer,
    )
    trainer.train()
    save(trainer.model, out, RL)


class Reward:
    """The verdict of `open_exaone.judge` on what a completion's ids say, thoughts included."""

    __name__ = "correct"

    def __init__(self, folder: Path) -> None:
        from open_exaone.api.compute import load_tokenizer

        self._tokenizer = load_tokenizer(folder)

    def __call__(self, completion_ids: list[list[int]], problem: list[str], **_: Any) -> list[float]:
        from open_exaone.base.records import Problem, StopReason
        from open_exaone.rollout.run import judge_reply

        rewards = []
        for ids, row in zip(completion_ids, problem, strict=True):
            ended = bool(ids) and ids[-1] in self._tokenizer.end_ids
            reply = self._tokenizer.split(ids, thinking=True)
            verdict = judge_reply(Problem(**json.loads(row)), reply, StopReason.END if ended else StopReason.LENGTH)
            rewards.append(float(verdict.status == "correct"))
        return rewards


def common(stage: dict[str, Any], out: Path, seed: int, bf16: bool) -> dict[str, Any]:
    """What both of TRL's trainers are given."""
    optimizer = load_optimizer(stage)
    return {
        "output_dir": str(out / "trl" / "work"),
        "seed": seed,
        "bf16": bf16,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "gradient_accumulation_steps": 1,
        "learning_rate": optimizer.learning_rate,
        "lr_scheduler_type": optimizer.schedule,
        "warmup_steps": optimizer.warmup,  # below 1: a share of the steps
        "optim": "adamw_torch_fused",
        "adam_beta1": optimizer.beta1,
        "adam_beta2": optimizer.beta2,
        "weight_decay": optimizer.weight_decay,
        "max_grad_norm": optimizer.max_gradient_norm,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 50,
        "dataloader_pin_memory": False,
    }


def load_optimizer(stage: dict[str, Any]) -> Any:
    from open_exaone.learn.config import OptimizerConfig

    return OptimizerConfig(**stage["optimizer"])


def opened(folder: Path) -> tuple[Any, Any]:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer, transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def check_prompts(out: Path, problems: list[dict[str, Any]], tokenizer: Any) -> None:
    """Both sides must ask the same ids."""
    from open_exaone.api.compute import load_tokenizer

    turns = [[{"role": "user", "content": problem["question"]}] for problem in problems[:200]]
    ours = load_tokenizer(out / "ours" / STAGES["base"] / "model").render_many(
        turns, thinking=True, generation_prompt=True
    )
    for turn, (ids, _) in zip(turns, ours, strict=True):
        theirs = tokenizer.apply_chat_template(turn, add_generation_prompt=True, enable_thinking=True)["input_ids"]
        if list(ids) != list(theirs):
            raise SystemExit(f"TRL would ask other ids than ours: {tokenizer.decode(theirs)!r}")


def save(model: Any, out: Path, name: str) -> None:
    """A model's folder as ours are: TRL's weights, our base's tokenizer and configuration."""
    folder, base = out / "trl" / name, out / "ours" / STAGES["base"] / "model"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    for path in base.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name != "config.json":
            shutil.copy(path, folder / path.name)


def measure(recipe: dict[str, Any], out: Path, side: str, name: str) -> dict[str, float]:
    """The share of correct samples of each test problem."""
    import open_exaone

    ours = {SFT: out / "ours" / STAGES[SFT] / "model", RL: out / "ours-rl" / "01-rl" / "model"}
    model = ours[name] if side == "ours" else out / "trl" / name
    folder = out / "eval" / f"{side}-{name}"
    open_exaone.evaluate(
        model,
        str(out / "ours" / "problems" / f"{SPLIT}.jsonl"),
        out=folder,
        num_samples=recipe["evaluation"]["num_samples"],
        max_new_tokens=recipe["evaluation"]["max_new_tokens"],
        temperature=1.0,
        top_p=1.0,
        seed=1,
    )
    verdicts: dict[str, list[bool]] = {}
    for row in read_jsonl(folder / "samples.jsonl"):
        verdicts.setdefault(row["problem"], []).append(row["verdict"] == "correct")
    return {problem: fmean(found) for problem, found in verdicts.items()}


def print_times(out: Path) -> None:
    """Seconds by the clock, and of the processor, which other processes disturb less."""
    print(f"\n{'stage':8}{'ours':>26}{'TRL':>26}{'times':>18}")
    for name in (SFT, RL):
        ours = read_json(out / f"ours-{name}.json")
        theirs = read_json(out / f"trl-{name}.json")
        if name not in ours:
            print(f"{name:8}was continued by ours: no time")
            continue
        cells = [f"{each['seconds']:,.0f} s ({each['cpu_seconds']:,.0f} CPU s)" for each in (ours[name], theirs)]
        ratios = [theirs[key] / ours[name][key] for key in ("seconds", "cpu_seconds")]
        print(f"{name:8}{cells[0]:>26}{cells[1]:>26}{f'{ratios[0]:.1f} ({ratios[1]:.1f})':>18}")


if __name__ == "__main__":
    raise SystemExit(main())
