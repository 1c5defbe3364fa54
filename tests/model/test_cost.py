"""Costs on paper against published FLOPs, and against what torch really keeps."""

import pytest
import torch

from open_exaone.kernels.build import library
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.config import ModelConfig
from open_exaone.model.cost import (
    Memory,
    Training,
    activation_bytes,
    dense_flops,
    num_adapter_parameters,
    num_devices,
    num_matrix_parameters,
    sampling_flops,
    training_flops,
    weight_bytes,
)
from open_exaone.model.lora import add_lora
from open_exaone.model.lora_config import LoraConfig
from open_exaone.model.registry import PUBLISHED
from open_exaone.model.threads import ALONE
from open_exaone.model.transformer import LanguageModel

# The reports' table 1 (EXAONE Deep; EXAONE 3.5's pretraining) and table 2 (EXAONE 4.0).
PRETRAINING = {
    "EXAONE-Deep-32B": 1.25e24,
    "EXAONE-Deep-7.8B": 4.21e23,
    "EXAONE-Deep-2.4B": 9.36e22,
    "EXAONE-4.0-32B": 2.69e24,
    "EXAONE-4.0-1.2B": 8.65e22,
}
FINE_TUNING = {"EXAONE-Deep-32B": 7.04e21, "EXAONE-Deep-7.8B": 1.71e21, "EXAONE-Deep-2.4B": 5.27e20}
SFT_TOKENS, SFT_PASSES = 12e9, 3


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining_costs_what_the_reports_say(name: str) -> None:
    published = PUBLISHED[name]
    # 4.0's 8.65e22 is 6 x 1.20e9 x 12e12: the model's nominal size; it has 1.28e9 weights
    tolerance = 0.07 if name == "EXAONE-4.0-1.2B" else 0.005
    assert dense_flops(published.config, published.training_tokens) == pytest.approx(PRETRAINING[name], rel=tolerance)


@pytest.mark.parametrize("name", FINE_TUNING)
def test_fine_tuning_is_three_passes_over_the_sft_tokens(name: str) -> None:
    flops = dense_flops(PUBLISHED[name].config, SFT_PASSES * SFT_TOKENS)
    assert flops == pytest.approx(FINE_TUNING[name], rel=0.02)


def test_the_shapes_own_count_is_6nd_and_attention() -> None:
    shape = PUBLISHED["EXAONE-4.0-32B"].config
    embedding = 6.0 * shape.vocab_size * shape.width  # is looked up, not multiplied
    assert training_flops(shape, 1.0, 0, Training()) == pytest.approx(dense_flops(shape, 1) - embedding)
    at_64k = training_flops(shape, 1.0, 65_536, Training()) - training_flops(shape, 1.0, 0, Training())
    assert at_64k == 3 * 4 * (16 * 65_536 + 48 * 4096) * 40 * 128  # 48 local layers see their window
    assert training_flops(shape, 1.0, 0, Training(lora=LoraConfig())) == pytest.approx(
        training_flops(shape, 1.0, 0, Training()) * 2 / 3
    )


def test_a_group_reads_its_prompt_once() -> None:
    shape = PUBLISHED["EXAONE-4.0-1.2B"].config
    prompt = sampling_flops(shape, 1, 8, 1000, 0)
    assert prompt == 1000 * shape.flops_per_token(500)
    assert sampling_flops(shape, 1, 8, 1000, 100) - prompt == 800 * shape.flops_per_token(1050)


SHAPES = {
    "reorder": {"pattern": "LG", "window": 64},
    "pre": {"family": "exaone", "tied_embeddings": False},
}


def shape_of(name: str) -> ModelConfig:
    base = {"vocab_size": 64, "width": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_width": 16}
    return ModelConfig.model_validate({**base, "ffn_width": 192, "max_positions": 256, **SHAPES[name]})


def kept_bytes(shape: ModelConfig, num_tokens: int, *, recomputes: bool) -> int:
    """What a forward pass keeps for the backward pass, weights left out."""
    model = LanguageModel(shape)
    model.model.recomputes = recomputes
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model.model(torch.zeros(1, num_tokens, dtype=torch.long))
    return sum(x.untyped_storage().nbytes() for at, x in kept.items() if at not in own)


@pytest.mark.skipif(library() is None, reason="plain torch keeps more")
@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_activations_of_a_layer_are_those_that_autograd_keeps(name: str, recomputes: bool) -> None:
    shape, training = shape_of(name), Training(value_bytes=4, recomputes=recomputes)
    deeper = shape.model_copy(update={"num_layers": shape.num_layers + 2})
    found = kept_bytes(deeper, 128, recomputes=recomputes) - kept_bytes(shape, 128, recomputes=recomputes)
    planned = activation_bytes(deeper, 128, training) - activation_bytes(shape, 128, training)
    assert found == pytest.approx(planned, rel=0.04)  # and the scales of norms and sums of attention


@pytest.mark.parametrize("gradient_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("name", SHAPES)
def test_bytes_of_weights_are_those_that_the_optimizer_keeps(name: str, kind: str, gradient_dtype: str) -> None:
    shape = shape_of(name)
    model = LanguageModel(shape).to(torch.bfloat16)
    optimizer = MasterOptimizer(
        model,
        None,
        OptimizerConfig.model_validate({"kind": kind, "learning_rate": 1e-3, "gradient_dtype": gradient_dtype}),
    )
    gradients = 0
    for _ in range(2):  # micro-batches: the second one's gradient stands beside the sum
        for weight in model.parameters():
            weight.grad = torch.ones_like(weight)
        beside = [x.grad for x in (*model.parameters(), *optimizer.masters.values()) if x.grad is not None]
        gradients = sum(grad.nbytes for grad in beside)
        optimizer.accumulate()
    optimizer.step(1.0, workers=ALONE)
    states = [x for one in optimizer.optimizers for state in one.state.values() for x in state.values() if x.ndim]
    kept = sum(x.nbytes for x in (*optimizer.masters.values(), *states))
    training = Training(uses_muon=kind == "muon", keeps_gradients=gradient_dtype == "bfloat16")
    weights, beside_them = weight_bytes(shape, training)
    assert weights == sum(weight.nbytes for weight in model.parameters())
    assert beside_them == kept + gradients
    total = (weights + beside_them) / shape.num_parameters
    most = {("muon", "bfloat16"): 12, ("muon", "float32"): 16, ("adamw", "bfloat16"): 16, ("adamw", "float32"): 20}
    assert total == most[kind, gradient_dtype] or (kind == "muon" and total > most[kind, gradient_dtype])


def test_weights_are_counted_as_the_model_has_them() -> None:
    shape, lora = shape_of("reorder"), LoraConfig(rank=4)
    model = LanguageModel(shape)
    matrices = [w for n, w in model.named_parameters() if ".layers." in n and w.ndim == 2]
    assert num_matrix_parameters(shape) == sum(w.numel() for w in matrices)
    add_lora(model, lora, 0)
    trained = sum(w.numel() for w in model.parameters() if w.requires_grad)
    assert num_adapter_parameters(shape, lora) == trained
    weights, optimizer = weight_bytes(shape, Training(lora=lora))
    assert weights == 2 * (shape.num_parameters + trained) and optimizer == (4 + 6 + 8) * trained


def test_several_devices_share_the_state_alone() -> None:
    memory = Memory(weights=60, optimizer=300, activations=20, reference=40, cache=30)
    assert memory.total == 430  # nothing is trained while samples are drawn
    assert num_devices(memory, 430) == 1 and num_devices(memory, 429) == 2
    assert num_devices(memory, 80) == 8
    assert num_devices(memory, 30) is None
