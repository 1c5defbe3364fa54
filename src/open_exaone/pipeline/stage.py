"""One stage of a run: open the model, build the objective on its data, train in the shared loop, save."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_exaone.base.config import did_you_mean
from open_exaone.base.errors import ConfigError
from open_exaone.base.files import replace_folder, write_json
from open_exaone.base.machine import peak_rss_bytes, processor_name
from open_exaone.checkpoint.adapter import Adapter, Merged, save_adapter
from open_exaone.checkpoint.folder import (
    load_model,
    load_weights,
    resolve_device,
    sampling_defaults,
    save_model,
)
from open_exaone.checkpoint.licence import carry_licence
from open_exaone.checkpoint.weights import Weights
from open_exaone.data.mixture import Mixture, by_pass_rate
from open_exaone.data.store import Lazy, Prepared
from open_exaone.evaluation.config import OWN_SAMPLING
from open_exaone.evaluation.spread import serving
from open_exaone.model.threads import num_threads
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.chat_markers import marker_warning
from open_exaone.pipeline.engine import open_policy
from open_exaone.pipeline.filter import kept_problems
from open_exaone.pipeline.learner import Learner, open_learner, open_whole
from open_exaone.pipeline.pairs import open_start, sampled_units
from open_exaone.pipeline.prepare import StageData, mixture_of
from open_exaone.pipeline.reward_changes import report_changed_rewards
from open_exaone.pipeline.spent import num_passes, sampled_by_rl
from open_exaone.pipeline.start import Run, samples_own
from open_exaone.remote.settings import ENDPOINT_MAY_CHANGE
from open_exaone.rollout.providers.local import weights_hash
from open_exaone.train.config import PreferenceStage, RejectionStage, RlStage, SupervisedStage, TrainedStage
from open_exaone.train.loop import Objective, notes_on, train
from open_exaone.train.parallel.world import World
from open_exaone.train.policy_reference import Reference
from open_exaone.train.preference import Preference, open_preference
from open_exaone.train.rl import OnlineRl
from open_exaone.train.saver import NO_METRICS
from open_exaone.train.settings import MAY_CHANGE
from open_exaone.train.state import Progress, best_checkpoint, checkpoints, fingerprint_of, read_state
from open_exaone.train.state_tensors import SavedTensors, Some
from open_exaone.train.supervised import Supervised
from open_exaone.train.validation import validating

RECOMMENDED = ("temperature", "top_p")  # in generation_config.json of a model trained here, as it is evaluated


def train_stage(run: Run, stage: TrainedStage, data: StageData) -> None:
    """Trains a stage from the model that it begins from, or goes on where it was cut; leaves `model/`, whole.

    Args:
        data: see `prepare_stage`.

    Raises:
        ConfigError, DataError, CheckpointError: the settings, the data or the model is wrong.
        RunFolderError: the folder was begun with another model or other data.
        Interrupted: after Ctrl-C or SIGTERM; the state is saved.
    """
    path, world = run.path(stage), run.world
    path.mkdir(parents=True, exist_ok=True)
    prepared = kept_problems(run, stage, data.examples)
    learner = open_learner(run, stage)
    if samples_own(run, stage):
        assert isinstance(stage, PreferenceStage | RejectionStage)
        prompts = prepared
        device = resolve_device(run.machine.device)
        sampler = learner.model if learner.model.sharing is None else open_whole(run, stage, device)[1]
        prepared = world.first(
            lambda: sampled_units(run, stage, prompts, sampler),
            serving(lambda: open_start(run, stage, sampler), run.judge),
        )
    objective = _objective(run, stage, prepared, learner.model)
    measure, validated = _validation(objective, learner.model, data.validation, world)
    _announce(run, stage, prepared, objective, learner.model)
    with closing(objective) if isinstance(objective, OnlineRl) else nullcontext():
        progress = train(
            learner.model,
            learner.optimizer,
            objective,
            path,
            _Reporter(run, stage),
            fingerprint={**_fingerprint(run, stage, learner), "data": prepared.fingerprint, **validated},
            flops_per_token=_flops_per_token(run, stage, prepared),
            measure=measure,
            on_resume=lambda step: run.on_event(
                {"stage": stage.name, "resumed_at": step, "num_steps": objective.num_steps}
            ),
            seed=run.seed(stage),
            world=world,
        )
    world.lead(lambda: _leave(run, stage, learner, objective, prepared, progress, _masters(learner, path)))


def _masters(learner: Learner, path: Path) -> Mapping[str, Tensor]:
    """The trained weights in float32; of a sharded model, read one by one from the last state in the stage's folder.

    On the first rank alone: only there the state is sure to be on disk, as that rank renames it into place.
    """
    if learner.model.sharing is not None:
        return Some(SavedTensors(checkpoints(path / "checkpoints")[-1]), weights=True)
    return {name: master.detach() for name, master in learner.optimizer.masters.items()}


def _leave(
    run: Run,
    stage: TrainedStage,
    learner: Learner,
    objective: Objective,
    prepared: Prepared,
    progress: Progress,
    masters: Mapping[str, Tensor],
) -> None:
    """Leaves what a stage is for: its outcome and its models."""
    path = run.path(stage)
    notes = notes_on(progress) + (objective.notes(progress.memory) if isinstance(objective, OnlineRl) else [])
    notes += objective.notes(path) if isinstance(objective, Preference) else []
    for note in notes:
        run.message(f"note: {note}")
    reply_tokens = sampled_by_rl(stage, path).mean_reply if isinstance(stage, RlStage) else 0.0
    flops = _flops_per_token(run, stage, prepared, reply_tokens)
    _write_outcome(path / "outcome.json", progress, learner.model, flops, notes, run.world.size)
    if stage.keep.best and (best := best_checkpoint(path / "checkpoints", stage.keep)):
        _save(run, stage, learner, read_state(best)[0], path / "best")
    if stage.lora is not None:
        _save_adapter(run, stage, learner.model, masters)
    _save(run, stage, learner, masters, path / "model")


class _Reporter:
    """Reports each step; finds out at the first one that learns whether there is the metric that `keep.best` names."""

    def __init__(self, run: Run, stage: TrainedStage) -> None:
        self._run, self._stage, self._best = run, stage, stage.keep.best
        if isinstance(stage, SupervisedStage) and stage.validation is not None and self._best == "validation_loss":
            self._best = None  # it is there, but not in each step

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Raises:
        ConfigError: there is no such metric; names those that there are.
        """
        is_repeated = isinstance(self._stage, RlStage) and (row["step"] - 1) % self._stage.num_updates
        if self._best is not None and "loss" in row and not is_repeated:  # only a first update has the samples' metrics
            if self._best not in row:
                known = sorted(row.keys() - NO_METRICS)
                why = f"no such metric{did_you_mean(self._best, known)} There are {', '.join(known)}"
                raise ConfigError(f"{self._stage.name}.keep.best = {self._best!r}: {why}")
            self._best = None
        self._run.on_event({"stage": self._stage.name, **row})


def _objective(run: Run, stage: TrainedStage, prepared: Prepared, model: LanguageModel) -> Objective:
    places_N = None
    if isinstance(stage, RlStage) and stage.curriculum is not None:
        places_N = by_pass_rate(prepared.problems, hardest_first=stage.curriculum == "hardest_first")
    mixture = mixture_of(run, stage, prepared, places_N)
    match stage:
        case SupervisedStage():
            num_epochs = num_passes(run, stage, mixture.num_examples, mixture.num_tokens)
            if stage.batch_tokens is not None:
                token_steps = mixture.by_tokens(stage.batch_tokens, num_epochs)
                return Supervised(stage, prepared.documents, token_steps)
            return Supervised(stage, prepared.documents, _epochs(mixture, stage.batch_documents, num_epochs))
        case RejectionStage():
            num_epochs, units = num_passes(run, stage, mixture.num_examples, mixture.num_tokens), prepared.units
            documents = Lazy(len(units), lambda place: units[place][0])
            return Supervised(stage, documents, _epochs(mixture, stage.batch_documents, num_epochs))
        case PreferenceStage():
            steps = _epochs(mixture, stage.batch_pairs, stage.num_epochs)
            return open_preference(stage, prepared.units, steps, model, run.path(stage), run.world)
        case RlStage():
            _report_idle(run, stage)
            run.world.lead(lambda: report_changed_rewards(stage, run.path(stage), run.on_event))
            return OnlineRl(
                stage,
                prepared.problems,
                prepared.thinks_N,
                open_policy(run, stage, model),
                run.path(stage),
                run.seed(stage),
                model,
                mixture.indices,
                run.judge,
                None if stage.loss.divergence is None else _reference(run, stage, model),
                run.world,
            )


def _report_idle(run: Run, stage: RlStage) -> None:
    """Reports settings of the loss that have no effect: on a second update of the same samples alone, where there is
    none, and a divergence whose gradient is 0 on average."""
    if stage.loss.divergence is not None and stage.loss.divergence.estimator == "k1":
        run.message(f"{stage.name}: kl.estimator = 'k1' has no gradient on average: it only adds noise (docs/rl.md)")
    names = stage.loss.model_dump(exclude_defaults=True).keys() & {"clip_low", "clip_high", "max_ratio"}
    if names and stage.num_updates == 1 and not stage.loss.has_own_correction:
        run.message(
            f"{stage.name}: with one update on each step's samples all ratios are 1, so {', '.join(sorted(names))} of "
            f"the loss has no effect (num_iterations, num_minibatches)"
        )


def _reference(run: Run, stage: RlStage, model: LanguageModel) -> Reference:
    """What the loss's divergence is measured from. Adapters need no second model where that is what they stand on."""
    start = run.start_folder(stage)
    named = run.model_of(stage.reference) if stage.reference is not None else start
    assert named is not None  # random weights cannot begin with RL
    if named == start and stage.lora is not None:
        return Reference(stage, model, run.path(stage), None, run.world)

    def open_start() -> LanguageModel:
        return load_model(named, dtype=run.machine.dtype, device=resolve_device(run.machine.device))

    return Reference(stage, model, run.path(stage), open_start, run.world)


def _epochs(mixture: Mixture, per_step: int, num_epochs: float) -> Lazy[list[int]]:
    """Every example as often as is wanted; the last step takes what is left."""
    total = max(1, round(num_epochs * mixture.num_examples))
    return Lazy(-(-total // per_step), lambda step: mixture.step_indices(step, per_step)[: total - step * per_step])


def _validation(
    objective: Objective, model: LanguageModel, held_out: Prepared | None, world: World
) -> tuple[Callable[[int], dict[str, float]] | None, dict[str, str]]:
    """What computes the validation loss after each step, and the fingerprint of its data; nothing without such data."""
    if not isinstance(objective, Supervised) or not isinstance(objective.config, SupervisedStage) or held_out is None:
        return None, {}
    fingerprint = {"validation": held_out.fingerprint}
    every = objective.config.validation_steps
    return validating(objective, model, held_out.documents, every, world), fingerprint


def _fingerprint(run: Run, stage: TrainedStage, learner: Learner) -> dict[str, str]:
    """What decides the stage's outcome besides its data, by dotted name."""
    may_change = tuple(f"{name}." for name in MAY_CHANGE)
    endpoint = tuple(f"judge.endpoint.{name}." for name in ENDPOINT_MAY_CHANGE)
    settings = {**fingerprint_of(stage), "seed": str(run.seed_of(stage)), "dtype": str(learner.model.dtype)}
    if not isinstance(stage, SupervisedStage):
        settings |= {f"judge.{name}": value for name, value in fingerprint_of(run.recipe.judge).items()}
    if learner.start is not None:
        settings["model"] = weights_hash(learner.start)
    if isinstance(stage, RlStage) and stage.reference is not None and (folder := run.model_of(stage.reference)):
        settings["reference_weights"] = weights_hash(folder)
    return {name: value for name, value in settings.items() if not f"{name}.".startswith((*may_change, *endpoint))}


def _flops_per_token(run: Run, stage: TrainedStage, prepared: Prepared, reply_tokens: float = 0.0) -> float:
    """The FLOPs of a forward and backward pass at the data's mean context; frozen weights need no gradient.

    The head is computed for learned tokens alone; of a unit's tokens, one document's are seen together.

    Args:
        reply_tokens: the mean length of an RL stage's replies; not known before they are sampled.
    """
    tokens_N = prepared.tokens_N.astype(float)
    if stage.kind == "rl":  # nearly all tokens are a reply's, which sees its prompt
        context = tokens_N.mean() + reply_tokens / 2
    else:
        together = (tokens_N**2).sum() / max(1.0, tokens_N.sum())
        context = together / 2 / (prepared.unit_sizes_N.mean() if stage.kind == "preference" else 1)
    learned_share = prepared.learned_N.sum() / max(1.0, tokens_N.sum()) if stage.kind != "rl" else 1.0
    shape = run.shape_of(stage)
    forward = shape.flops_per_token(int(context)) - 2 * shape.vocab_size * shape.width * (1 - learned_share)
    return (2 if stage.lora else 3) * float(forward)


def _announce(run: Run, stage: TrainedStage, prepared: Prepared, objective: Objective, model: LanguageModel) -> None:
    """Reports what is trained on what."""
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    number, tokens = len(prepared), int(prepared.tokens_N.sum())
    examples = "1 example" if number == 1 else f"{number:,} examples"
    steps = "1 step" if objective.num_steps == 1 else f"{objective.num_steps:,} steps"
    run.message(
        f"{stage.name}: {run.shape.num_parameters:,} parameters, {trained:,} of them trained; {examples} of {tokens:,} "
        f"tokens; {steps}"
    )
    start = run.start_folder(stage)
    if stage.lora is None or start is None or stage.kind == "base":  # plain text has no markers
        return
    if warning := marker_warning(stage.name, start, run.tokenizer, model, prepared, stage.micro_batch_tokens):
        run.message(f"warning: {warning}")


def _write_outcome(
    path: Path, progress: Progress, model: LanguageModel, flops_per_token: float, notes: Sequence[str], num_ranks: int
) -> None:
    """Leaves what the training took."""
    is_gpu = model.device.type == "cuda"
    outcome: dict[str, Any] = {
        "train_tokens": progress.tokens,
        "train_seconds": progress.seconds,
        "train_steps": progress.step,
        "skipped_steps": progress.skipped_steps,
        "empty_steps": progress.empty_steps,
        "train_flops": flops_per_token * progress.tokens,
        "peak_rss_bytes": peak_rss_bytes(),
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": num_threads(model, "train"),
        "ranks": num_ranks,
        "hardware": torch.cuda.get_device_name(model.device) if is_gpu else processor_name(),
        "notes": list(notes),
    }
    write_json(path, outcome)


def _save(run: Run, stage: TrainedStage, learner: Learner, weights: Mapping[str, Tensor], result: Path) -> None:
    """Leaves a model's folder, whole or not at all; adapters are merged into the weights that they were trained on."""
    evaluation = run.recipe.evaluation
    values = OWN_SAMPLING | ({} if evaluation is None else evaluation.sampling)
    sampling = {name: values[name] for name in RECOMMENDED}
    partial = result.with_name(f".{result.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if learner.start is not None:
        stored = load_weights(learner.start)
        if stage.lora is not None:
            weights = Merged(stored, Adapter(stage.lora, weights))
        weights = _AsStored(weights, stored)
        kept = sampling_defaults(learner.start)  # as its authors recommend it
        is_given = kept.get("do_sample") is False or any(name in kept for name in RECOMMENDED)
        sampling = kept if is_given else sampling | kept
    save_model(partial, run.shape_of(stage), weights, run.tokenizer, sampling)
    if learner.start is not None:
        carry_licence(learner.start, partial)
    replace_folder(partial, result)


class _AsStored(Mapping[str, Tensor]):
    """Weights in the dtypes of the model that they were trained from, whose norms may be wider; each when asked for."""

    def __init__(self, weights: Mapping[str, Tensor], stored: Weights) -> None:
        self._weights, self._stored = weights, stored

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[name].to(self._stored.dtype_of(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def _save_adapter(run: Run, stage: TrainedStage, model: LanguageModel, weights: Mapping[str, Tensor]) -> None:
    """Leaves `adapter/` in PEFT's format, whole or not at all."""
    start, result = run.start_folder(stage), run.path(stage) / "adapter"
    assert start is not None and stage.lora is not None  # the recipe was checked
    is_hub_name = start == run.source and not Path(str(run.recipe.model)).exists()
    partial = result.with_name(f".{result.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    base = str(run.recipe.model) if is_hub_name else start.resolve()
    save_adapter(partial, model, stage.lora, base=base, weights=weights)
    if is_hub_name:
        carry_licence(start, partial)
    replace_folder(partial, result)
