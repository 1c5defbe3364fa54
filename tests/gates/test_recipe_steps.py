"""Every training stage of every shipped recipe steps on the meta device: whole shapes and batches, no memory."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_recipes import PATHS, name_of
from torch import Tensor

from open_exaone import kernels
from open_exaone.data.batch import Batch, join
from open_exaone.data.document import Document
from open_exaone.kernels import reference
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.learn.preference import Replies
from open_exaone.model.config import ModelConfig
from open_exaone.model.lora import add_lora, is_lora
from open_exaone.model.lora_config import LoraConfig
from open_exaone.model.threads import ALONE
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.plan import shape_of
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.train import rl
from open_exaone.train.config import PreferenceStage, RlStage, SupervisedStage, TrainedStage
from open_exaone.train.preference import Preference, Step
from open_exaone.train.rl import OnlineRl
from open_exaone.train.supervised import Supervised

LAYERS = 4  # a whole LLLG; all layers are alike otherwise
PROMPT_SHARE = 0.25
STAGES = [(name_of(path), stage.name) for path in PATHS for stage in load_recipe(name_of(path)).trained]


@pytest.fixture(autouse=True)
def without_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta tensors have shapes and no values: nothing that reads one can be called."""

    def attention(q_TNH: Tensor, k_TKH: Tensor, v_TKH: Tensor, *segments: Any) -> Tensor:
        return reference._attend_rows(q_TNH[None], k_TKH[None], v_TKH[None], segments[1])[0]  # as one segment

    monkeypatch.setattr(kernels, "attention", attention)
    for name in ("logprobs_and_entropy", "softmax_loss"):  # as they come they check the ids
        monkeypatch.setattr(kernels, name, getattr(reference, name))
    monkeypatch.setattr(
        rl, "numbers", lambda values: dict.fromkeys(values, 1.0)
    )  # all that RL's loss reads of a device
    monkeypatch.setattr(Tensor, "equal", lambda self, other: self.shape == other.shape)
    monkeypatch.setattr(Replies, "is_chosen_D", property(lambda self: slice(0, None, 2)))
    monkeypatch.setattr(Replies, "margins_U", lambda self, values_D: values_D[::2] - values_D[1::2])
    monkeypatch.setattr(Preference, "_metrics", lambda self, *_: {})  # they choose rows by value


def meta_model(shape: ModelConfig) -> LanguageModel:
    with torch.device("meta"):
        return LanguageModel(shape).to(torch.bfloat16)


def unit_of(stage: TrainedStage) -> int:
    """How many documents stand together: a document, a pair, a group's samples of one prompt."""
    if isinstance(stage, RlStage):
        return stage.group_size
    if isinstance(stage, PreferenceStage):
        return stage.num_samples if stage.loss.learns == "groups" else 2
    return 1


def full_batch(stage: TrainedStage, shape: ModelConfig) -> Batch:
    """Documents that fill a micro-batch of the stage's own size, with all that its loss may ask for."""
    size = unit_of(stage)
    length = min(shape.max_positions, stage.max_tokens or shape.max_positions, stage.micro_batch_tokens // size)
    num_prompt = int(PROMPT_SHARE * length)
    mask = np.arange(length) >= num_prompt
    known = np.zeros(length - num_prompt, np.float32)
    document = Document(np.zeros(length, np.int32), mask, 1.0, 0.0, known, (), known)
    if isinstance(stage, RlStage) and stage.num_updates > 1:
        document = replace(document, old_logprobs=known)
    units = [
        tuple(
            replace(document, ids=np.full(length, unit, np.int32), advantage=(-1.0) ** place) for place in range(size)
        )
        for unit in range(max(1, stage.micro_batch_tokens // (length * size)))
    ]
    return join(units)


def loss_of(stage: TrainedStage, model: LanguageModel, batch: Batch) -> Tensor:
    """By the stage's own objective."""
    match stage:
        case SupervisedStage():
            objective: Any = Supervised(stage, [], [])
        case PreferenceStage():
            objective = Preference(stage, [], [], step=Step())
        case RlStage():
            provider: Any = SimpleNamespace(gives_ids=True, identity={"engine": "local"})
            objective = OnlineRl(stage, [], [], provider, None, 0, model, None)  # type: ignore[arg-type]
    loss, metrics = objective.loss(model, batch, float(len(batch.advantages_D)))
    assert isinstance(loss, Tensor) and all(isinstance(value, float) for value in metrics.values())
    return loss


def trained_names(model: LanguageModel) -> Iterator[str]:
    adapters = [name for name, _ in model.named_parameters() if is_lora(name)]
    yield from adapters or [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize("lora", [None, LoraConfig()], ids=["whole", "lora"])
@pytest.mark.parametrize(("recipe", "name"), STAGES)
def test_every_stage_steps_on_the_meta_device(
    recipe: str, name: str, lora: LoraConfig | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_recipe(recipe)
    [stage] = [one for one in loaded.trained if one.name == name]
    if isinstance(stage, SupervisedStage):  # whose gradient is made with the loss, for a scale that is read
        monkeypatch.setattr(Tensor, "__float__", lambda self: 1.0)
    shape = shape_of(loaded)
    model = meta_model(shape.model_copy(update={"num_layers": min(LAYERS, shape.num_layers)}))
    if lora is not None:
        add_lora(model, lora, 0)
    model.model.recomputes = stage.recompute_activations
    optimizer = MasterOptimizer(model, None, stage.optimizer)
    batch = full_batch(stage, shape)
    assert stage.micro_batch_tokens // 2 < sum(batch.loss_mask_T) + batch.num_tokens <= 2 * stage.micro_batch_tokens
    loss = loss_of(stage, model, batch)
    assert loss.shape == () and loss.device.type == "meta"
    loss.backward()  # type: ignore[no-untyped-call]
    weights = dict(model.named_parameters())
    wanted = set(trained_names(model))
    assert {name for name, weight in weights.items() if weight.grad is not None} == wanted
    optimizer.accumulate()
    for group in (group for one in optimizer.optimizers for group in one.param_groups if "fused" in group):
        group["fused"] = False  # fused code needs a device
    optimizer._move(list(optimizer.masters), torch.tensor(1.0), ALONE)  # `step` reads the norm's value
    moved = {
        name for name, master in optimizer.masters.items() if any(master in one.state for one in optimizer.optimizers)
    }
    assert moved == wanted and all(master.device.type == "meta" for master in optimizer.masters.values())


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_the_models_have_the_parameters_that_plans_count(path: Any) -> None:
    shape = shape_of(load_recipe(name_of(path)))
    assert sum(weight.numel() for weight in meta_model(shape).parameters()) == shape.num_parameters
