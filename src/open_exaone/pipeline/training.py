"""`exaone train`: one stage by itself. Its data is prepared, its model opened, the shared loop run, the result saved.

A run's folder: config.toml · fingerprint.json · machine.json · tokenizer/ where one is trained · data/ · validation/ ·
checkpoints/ · rollouts/ of RL · metrics.jsonl · model/ or, with LoRA, adapter/ · best/ where it is kept · outcome.json.
Whatever is done already is not done again.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError, RunFolderError
from open_exaone.base.files import explain_os_errors, locked, read_json, replace_folder, write_json, write_text
from open_exaone.base.machine import peak_rss_bytes
from open_exaone.checkpoint.adapter import save_adapter
from open_exaone.checkpoint.folder import (
    load_config,
    load_model,
    load_tokenizer,
    load_weights,
    resolve_device,
    resolve_dtype,
    save_model,
)
from open_exaone.checkpoint.licence import carry_licence
from open_exaone.data.config import DataConfig
from open_exaone.data.mixture import Mixture
from open_exaone.data.prepare import prepare
from open_exaone.data.store import Kind, Lazy, Prepared
from open_exaone.engine.sharded import ShardedEngine
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.config import ModelConfig
from open_exaone.model.lora import add_lora
from open_exaone.model.threads import num_threads
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.contents import own_training
from open_exaone.pipeline.folder import RunFolder, resolve_model, resolve_tokenizer
from open_exaone.pipeline.measure import Machine, OnEvent
from open_exaone.pipeline.recipe import without_none
from open_exaone.pipeline.report import write_outcome
from open_exaone.pipeline.rewards import tell_changed_rewards
from open_exaone.pipeline.train_config import TrainConfig
from open_exaone.pipeline.vocabulary import trained_tokenizer
from open_exaone.remote.settings import ENDPOINT_MAY_CHANGE
from open_exaone.rewards.rubric import weights_of
from open_exaone.rollout.providers.local import LocalProvider, weights_hash
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.config import PreferenceStage, RlStage, SupervisedStage
from open_exaone.train.loop import Objective, train
from open_exaone.train.preference import Preference
from open_exaone.train.rl import OnlineRl
from open_exaone.train.settings import MAY_CHANGE
from open_exaone.train.state import Progress, best_checkpoint, checkpoints, fingerprint_of, read_state
from open_exaone.train.supervised import Supervised
from open_exaone.train.validation import validating
from open_exaone.verify.own import check_own, is_own

TELL_EVERY_S = 5.0
SAMPLING = {"temperature": 0.6, "top_p": 0.95}  # what generation_config.json of a model trained here recommends


@dataclass(frozen=True)
class _Start:
    """What training begins from."""

    source: Path | None  # the model's folder; None for random weights
    config: ModelConfig
    tokenizer: Tokenizer


def run_training(config: TrainConfig, out: Path, on_event: OnEvent, machine: Machine | None = None) -> dict[str, Any]:
    """Trains, or goes on where a run in `out` was cut.

    Args:
        on_event: told of progress: {"stage", "step", "num_steps", …} and {"message": …}.

    Returns:
        outcome.json, with the path of the result as "result".

    Raises:
        ConfigError, DataError, CheckpointError: the configuration, the data or the model is wrong.
        RunFolderError: the folder holds another run, or is in use.
        Interrupted: after Ctrl-C or SIGTERM; the state is saved.
    """
    machine = machine or Machine()
    with explain_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    own_training(out)
    busy = f"{out}: another process trains here: wait for it or stop it"
    with locked(out / ".lock", busy), interrupt.deferred_interrupts():
        _claim(config, out)
        result = out / ("adapter" if config.lora else "model")
        if not result.is_dir():
            _train(config, out, result, on_event, machine)
        else:
            on_event({"message": f"{out}: is trained already; remove the folder, or give --out, to train anew"})
        return {**read_json(out / "outcome.json"), "result": str(result)}


def _claim(config: TrainConfig, out: Path) -> None:
    """Makes the folder this configuration's, or finds that it is.

    Raises:
        RunFolderError: it was trained with another one, or holds something else.
    """
    file, settings = out / "fingerprint.json", _fingerprint(config)
    if not file.is_file() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise RunFolderError(f"{out}: is not empty and holds no training: choose another folder with --out")
    has_begun = checkpoints(out / "checkpoints") or (out / "outcome.json").is_file()
    if has_begun and (found := read_json(file)) != settings:
        keys = sorted(key for key in found.keys() | settings.keys() if found.get(key) != settings.get(key))
        raise RunFolderError(
            f"{out}: was trained with other settings ({', '.join(keys)}): choose another folder with --out, or put "
            f"them back"
        )
    if not has_begun and file.is_file() and read_json(file) != settings:  # nothing is lost but what can be made again
        for made in ("data", "validation", "tokenizer"):
            shutil.rmtree(out / made, ignore_errors=True)
    write_json(file, settings)
    write_text(out / "config.toml", tomli_w.dumps(without_none(config.model_dump(mode="json"))))


def _fingerprint(config: TrainConfig) -> dict[str, str]:
    """What decides the outcome, by dotted name."""
    stage = tuple(f"stage.{name}." for name in MAY_CHANGE)
    endpoint = tuple(f"judge.endpoint.{name}." for name in ENDPOINT_MAY_CHANGE)
    told = fingerprint_of(config)
    return {name: value for name, value in told.items() if not f"{name}.".startswith(("num_slots.", *stage, *endpoint))}


def _train(config: TrainConfig, out: Path, result: Path, on_event: OnEvent, machine: Machine) -> None:
    device = resolve_device(machine.device)
    dtype = resolve_dtype(machine.dtype, device)
    if dtype is torch.float16:
        raise ConfigError("dtype float16: small gradients vanish in it: train in bfloat16 or float32")
    if not checkpoints(out / "checkpoints"):  # nothing was computed yet
        (out / "machine.json").unlink(missing_ok=True)
    RunFolder(out).claim_machine(device.type, str(dtype).removeprefix("torch."))
    start = _start(config, out)
    prepared = _prepare(config, config.data, start, out / "data", on_event)
    fingerprint = {**_fingerprint(config), "data": prepared.fingerprint, "dtype": str(dtype)}
    if start.source is not None:
        fingerprint["model"] = weights_hash(start.source)
    model, optimizer = _model(config, start, device, dtype)
    objective = _objective(config, start, prepared, model, out, on_event, machine)
    measure = None
    if config.validation is not None and isinstance(objective, Supervised):
        held_out = _prepare(config, config.validation, start, out / "validation", on_event)
        fingerprint["validation"] = held_out.fingerprint
        measure = validating(objective, model, held_out.documents, config.validation_steps)
    on_event({"message": _told(config, start, prepared, objective, model)})
    progress = train(
        model,
        optimizer,
        objective,
        out,
        lambda row: on_event({"stage": config.stage.name, **row}),
        fingerprint=fingerprint,
        flops_per_token=_flops_per_token(config, start.config, prepared),
        measure=measure,
        seed=config.seed,
    )
    weights = {name: master.detach() for name, master in optimizer.masters.items()}
    write_trained(out / "outcome.json", progress, model)
    keep = config.stage.keep
    if keep.best and (best := best_checkpoint(out / "checkpoints", keep)):
        _save(config, start, model, read_state(best)[0], out / "best")
    _save(config, start, model, weights, result)


def write_trained(path: Path, progress: Progress, model: LanguageModel) -> None:
    """Leaves what a training took: a stage's of a recipe, or one by itself."""
    write_outcome(
        path,
        train_tokens=progress.tokens,
        train_seconds=progress.seconds,
        train_steps=progress.step,
        skipped_steps=progress.skipped_steps,
        peak_rss_bytes=peak_rss_bytes(),
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        threads=num_threads(model, "train"),
    )


def _start(config: TrainConfig, out: Path) -> _Start:
    source = None if config.model is None else resolve_model(Path(config.model))
    if config.shape is not None and config.tokenizer is None:
        tokenizer = trained_tokenizer(config.data, config.shape.vocab_size, out / "tokenizer", config.chat_format)
        return _Start(None, config.shape, tokenizer)
    named = source if config.tokenizer is None else resolve_tokenizer(Path(config.tokenizer))
    assert named is not None  # the configuration has seen to it
    shape = config.shape or load_config(named if source is None else source)
    tokenizer = load_tokenizer(named, chat_format=config.chat_format)
    if tokenizer.vocab_size > shape.vocab_size:
        raise ConfigError(
            f"{named}: its tokenizer has {tokenizer.vocab_size:,} ids, and the model {shape.vocab_size:,}: they do not "
            f"belong together; raise shape.vocab_size or choose another tokenizer"
        )
    return _Start(source, shape, tokenizer)


def _prepare(config: TrainConfig, data: DataConfig, start: _Start, folder: Path, on_event: OnEvent) -> Prepared:
    stage, context = config.stage, start.config.max_positions
    limit = min(config.max_tokens or context, context)
    kind: Kind = "pretrain"
    if stage.kind in ("sft", "preference", "rl"):
        kind = stage.kind
    if isinstance(stage, RlStage):
        limit = min(config.max_tokens or context, context - stage.max_new_tokens)
        if limit < 2:
            raise ConfigError(
                f"stage.max_new_tokens = {stage.max_new_tokens}: leaves no room for a prompt in a context of {context}"
            )

    told = time.monotonic()

    def tell(source: str, num_rows: int) -> None:
        nonlocal told
        interrupt.check()
        if time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            on_event({"message": f"{source}: {num_rows:,} rows read"})

    prepared = prepare(data, start.tokenizer, folder, kind=kind, max_tokens=limit, on_progress=tell)
    for source in prepared.manifest["sources"]:
        said = [f"{number:,} left out ({reason})" for reason, number in source["dropped"].items()]
        said += [f"{number:,} parts left out ({reason})" for reason, number in source["dropped_parts"].items()]
        said += [f"{source[how]:,} {how}" for how in ("truncated", "split") if source[how]]
        if said:
            on_event({"message": f"{source['name']}: of {source['rows']:,} rows {', '.join(said)}"})
    return prepared


def _model(
    config: TrainConfig, start: _Start, device: torch.device, dtype: torch.dtype
) -> tuple[LanguageModel, MasterOptimizer]:
    """The model in the dtype that it computes in, and its optimizer with the weights as they were stored."""
    masters: Mapping[str, Tensor] | None
    if start.source is None:
        model = LanguageModel(start.config)
        model.reset_parameters(config.seed)
        masters = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        model = model.to(device, dtype)
    else:
        model = load_model(start.source, dtype=dtype, device=device)
        masters = None if config.lora else load_weights(start.source)
    if config.lora is not None:
        add_lora(model, config.lora, config.seed)
    model.model.recomputes = config.stage.recompute_activations
    if device.type == "cuda":
        model.compile_layers()
    return model, MasterOptimizer(model, masters, config.stage.optimizer)


def _objective(
    config: TrainConfig,
    start: _Start,
    prepared: Prepared,
    model: LanguageModel,
    out: Path,
    on_event: OnEvent,
    machine: Machine,
) -> Objective:
    stage, mixture = config.stage, Mixture(prepared, config.data, config.seed)
    match stage:
        case SupervisedStage():
            steps = _steps(mixture, stage.batch_documents, stage)
            if stage.batch_tokens is not None:
                steps = mixture.by_tokens(stage.batch_tokens, stage.num_epochs)
            return Supervised(stage, prepared.documents, config.seed, steps)
        case PreferenceStage():
            return Preference(stage, prepared.pairs, config.seed, _steps(mixture, stage.batch_pairs, stage))
        case RlStage():
            for name in filter(is_own, weights_of(stage.reward)):
                check_own(name, config.judge)
            tell_changed_rewards(stage, out, on_event)
            engine = ShardedEngine(model, start.tokenizer, num_slots=config.num_slots)
            steps = Lazy(stage.num_steps, lambda step: mixture.step_indices(step, stage.batch_prompts))
            settings = machine.judge(config.judge)
            provider = LocalProvider(engine)
            return OnlineRl(stage, prepared.problems, provider, out, config.seed, model, settings, steps)


def _steps(mixture: Mixture, per_step: int, stage: SupervisedStage | PreferenceStage) -> Sequence[list[int]]:
    """Every example as often as asked; the last step takes what is left."""
    total = max(1, round(stage.num_epochs * mixture.num_examples))
    return Lazy(-(-total // per_step), lambda step: mixture.step_indices(step, per_step)[: total - step * per_step])


def _flops_per_token(config: TrainConfig, shape: ModelConfig, prepared: Prepared) -> float:
    """Of a forward and backward pass, at the data's mean context; frozen weights need no gradient of their own.

    The head is computed for learned tokens alone; of a pair's tokens, half are seen together.
    """
    tokens_N = prepared.tokens_N.astype(float)
    together = tokens_N.mean() if config.stage.kind == "rl" else (tokens_N**2).sum() / max(1.0, tokens_N.sum())
    context = together / (4 if config.stage.kind == "preference" else 2)
    learned_share = prepared.learned_N.sum() / max(1.0, tokens_N.sum()) if config.stage.kind != "rl" else 1.0
    forward = shape.flops_per_token(int(context)) - 2 * shape.vocab_size * shape.width * (1 - learned_share)
    return (2 if config.lora else 3) * float(forward)


def _told(config: TrainConfig, start: _Start, prepared: Prepared, objective: Objective, model: LanguageModel) -> str:
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return (
        f"{config.name}: {start.config.num_parameters:,} parameters, {trained:,} of them trained; {len(prepared):,} "
        f"examples of {int(prepared.tokens_N.sum()):,} tokens; {objective.num_steps:,} steps"
    )


def _save(config: TrainConfig, start: _Start, model: LanguageModel, weights: dict[str, Tensor], result: Path) -> None:
    """Leaves the result, whole or not at all."""
    partial = result.with_name(f".{result.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if config.lora is not None:
        assert start.source is not None
        is_hub_name = not Path(str(config.model)).exists()
        base = str(config.model) if is_hub_name else start.source.resolve()
        save_adapter(partial, model, config.lora, base=base, weights=weights)
        if is_hub_name:
            carry_licence(start.source, partial)
    elif start.source is None:
        save_model(partial, start.config, weights, start.tokenizer, SAMPLING)
    else:
        stored = next(iter(load_weights(start.source).values())).dtype
        as_stored = {name: weight.to(stored) for name, weight in weights.items()}
        save_model(partial, start.config, as_stored, start.tokenizer, SAMPLING)
        carry_licence(start.source, partial)
    replace_folder(partial, result)
