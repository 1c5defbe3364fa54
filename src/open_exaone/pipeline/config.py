"""What a recipe may say, and what its parts must agree on. Loads no torch."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import tomli_w
from pydantic import Discriminator, Field, Tag, model_validator

from open_exaone.base.config import Config, did_you_mean
from open_exaone.base.errors import ConfigError
from open_exaone.data.config import DataOptions, SourceConfig, check_named_once, check_shares
from open_exaone.evaluation.config import EvaluationConfig
from open_exaone.model.config import ModelConfig
from open_exaone.pipeline.engine_checks import check_engine
from open_exaone.rewards.rubric import weights_of
from open_exaone.rollout.config import EngineConfig, LocalEngine
from open_exaone.tasks.generated import MAX_SOURCES, GeneratedSource
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
from open_exaone.verify.settings import JudgeSettings

OWN_MODEL = "model"  # as `start`, the recipe's own
_DATA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def _is_generated(source: Any) -> str:
    keys = source if isinstance(source, dict) else type(source).model_fields if isinstance(source, Config) else ()
    return "<generated>" if "families" in keys or "problems" in keys else "<rows>"


def _is_shape(model: Any) -> str:
    return "<name>" if isinstance(model, str) else "<shape>"


# pydantic names the tag of a union in its errors; `base.config` leaves those in angle brackets out.
AnySource = Annotated[
    Annotated[SourceConfig, Tag("<rows>")] | Annotated[GeneratedSource, Tag("<generated>")],
    Discriminator(_is_generated),
]
Model = Annotated[Annotated[str, Tag("<name>")] | Annotated[ModelConfig, Tag("<shape>")], Discriminator(_is_shape)]


class Expected(Config):
    """How much data there will be: what a run is planned with before its rows are there."""

    num_rows: int = Field(gt=0)
    """How many rows, of all sources together."""
    num_tokens: int = Field(gt=0)
    """How many tokens they have together as the model reads them; of problems, those of the prompts."""


class Dataset(DataOptions):
    """Rows to learn from or to be measured on: files, folders, hub sets, generated problems, or a mixture of these."""

    sources: tuple[AnySource, ...] = Field(min_length=1)
    """Where rows come from: { path = "rows.jsonl" }, or { families = "worked", num_problems = 1000 }."""
    expected: Expected | None = None
    """How much it will be, such as { num_rows = 20_000, num_tokens = 150_000_000 }; only `exaone run --dry-run` reads
    it."""
    reuses: str | None = None
    """Other data whose prompts it has again on purpose: those are not reported as shared, nor refused by `disjoint`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_shares([source.share for source in self.sources])
        check_named_once([source for source in self.sources if isinstance(source, SourceConfig)])
        return self


class Recipe(Config):
    """A whole run: the model that it begins from, its data, its stages, and how each stage's model is measured."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*$")
    """What the run is called; its folder is runs/NAME if none is given."""
    seed: int = Field(default=0, ge=0, le=2**31)
    """The seed of random weights, of the order of the data and of the samples; generated problems have their own."""
    model: Model
    """Where training begins: a model's or a run's folder, or a name on the hub; or a table with the shape of a model
    that begins with random weights."""
    tokenizer: str | None = None
    """A folder or a name on the hub. If left out: the model's own; for random weights, one trained on the data."""
    chat_format: str | None = None
    """How conversations are rendered: "exaone-3.5", "exaone-deep", "exaone-4.0", "template", or
    "template-with-thoughts", the model's own template with thoughts that it lacks; the tokenizer's own way if left
    out."""
    data: dict[str, Dataset] = Field(min_length=1)
    """The data by name. Of generated problems, the data listed first keeps a question that two would share."""
    disjoint: bool = False
    """Refuse to run where two stages, or a stage and the evaluation, share a prompt; otherwise it is only reported."""
    evaluation: EvaluationConfig | None = None
    """How each stage's model is measured; not at all if left out."""
    judge: JudgeSettings = JudgeSettings()
    """The limits of judging."""
    engine: EngineConfig = LocalEngine()
    """What samples: this package's own engine, vLLM in this process, or a vLLM server."""
    parallel: ParallelConfig = ParallelConfig()
    """How the run is shared among its ranks, where there are several."""
    stages: tuple[AnyStage, ...] = Field(min_length=1)
    """What is done to the model, in this order."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_recipe(self, reserved=tuple(type(self).model_fields))
        return self

    @property
    def shape(self) -> ModelConfig | None:
        """The shape of random weights; None where training begins from a checkpoint."""
        return None if isinstance(self.model, str) else self.model

    @property
    def trained(self) -> tuple[TrainedStage, ...]:
        """The stages that leave a model, which is measured: all but filters."""
        return tuple(stage for stage in self.stages if not isinstance(stage, FilterStage))

    def start_of(self, stage: AnyStage) -> TrainedStage | None:
        """The stage whose model `stage` begins from, a filter's own start where one stands before it; None for the
        recipe's own model."""
        if stage.start is not None:
            return {one.name: one for one in self.trained}.get(stage.start)  # "model" is no stage's name
        index = self.stages.index(stage)
        before = self.stages[index - 1] if index else None
        return self.start_of(before) if isinstance(before, FilterStage) else before

    def shape_after(self, stage: AnyStage, shape: ModelConfig) -> ModelConfig:
        """The shape of the model that a stage leaves, or a filter samples from.

        Args:
            shape: of the recipe's own model.

        Raises:
            ConfigError: a stage's context is not longer than that of the model that it begins from, or RoPE does not
                reach it; names the stage.
        """
        before = self.start_of(stage)
        shape = shape if before is None else self.shape_after(before, shape)
        if not isinstance(stage, SupervisedStage) or stage.context is None:
            return shape
        try:
            return stage.context.extended(shape)
        except ValueError as error:
            raise ConfigError(f"{stage.name}.{error}") from error

    def shortest_context(self, shape: ModelConfig) -> int:
        """The shortest context in tokens of the models that are measured, so that one limit of replies is all models'.

        Args:
            shape: of the recipe's own model. Raises what `shape_after` does.
        """
        contexts = (self.shape_after(stage, shape).max_positions for stage in self.trained)
        return min(contexts, default=shape.max_positions)

    def filter_of(self, stage: AnyStage) -> FilterStage | None:
        """The filter whose kept problems a stage reads; None where it reads data of the recipe."""
        filters = (one for one in self.stages if isinstance(one, FilterStage))
        return next((one for one in filters if one.name == stage.data), None)

    def data_of(self, stage: AnyStage) -> str:
        """Which of the recipe's data a stage reads, through filters or itself."""
        return stage.data if (read := self.filter_of(stage)) is None else self.data_of(read)

    def may_share(self, one: AnyStage, other: AnyStage) -> bool:
        """Whether two stages share prompts on purpose: they read the same data, or one's reuses the other's."""
        first, second = self.data_of(one), self.data_of(other)
        return first == second or self.data[first].reuses == second or self.data[second].reuses == first

    @property
    def config_hash(self) -> str:
        """Sixteen hex digits that change with any resolved value."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """The resolved recipe; what is off is left out, as TOML has no null."""
        return tomli_w.dumps(_without_none(self.model_dump(mode="json")))


def check_recipe(recipe: Recipe, reserved: Sequence[str]) -> None:
    """Checks what one field alone cannot show.

    Args:
        reserved: names that no stage may have, as `--set` would not know which is meant.

    Raises:
        ValueError: names the stage, the field and what is allowed.
    """
    _check_names(recipe.stages, recipe.data, reserved)
    _check_starts(recipe.stages)
    _check_filters(recipe)
    _check_data(recipe)
    _check_judge(recipe)
    check_engine(recipe.engine, recipe.stages)
    for stage in recipe.stages:
        _check_stage(recipe, stage)
    if recipe.shape is not None:
        check_contexts(recipe, recipe.shape)


def _check_names(stages: Sequence[AnyStage], data: Mapping[str, Dataset], reserved: Sequence[str]) -> None:
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"stages: two are named {name!r}: give each its own name")
        if name in reserved:
            raise ValueError(f"stages: {name!r} is a key of the recipe: give the stage another name")
    for name in data:
        if not _DATA_NAME.fullmatch(name):
            raise ValueError(f"data.{name}: a name has letters, digits, - and _ alone")
    num_generated = sum(isinstance(source, GeneratedSource) for one in data.values() for source in one.sources)
    if num_generated > MAX_SOURCES:  # more would share the seeds of another seed's sources
        raise ValueError(f"data: has {num_generated} generated sources: must be at most {MAX_SOURCES}")


def _check_starts(stages: Sequence[AnyStage]) -> None:
    starts = {stage.name: stage.start for stage in stages}
    before: list[str] = []
    for stage in stages:
        start = stage.start
        if start is not None and start != OWN_MODEL and start not in before:
            if start not in starts:
                known = ", ".join([*before, OWN_MODEL])
                raise ValueError(f"{stage.name}.start = {start!r}: no such stage; before it stand {known}")
            if circle := _circle(stage.name, starts):
                raise ValueError(f"{stage.name}.start: a circle of starts: {' → '.join(circle)}")
            raise ValueError(f"{stage.name}.start = {start!r}: that stage comes later: list it before {stage.name!r}")
        before.append(stage.name)


def _check_filters(recipe: Recipe) -> None:
    """A filter leaves problems for the stages behind it, and no model."""
    behind = set[str]()
    filters = {stage.name for stage in recipe.stages if isinstance(stage, FilterStage)}
    for stage in recipe.stages:
        if stage.name in filters and stage.name in recipe.data:
            raise ValueError(f"{stage.name}: is the name of a filter and of data: call one of them something else")
        if stage.start in filters:
            raise ValueError(
                f"{stage.name}.start = {stage.start!r}: a filter leaves no model: name the stage before it"
            )
        if stage.data in filters - behind:
            raise ValueError(f"{stage.name}.data = {stage.data!r}: that filter does not come before it: list it first")
        if stage.data in filters and isinstance(stage, SupervisedStage):
            raise ValueError(
                f"{stage.name}.data = {stage.data!r}: a filter's problems are for stages that sample replies to them: "
                "rl, preference, rejection or another filter"
            )
        behind |= {stage.name} & filters


def _circle(name: str, starts: dict[str, str | None]) -> list[str]:
    """The way back to a stage along its starts; empty where there is none."""
    way, at = [name], starts[name]
    while at is not None and at not in way:
        way.append(at)
        at = starts.get(at)
    return [*way, name] if at == name else []


def _check_data(recipe: Recipe) -> None:
    readers = [(f"{stage.name}.data", stage.data) for stage in recipe.stages if recipe.filter_of(stage) is None]
    readers += [
        (f"{stage.name}.validation", stage.validation)
        for stage in recipe.stages
        if isinstance(stage, SupervisedStage) and stage.validation is not None
    ]
    readers += [(f"data.{name}.reuses", one.reuses) for name, one in recipe.data.items() if one.reuses is not None]
    if recipe.evaluation is not None:
        readers += [("evaluation.data", name) for name in recipe.evaluation.names]
    for reader, name in readers:
        if name not in recipe.data:
            raise ValueError(
                f"{reader} = {name!r}: no such data{did_you_mean(name, recipe.data)} There are {', '.join(recipe.data)}"
            )
    shown = recipe.evaluation.shown if recipe.evaluation else None
    if recipe.evaluation and shown is not None and shown not in recipe.evaluation.names:
        names = ", ".join(recipe.evaluation.names) or "there is none"
        raise ValueError(f"evaluation.shown = {shown!r}: must be one of evaluation.data ({names})")


def _check_judge(recipe: Recipe) -> None:
    if recipe.judge.unsafe_code_execution:
        raise ValueError("judge.unsafe_code_execution: no file may set this: give --unsafe-code-execution yourself")
    rewards = [weights_of(stage.reward) for stage in recipe.stages if isinstance(stage, RlStage | PreferenceStage)]
    if recipe.judge.endpoint is None and any("preference" in weights for weights in rewards):
        raise ValueError(
            "reward 'preference' needs a model: give [judge.endpoint] its base_url and model, or reward "
            "'answer_rules', which grades answers by rules"
        )


def _check_stage(recipe: Recipe, stage: AnyStage) -> None:
    is_random = recipe.shape is not None and recipe.start_of(stage) is None
    if is_random and not isinstance(stage, SupervisedStage):
        raise ValueError(
            f"{stage.name}: random weights cannot begin with kind {stage.kind!r}: let a stage of kind 'base', "
            "'pretrain' or 'sft' come before it"
        )
    if isinstance(stage, FilterStage):
        return
    if stage.suite is not None and recipe.evaluation is None:
        raise ValueError(f"{stage.name}.suite = {stage.suite!r}: no model is measured without [evaluation]: add it")
    if isinstance(stage, SupervisedStage) and stage.context is not None and stage.lora is not None:
        raise ValueError(
            f"{stage.name}.lora: beside context, the adapters would name a model without the longer context as theirs: "
            "extend the context in a stage of all weights, and give lora to one after it"
        )
    if is_random and stage.lora is not None:
        raise ValueError(f"{stage.name}.lora: adapters beside frozen random weights teach nothing: leave it out")
    if isinstance(stage, PreferenceStage) and stage.reuse is not None:
        _check_reuse(recipe, stage, stage.reuse.stage)
    if isinstance(stage, RlStage) and stage.reference is not None:
        names = [one.name for one in recipe.trained]
        before = [*names[: names.index(stage.name)], OWN_MODEL]
        if stage.reference not in before or (stage.reference == OWN_MODEL and recipe.shape is not None):
            raise ValueError(
                f"{stage.name}.reference = {stage.reference!r}: must be a stage before it"
                f"{did_you_mean(stage.reference, before)} There are {', '.join(before)}"
            )
    if isinstance(stage, RlStage) and stage.lora is not None and stage.lora.dropout:
        raise ValueError(
            f"{stage.name}.lora.dropout = {stage.lora.dropout}: samples are drawn without dropout, and RL must train "
            "the policy that was sampled: leave it out"
        )
    is_default = "matrix_learning_rate" not in stage.optimizer.model_fields_set
    if is_default and recipe.shape is None and stage.lora is None and stage.optimizer.kind == "muon":
        raise ValueError(
            f"{stage.name}.optimizer.matrix_learning_rate: is missing; its default is for random weights, and moves "
            "trained ones far: 2e-4 is gentle"
        )


def _check_reuse(recipe: Recipe, stage: PreferenceStage, name: str) -> None:
    before = recipe.stages[: recipe.stages.index(stage)]
    known = {one.name: one for one in before if isinstance(one, PreferenceStage)}
    if name not in known:
        there_are = f"There are {', '.join(known)}" if known else "there is none before it"
        raise ValueError(
            f"{stage.name}.reuse.stage = {name!r}: must be a preference stage before it{did_you_mean(name, known)} "
            f"{there_are}"
        )
    if known[name].loss.learns == "groups":
        raise ValueError(
            f"{stage.name}.reuse.stage = {name!r}: that stage learns from groups ({known[name].loss.name}), and "
            f"{stage.loss.name} from pairs: name a stage that chooses pairs"
        )


def check_contexts(recipe: Recipe, shape: ModelConfig) -> None:
    """Checks the context of each stage's model: parsing calls it for random weights, a plan and a run for a checkpoint.

    Args:
        shape: of the recipe's own model.

    Raises:
        ConfigError: a stage's context cannot be had, or a reply may be longer than the context of the model that
            writes it; names the stage and the key.
    """
    contexts = {stage.name: recipe.shape_after(stage, shape).max_positions for stage in recipe.stages}
    limits = [  # of a preference stage, it is known once its data is opened
        (stage.name, stage.max_new_tokens, contexts[stage.name])
        for stage in recipe.stages
        if isinstance(stage, RlStage | RejectionStage | FilterStage)
    ]
    if recipe.evaluation is not None and recipe.evaluation.max_new_tokens is not None:
        limits.append(("evaluation", recipe.evaluation.max_new_tokens, recipe.shortest_context(shape)))
    for reader, limit, context in limits:
        if limit >= context:
            raise ConfigError(
                f"{reader}.max_new_tokens = {limit}: must lie below the model's context, max_positions = {context}"
            )


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
