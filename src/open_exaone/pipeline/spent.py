"""What a stage took: tokens, and their floating-point operations as a plan counts them, never the seconds alone.

The tokens are those that were trained and sampled; the operations follow from them by the sums of `model.cost`, so that
two ways of training can be held to equally much.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.data.store import MANIFEST, Prepared
from open_exaone.model.config import ModelConfig
from open_exaone.model.cost import forward_flops, sampling_flops, training_flops
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import FILTER_FILE, RunFolder
from open_exaone.pipeline.plan import SamplingStage, WrittenStage, passes_of, training_of
from open_exaone.pipeline.source import resolve_model
from open_exaone.pipeline.start import Run
from open_exaone.train.config import (
    AnyStage,
    FilterStage,
    PreferenceStage,
    RejectionStage,
    RlStage,
    SupervisedStage,
    TrainedStage,
)


@dataclass(frozen=True, slots=True)
class SampledByRl:
    """What an RL stage sampled, by its metrics."""

    asked: int  # prompts, each with a group of replies
    useful: int  # of those groups, what something is learned from
    tokens: float  # of the replies
    mean_reply: float  # in tokens


@dataclass(frozen=True, slots=True)
class Spent:
    """What one stage took; its evaluation is left out."""

    seconds: float  # of training and of its samples
    trained_tokens: int  # that went forward and backward
    sampled_tokens: int | None  # None: an older version did not count them
    flops: float | None  # of both
    passes: float | None = None  # over its data, where it learns what is written
    asked_groups: int = 0  # of RL
    useful_groups: int = 0


def spent(stage: AnyStage, path: Path, shape: ModelConfig) -> Spent:
    """What a finished stage took.

    Args:
        path: the stage's folder, with its prepared data.
        shape: of the model that it trains, or that a filter samples from.

    Raises:
        DataError: a file of it is missing or broken.
    """
    outcome, sampled = (read_json(file) if file.is_file() else {} for file in _outcomes(path))
    seconds = outcome.get("train_seconds", 0.0) + sampled.get("sample_seconds", 0.0)
    tokens = int(outcome.get("train_tokens", 0))
    match stage:
        case RlStage():
            return _of_rl(stage, path, shape, seconds, tokens)
        case SupervisedStage():
            data = Prepared(path / "data", verify=False)
            flops = training_flops(shape, tokens, _mean(data) / 2, training_of(stage))
            return Spent(seconds, tokens, 0, flops, tokens / _total(data))
        case PreferenceStage() if not (path / "prompts" / MANIFEST).is_file():
            context = _mean(Prepared(path / "data", verify=False)) / 4  # half of one of two replies
            return Spent(seconds, tokens, 0, _of_preference(stage, shape, tokens, context))
    if "sampled_tokens" not in sampled:
        return Spent(seconds, tokens, None, None)
    prompt = _mean(Prepared(path / "prompts", verify=False))
    flops, reply = _of_samples(stage, shape, sampled, prompt)
    passes = None
    match stage:
        case PreferenceStage():
            flops += _of_preference(stage, shape, tokens, prompt + reply / 2)
        case RejectionStage():
            data = Prepared(path / "data", verify=False)
            flops += training_flops(shape, tokens, _mean(data) / 2, training_of(stage))
            passes = tokens / _total(data)
    return Spent(seconds, tokens, int(sampled["sampled_tokens"]), flops, passes)


def stages_spent(recipe: Recipe, folder: RunFolder) -> dict[str, Spent]:
    """What each stage of a finished run took, by its name; raises what `spent` does."""
    return {stage.name: stage_spent(recipe, stage, folder) for stage in recipe.stages}


def stage_spent(recipe: Recipe, stage: AnyStage, folder: RunFolder) -> Spent:
    """What a finished stage of a run took; raises what `spent` does."""
    from open_exaone.checkpoint.folder import load_config

    shaped: TrainedStage | None = recipe.start_of(stage) if isinstance(stage, FilterStage) else stage
    if shaped is None:
        shape = load_config(resolve_model(Path(str(recipe.model))))
    else:
        shape = load_config(folder.stage(recipe.stages.index(shaped), shaped.name) / "model")
    return spent(stage, folder.stage(recipe.stages.index(stage), stage.name), shape)


def num_passes(run: Run, stage: WrittenStage, num_examples: int, num_tokens: int) -> float:
    """The passes over its prepared data that a stage makes; with a budget, as many as what its samples left is worth.

    Raises:
        ConfigError: its samples took the whole budget.
    """
    shape, sampled = run.shape_of(stage), 0.0
    if isinstance(stage, RejectionStage) and stage.budget is not None and stage.budget.flops is not None:
        path = run.path(stage)
        prompt = _mean(Prepared(path / "prompts", verify=False))
        sampled, _ = _of_samples(stage, shape, read_json(path / "sampling.json"), prompt)
        if sampled >= stage.budget.flops:
            raise ConfigError(
                f"{stage.name}.budget.flops = {stage.budget.flops:.3g}: sampling took {sampled:.3g} of them, which "
                f"leaves nothing to train: lower {stage.name}.num_samples, or give data.{stage.data} fewer problems"
            )
    passes = passes_of(stage, shape, num_examples, num_tokens / max(1, num_examples), sampled)
    if stage.budget is not None:
        run.message(f"{stage.name}: its budget is worth {passes:.3g} passes over its data")
    return passes


def _outcomes(path: Path) -> tuple[Path, Path]:
    """Where a stage leaves what its training took, and its sampling."""
    filtered = path / FILTER_FILE
    return path / "outcome.json", filtered if filtered.is_file() else path / "sampling.json"


def sampled_by_rl(stage: RlStage, path: Path) -> SampledByRl:
    """What an RL stage has sampled so far.

    Args:
        path: the stage's folder.

    Raises:
        DataError: its metrics.jsonl is missing or broken.
    """
    rows = read_jsonl(path / "metrics.jsonl", drop_cut_tail=True)
    rows = [row for row in rows if "useful_groups" in row]  # not those of a second update on the same samples
    asked = [row.get("asked_prompts", stage.batch_prompts) for row in rows]
    means = [row.get("mean_reply_tokens") for row in rows]
    replies = [mean if isinstance(mean, int | float) and math.isfinite(mean) else 0.0 for mean in means]
    sampled = stage.group_size * sum(number * mean for number, mean in zip(asked, replies, strict=True))
    useful, number = sum(row["useful_groups"] for row in rows), sum(asked) * stage.group_size
    return SampledByRl(sum(asked), useful, sampled, sampled / max(1, number))


def _of_rl(stage: RlStage, path: Path, shape: ModelConfig, seconds: float, tokens: int) -> Spent:
    sampled, prompt = sampled_by_rl(stage, path), _mean(Prepared(path / "prompts", verify=False))
    context = prompt + sampled.mean_reply / 2
    num_forward = (stage.loss.divergence is not None) + (stage.num_updates > 1)
    flops = sampling_flops(shape, sampled.asked, stage.group_size, prompt, sampled.mean_reply)
    flops += training_flops(shape, tokens, context, training_of(stage))
    flops += num_forward * forward_flops(shape, tokens / stage.num_iterations, context)
    return Spent(seconds, tokens, round(sampled.tokens), flops, None, sampled.asked, sampled.useful)


def _of_preference(stage: PreferenceStage, shape: ModelConfig, tokens: int, context: float) -> float:
    flops = training_flops(shape, tokens, context, training_of(stage))
    once = tokens / stage.num_epochs
    return flops + (forward_flops(shape, once, context) if stage.loss.needs_reference else 0.0)


def _of_samples(
    stage: SamplingStage | FilterStage, shape: ModelConfig, sampled: dict[str, Any], prompt: float
) -> tuple[float, float]:
    """The operations of a stage's samples, and the mean tokens of a reply."""
    number = int(sampled.get("num_sampled", sampled.get("num_problems", 0) * stage.num_samples))
    reply = sampled["sampled_tokens"] / max(1, number)
    return sampling_flops(shape, number / stage.num_samples, stage.num_samples, prompt, reply), reply


def _mean(data: Prepared) -> float:
    """The mean tokens of an example."""
    return _total(data) / max(1, len(data))


def _total(data: Prepared) -> float:
    return max(1.0, float(data.tokens_N.sum()))
