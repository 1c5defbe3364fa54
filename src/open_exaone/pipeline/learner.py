"""The model that a stage trains, with its optimizer: whole in each process, or a part on each rank."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from open_exaone.base.errors import ConfigError
from open_exaone.checkpoint.folder import load_model, load_weights, open_model, resolve_device, resolve_dtype
from open_exaone.checkpoint.weights import Weights
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.lora import add_lora, initial_lora
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.start import Run
from open_exaone.train.config import SupervisedStage, TrainedStage


@dataclass(frozen=True)
class Learner:
    """The model that a stage trains."""

    start: Path | None  # the folder that its weights come from; None for random ones
    model: LanguageModel
    optimizer: MasterOptimizer


def open_learner(run: Run, stage: TrainedStage) -> Learner:
    """The model in the dtype that it computes in, and its optimizer with the weights as they were stored."""
    device = resolve_device(run.machine.device)
    if run.recipe.parallel.splits_model:
        return _open_sharded(run, stage, device)
    start, model, masters = open_whole(run, stage, device)
    if device.type == "cuda":
        model.compile_layers()
    return Learner(start, model, MasterOptimizer(model, masters, stage.optimizer))


def _open_sharded(run: Run, stage: TrainedStage, device: torch.device) -> Learner:
    """As `open_learner`: the model is divided before it has weights, and each rank keeps its own part of them alone."""
    from open_exaone.train.parallel import sharded  # loads torch.distributed

    start, longer = run.start_folder(stage), stage.context if isinstance(stage, SupervisedStage) else None
    model, weights = _empty(run, stage) if start is None else open_model(start, _dtype(run), longer)
    if stage.lora is not None:
        add_lora(model, stage.lora, run.seed(stage))
    model.model.recomputes = stage.recompute_activations
    if device.type == "cuda":
        model.compile_layers()
    sharded.shard(model, run.world, run.recipe.parallel, device)
    if start is None or weights is None:
        masters = sharded.draw_parts(model, model.initial_weights(run.recipe.seed), device)
        return Learner(start, model, MasterOptimizer(model, masters, stage.optimizer))
    sharded.read_parts(model, weights, device)
    if stage.lora is None:
        stored = sharded.OwnParts(model, load_weights(start), device)
        return Learner(start, model, MasterOptimizer(model, stored, stage.optimizer))
    sharded.draw_parts(model, initial_lora(model, run.seed(stage)), device)
    return Learner(start, model, MasterOptimizer(model, None, stage.optimizer))


def _empty(run: Run, stage: TrainedStage) -> tuple[LanguageModel, Weights | None]:
    """A model on the meta device, for which there are no weights yet."""
    with torch.device("meta"):
        return LanguageModel(run.shape_of(stage)).to(_dtype(run)), None


def _dtype(run: Run) -> torch.dtype:
    """What models compute in."""
    dtype = resolve_dtype(run.machine.dtype, resolve_device(run.machine.device))
    if dtype is torch.float16:
        raise ConfigError("dtype float16: small gradients vanish in it: train in bfloat16 or float32")
    return dtype


def open_whole(
    run: Run, stage: TrainedStage, device: torch.device
) -> tuple[Path | None, LanguageModel, Mapping[str, Tensor] | None]:
    """The folder of the weights that a stage begins from, its model, and the weights as they were stored."""
    dtype, start = _dtype(run), run.start_folder(stage)
    masters: Mapping[str, Tensor] | None
    if start is None:
        model = LanguageModel(run.shape_of(stage))
        model.reset_parameters(run.recipe.seed)
        masters = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        model = model.to(device, dtype)
    else:
        longer = stage.context if isinstance(stage, SupervisedStage) else None
        model = load_model(start, dtype=dtype, device=device, context=longer)
        masters = None if stage.lora else load_weights(start)
    if stage.lora is not None:
        add_lora(model, stage.lora, run.seed(stage))
    model.model.recomputes = stage.recompute_activations
    return start, model, masters
