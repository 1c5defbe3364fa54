"""Master weights: torch's own optimizers in float32, whatever the model computes in."""

import copy
import itertools
import json
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from doubles import TINY, make_model, random_ids
from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError
from open_exaone.learn import optimizer as optimizer_module
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.learn.schedule import rate_at
from open_exaone.model.lora import add_lora, lora_weights
from open_exaone.model.lora_config import LoraConfig


def backward(model, seed=0):
    model(random_ids(2, 9, seed=seed)).logsumexp(-1).mean().backward()


def run(model, config, *, steps=3, micro_batches=1, seed=0):
    optimizer = MasterOptimizer(model, None, config)
    norms = []
    for step in range(steps):
        for part in range(micro_batches):
            backward(model, seed=seed + step * micro_batches + part)
            optimizer.accumulate()
        norms.append(optimizer.step(1.0))
    return optimizer, norms


def test_adamw_is_torchs():
    config = OptimizerConfig(kind="adamw", learning_rate=1e-2, weight_decay=0.1, max_gradient_norm=1e9)
    ours, theirs = make_model(), make_model()
    optimizer = MasterOptimizer(ours, dict(ours.named_parameters()), config)
    matrices = [w for w in theirs.parameters() if w.ndim == 2]
    vectors = [w for w in theirs.parameters() if w.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95))
    for step in range(3):
        for model in (ours, theirs):
            model(random_ids(2, 9, seed=step)).logsumexp(-1).mean().backward()
        optimizer.accumulate()
        optimizer.step(1.0)
        reference.step()
        reference.zero_grad()
    for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight, other)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_bfloat16_model_keeps_float32_masters(kind):
    """Steps too small for bfloat16 still add up."""
    model = make_model().to(torch.bfloat16)
    masters = {name: weight.float() for name, weight in model.named_parameters()}
    config = OptimizerConfig(kind=kind, learning_rate=1e-5, matrix_learning_rate=1e-5)
    optimizer = MasterOptimizer(model, masters, config)
    before = {name: master.clone() for name, master in optimizer.masters.items()}
    model(random_ids(2, 9)).mean().backward()
    optimizer.accumulate()
    optimizer.step(1.0)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert (optimizer.masters[name] != before[name]).any()
    assert optimizer.masters[name].dtype == torch.float32
    torch.testing.assert_close(optimizer.weights[name], optimizer.masters[name].bfloat16(), rtol=0, atol=0)


def test_muon_moves_the_layers_matrices_and_nothing_else():
    model = make_model()
    config = OptimizerConfig(learning_rate=1e-30, matrix_learning_rate=1e-2)
    optimizer = MasterOptimizer(model, dict(model.named_parameters()), config)
    before = {name: master.clone() for name, master in optimizer.masters.items()}
    model(random_ids(2, 9)).logsumexp(-1).mean().backward()
    optimizer.accumulate()
    optimizer.step(1.0)
    moved = {name for name, master in optimizer.masters.items() if (master - before[name]).abs().max() > 1e-6}
    assert moved == {name for name, master in optimizer.masters.items() if ".layers." in name and master.ndim == 2}


def test_a_gradient_that_is_not_finite_moves_nothing():
    model = make_model()
    optimizer = MasterOptimizer(model, dict(model.named_parameters()), OptimizerConfig(learning_rate=1e-2))
    before = [weight.clone() for weight in model.parameters()]
    (model(random_ids(1, 4)).mean() * float("nan")).backward()
    optimizer.accumulate()
    assert not torch.isfinite(torch.tensor(optimizer.step(1.0)))
    assert all(torch.equal(weight, other) for weight, other in zip(model.parameters(), before, strict=True))
    assert all(master.grad is None for master in optimizer.masters.values())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_gradients_kept_in_the_model_and_freed_portion_by_portion_move_it_alike(kind, monkeypatch):
    """In a float32 model nothing is rounded, so that the two ways differ by the order of the norm's sum alone."""
    monkeypatch.setattr(optimizer_module, "PORTION", 3000)
    fields = {"kind": kind, "learning_rate": 1e-2, "weight_decay": 0.1, "max_gradient_norm": 0.05}
    results = []
    for dtype in ("float32", "bfloat16"):
        model = make_model()
        optimizer, norms = run(model, OptimizerConfig(**fields, gradient_dtype=dtype), micro_batches=2)
        results.append((norms, optimizer.masters))
        assert all(weight.grad is None for weight in (*model.parameters(), *optimizer.masters.values()))
    (norms, masters), (other_norms, other_masters) = results
    assert norms == pytest.approx(other_norms, rel=1e-5)
    for name, master in masters.items():
        torch.testing.assert_close(master, other_masters[name], rtol=1e-4, atol=1e-5)


def test_a_portion_holds_few_weights_and_the_largest_comes_last(monkeypatch):
    monkeypatch.setattr(optimizer_module, "PORTION", 5000)
    model = make_model()
    optimizer = MasterOptimizer(model, None, OptimizerConfig(learning_rate=1e-2, gradient_dtype="bfloat16"))
    sizes = [sum(optimizer.masters[name].numel() for name in names) for names in optimizer._portions]
    assert sorted(name for names in optimizer._portions for name in names) == sorted(optimizer.masters)
    assert all(size <= 5000 or len(names) == 1 for size, names in zip(sizes, optimizer._portions, strict=True))
    assert optimizer._portions[-1] == ["model.embed_tokens.weight"] and len(sizes) > 3


def test_gradients_kept_in_bfloat16_have_no_float32_twin():
    model = make_model().to(torch.bfloat16)
    optimizer = MasterOptimizer(model, None, OptimizerConfig(learning_rate=1e-2, gradient_dtype="bfloat16"))
    backward(model)
    optimizer.accumulate()
    assert all(master.grad is None for master in optimizer.masters.values())
    once = {name: weight.grad.clone() for name, weight in optimizer.weights.items()}
    backward(model)
    optimizer.accumulate()
    for name, weight in optimizer.weights.items():
        torch.testing.assert_close(weight.grad, 2 * once[name])
    optimizer.clear()
    assert all(weight.grad is None for weight in model.parameters())


def test_frozen_weights_have_no_master_and_do_not_move():
    model = make_model().to(torch.bfloat16)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    add_lora(model, LoraConfig(rank=4), seed=0)
    config = OptimizerConfig(learning_rate=1e-2, matrix_learning_rate=1e-30)  # the factors are AdamW's, not Muon's
    optimizer, _ = run(model, config)
    assert set(optimizer.masters) == set(lora_weights(model)) and len(optimizer.optimizers) == 1
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], weight) for name, weight in before.items())
    assert all(master.dtype == torch.float32 for master in optimizer.masters.values())
    assert all(now[name].abs().max() > 5e-3 for name in optimizer.masters if ".lora_B." in name)


@pytest.mark.parametrize("gradient_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_added_in_one_call_are_those_added_one_by_one_to_the_bit(dtype, gradient_dtype):
    """In their order; a weight may have none in some of them."""
    config = OptimizerConfig(learning_rate=1e-2, matrix_learning_rate=1e-2, gradient_dtype=gradient_dtype)
    together, alone = (MasterOptimizer(make_model().to(dtype), None, config) for _ in range(2))
    draw = torch.Generator().manual_seed(0)
    shares = [[torch.randn(w.shape, generator=draw).to(dtype) for w in alone.weights.values()] for _ in range(3)]
    shares[0][1] = shares[2][0] = None
    for gradients in shares:
        for weight, gradient in zip(alone.weights.values(), gradients, strict=True):
            if gradient is not None:
                weight.grad = gradient.clone() if weight.grad is None else weight.grad.add_(gradient)
        alone.accumulate()
        together.add([None if gradient is None else gradient.clone() for gradient in gradients])
    for found, expected in zip(together.gradients(), alone.gradients(), strict=True):
        assert found.dtype == expected.dtype and torch.equal(found, expected) and found.any()


def test_a_model_that_is_all_frozen_is_refused():
    model = make_model().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        MasterOptimizer(model, None, OptimizerConfig(learning_rate=1e-2))


@pytest.mark.parametrize("gradient_dtype", ["float32", "bfloat16"])
def test_a_spike_moves_nothing_and_is_forgotten(gradient_dtype):
    model = make_model()
    config = OptimizerConfig(learning_rate=1e-2, gradient_dtype=gradient_dtype)
    optimizer = MasterOptimizer(model, None, config)
    before = [weight.clone() for weight in model.parameters()]
    backward(model)
    optimizer.accumulate()
    norm = optimizer.step(1.0, skip_above=1e-6)
    assert norm > 1e-6
    assert all(torch.equal(weight, other) for weight, other in zip(model.parameters(), before, strict=True))
    assert optimizer.step(1.0) == 0.0
    backward(model)
    optimizer.accumulate()
    assert optimizer.step(1.0, skip_above=2 * norm) == norm
    assert not torch.equal(next(model.parameters()), before[0])


def test_without_clipping_the_gradient_is_taken_whole():
    moved = []
    for limit in (None, 1e9, 1e-3):
        model = make_model()
        start = next(model.parameters()).detach().clone()
        run(model, OptimizerConfig(kind="adamw", learning_rate=1e-2, max_gradient_norm=limit), steps=2)
        moved.append(next(model.parameters()) - start)
    torch.testing.assert_close(moved[0], moved[1])


def test_decay_shrinks_matrices_embeddings_at_their_own_rate_and_no_norm():
    model = make_model(TINY.model_copy(update={"tied_embeddings": False}))
    fields = {"weight_decay": 0.5, "embedding_weight_decay": 0.25, "kind": "adamw"}
    optimizer = MasterOptimizer(model, None, OptimizerConfig(learning_rate=1e-1, **fields))
    before = {name: master.clone() for name, master in optimizer.masters.items()}
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 1e-20)  # of zero, nothing would move at all
    optimizer.accumulate()
    optimizer.step(1.0)
    for name, master in optimizer.masters.items():
        share = 0.25 if "embed" in name or "head" in name else 0.5 if master.ndim == 2 else 0.0
        torch.testing.assert_close(master, before[name] * (1 - 0.1 * share), msg=name)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("gradient_dtype", ["float32", "bfloat16"])
def test_restored_it_goes_on_to_the_bit(kind, gradient_dtype):
    config = OptimizerConfig(kind=kind, learning_rate=1e-2, gradient_dtype=gradient_dtype)
    whole = make_model().to(torch.bfloat16)
    run_on, _ = run(whole, config, steps=2)
    masters = {name: master.detach().clone() for name, master in run_on.masters.items()}
    state = {
        index: {n: {k: v.clone() for k, v in values.items()} for n, values in saved["state"].items()}
        for index, saved in run_on.state().items()
    }
    other = make_model(seed=5).to(torch.bfloat16)
    resumed = MasterOptimizer(other, None, config)
    resumed.restore(masters, state)
    for model, optimizer in ((whole, run_on), (other, resumed)):
        backward(model, seed=9)
        optimizer.accumulate()
        optimizer.step(1.0)
    assert all(torch.equal(master, resumed.masters[name]) for name, master in run_on.masters.items())
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


def test_a_state_of_other_shapes_is_refused_before_anything_is_taken():
    config = OptimizerConfig(kind="adamw", learning_rate=1e-2)
    optimizer, _ = run(make_model(), config)
    before = {name: master.clone() for name, master in optimizer.masters.items()}
    wider, _ = run(make_model(TINY.model_copy(update={"ffn_width": 112})), config)
    state = {index: saved["state"] for index, saved in wider.state().items()}
    with pytest.raises(RuntimeError, match="fits no weight"):
        optimizer.restore(wider.masters, state)
    assert all(torch.equal(master, before[name]) for name, master in optimizer.masters.items())


MEASURE = """
import re, sys
from pathlib import Path
import torch
from open_exaone.learn import optimizer as module
from open_exaone.learn.config import OptimizerConfig
torch.set_num_threads(1)
module.PORTION = 2**20
def peak():  # ru_maxrss would begin at the parent's
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
class Model(torch.nn.Module):
    def __init__(self, num_layers):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(1024, 1024, bias=False) for _ in range(num_layers))
        self.to(torch.bfloat16)
def train(num_layers, dtype):
    model = Model(num_layers)
    config = OptimizerConfig(kind="adamw", learning_rate=1e-3, gradient_dtype=dtype)
    optimizer = module.MasterOptimizer(model, None, config)
    for _ in range(4):
        y = torch.ones(2, 1024, dtype=torch.bfloat16)
        for layer in model.layers:
            y = layer(y)
        y.float().square().mean().backward()
        optimizer.accumulate()
        if _ % 2:
            optimizer.step(1.0)
train(2, sys.argv[1])
before = peak()
train(14, sys.argv[1])
print((peak() - before) / (12 * 2**20))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures a process's peak memory as Linux counts it")
def test_bytes_a_weight_are_as_said():
    """AdamW's with two micro-batches: 16 with bfloat16 gradients, 20 with float32 ones, and little more."""

    def measure(dtype):
        run = subprocess.run([sys.executable, "-c", MEASURE, dtype], capture_output=True, text=True, check=True)
        return json.loads(run.stdout)

    halves = []
    while not halves or (min(halves) >= 18 and len(halves) < 4):  # now and then the allocator takes more
        halves.append(measure("bfloat16"))
    assert 14.5 < min(halves) < 18, halves
    assert measure("float32") > min(halves) + 2


SHARES = st.floats(0, 1)


@given(
    st.sampled_from(["cosine", "linear", "wsd", "constant"]), st.integers(1, 400), SHARES, SHARES.filter(bool), SHARES
)
@settings(max_examples=300, deadline=None)
@example("linear", 10, 0.05, 0.2, 0.05)
@example("cosine", 2, 1.0, 0.2, 0.05)
@example("wsd", 2, 0.0, 1.0, 0.0)
def test_the_rate_reaches_its_peak_and_its_end(schedule, num_steps, warmup, decay, final):
    """Rising, at the peak, falling: each exactly, for any number of steps."""
    if schedule == "wsd" and warmup + decay > 1:
        warmup, decay = warmup / 2, decay / 2
    config = OptimizerConfig(learning_rate=1.0, schedule=schedule, warmup=warmup, decay=decay, final=final)
    rates = [rate_at(config, step, num_steps) for step in range(num_steps)]
    peak = rates.index(max(rates))
    assert rates[peak] == 1.0 and min(rates) >= 0
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and peak <= max(0, math.ceil(warmup * num_steps) - 1)
    assert all(before >= after - 1e-12 for before, after in itertools.pairwise(rates[peak:]))
    assert rates[-1] == (1.0 if num_steps == 1 or schedule == "constant" else final)


def test_wsd_stays_at_its_peak_and_falls_in_a_line_in_the_last_steps():
    config = OptimizerConfig(learning_rate=1.0, schedule="wsd", warmup=0.1, decay=0.2, final=0.1)
    rates = [rate_at(config, step, 100) for step in range(100)]
    assert rates[:9] == sorted(rates[:9]) and rates[8] < 1
    assert rates[9:80] == [1.0] * 71
    falls = [before - after for before, after in itertools.pairwise(rates[79:])]
    assert falls == pytest.approx([0.9 / 20] * 20)
    with pytest.raises(ValueError, match="lower one of them"):
        OptimizerConfig(learning_rate=1.0, schedule="wsd", warmup=0.5, decay=0.6)


@pytest.mark.parametrize("gradient_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_gradient_of_zero_moves_no_weight_and_changes_no_state(kind, gradient_dtype):
    """Momentum and decay would."""
    config = OptimizerConfig(
        kind=kind, learning_rate=0.1, matrix_learning_rate=0.1, weight_decay=0.5, gradient_dtype=gradient_dtype
    )
    model = make_model()
    optimizer = MasterOptimizer(model, None, config)

    def step(factor):
        (factor * model(random_ids(1, 9)).square().mean()).backward()
        optimizer.accumulate()
        return optimizer.step(1.0)

    def everything():
        states = [o.state_dict()["state"] for o in optimizer.optimizers]
        return copy.deepcopy([dict(optimizer.masters), dict(model.named_parameters()), states])

    assert step(1.0) > 0
    before = everything()
    assert step(0.0) == 0 and optimizer.step(1.0) == 0
    torch.testing.assert_close(everything(), before, rtol=0, atol=0)


@pytest.mark.parametrize("key", ["learning_rate", "matrix_learning_rate"])
@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "greater than 0"), (-1.0, "greater than 0"), (float("inf"), "finite"), (float("nan"), "finite")],
)
def test_a_rate_that_teaches_nothing_or_destroys_is_refused_by_name(key, value, said):
    with pytest.raises(ConfigError, match=f"recipe.toml: {key} = .*{said}"):
        validate(OptimizerConfig, {"learning_rate": 1e-3, key: value}, "recipe.toml")
