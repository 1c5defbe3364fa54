"""What part 3 of `verify-real` does, as a recipe, on which problems, and what it takes."""

import random
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from open_exaone.audit.part import Trial
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.records import Problem
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.tasks.benchmarks.prompts import short_answer
from open_exaone.tasks.benchmarks.registry import load_benchmark
from open_exaone.tasks.generated import GeneratedSource, draw_problems
from open_exaone.tasks.gym import SETTINGS

if TYPE_CHECKING:
    from open_exaone.model.config import ModelConfig

SEED = 20250316
TRAIN = "train.jsonl"  # the problems that are trained on, in the part's folder


@dataclass(frozen=True, slots=True)
class Plan:
    """What the part does, apart from how many steps."""

    batch_prompts: int = 8
    group_size: int = 8
    max_new_tokens: int = 1024  # at most half of the model's context
    micro_batch_tokens: int = 2048
    learning_rate: float = 1e-6
    checkpoint_steps: int = 25
    num_held_out: int = 64  # problems that are measured before and after, and never trained on
    num_samples: int = 4  # of each of these
    reward: str = "correct"  # 1 for a correct reply, 0 for any other

    @property
    def num_samples_at_once(self) -> int:
        return self.batch_prompts * self.group_size


def recipe_of(trial: Trial, num_steps: int, plan: Plan) -> Recipe:
    """One stage of GRPO on `rl/train.jsonl`. The rates are ours: LG published none."""
    stage = {
        "kind": "rl",
        "name": "rl",
        "data": "train",
        "optimizer": {"kind": "adamw", "learning_rate": plan.learning_rate, "warmup": 0.1, "schedule": "constant"},
        "micro_batch_tokens": plan.micro_batch_tokens,
        "checkpoint_steps": plan.checkpoint_steps,
        "num_steps": num_steps,
        "batch_prompts": plan.batch_prompts,
        "group_size": plan.group_size,
        "max_new_tokens": plan.max_new_tokens,
        "reward": plan.reward,
    }
    rows = {"path": str((trial.out / "rl" / TRAIN).absolute()), "format": "problems"}
    return load_recipe(
        {
            "name": "verify-real",
            "seed": SEED,
            "model": str(trial.folder.absolute()),
            "engine": {"kind": "local", "num_slots": plan.num_samples_at_once},
            "data": {"train": {"sources": [rows]}},
            "stages": [stage],
        }
    )


# Memory


def needed_bytes(config: "ModelConfig", itemsize: int, plan: Plan) -> dict[str, int]:
    """What training takes on the device, by what takes it; an estimate, on the safe side.

    Args:
        itemsize: bytes of a weight while it computes: 2 for bfloat16.
    """
    tokens = max(plan.micro_batch_tokens, 2 * plan.max_new_tokens)
    reply_bytes = config.kv_cache_bytes(2 * plan.max_new_tokens, bytes_per_value=itemsize)
    layer = 10 * config.width + 4 * config.num_heads * config.head_width + 5 * config.ffn_width
    return {
        "weights and their gradients": 2 * itemsize * config.num_parameters,
        "float32 masters, their gradients, and Adam's two moments": 16 * config.num_parameters,
        "activations": tokens * config.num_layers * layer * itemsize,
        "logits": tokens * config.vocab_size * 24,
        "keys and values": plan.num_samples_at_once * reply_bytes,
    }


def refuse_what_cannot_fit(trial: Trial, itemsize: int, plan: Plan) -> None:
    """Looks before anything is loaded.

    Raises:
        ConfigError: the device's memory cannot hold the training.
        DataError: the disk cannot hold the saved states.
    """
    from open_exaone.engine.memory import free_bytes

    needed, free = sum(needed_bytes(trial.config, itemsize, plan).values()), free_bytes(trial.device)
    if needed > free:
        raise ConfigError(
            f"RL on {trial.config.num_parameters:,} parameters needs about {needed / 1e9:.0f} GB on one device, and "
            f"{free / 1e9:.0f} GB are free: take a smaller model or a larger device, or leave this part out with "
            "--rl-steps 0"
        )
    state = 12 * trial.config.num_parameters  # masters and two moments; two are kept while a third is written
    disk = shutil.disk_usage(trial.out).free
    if 3 * state > disk:
        raise DataError(
            f"the saved states take up to {3 * state / 1e9:.0f} GB, and the disk of --out has {disk / 1e9:.0f} GB "
            "free: name a folder on a larger one, or leave this part out with --rl-steps 0"
        )


# Problems


def find_problems(rows: Mapping[str, str], num_steps: int, plan: Plan) -> tuple[list[Problem], list[Problem]]:
    """The held-out problems, and those trained on; each asks in LG's words for a short answer.

    Raises:
        DataError: the rows are wrong, or too few.
    """
    wanted = num_steps * plan.batch_prompts
    if "gsm8k" in rows:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # these are to be the training rows, not the test's that we know
            problems = list(load_benchmark("gsm8k", rows["gsm8k"], on_change="warn").problems)
        if len(problems) < plan.num_held_out + plan.batch_prompts:
            raise DataError(
                f"{rows['gsm8k']}: too few problems ({len(problems)}): {plan.num_held_out} are held out and each step "
                f"takes {plan.batch_prompts}: give it more, or leave --rows gsm8k out"
            )
        random.Random(SEED).shuffle(problems)
        return problems[: plan.num_held_out], problems[plan.num_held_out :][:wanted]
    families = tuple(SETTINGS)
    sizes = {"held-out": plan.num_held_out, "train": min(wanted, 800)}
    used: set[str] = set()
    chosen = {}
    for index, (name, size) in enumerate(sizes.items()):
        source = GeneratedSource(families=families, num_problems=size, seed=1)
        drawn = draw_problems(source, index, used, name)
        chosen[name] = [replace(problem, question=short_answer(problem.question)) for problem in drawn]
    return chosen["held-out"], chosen["train"]
