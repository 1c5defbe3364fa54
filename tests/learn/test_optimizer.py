"""Master weights: torch's own optimizers in float32, whatever the model computes in."""

import pytest
import torch

from doubles import make_model, random_ids
from open_exaone.learn.config import OptimizerConfig, rate_at
from open_exaone.learn.optimizer import MasterOptimizer


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


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_rises_to_its_peak_and_falls_to_its_end(schedule):
    config = OptimizerConfig(learning_rate=1.0, schedule=schedule, warmup=0.1, final=0.05)
    rates = [rate_at(config, step, 100) for step in range(100)]
    assert 0 < rates[0] < rates[5] < 1 and max(rates) == pytest.approx(1.0, abs=0.02)
    assert rates[11:] == sorted(rates[11:], reverse=True)
    assert rates[-1] == pytest.approx(1.0 if schedule == "constant" else 0.05, abs=0.02)
    assert rate_at(config, 0, 1) > 0
