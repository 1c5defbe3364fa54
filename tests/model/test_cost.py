"""Costs on paper against published FLOPs, and against what torch's own counter finds."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from open_exaone.model.cache import BlockTable, Cache
from open_exaone.model.config import BLOCK, LayerKind, ModelConfig
from open_exaone.model.cost import dense_flops, dense_tokens, forward_flops, sampling_flops, training_flops
from open_exaone.model.lora import insert_lora
from open_exaone.model.lora_config import LoraConfig
from open_exaone.model.memory import Training
from open_exaone.model.registry import FINE_TUNING_PASSES, PUBLISHED, REPORTED, reported_of
from open_exaone.model.transformer import LanguageModel


@pytest.mark.parametrize("reported", REPORTED, ids=lambda one: one.model)
def test_pretraining_costs_what_the_reports_say(reported) -> None:
    published = PUBLISHED[reported.model]
    # 4.0's 8.65e22 is 6 x 1.20e9 x 12e12: the model's nominal size; it has 1.28e9 weights
    tolerance = 0.07 if reported.model == "EXAONE-4.0-1.2B" else 0.005
    computed = dense_flops(published.config, published.training_tokens)
    assert computed == pytest.approx(reported.pretraining_flops, rel=tolerance)


def test_what_the_reports_print_is_what_they_print() -> None:
    """EXAONE Deep's table 1 and EXAONE 4.0's table 2, as docs/scale.md has them."""
    assert {one.model: (one.pretraining_flops, one.fine_tuning_flops) for one in REPORTED} == {
        "EXAONE-Deep-32B": (1.25e24, 7.04e21),
        "EXAONE-Deep-7.8B": (4.21e23, 1.71e21),
        "EXAONE-Deep-2.4B": (9.36e22, 5.27e20),
        "EXAONE-4.0-32B": (2.69e24, None),
        "EXAONE-4.0-1.2B": (8.65e22, None),
    }
    assert reported_of("LGAI-EXAONE/EXAONE-3.5-32B-Instruct") is reported_of("LGAI-EXAONE/EXAONE-Deep-32B")
    assert reported_of("HuggingFaceTB/SmolLM2-135M-Instruct") is None


@pytest.mark.parametrize("reported", [one for one in REPORTED if one.fine_tuning_flops], ids=lambda one: one.model)
def test_fine_tuning_is_three_passes_over_the_sft_tokens(reported) -> None:
    shape = PUBLISHED[reported.model].config
    flops = dense_flops(shape, FINE_TUNING_PASSES * reported.fine_tuning_tokens)
    assert flops == pytest.approx(reported.fine_tuning_flops, rel=0.02)
    assert 36.4e9 < dense_tokens(shape, reported.fine_tuning_flops) < 36.8e9
    assert dense_flops(shape, dense_tokens(shape, 1e21)) == pytest.approx(1e21)


TINY = {"vocab_size": 128, "width": 64, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2, "head_width": 16}
TINY |= {"ffn_width": 192, "max_positions": 256}
KINDS = {
    "reorder": {},
    "pre, untied": {"family": "exaone", "tied_embeddings": False},
    "all heads": {"family": "llama", "num_kv_heads": 4},
    "biases": {"family": "qwen2"},
    "local": {"pattern": "LLLG", "window": 128},  # no longer row: torch's kernel computes all pairs of a masked one
}


def counted(function: Callable[[], object]) -> int:
    """What torch counts: every product of matrices, all pairs of attention."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function()
    return counter.get_total_flops()


def model_of(kind: str, lora: LoraConfig | None = None) -> tuple[ModelConfig, LanguageModel]:
    shape = ModelConfig.model_validate(TINY | KINDS[kind])
    with torch.device("meta"):
        model = LanguageModel(shape)
    if lora is not None:
        wanted = set(lora.projections)
        insert_lora(model, lora, [name for name, _ in model.named_modules() if name.rpartition(".")[2] in wanted])
    return shape, model


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_that_torch_counts(kind: str) -> None:
    shape, model = model_of(kind)
    ids = torch.zeros(2, 128, dtype=torch.long, device="meta")
    assert forward_flops(shape, 256, 128) == pytest.approx(counted(lambda: model(ids)), rel=0.01)
    both = counted(lambda: model(ids).sum().backward())
    assert training_flops(shape, 256, 128, Training()) == pytest.approx(both, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "targets", ["all-linear", ("q_proj", "v_proj", "up_proj"), ("k_proj",), ("o_proj",), ("up_proj",), ("down_proj",)]
)
def test_flops_with_lora_are_those_that_torch_counts(kind: str, targets) -> None:
    lora = LoraConfig(rank=8, targets=targets)
    shape, model = model_of(kind, lora)
    ids = torch.zeros(2, 128, dtype=torch.long, device="meta")
    both = counted(lambda: model(ids).sum().backward())
    assert training_flops(shape, 256, 128, Training(lora=lora)) == pytest.approx(both, rel=0.01)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=8)], ids=["all weights", "lora"])
@pytest.mark.parametrize("kind", ["reorder", "pre, untied"])
def test_recomputing_is_a_second_forward_pass(kind: str, lora: LoraConfig | None) -> None:
    shape, model = model_of(kind, lora)
    model.model.recomputes = True
    ids = torch.zeros(2, 128, dtype=torch.long, device="meta")
    both = counted(lambda: model(ids).sum().backward())
    assert training_flops(shape, 256, 128, Training(recomputes=True, lora=lora)) == pytest.approx(both, rel=0.01)


def test_a_token_that_is_written_sees_the_window_alone_in_local_layers() -> None:
    shape = ModelConfig.model_validate(TINY | {"pattern": "LLLG", "window": 64})
    model, num = LanguageModel(shape), 256 // BLOCK
    cache = Cache.of_rows(shape, rows=1, slots=256, dtype=torch.float32)
    whole = cache.tables[LayerKind.GLOBAL]
    first = num - 64 // BLOCK
    cache.tables = {
        LayerKind.GLOBAL: whole,
        LayerKind.LOCAL: BlockTable(whole.blocks_BN[:, first:], whole.first_B1 + first),
    }
    position = torch.tensor([[255]])
    with torch.no_grad():
        found = counted(lambda: model(position % 128, position, cache=cache))
    assert forward_flops(shape, 1, 256) == pytest.approx(found, rel=0.01)
    everywhere = shape.model_copy(update={"pattern": "G"})
    assert forward_flops(everywhere, 1, 256) > 1.05 * found


def test_the_shapes_own_count_is_6nd_and_attention() -> None:
    shape = PUBLISHED["EXAONE-4.0-32B"].config
    embedding = 6.0 * shape.vocab_size * shape.width  # is looked up, not multiplied
    assert training_flops(shape, 1.0, 0, Training()) == pytest.approx(dense_flops(shape, 1) - embedding)
    at_64k = training_flops(shape, 1.0, 65_536, Training()) - training_flops(shape, 1.0, 0, Training())
    assert at_64k == 3 * 4 * (16 * 65_536 + 48 * 4096) * 40 * 128  # 48 local layers see their window


def test_a_group_reads_its_prompt_once() -> None:
    shape = PUBLISHED["EXAONE-4.0-1.2B"].config
    prompt = sampling_flops(shape, 1, 8, 1000, 0)
    assert prompt == 1000 * shape.flops_per_token(500)
    assert sampling_flops(shape, 1, 8, 1000, 100) - prompt == 800 * shape.flops_per_token(1050)
