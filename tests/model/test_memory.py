"""Bytes on paper against what torch and the optimizer really keep, and against sums by hand of what is sharded."""

import pytest
import torch

from open_exaone.kernels.build import library
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.config import ModelConfig
from open_exaone.model.lora import add_lora
from open_exaone.model.lora_config import LoraConfig
from open_exaone.model.memory import (
    Held,
    Memory,
    Training,
    activation_bytes,
    local_parameters,
    memory_of,
    num_adapter_parameters,
    num_embedding_parameters,
    num_matrix_parameters,
    packed_bytes,
    weight_bytes,
)
from open_exaone.model.memory import (
    kept_bytes as planned_bytes,
)
from open_exaone.model.mesh import Mesh
from open_exaone.model.registry import PUBLISHED
from open_exaone.model.threads import ALONE
from open_exaone.model.transformer import LanguageModel

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
    planned = planned_bytes(deeper, 128, training) - planned_bytes(shape, 128, training)
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
    weights, *beside_them = weight_bytes(shape, training)
    assert weights == sum(weight.nbytes for weight in model.parameters())
    next_one = 0 if training.keeps_gradients else weights  # of the second micro-batch, beside the sum
    assert sum(beside_them) + next_one == kept + gradients
    total = (weights + sum(beside_them)) / shape.num_parameters
    most = {("muon", "bfloat16"): 12, ("muon", "float32"): 14, ("adamw", "bfloat16"): 16, ("adamw", "float32"): 18}
    assert total == most[kind, gradient_dtype] or (kind == "muon" and total > most[kind, gradient_dtype])


def test_weights_are_counted_as_the_model_has_them() -> None:
    shape, lora = shape_of("reorder"), LoraConfig(rank=4)
    model = LanguageModel(shape)
    matrices = [w for n, w in model.named_parameters() if ".layers." in n and w.ndim == 2]
    assert num_matrix_parameters(shape) == sum(w.numel() for w in matrices)
    add_lora(model, lora, 0)
    trained = sum(w.numel() for w in model.parameters() if w.requires_grad)
    assert num_adapter_parameters(shape, lora) == trained
    weights, *optimizer = weight_bytes(shape, Training(lora=lora))
    assert weights == 2 * (shape.num_parameters + trained) and optimizer == [4 * trained, 4 * trained, 8 * trained]


def test_nothing_is_trained_while_samples_are_drawn() -> None:
    memory = Memory(weights=60, masters=100, gradients=100, moments=100, activations=20, reference=40, cache=30)
    assert memory.optimizer == 300 and memory.state == 400 and memory.total == 430
    assert list(memory.parts()) == ["weights", "masters", "gradients", "moments", "activations", "reference", "cache"]


BIG = PUBLISHED["EXAONE-4.0-32B"].config


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_shards_of_a_mesh_are_the_whole_together(name: str, kind: str) -> None:
    """Masters, gradients and moments of all devices that share a copy are those of one device."""
    shape, training = shape_of(name), Training(uses_muon=kind == "muon")
    alone = weight_bytes(shape, training)
    for mesh in (Mesh(shard=4), Mesh(data=3, shard=2, context=2), Mesh(shard=2, tensor=2)):
        found = weight_bytes(shape, training, mesh)
        copies = mesh.num_devices // mesh.data
        norms = shape.num_parameters - num_matrix_parameters(shape) - num_embedding_parameters(shape)
        replicated = norms * (mesh.tensor - 1)  # on every device along tensor
        assert copies * found.masters == pytest.approx(alone.masters + 4 * replicated, rel=1e-3)
        assert copies * found.gradients == pytest.approx(alone.gradients + 4 * replicated, rel=1e-3)
        assert copies * found.moments == pytest.approx(alone.moments + 8 * replicated, rel=1e-3)
    assert weight_bytes(shape, training, Mesh(data=8)) == alone  # replicas share nothing


def test_what_is_sharded_is_gathered_layer_by_layer_in_bfloat16() -> None:
    """By hand: two layers, and the embeddings and the head."""
    found = weight_bytes(BIG, Training(uses_muon=False), Mesh(shard=8))
    layer = 5120 * 128 * (2 * 40 + 2 * 8) + 3 * 5120 * 27_392
    assert found.weights == 2 * (2 * layer + 2 * 102_400 * 5120) + 2 * BIG.num_parameters // 8
    assert found.masters == pytest.approx(4 * BIG.num_parameters / 8, rel=1e-6)
    assert found.moments == 2 * found.masters
    adapters = weight_bytes(BIG, Training(lora=LoraConfig()), Mesh(shard=8))
    assert adapters.weights == pytest.approx(found.weights, rel=0.01) and adapters.moments < 0.02 * found.moments


def test_gradients_are_reduced_in_the_format_that_is_set_and_layers_stay_gathered_where_asked() -> None:
    mesh, layer, ends = Mesh(shard=8), num_matrix_parameters(BIG) // 64, num_embedding_parameters(BIG)
    both = [activation_bytes(BIG, 1, Training(reduce_bytes=number), mesh) for number in (4, 2)]
    assert both[0] - both[1] == 2 * (layer + ends)  # a layer's, the embedding's and the head's
    found, kept = (weight_bytes(BIG, Training(reshards=value), mesh).weights for value in (True, False))
    assert kept - found == 2 * 62 * layer  # of 64 layers, two are whole at once otherwise
    assert weight_bytes(BIG, Training(reshards=False)) == weight_bytes(BIG, Training())


def test_tensor_splits_matrices_and_context_splits_tokens() -> None:
    training = Training()
    assert local_parameters(BIG, Mesh(tensor=8)) == pytest.approx(BIG.num_parameters / 8, rel=1e-3)
    alone = planned_bytes(BIG, 32_768, training)
    by_tensor = planned_bytes(BIG, 32_768, training, Mesh(tensor=8))
    residual = 2 * 32_768 * (64 * 4 + 2) * 5120
    assert by_tensor == pytest.approx(residual + (alone - residual) / 8, rel=1e-6)
    keys = 2 * 2 * 32_768 * 8 * 128  # of one layer, of the whole sequence
    assert planned_bytes(BIG, 32_768, training, Mesh(context=4)) == pytest.approx(alone / 4 + keys, rel=1e-6)
    assert planned_bytes(BIG, 32_768, training, Mesh(data=2, shard=4)) == alone


LAYER = 2 * (2 * 64 + 3 * 192)  # bytes a token of the gradients in one layer


def test_logits_are_held_in_pieces_and_once_more_beside_themselves() -> None:
    shape, tokens = shape_of("reorder"), 1024
    wide = shape.model_copy(update={"vocab_size": 4096})
    for is_native, copies, besides in ((True, 2, LAYER * tokens), (False, 5, 0)):
        training = Training(is_native=is_native)
        found = activation_bytes(wide, tokens, training) - planned_bytes(wide, tokens, training)
        assert found == 2 * tokens * 4096 * copies + 2 * 4096 * 64 + besides  # and the head's gradient
    huge = shape.model_copy(update={"vocab_size": 2**22})
    more, most = (activation_bytes(huge, n, Training()) for n in (1024, 2048))
    assert most - more == planned_bytes(huge, 2048, Training()) - planned_bytes(huge, 1024, Training())


def test_a_backward_pass_ends_with_all_gradients_of_its_micro_batch_and_the_first_layers() -> None:
    shape = shape_of("reorder")
    few = activation_bytes(shape, 1, Training())
    own = 2 * shape.num_parameters + 4 * 64 * 64  # and the embedding's in float32, as it is added
    assert few == own + LAYER
    assert activation_bytes(shape, 1, Training(keeps_gradients=True)) < few / 2
    on_cpu = activation_bytes(shape, 1, Training(is_native=True))
    assert on_cpu == own + LAYER + 2 * 2 * 64  # the heap keeps the logits' memory


@pytest.mark.parametrize("name", SHAPES)
def test_recomputing_makes_one_layer_again_at_a_time(name: str) -> None:
    """At 2,048 tokens of a narrow model: what the layers were given, and the largest moment of one of them."""
    shape, tokens = shape_of(name), 2048
    layer = 4 * 64 + (2 + shape.qk_norm) * 6 * 16 + 3 * 192
    found = activation_bytes(shape, tokens, Training(recomputes=True))
    assert found == 2 * tokens * (2 * 64 + 2 * 64) + tokens * (LAYER + 2 * layer)


def test_the_cpus_engine_packs_each_matrix_into_pages_of_its_own() -> None:
    """A tied head is packed besides the embedding; S of the benchmarks takes 69 MB where its weights are 15."""
    shape = shape_of("reorder")
    page = 2 << 20
    assert packed_bytes(shape, 2) == (4 * 2 + 1) * page
    assert packed_bytes(BIG, 2) == pytest.approx(2 * (BIG.num_parameters - 102_400 * 5120), rel=0.01)


def test_a_sampler_on_the_trainers_devices_has_a_copy_only_where_they_have_no_whole_model() -> None:
    shape = shape_of("reorder")
    held = Held(Training(), 2, 256, longest=128, has_reference=True)
    whole = memory_of(shape, held, Mesh(data=4))
    assert whole.sampler == 0 and whole.cache == shape.kv_cache_bytes(128)
    assert whole.reference == 2 * shape.num_parameters
    split = memory_of(shape, held, Mesh(shard=4), sampler_tensor=2)
    assert split.sampler == 2 * local_parameters(shape, Mesh(tensor=2)) and split.cache == whole.cache // 2
    assert split.reference == whole.reference  # `train.policy_reference` keeps all of it on each rank
    assert memory_of(shape, held, Mesh(tensor=2)).reference == whole.reference
    native = Held(Training(is_native=True), 2, 256, 128, is_native=True)
    assert memory_of(shape, native, sampler_tensor=1).sampler == packed_bytes(shape, 2)
    drawing = Held(None, 2, 0, longest=128)
    assert memory_of(shape, drawing).total == 2 * shape.num_parameters + shape.kv_cache_bytes(128)
