"""Losses and advantages against closed forms and automatic differentiation of their definitions."""

import math

import pytest
import torch

from open_exaone.learn.advantage import group_relative
from open_exaone.learn.likelihood import cross_entropy
from open_exaone.learn.policy import grpo
from open_exaone.learn.preference import simper


def test_cross_entropy_is_torchs():
    logits, targets = torch.randn(20, 7), torch.randint(0, 7, (20,))
    logprobs = torch.log_softmax(logits, -1).gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(cross_entropy(logprobs, 20), torch.nn.functional.cross_entropy(logits, targets))


def test_simper_and_its_gradient_are_the_papers():
    """Gradient: -(p_w / |y_w| grad log pi(y_w) - p_l / |y_l| grad log pi(y_l)), p the inverse perplexity."""
    chosen = [torch.randn(length, dtype=torch.double).sub(1).requires_grad_() for length in (3, 8)]
    rejected = [torch.randn(length, dtype=torch.double).sub(1).requires_grad_() for length in (5, 2)]
    loss = simper(torch.stack([c.mean() for c in chosen]), torch.stack([r.mean() for r in rejected]), denominator=2)
    expected = sum(
        -math.exp(float(c.detach().mean())) + math.exp(float(r.detach().mean()))
        for c, r in zip(chosen, rejected, strict=True)
    )
    assert float(loss.detach()) == pytest.approx(expected / 2)
    loss.backward()
    for sign, replies in ((-1, chosen), (1, rejected)):
        for reply in replies:
            probability = math.exp(float(reply.detach().mean()))
            torch.testing.assert_close(reply.grad, torch.full_like(reply, sign * probability / len(reply) / 2))


def test_simper_does_not_care_where_a_pairs_halves_lie():
    chosen, rejected = torch.randn(6), torch.randn(6)
    apart = simper(chosen[:2], rejected[:0], 6) + simper(chosen[2:], rejected, 6)
    torch.testing.assert_close(apart, simper(chosen, rejected, 6))


def test_advantages_are_centred_and_scaled_by_group():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [3.0, 1.0, 3.0, 1.0]])
    advantages = group_relative(rewards)
    assert advantages.sum(1).abs().max() < 1e-5
    assert advantages[1].tolist() == advantages[2].tolist() == [0.0] * 4
    torch.testing.assert_close(advantages[3], torch.tensor([1.0, -1.0, 1.0, -1.0]), rtol=1e-3, atol=0)
    assert group_relative(rewards, divide_by_std=False)[0].tolist() == [0.75, -0.25, -0.25, -0.25]


def test_grpo_on_policy_is_the_policy_gradient():
    """Where the ratio is 1 the gradient is that of -A log p, whatever the clip."""
    logprobs = torch.randn(10, dtype=torch.double, requires_grad=True)
    advantages = torch.randn(10, dtype=torch.double)
    grpo(logprobs, logprobs.detach(), advantages, denominator=10).backward()
    torch.testing.assert_close(logprobs.grad, -advantages / 10)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False), (1.25, 1.0, True), (0.85, -1.0, True)],
)
def test_grpo_clips_only_what_has_gone_far_enough(ratio, advantage, moves):
    logprobs = torch.tensor([math.log(ratio)], requires_grad=True)
    loss = grpo(logprobs, torch.zeros(1), torch.tensor([advantage]), 1.0, clip_low=0.2, clip_high=0.28)
    loss.backward()
    assert bool(logprobs.grad.abs() > 0) == moves
    clipped = min(max(ratio, 0.8), 1.28)
    assert float(loss.detach()) == pytest.approx(-min(ratio * advantage, clipped * advantage), rel=1e-5)


def test_the_functions_have_their_public_names():
    from open_exaone import learn

    assert (learn.simper, learn.grpo) == (simper, grpo)
    assert (learn.cross_entropy, learn.group_relative) == (cross_entropy, group_relative)
