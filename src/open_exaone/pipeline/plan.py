"""What a recipe would cost, before anything is trained or downloaded. Reads no row and loads no weight."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NamedTuple

from open_exaone.base.errors import ConfigError
from open_exaone.model.config import ModelConfig
from open_exaone.model.cost import (
    Sampled,
    StageCost,
    Work,
    dense_flops,
    forward_flops,
    sampling_work,
    training_flops,
)
from open_exaone.model.memory import FLOAT32, Held, Training, memory_of
from open_exaone.model.mesh import AXES, Mesh
from open_exaone.model.registry import shape_by_name
from open_exaone.pipeline.config import OWN_MODEL, Dataset, Recipe, check_contexts
from open_exaone.pipeline.files_needed import samples_pairs
from open_exaone.tasks.generated import GeneratedSource
from open_exaone.train.config import (
    AnyStage,
    FilterStage,
    PreferenceStage,
    RejectionStage,
    RlStage,
    SupervisedStage,
    TrainedStage,
)
from open_exaone.train.parallel.config import ParallelConfig

SamplingStage = PreferenceStage | RejectionStage  # that draws all its samples before it trains
WrittenStage = SupervisedStage | RejectionStage

REPLY_SHARE = 0.25  # of the longest reply: what an average one is taken to be


class Rows(NamedTuple):
    """What is known of the rows that a stage reads."""

    number: int | None  # None: nothing says
    mean_tokens: float
    are_problems: bool  # whose replies it samples itself


def shape_of(recipe: Recipe) -> ModelConfig:
    """The shape of the model that a recipe begins from: its own, a published one's, or that of a folder.

    Raises:
        ConfigError: it would have to be downloaded to know.
        CheckpointError: the folder's config cannot be read.
    """
    from open_exaone.checkpoint.folder import load_config
    from open_exaone.checkpoint.shipped import SHIPPED
    from open_exaone.pipeline.source import resolve_model

    if isinstance(recipe.model, ModelConfig):
        return recipe.model
    if Path(recipe.model).exists() or recipe.model == SHIPPED or recipe.model.startswith("runs/"):
        return load_config(resolve_model(Path(recipe.model)))
    if (shape := shape_by_name(recipe.model.partition("@")[0])) is None:
        raise ConfigError(
            f"model = {recipe.model!r}: is not here, and its shape is not known without it: download it and name its "
            "folder"
        )
    return shape


def mesh_of(parallel: ParallelConfig, num_gpus: int) -> Mesh | None:
    """The mesh of a recipe's [parallel] on the GPUs that train; None where the table sets no axis.

    Raises:
        ConfigError: it takes another number of GPUs.
    """
    given = {axis: size for axis, size in parallel.model_dump().items() if axis in AXES}
    others = {axis: given.get(axis, 1) for axis in AXES if axis != "data"}
    data, product = given["data"], prod(others.values())
    if data is None and product == 1:
        return None
    mesh = Mesh(data=num_gpus // product or 1 if data is None else data, **others)
    if mesh.num_devices != num_gpus:
        written = " x ".join(f"{axis} = {size}" for axis, size in others.items() if size > 1)
        written = " x ".join(filter(None, ["data" if data is None else f"data = {data}", written]))
        raise ConfigError(
            f"parallel: {written} does not give {num_gpus:,} GPUs that train: change --gpus or the recipe's "
            "[parallel], or plan another mesh with --parallel data=…,shard=…"
        )
    return mesh


class Numbers(NamedTuple):
    """What a plan's device computes in."""

    value_bytes: int = 2  # of a weight and an activation: 2 in bfloat16, 4 in float32
    is_native: bool = False  # a CPU with this package's kernels, and its engine's own copy of the weights


BFLOAT16 = Numbers()


def plan_recipe(recipe: Recipe, shape: ModelConfig, on: Numbers = BFLOAT16) -> list[StageCost]:
    """What each stage costs; the evaluation is left out.

    Rows and tokens are those that the data say are expected. Where rows are counted and their length is not known, each
    is taken to be as long as fits; a reply is taken to have a quarter of the tokens that it may have.

    Raises:
        ConfigError: a stage's context cannot be had with this shape, or leaves no room for a reply.
    """
    check_contexts(recipe, shape)
    return [plan_stage(recipe, shape, stage, on=on) for stage in recipe.stages]


def plan_stage(
    recipe: Recipe, shape: ModelConfig, stage: AnyStage, rows: Rows | None = None, on: Numbers = BFLOAT16
) -> StageCost:
    """What one stage costs.

    Args:
        shape: of the recipe's own model, before any stage extends its context.
        rows: of its data as they are, where they are prepared; those that are expected where None.
    """
    shape = recipe.shape_after(stage, shape)
    rows = _expected(recipe, shape, stage) if rows is None else rows
    held = _held(recipe, shape, stage, rows, on)
    amounts = _amounts(recipe, shape, stage, rows)
    return StageCost(
        stage=stage.name,
        kind=stage.kind,
        num_steps=amounts.num_steps,
        train_tokens=amounts.tokens,
        work=amounts.work,
        dense_flops=None if amounts.tokens is None else dense_flops(shape, amounts.tokens),
        shape=shape,
        held=held,
        memory=memory_of(shape, held, sampler_tensor=1 if on.is_native and held.longest else None),
        has_adapters=not isinstance(stage, FilterStage) and stage.lora is not None,
    )


def _expected(recipe: Recipe, shape: ModelConfig, stage: AnyStage) -> Rows:
    dataset = recipe.data[recipe.data_of(stage)]
    are_problems = isinstance(stage, RlStage | RejectionStage | FilterStage)
    are_problems |= isinstance(stage, PreferenceStage) and samples_pairs(recipe, stage)
    if dataset.expected:
        mean = dataset.expected.num_tokens / dataset.expected.num_rows
    else:
        mean = float(_longest(shape, stage, _reply(stage, are_problems)))
    return Rows(_num_rows(dataset), mean, are_problems)


def _reply(stage: AnyStage, are_problems: bool) -> int:
    """The tokens of its longest reply; 0 where it samples none."""
    return stage.max_new_tokens if are_problems and not isinstance(stage, SupervisedStage) else 0


def _longest(shape: ModelConfig, stage: AnyStage, reply: int) -> int:
    """The tokens of its longest example or prompt."""
    return min(stage.max_tokens or shape.max_positions, shape.max_positions - reply)


def _held(recipe: Recipe, shape: ModelConfig, stage: AnyStage, rows: Rows, on: Numbers) -> Held:
    reply = _reply(stage, rows.are_problems)
    longest = _longest(shape, stage, reply) + reply
    sampled = longest if reply else 0
    if isinstance(stage, FilterStage):
        return Held(None, on.value_bytes, 0, sampled, is_native=on.is_native)
    unit = longest * (2 if isinstance(stage, PreferenceStage) else 1)  # no micro-batch splits a pair
    second = _has_second_model(recipe, stage)
    tokens = max(stage.micro_batch_tokens, unit)
    parallel = recipe.parallel
    training = replace(
        training_of(stage, on),
        reduce_bytes=2 if parallel.reduce_dtype == "bfloat16" else FLOAT32,
        reshards=parallel.reshard_after_forward,
    )
    return Held(training, on.value_bytes, tokens, sampled, second, on.is_native)


class Amounts(NamedTuple):
    """How much a stage does; None: its number of rows is not known."""

    num_steps: int | None = None
    tokens: float | None = None  # that go forward and backward
    work: Work | None = None


def _amounts(recipe: Recipe, shape: ModelConfig, stage: AnyStage, rows: Rows) -> Amounts:
    if isinstance(stage, RlStage):
        return _rl(shape, stage, rows.mean_tokens)
    if rows.number is None:
        return Amounts()
    if isinstance(stage, FilterStage):
        work = _sampling_once(shape, stage, rows.number, rows.mean_tokens)
        return Amounts(rows.number * stage.num_samples, 0.0, work)
    if isinstance(stage, RejectionStage):
        return _sampled_replies(shape, stage, rows.number, rows.mean_tokens)
    if isinstance(stage, SupervisedStage):
        return _supervised(shape, stage, rows.number, rows.mean_tokens)
    if rows.are_problems:
        return _sampled_pairs(shape, stage, rows.number, rows.mean_tokens, _num_reused(recipe, stage))
    return _pairs(shape, stage, rows.number, rows.mean_tokens)


def _supervised(shape: ModelConfig, stage: SupervisedStage, num_rows: int, mean: float) -> Amounts:
    num_epochs = passes_of(stage, shape, num_rows, mean)
    tokens = num_epochs * num_rows * mean
    if stage.batch_tokens is None:  # the last step takes what is left
        num_steps = -(-max(1, round(num_epochs * num_rows)) // stage.batch_documents)
    else:
        num_steps = max(1, round(tokens / stage.batch_tokens))
    flops = training_flops(shape, tokens, mean / 2, training_of(stage))
    return Amounts(num_steps, tokens, Work(flops, batch_sequences=tokens / mean / num_steps))


def _pairs(shape: ModelConfig, stage: PreferenceStage, num_rows: int, mean: float) -> Amounts:
    once = num_rows * mean
    flops = training_flops(shape, stage.num_epochs * once, mean / 4, training_of(stage))  # half of one of two replies
    forward = forward_flops(shape, once, mean / 4) if stage.loss.needs_reference else 0.0
    num_steps = -(-round(stage.num_epochs * num_rows) // stage.batch_pairs)
    return Amounts(num_steps, stage.num_epochs * once, Work(flops, forward, batch_sequences=stage.batch_pairs))


def _num_rows(dataset: Dataset) -> int | None:
    """As many as are expected, or as are drawn or read at most; None where nothing says."""
    if dataset.expected is not None:
        return dataset.expected.num_rows
    numbers = [s.num_problems if isinstance(s, GeneratedSource) else s.limit for s in dataset.sources]
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def passes_of(stage: WrittenStage, shape: ModelConfig, num_rows: int, mean: float, sampled_flops: float = 0.0) -> float:
    """The passes over its data that a stage makes: as many as it says, or as its budget is worth.

    Args:
        mean: tokens of a row.
        sampled_flops: what its own samples took of the budget.
    """
    if stage.budget is None:
        assert stage.num_epochs is not None  # one of the two is there
        return stage.num_epochs
    if stage.budget.tokens is not None:
        return stage.budget.tokens / (num_rows * mean)
    assert stage.budget.flops is not None  # one of the two is there
    once = training_flops(shape, num_rows * mean, mean / 2, training_of(stage))
    return max(0.0, stage.budget.flops - sampled_flops) / once


def training_of(stage: TrainedStage, on: Numbers = BFLOAT16) -> Training:
    """How a stage trains its weights, as far as it decides what that costs."""
    optimizer = stage.optimizer
    return Training(
        value_bytes=on.value_bytes,
        is_native=on.is_native,
        uses_muon=optimizer.kind == "muon",
        keeps_gradients=optimizer.gradient_dtype == "bfloat16",
        recomputes=stage.recompute_activations,
        lora=stage.lora,
    )


def _has_second_model(recipe: Recipe, stage: TrainedStage) -> bool:
    """RL's reference; adapters need none where the reference is what they stand on."""
    if not isinstance(stage, RlStage) or stage.loss.divergence is None:
        return False
    start = recipe.start_of(stage)
    is_start = stage.reference in (None, OWN_MODEL if start is None else start.name)
    return stage.lora is None or not is_start


def _sampling_once(shape: ModelConfig, stage: FilterStage | SamplingStage, num_rows: int, prompt: float) -> Work:
    """Sampling once for every problem."""
    reply = REPLY_SHARE * stage.max_new_tokens
    work = sampling_work(shape, num_rows, stage.num_samples, prompt, reply)
    sampled = Sampled(1, num_rows * stage.num_samples, prompt, reply, stage.max_new_tokens)
    return work._replace(sampled=sampled)


def _num_reused(recipe: Recipe, stage: PreferenceStage) -> int:
    """The pairs of an earlier stage that are learned again, as if each of its problems gave as many as it may."""
    if stage.reuse is None:
        return 0
    earlier = next(one for one in recipe.stages if one.name == stage.reuse.stage)
    assert isinstance(earlier, PreferenceStage)  # the recipe was checked
    return round(stage.reuse.share * earlier.pairs_per_problem * (_num_rows(recipe.data[recipe.data_of(earlier)]) or 0))


def _sampled_pairs(
    shape: ModelConfig, stage: PreferenceStage, num_rows: int, prompt: float, num_reused: int
) -> Amounts:
    """As if every problem gave as many pairs as it may; those that are learned again are as long as its own."""
    is_group, reply = stage.loss.learns == "groups", REPLY_SHARE * stage.max_new_tokens
    num_units = num_rows * (1 if is_group else stage.pairs_per_problem) + num_reused
    once = num_units * (prompt + (stage.num_samples if is_group else 2) * reply)
    tokens, context = stage.num_epochs * once, prompt + reply / 2
    work = _sampling_once(shape, stage, num_rows, prompt)._replace(
        training=training_flops(shape, tokens, context, training_of(stage)),
        forward=forward_flops(shape, once, context) if stage.loss.needs_reference else 0.0,
        batch_sequences=stage.batch_pairs,
    )
    return Amounts(-(-max(1, round(stage.num_epochs * num_units)) // stage.batch_pairs), tokens, work)


def _sampled_replies(shape: ModelConfig, stage: RejectionStage, num_rows: int, prompt: float) -> Amounts:
    """As if of every problem as many replies were learned as may be."""
    number = num_rows * min(stage.replies_per_problem, stage.num_samples)
    mean = prompt + REPLY_SHARE * stage.max_new_tokens
    work = _sampling_once(shape, stage, num_rows, prompt)
    num_epochs = passes_of(stage, shape, number, mean, work.flops)
    tokens = num_epochs * number * mean
    flops = training_flops(shape, tokens, mean / 2, training_of(stage))
    num_steps = -(-max(1, round(num_epochs * number)) // stage.batch_documents)
    return Amounts(num_steps, tokens, work._replace(training=flops, batch_sequences=stage.batch_documents))


def _rl(shape: ModelConfig, stage: RlStage, prompt: float) -> Amounts:
    """As if every group taught something; a group's prompt is computed once."""
    reply, num_asked = REPLY_SHARE * stage.max_new_tokens, stage.max_prompts or stage.batch_prompts
    once = stage.num_steps * stage.batch_prompts * (prompt + stage.group_size * reply)
    tokens, context = stage.num_iterations * once, prompt + reply / 2
    num_forward = (stage.loss.divergence is not None) + (stage.num_updates > 1)  # the reference's, and the old ones
    work = sampling_work(shape, stage.num_steps * num_asked, stage.group_size, prompt, reply)._replace(
        training=training_flops(shape, tokens, context, training_of(stage)),
        forward=num_forward * forward_flops(shape, once, context),
        sampled=Sampled(stage.num_steps, num_asked * stage.group_size, prompt, reply, stage.max_new_tokens),
        batch_sequences=stage.batch_prompts * stage.group_size / stage.num_minibatches,
    )
    return Amounts(stage.num_steps * stage.num_updates, tokens, work)
