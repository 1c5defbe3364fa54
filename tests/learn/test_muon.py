"""Our Muon beside torch's: the same steps but for rounding, and the same state."""

import pytest
import torch

from open_exaone.learn import muon
from open_exaone.learn.muon import Muon, orthogonal

SHAPES = ((24, 16), (16, 24), (16, 16), (24, 16), (8, 24), (24, 16))
FIELDS = {"lr": 0.03, "weight_decay": 0.1, "nesterov": True}


def stepped(kind, *, steps=4):
    """The weights after some steps on drawn gradients; the last weight never has one."""
    draw = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in SHAPES]
    optimizer = kind([{"params": weights}], **FIELDS)
    for _ in range(steps):
        for weight in weights[:-1]:
            weight.grad = torch.randn(weight.shape, generator=draw)
        optimizer.step()
    return [weight.detach() for weight in weights], optimizer


@pytest.mark.parametrize("is_fast", [True, False])
def test_it_moves_weights_as_torch_does(is_fast, monkeypatch):
    monkeypatch.setattr(muon, "has_fast_cpu_bfloat16", lambda: is_fast)
    ours, optimizer = stepped(Muon)
    theirs, reference = stepped(torch.optim.Muon)
    for weight, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=2e-3)  # of 0.1 to 0.2 that a step moves most
    found, expected = optimizer.state_dict(), reference.state_dict()
    assert found["param_groups"] == expected["param_groups"]
    for number, state in expected["state"].items():
        torch.testing.assert_close(found["state"][number], state)
    assert found["state"].keys() == expected["state"].keys()


def test_how_many_are_computed_together_changes_nothing(monkeypatch):
    together, _ = stepped(Muon)
    monkeypatch.setattr(muon, "TOGETHER", 1)
    alone, _ = stepped(Muon)
    for weight, other in zip(together, alone, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 32, 8), (3, 8, 32), (1, 16, 16)])
def test_singular_values_come_near_one(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(x, (3.4445, -4.7750, 2.0315), 5, 1e-7).float())
    assert values.min() > 0.4 and values.max() < 1.3
