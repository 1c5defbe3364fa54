"""What a recipe would cost, before anything is trained or downloaded. Reads no row and loads no weight."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.data.config import SourceConfig
from open_exaone.data.hub import HUB
from open_exaone.data.source import find_files
from open_exaone.evaluation.suite import load_suite
from open_exaone.model.config import ModelConfig
from open_exaone.model.cost import (
    Memory,
    StageCost,
    Training,
    activation_bytes,
    dense_flops,
    forward_flops,
    sampling_flops,
    training_flops,
    weight_bytes,
)
from open_exaone.model.registry import shape_by_name
from open_exaone.pipeline.config import OWN_MODEL, Dataset, Recipe, check_contexts
from open_exaone.tasks.generated import GeneratedSource
from open_exaone.text.formats import check_name
from open_exaone.train.config import (
    SAMPLING_KEYS,
    AnyStage,
    FilterStage,
    PreferenceStage,
    RejectionStage,
    RlStage,
    SupervisedStage,
    TrainedStage,
)

SamplingStage = PreferenceStage | RejectionStage  # that draws all its samples before it trains
WrittenStage = SupervisedStage | RejectionStage

REPLY_SHARE = 0.25  # of the longest reply: what an average one is taken to be
_PROBLEMS = 'problems, such as {"question": "…", "answer": "…"}'
_PAIRS = 'pairs, such as {"prompt": "…", "chosen": "…", "rejected": "…"}'
_LABELLED = 'replies with a label, such as {"prompt": "…", "completion": "…", "label": true}'
_CONVERSATIONS = (
    'conversations, such as {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", '
    '"reasoning_content": "…", "content": "…"}]}'
)


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
    from open_exaone.pipeline.source import resolve_model

    if isinstance(recipe.model, ModelConfig):
        return recipe.model
    if Path(recipe.model).exists():
        return load_config(resolve_model(Path(recipe.model)))
    if (shape := shape_by_name(recipe.model.partition("@")[0])) is None:
        raise ConfigError(
            f"model = {recipe.model!r}: is not here, and its shape is not known without it: download it and name its "
            "folder"
        )
    return shape


def check_names(recipe: Recipe) -> None:
    """Finds a chat format or a suite that there is not.

    Raises:
        ConfigError: names the key, and what there is.
    """
    check_name(recipe.chat_format)
    suites = {} if recipe.evaluation is None else {"evaluation": recipe.evaluation.suite}
    suites |= {stage.name: stage.suite for stage in recipe.trained}
    for owner, suite in suites.items():
        if suite is not None:
            try:
                load_suite(suite)
            except ConfigError as error:
                raise ConfigError(f"{owner}.suite = {suite!r}: {error}") from error


def missing_files(recipe: Recipe) -> list[str]:
    """A line for each data set whose rows are not there: the files, who reads them, what a row must hold."""
    lines = []
    for name, reader, rows in _readers(recipe):
        sources = [source for source in recipe.data[name].sources if isinstance(source, SourceConfig)]
        if errors := [error for source in sources if (error := _missing(source))]:
            lines.append(f"data.{name}: {'; '.join(errors)}. {reader} reads {rows}")
    return lines


def check_files(recipe: Recipe) -> None:
    """Finds out that files are missing before a model is downloaded.

    Raises:
        DataError: some are; names each, with what its rows must hold.
    """
    if missing := missing_files(recipe):
        hint = "Other files: --set data.NAME.sources.0.path=FILE; formats of rows: docs/data.md"
        raise DataError("\n".join([*missing, hint]))


def _missing(source: SourceConfig) -> str:
    if not source.path.startswith(HUB):
        try:
            find_files(source)
        except DataError as error:
            return str(error)
    return ""


def _readers(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Data by name, its first reader, and what that needs its rows to hold."""
    seen = set[str]()
    readers = [(recipe.data_of(stage), stage.name, _rows_of(recipe, stage)) for stage in recipe.stages]
    for stage in recipe.stages:
        if isinstance(stage, SupervisedStage) and stage.validation is not None:
            readers.append((stage.validation, f"{stage.name}.validation", _rows_of(recipe, stage)))
    readers += [(name, "evaluation", _PROBLEMS) for name in (recipe.evaluation.names if recipe.evaluation else ())]
    for name, reader, rows in readers:
        if name not in seen:
            yield name, reader, rows
        seen.add(name)


def _rows_of(recipe: Recipe, stage: AnyStage) -> str:
    if isinstance(stage, SupervisedStage):
        return 'texts, such as {"text": "…"}' if stage.kind == "pretrain" else _CONVERSATIONS
    if isinstance(stage, PreferenceStage) and not _samples_pairs(recipe, stage):
        return _LABELLED if stage.loss.learns == "replies" else _PAIRS
    return _PROBLEMS


def _samples_pairs(recipe: Recipe, stage: PreferenceStage) -> bool:
    """Whether its data are problems, by what the recipe says of them: their format, or how they are sampled."""
    source = recipe.data[recipe.data_of(stage)].sources[0]
    if isinstance(source, GeneratedSource) or source.format != "auto":
        return isinstance(source, GeneratedSource) or source.format == "problems"
    return bool(stage.model_dump(include=set(SAMPLING_KEYS), exclude_defaults=True))


def plan_recipe(recipe: Recipe, shape: ModelConfig, *, value_bytes: int = 2) -> list[StageCost]:
    """What each stage costs; the evaluation is left out.

    Rows and tokens are those that the data say are expected. Where rows are counted and their length is not known, each
    is taken to be as long as fits; a reply is taken to have a quarter of the tokens that it may have.

    Args:
        value_bytes: of a weight and an activation: 2 in bfloat16, 4 in float32.

    Raises:
        ConfigError: a stage's context cannot be had with this shape, or leaves no room for a reply.
    """
    check_contexts(recipe, shape)
    return [plan_stage(recipe, shape, stage, value_bytes=value_bytes) for stage in recipe.stages]


def plan_stage(
    recipe: Recipe, shape: ModelConfig, stage: AnyStage, rows: Rows | None = None, *, value_bytes: int = 2
) -> StageCost:
    """What one stage costs.

    Args:
        shape: of the recipe's own model, before any stage extends its context.
        rows: of its data as they are, where they are prepared; those that are expected where None.
    """
    shape = recipe.shape_after(stage, shape)
    rows = _expected(recipe, shape, stage) if rows is None else rows
    cost = _planned(recipe, shape, stage, rows, value_bytes)
    return replace(cost, has_adapters=not isinstance(stage, FilterStage) and stage.lora is not None)


def _expected(recipe: Recipe, shape: ModelConfig, stage: AnyStage) -> Rows:
    dataset = recipe.data[recipe.data_of(stage)]
    are_problems = isinstance(stage, RlStage | RejectionStage | FilterStage)
    are_problems |= isinstance(stage, PreferenceStage) and _samples_pairs(recipe, stage)
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


def _planned(recipe: Recipe, shape: ModelConfig, stage: AnyStage, rows: Rows, value_bytes: int) -> StageCost:
    num_rows, mean, is_sampled = rows
    reply = _reply(stage, is_sampled)
    memory = _memory(recipe, shape, stage, _longest(shape, stage, reply), reply, value_bytes)
    if isinstance(stage, FilterStage):
        trained, sampled, flops, num_steps = _sampled_rows(shape, stage, num_rows, mean)
        return StageCost(stage.name, stage.kind, num_steps, trained, sampled, flops, 0.0, memory)
    training = training_of(stage, value_bytes)
    match stage:
        case RlStage():
            return _rl(shape, stage, training, mean, memory)
        case PreferenceStage() if is_sampled:
            return _sampled_pairs(shape, stage, training, num_rows, mean, memory, _num_reused(recipe, stage))
        case RejectionStage():
            return _sampled_replies(shape, stage, training, num_rows, mean, memory)
    if num_rows is None:
        return StageCost(stage.name, stage.kind, None, None, None, None, None, memory)
    num_epochs = stage.num_epochs if isinstance(stage, PreferenceStage) else passes_of(stage, shape, num_rows, mean)
    tokens = num_epochs * num_rows * mean
    if isinstance(stage, PreferenceStage):
        num_steps = -(-round(stage.num_epochs * num_rows) // stage.batch_pairs)
        flops = training_flops(shape, tokens, mean / 4, training)  # half of one of two replies
        flops += forward_flops(shape, tokens / stage.num_epochs, mean / 4) if stage.loss.needs_reference else 0.0
    else:
        if stage.batch_tokens is None:  # the last step takes what is left
            num_steps = -(-max(1, round(num_epochs * num_rows)) // stage.batch_documents)
        else:
            num_steps = max(1, round(tokens / stage.batch_tokens))
        flops = training_flops(shape, tokens, mean / 2, training)
    return StageCost(stage.name, stage.kind, num_steps, tokens, 0.0, flops, dense_flops(shape, tokens), memory)


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


def training_of(stage: TrainedStage, value_bytes: int = 2) -> Training:
    """How a stage trains its weights, as far as it decides what that costs."""
    optimizer = stage.optimizer
    return Training(
        value_bytes=value_bytes,
        uses_muon=optimizer.kind == "muon",
        keeps_gradients=optimizer.gradient_dtype == "bfloat16",
        recomputes=stage.recompute_activations,
        lora=stage.lora,
    )


def _memory(recipe: Recipe, shape: ModelConfig, stage: AnyStage, longest: int, reply: int, value_bytes: int) -> Memory:
    """Args:
    longest, reply: tokens of the longest example or prompt, and of the longest reply to it.
    """
    model = value_bytes * shape.num_parameters
    cache = shape.kv_cache_bytes(longest + reply, bytes_per_value=value_bytes) if reply else 0
    if isinstance(stage, FilterStage):
        return Memory(model, 0, cache=cache)
    training = training_of(stage, value_bytes)
    unit = (longest + reply) * (2 if isinstance(stage, PreferenceStage) else 1)  # no micro-batch splits a pair
    activations = activation_bytes(shape, max(stage.micro_batch_tokens, unit), training)
    weights, optimizer = weight_bytes(shape, training)
    return Memory(weights, optimizer, activations, model if _has_second_model(recipe, stage) else 0, cache)


def _has_second_model(recipe: Recipe, stage: TrainedStage) -> bool:
    """RL's reference; adapters need none where the reference is what they stand on."""
    if not isinstance(stage, RlStage) or stage.loss.divergence is None:
        return False
    start = recipe.start_of(stage)
    is_start = stage.reference in (None, OWN_MODEL if start is None else start.name)
    return stage.lora is None or not is_start


def _sampled_rows(
    shape: ModelConfig, stage: FilterStage | SamplingStage, num_rows: int | None, prompt: float
) -> tuple[float | None, float | None, float | None, int | None]:
    """Tokens trained and sampled, FLOPs and replies of sampling once for every problem."""
    if num_rows is None:
        return None, None, None, None
    reply = REPLY_SHARE * stage.max_new_tokens
    num_replies = num_rows * stage.num_samples
    flops = sampling_flops(shape, num_rows, stage.num_samples, prompt, reply)
    return 0.0, num_replies * reply, flops, num_replies


def _num_reused(recipe: Recipe, stage: PreferenceStage) -> int:
    """The pairs of an earlier stage that are learned again, as if each of its problems gave as many as it may."""
    if stage.reuse is None:
        return 0
    earlier = next(one for one in recipe.stages if one.name == stage.reuse.stage)
    assert isinstance(earlier, PreferenceStage)  # the recipe was checked
    return round(stage.reuse.share * earlier.pairs_per_problem * (_num_rows(recipe.data[recipe.data_of(earlier)]) or 0))


def _sampled_pairs(
    shape: ModelConfig,
    stage: PreferenceStage,
    training: Training,
    num_rows: int | None,
    prompt: float,
    memory: Memory,
    num_reused: int,
) -> StageCost:
    """As if every problem gave as many pairs as it may; those that are learned again are as long as its own."""
    _, sampled, flops, _ = _sampled_rows(shape, stage, num_rows, prompt)
    if num_rows is None or flops is None:
        return StageCost(stage.name, stage.kind, None, None, None, None, None, memory)
    is_group, reply = stage.loss.learns == "groups", REPLY_SHARE * stage.max_new_tokens
    num_units = num_rows * (1 if is_group else stage.pairs_per_problem) + num_reused
    once = num_units * (prompt + (stage.num_samples if is_group else 2) * reply)
    tokens, context = stage.num_epochs * once, prompt + reply / 2
    flops += training_flops(shape, tokens, context, training)
    flops += forward_flops(shape, once, context) if stage.loss.needs_reference else 0.0
    num_steps = -(-max(1, round(stage.num_epochs * num_units)) // stage.batch_pairs)
    return StageCost(stage.name, stage.kind, num_steps, tokens, sampled, flops, dense_flops(shape, tokens), memory)


def _sampled_replies(
    shape: ModelConfig,
    stage: RejectionStage,
    training: Training,
    num_rows: int | None,
    prompt: float,
    memory: Memory,
) -> StageCost:
    """As if of every problem as many replies were learned as may be."""
    _, sampled, flops, _ = _sampled_rows(shape, stage, num_rows, prompt)
    if num_rows is None or flops is None:
        return StageCost(stage.name, stage.kind, None, None, None, None, None, memory)
    number, mean = (
        num_rows * min(stage.replies_per_problem, stage.num_samples),
        prompt + REPLY_SHARE * stage.max_new_tokens,
    )
    num_epochs = passes_of(stage, shape, number, mean, flops)
    tokens = num_epochs * number * mean
    flops += training_flops(shape, tokens, mean / 2, training)
    num_steps = -(-max(1, round(num_epochs * number)) // stage.batch_documents)
    return StageCost(stage.name, stage.kind, num_steps, tokens, sampled, flops, dense_flops(shape, tokens), memory)


def _rl(shape: ModelConfig, stage: RlStage, training: Training, prompt: float, memory: Memory) -> StageCost:
    """As if every group taught something; a group's prompt is computed once."""
    reply, num_asked = REPLY_SHARE * stage.max_new_tokens, stage.max_prompts or stage.batch_prompts
    sampled = stage.num_steps * num_asked * stage.group_size * reply
    once = stage.num_steps * stage.batch_prompts * (prompt + stage.group_size * reply)
    tokens, context = stage.num_iterations * once, prompt + reply / 2
    num_forward = (stage.loss.divergence is not None) + (stage.num_updates > 1)  # the reference's, and the old ones
    flops = sampling_flops(shape, stage.num_steps * num_asked, stage.group_size, prompt, reply)
    flops += training_flops(shape, tokens, context, training) + num_forward * forward_flops(shape, once, context)
    num_steps, dense = stage.num_steps * stage.num_updates, dense_flops(shape, tokens)
    return StageCost(stage.name, stage.kind, num_steps, tokens, sampled, flops, dense, memory)
