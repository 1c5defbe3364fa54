"""Drawing one token a row, at the ends of what may be asked for."""

import math

import pytest
import torch

from open_exaone.base.records import Sampling
from open_exaone.engine.sampling import GREEDY_BELOW, draw
from open_exaone.model.logprobs import token_logprobs

LOGITS = torch.randn(64, 50, generator=torch.Generator().manual_seed(0)) * 8
UNIFORMS = torch.rand(64, generator=torch.Generator().manual_seed(1))
TINY_VALUES = [5e-324, 1e-320, 1e-45, 1e-40, 1e-38, 1e-30, 1e-12, 9e-6]


@pytest.mark.parametrize("temperature", TINY_VALUES)
@pytest.mark.parametrize("top_p", [1.0, 0.5, 1e-40])
def test_a_tiny_temperature_is_greedy(temperature, top_p):
    Sampling(8, temperature, top_p)  # may be asked for
    drawn, greedy = (draw(LOGITS, t, top_p, UNIFORMS) for t in (temperature, 0.0))
    assert torch.equal(drawn.ids_B, LOGITS.argmax(-1))
    assert all(torch.equal(one, other) for one, other in zip(drawn, greedy, strict=True))


@pytest.mark.parametrize("temperature", [GREEDY_BELOW, 1e-3, 0.6, 1.0, 100.0])
@pytest.mark.parametrize("top_p", [*TINY_VALUES, 0.3, 1 - 1e-7, 1.0])
def test_whatever_is_asked_for_is_a_token_with_a_finite_probability(temperature, top_p):
    drawn = draw(LOGITS, temperature, top_p, UNIFORMS)
    assert torch.isfinite(drawn.logprobs_B).all() and torch.isfinite(drawn.sampling_logprobs_B).all()
    assert torch.equal(drawn.logprobs_B, token_logprobs(LOGITS, drawn.ids_B))
    if top_p <= 1e-5:  # the nucleus is the most likely token alone
        assert torch.equal(drawn.ids_B, LOGITS.argmax(-1)) and not drawn.sampling_logprobs_B.any()


def test_the_limit_is_reached_without_a_jump():
    """At the limit, only tokens within 1e-4 of the best are drawn."""
    drawn = draw(LOGITS, GREEDY_BELOW, 1.0, UNIFORMS)
    best = LOGITS.max(-1).values
    assert math.isclose(float((best - LOGITS.gather(1, drawn.ids_B[:, None])[:, 0]).max()), 0.0, abs_tol=1e-4)
