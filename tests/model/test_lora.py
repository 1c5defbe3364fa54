"""LoRA: nothing changes at first, only the factors learn, merging changes nothing, PEFT's arithmetic."""

import math

import pytest
import torch
from pydantic import ValidationError

from doubles import SHAPES, TINY, make_model, random_ids
from open_exaone.model.lora import LoraLinear, add_lora, lora_weights, merge_lora
from open_exaone.model.lora_config import LoraConfig


def stirred(model, seed=0):
    """B no longer zero, as after some training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in lora_weights(model).values():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return model


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_at_first_the_model_computes_what_it_did_under_the_same_names(shape):
    model = make_model(SHAPES[shape])
    ids_BT, names = random_ids(2, 12), list(dict(model.named_parameters()))
    before = model(ids_BT)
    add_lora(model, LoraConfig(rank=4), seed=0)
    assert torch.equal(model(ids_BT), before)
    assert [name for name in dict(model.named_parameters()) if ".lora_" not in name] == names
    assert len(lora_weights(model)) == 2 * 7 * model.config.num_layers
    stirred(model)
    assert not torch.allclose(model(ids_BT), before)


@torch.no_grad()
@pytest.mark.parametrize("use_rslora", [False, True])
def test_an_adapted_matrix_is_the_matrix_and_a_product(use_rslora):
    model = make_model()
    config = LoraConfig(rank=4, alpha=6.0, use_rslora=use_rslora, targets=("k_proj",))
    add_lora(model, config, seed=0)
    stirred(model)
    assert {name.split(".")[-3] for name in lora_weights(model)} == {"k_proj"}
    module = model.model.layers[1].self_attn.k_proj
    x = torch.randn(5, TINY.width, generator=torch.Generator().manual_seed(0))
    scale = 6.0 / (2.0 if use_rslora else 4.0)
    weight = module.weight + scale * module.lora_B.weight @ module.lora_A.weight
    torch.testing.assert_close(module(x), x @ weight.T)


def test_the_first_factor_is_drawn_from_the_seed_alone_and_as_wide_as_pefts():
    drawn = []
    for seed, state in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(state)
        model = make_model()
        add_lora(model, LoraConfig(rank=8), seed=seed)
        drawn.append(lora_weights(model)["model.layers.0.mlp.down_proj.lora_A.weight"].detach())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    bound = 1 / math.sqrt(TINY.ffn_width)  # kaiming_uniform_ with a = √5
    assert 0.9 * bound < drawn[0].abs().max() <= bound
    assert abs(float(drawn[0].mean())) < 0.1 * bound


def test_only_the_factors_get_gradients():
    model = make_model()
    add_lora(model, LoraConfig(rank=4), seed=0)
    stirred(model)
    model(random_ids(2, 9)).logsumexp(-1).mean().backward()
    has_gradient = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert has_gradient == set(lora_weights(model))


def test_dropout_works_in_training_alone():
    model = make_model()
    add_lora(model, LoraConfig(rank=4, dropout=0.5), seed=0)
    stirred(model)
    ids_BT = random_ids(1, 9)
    with torch.no_grad():
        assert torch.equal(model.eval()(ids_BT), model(ids_BT))
        model.train()
        torch.manual_seed(0)
        first = model(ids_BT)
        assert not torch.equal(first, model(ids_BT))
        torch.manual_seed(0)
        assert torch.equal(first, model(ids_BT))


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_merged_it_is_a_plain_model_that_computes_the_same(shape):
    model = make_model(SHAPES[shape])
    plain = {name: type(module) for name, module in model.named_modules()}
    add_lora(model, LoraConfig(rank=4), seed=0)
    stirred(model)
    ids_BT = random_ids(2, 12)
    before = model(ids_BT)
    merge_lora(model)
    assert {name: type(module) for name, module in model.named_modules()} == plain
    assert all(weight.requires_grad for weight in model.parameters())
    torch.testing.assert_close(model(ids_BT), before, rtol=1e-4, atol=1e-4)


def test_a_bfloat16_base_gets_bfloat16_factors_and_keeps_its_tied_head():
    model = make_model().to(torch.bfloat16)
    add_lora(model, LoraConfig(rank=4), seed=0)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    merge_lora(model)
    assert not any(isinstance(module, LoraLinear) for module in model.modules())


def test_adapters_are_not_put_on_adapters():
    model = make_model()
    add_lora(model, LoraConfig(rank=4), seed=0)
    with pytest.raises(ValueError, match="adapters already"):
        add_lora(model, LoraConfig(rank=4), seed=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rank": 0}, "rank"),
        ({"alpha": float("inf")}, "alpha"),
        ({"dropout": 1.0}, "dropout"),
        ({"targets": ("lm_head",)}, "q_proj"),
        ({"targets": ()}, "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        LoraConfig(**changes)
