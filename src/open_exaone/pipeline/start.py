"""What a run begins from, the same for all of its stages: a model or its shape, a tokenizer, the data as files."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from open_exaone.base.errors import ConfigError, DataError, PromptTooLongError
from open_exaone.base.records import Problem
from open_exaone.base.tables import RowError
from open_exaone.base.text import count
from open_exaone.data.config import DataConfig
from open_exaone.data.document import prompt_ids
from open_exaone.data.prepare import check_verifiers
from open_exaone.evaluation.task import Task
from open_exaone.model.config import ModelConfig
from open_exaone.model.mesh import check_tensor
from open_exaone.pipeline.config import Recipe, check_contexts
from open_exaone.pipeline.files_needed import check_files, check_names
from open_exaone.pipeline.folder import RunFolder, rendering_time
from open_exaone.pipeline.measure import Machine, OnEvent
from open_exaone.pipeline.problems import as_files, draw_all, format_of, read_problems
from open_exaone.pipeline.source import resolve_model, resolve_tokenizer
from open_exaone.pipeline.vocabulary import trained_tokenizer
from open_exaone.rollout.config import LocalEngine, VllmEngine, VllmServer
from open_exaone.rollout.provider import Provider
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.config import AnyStage, FilterStage, PreferenceStage, RejectionStage, RlStage, SupervisedStage
from open_exaone.train.parallel.world import ALONE, World
from open_exaone.verify.language import LANGUAGES
from open_exaone.verify.own import check_own, is_own
from open_exaone.verify.settings import JudgeSettings


@dataclass(frozen=True)
class Run:
    """A recipe on its way: what its stages share."""

    recipe: Recipe
    folder: RunFolder
    source: Path | None  # the folder of the model that training begins from; None for random weights
    shape: ModelConfig
    tokenizer: Tokenizer
    data: Mapping[str, DataConfig]
    machine: Machine
    on_event: OnEvent
    engines: list[Provider] = field(default_factory=list)  # vLLM in this process, once it is open
    suites: dict[str, list[Task]] = field(default_factory=dict)  # what suites ask, once they are loaded
    world: World = ALONE  # the ranks that train together

    @property
    def judge(self) -> JudgeSettings:
        """The recipe's limits of judging on this machine."""
        return self.machine.judge(self.recipe.judge)

    def path(self, stage: AnyStage) -> Path:
        return self.folder.stage(self.recipe.stages.index(stage), stage.name)

    def seed_of(self, stage: AnyStage) -> int:
        """The stage's own seed, or the recipe's."""
        return self.recipe.seed if stage.seed is None else stage.seed

    def seed(self, stage: AnyStage) -> int:
        """The seed of a stage's data order and samples: stages and seeds lie far apart."""
        return self.seed_of(stage) * 1_000_000_000 + (self.recipe.stages.index(stage) + 1) * 10_000_000

    def start_folder(self, stage: AnyStage) -> Path | None:
        """The folder of the model that a stage begins from; None for random weights."""
        before = self.recipe.start_of(stage)
        return self.source if before is None else self.path(before) / "model"

    def data_of(self, stage: AnyStage) -> DataConfig:
        """What a stage reads; behind a filter, all that the filter reads."""
        return self.data[self.recipe.data_of(stage)]

    def model_of(self, name: str) -> Path | None:
        """The folder of the model that a stage leaves, or of the recipe's own; None for random weights."""
        found = [stage for stage in self.recipe.stages if stage.name == name]
        return self.path(found[0]) / "model" if found else self.source

    def shape_of(self, stage: AnyStage) -> ModelConfig:
        """The shape of the model that a stage trains, or a filter samples from."""
        return self.recipe.shape_after(stage, self.shape)

    def message(self, text: str) -> None:
        self.on_event({"message": text})

    @cached_property
    def evaluation_problems(self) -> dict[str, list[Problem]]:
        """The problems that every stage's model is measured on, by the name of their data; none for a suite."""
        evaluation = self.recipe.evaluation
        return {name: self._measured(name, evaluation.limit) for name in evaluation.names} if evaluation else {}

    def _measured(self, name: str, limit: int | None) -> list[Problem]:
        dropped = list[RowError]()
        problems = read_problems(self.data[name], name, limit, dropped.append)
        if not problems:
            raise DataError(f"data.{name}: has no problem to measure on")
        if dropped:
            self.message(f"data.{name}: {count(len(dropped), 'row')} left out; the first: {dropped[0]}")
        return problems


def samples_own(run: Run, stage: AnyStage) -> bool:
    """Whether a stage learns from samples of the model that it begins from, drawn before it trains: a preference stage
    does where its data are problems."""
    if isinstance(stage, RejectionStage):
        return True
    return isinstance(stage, PreferenceStage) and format_of(run.data_of(stage)) == "problems"


def open_run(recipe: Recipe, folder: RunFolder, machine: Machine, on_event: OnEvent, world: World = ALONE) -> Run:
    """Draws the problems, opens the tokenizer or trains one, and looks for what would stop a later stage.

    Raises:
        ConfigError, CheckpointError: there is no such model or tokenizer, it has no chat format, or a reward cannot
            be given.
        DataError: data cannot be drawn or read.
        EndpointError, RunFolderError: the engine's server does not answer, or weights cannot be handed over to it.
        PromptTooLongError: a prompt of the evaluation leaves no room for its reply.
    """
    settings = machine.judge(recipe.judge)
    _check_rewards(recipe, settings)
    drawn = folder.path / "problems"
    is_new = folder.prepared() is None
    if is_new:
        check_names(recipe)
        check_files(recipe)
        on_event({"message": "preparing the data …"})
        draw_all(recipe, drawn, settings)
    data = as_files(recipe, drawn)
    source = None if recipe.shape is not None else resolve_model(Path(str(recipe.model)))
    shape, tokenizer = _open_tokenizer(recipe, folder, source, data)
    check_contexts(recipe, shape)
    check_tensor(recipe.parallel.tensor, shape)
    tokenizer.rendered_at = rendering_time(folder.path)
    run = Run(recipe, folder, source, shape, tokenizer, data, machine, on_event, world=world)
    _check_engine(run)
    if is_new:
        _check_chat_format(run)
        _check_evaluation(run)
    return run


def _open_tokenizer(
    recipe: Recipe, folder: RunFolder, source: Path | None, data: Mapping[str, DataConfig]
) -> tuple[ModelConfig, Tokenizer]:
    """The model's shape, and its tokenizer or the one that the recipe names."""
    from open_exaone.checkpoint.folder import load_config, load_tokenizer

    if recipe.shape is not None and recipe.tokenizer is None:
        own = folder.path / "tokenizer"
        if folder.prepared() is not None or folder.is_done(recipe, recipe.stages[0]):  # a model speaks its ids
            return recipe.shape, load_tokenizer(own, chat_format=recipe.chat_format)
        learned = {stage.data for stage in recipe.stages if isinstance(stage, SupervisedStage)}
        texts = [data[name] for name in data if name in learned]
        size = recipe.shape.vocab_size
        return recipe.shape, trained_tokenizer(texts, size, own, recipe.chat_format)
    named = source if recipe.tokenizer is None else resolve_tokenizer(Path(recipe.tokenizer))
    assert named is not None  # random weights name a tokenizer here
    shape = recipe.shape or load_config(named if source is None else source)
    tokenizer = load_tokenizer(named, chat_format=recipe.chat_format)
    if tokenizer.vocab_size > shape.vocab_size:
        raise ConfigError(
            f"{named}: its tokenizer has {tokenizer.vocab_size:,} ids and the model {shape.vocab_size:,}: they do not "
            "belong together; raise model.vocab_size or choose another tokenizer"
        )
    return shape, tokenizer


def _check_rewards(recipe: Recipe, settings: JudgeSettings) -> None:
    """Finds a reward of the user's own that cannot be called before anything is trained."""
    from open_exaone.rewards.rubric import weights_of

    for stage in recipe.stages:
        if isinstance(stage, RlStage | PreferenceStage):
            for name in filter(is_own, weights_of(stage.reward)):
                check_own(name, settings)


def check_language(stage: RlStage | PreferenceStage, problems: list[Problem]) -> None:
    """Finds problems in a language that the reward terms "language" and "answer_rules" do not know.

    Raises:
        ConfigError: names the language.
    """
    from open_exaone.rewards.rubric import weights_of

    unknown = {problem.language for problem in problems} - set(LANGUAGES)
    if unknown and (terms := [name for name in weights_of(stage.reward) if name in ("language", "answer_rules")]):
        known = ", ".join(LANGUAGES)
        raise ConfigError(f"{stage.name}.reward: {terms[0]!r} knows {known}; data.{stage.data} has {min(unknown)!r}")


def _check_engine(run: Run) -> None:
    """Finds an engine that cannot be had, or takes no weights, before anything is trained."""
    engine = run.recipe.engine
    if isinstance(engine, LocalEngine) and engine.weights is not None and (sampling := _sampling_stages(run)):
        raise ConfigError(
            f"engine.weights = {engine.weights!r}: is for evaluation and chat, and {sampling[0].name} trains the model "
            f"that it samples from: leave it out"
        )
    if isinstance(engine, VllmServer) and _samples(run):
        _check_servers(run, engine)
    if isinstance(engine, VllmEngine) and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "engine.kind = 'vllm': vLLM is not installed: pip install \"open-exaone[vllm]\" on a machine with a GPU, "
            "or choose the local engine"
        )


def _check_servers(run: Run, engine: VllmServer) -> None:
    """Finds servers that do not answer, or that weights cannot be handed over to."""
    from open_exaone.rollout.providers.open import Policy, open_provider
    from open_exaone.rollout.providers.vllm_parts import weights_written
    from open_exaone.rollout.providers.vllm_server import VllmServerProvider

    if engine.weights == "folder":
        if engine.weights_folder is None:
            raise ConfigError(
                "engine.weights_folder: is missing: name a folder that this process and the vLLM server both see, in "
                "which each stage's weights are handed over"
            )
        with weights_written([], engine.weights_folder):
            pass  # it can be written
    provider = open_provider(engine, Policy(run.recipe.name, run.tokenizer))
    assert isinstance(provider, VllmServerProvider)
    if run.world.is_first:  # it alone asks the servers
        provider.check_weights(is_tied=run.shape.tied_embeddings)


def _samples(run: Run) -> bool:
    """Whether anything of the recipe is sampled."""
    filters = any(isinstance(stage, FilterStage) for stage in run.recipe.stages)
    return run.recipe.evaluation is not None or filters or bool(_sampling_stages(run))


def _sampling_stages(run: Run) -> list[AnyStage]:
    """The stages that learn from samples of the model that they train."""
    return [stage for stage in run.recipe.stages if isinstance(stage, RlStage) or samples_own(run, stage)]


def _check_chat_format(run: Run) -> None:
    """Finds a tokenizer without a chat format, which only pretraining can do without."""
    needs = [stage.name for stage in run.recipe.stages if stage.kind != "pretrain"]
    if needs or run.recipe.evaluation is not None:
        run.tokenizer.render([{"role": "user", "content": "Q"}], thinking=False, generation_prompt=True)


def _check_evaluation(run: Run) -> None:
    """Finds a verifier that is unknown, or a prompt that leaves its reply too little of the context, before anything is
    trained."""
    evaluation = run.recipe.evaluation
    context = run.recipe.shortest_context(run.shape)
    for name, problems in run.evaluation_problems.items():
        assert evaluation is not None  # it names them
        try:
            check_verifiers(run.data[name])
        except ConfigError as error:
            raise ConfigError(f"data.{name}: {error}") from error
        limit = evaluation.reply_limit(context)
        longest = max(map(len, prompt_ids(problems, run.tokenizer, thinking=True)))
        if longest + limit > context:
            raise PromptTooLongError(
                f"data.{name} has a prompt of {longest} tokens; with evaluation.max_new_tokens = {limit} "
                f"that exceeds the model's context of {context} (max_positions): lower the one or raise the other"
            )
