"""Losses and advantages against closed forms and automatic differentiation of their definitions."""

import functools
import itertools
import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.learn.advantage import group_relative
from open_exaone.learn.cross_entropy import SUPERVISED_LOSSES, SupervisedLoss
from open_exaone.learn.policy import POLICY_LOSSES, Grpo, PolicyLoss, Sampled, grpo
from open_exaone.learn.preference import PREFERENCE_LOSSES, PreferenceLoss


def test_advantages_are_centred_and_scaled_by_group():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [3.0, 1.0, 3.0, 1.0]])
    advantages = group_relative(rewards)
    assert advantages.sum(1).abs().max() < 1e-5
    assert advantages[1].tolist() == advantages[2].tolist() == [0.0] * 4
    torch.testing.assert_close(advantages[3], torch.tensor([1.0, -1.0, 1.0, -1.0]), rtol=1e-3, atol=0)
    assert group_relative(rewards, divide_by_std=False)[0].tolist() == [0.75, -0.25, -0.25, -0.25]


def by_hand(rewards, is_valid, divide_by_std):
    """Group by group, in plain Python."""
    advantages = []
    for group, flags in zip(rewards, is_valid, strict=True):
        valid = [reward for reward, flag in zip(group, flags, strict=True) if flag]
        mean = sum(valid) / len(valid) if valid else 0.0
        std = math.sqrt(sum((reward - mean) ** 2 for reward in valid) / len(valid)) if valid else 0.0
        scale = std + 1e-4 if divide_by_std else 1.0
        teaches = len(valid) > 1 and max(valid) > min(valid)
        advantages.append(
            [(r - mean) / scale if flag and teaches else 0.0 for r, flag in zip(group, flags, strict=True)]
        )
    return advantages


@given(st.integers(1, 5), st.integers(2, 6), st.booleans(), st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_masked_counts_in_no_mean_and_no_deviation(num_groups, size, divide_by_std, data):
    """Its reward may be anything, even none."""
    value, row = st.sampled_from([0.0, 1.0, 0.3, -0.5, 7.0]), functools.partial(st.lists, min_size=size, max_size=size)
    rewards = data.draw(st.lists(row(value), min_size=num_groups, max_size=num_groups))
    flags = data.draw(st.lists(row(st.booleans()), min_size=num_groups, max_size=num_groups))
    is_valid = torch.tensor(flags)
    hidden = torch.tensor(rewards, dtype=torch.double).where(is_valid, data.draw(st.sampled_from([math.nan, 1e30])))
    found = group_relative(hidden, is_valid_PG=is_valid, divide_by_std=divide_by_std)
    torch.testing.assert_close(found, torch.tensor(by_hand(rewards, flags, divide_by_std), dtype=torch.double))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.3, 0.1, 1 / 3, -0.7, 1e-5, 123.4, 1e6, 0.0])
def test_rewards_that_differ_by_rounding_have_no_advantage(value, dtype):
    for size in (2, 3, 7, 8, 16, 1000):
        assert not group_relative(torch.full((1, size), value, dtype=dtype)).any()
    orders = [sum(parts) for parts in itertools.permutations([0.7 * value, 0.2 * value, 0.1 * value, 1.3 * value])]
    assert not group_relative(torch.tensor([orders], dtype=dtype)).any()
    ulp = torch.tensor([[value, math.nextafter(value, math.inf)]], dtype=torch.double)
    assert not group_relative(ulp.to(dtype)).any()


def test_sums_that_cancel_are_measured_by_their_parts():
    rewards = torch.tensor([[0.1 + 0.2 - 0.3, 0.0], [1e6 + 0.1 - 1e6, 0.1]], dtype=torch.double)
    sizes = torch.tensor([[0.6, 0.0], [2e6, 0.1]], dtype=torch.double)
    assert not group_relative(rewards, sizes_PG=sizes).any()


@pytest.mark.parametrize("values", [(0.0, 1e-4), (1e6, 1e6 + 1), (1.0, 1.0 + 1e-5), (-1e-9, 1e-9)])
def test_small_differences_that_are_meant_are_kept(values):
    advantages = group_relative(torch.tensor([values], dtype=torch.double), divide_by_std=False)
    assert advantages[0, 0] < 0 < advantages[0, 1]


def test_grpo_on_policy_is_the_policy_gradient():
    """Where the ratio is 1 the gradient is that of -A log p, whatever the clip."""
    logprobs = torch.randn(10, dtype=torch.double, requires_grad=True)
    advantages = torch.randn(10, dtype=torch.double)
    grpo(
        Sampled(logprobs, logprobs.detach(), advantages, torch.zeros(10).long()), 10, Grpo(aggregate="tokens")
    ).backward()
    torch.testing.assert_close(logprobs.grad, -advantages / 10)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False), (1.25, 1.0, True), (0.85, -1.0, True)],
)
def test_grpo_clips_only_what_has_gone_far_enough(ratio, advantage, moves):
    logprobs = torch.tensor([math.log(ratio)], requires_grad=True)
    sampled = Sampled(logprobs, torch.zeros(1), torch.tensor([advantage]), torch.zeros(1).long())
    loss = grpo(sampled, 1.0, Grpo(clip_low=0.2, clip_high=0.28))
    loss.backward()
    assert bool(logprobs.grad.abs() > 0) == moves
    clipped = min(max(ratio, 0.8), 1.28)
    assert float(loss.detach()) == pytest.approx(-min(ratio * advantage, clipped * advantage), rel=1e-5)


@pytest.mark.parametrize(
    ("union", "table"),
    [(PreferenceLoss, PREFERENCE_LOSSES), (PolicyLoss, POLICY_LOSSES), (SupervisedLoss, SUPERVISED_LOSSES)],
)
def test_every_name_that_a_recipe_may_give_has_its_function_and_its_public_name(union, table):
    from open_exaone import learn

    members = get_args(get_args(union)[0]) if get_args(union) else (union,)
    assert [member().name for member in members] == list(table)
    for name, function in table.items():
        assert getattr(learn, function.__name__) is function
        assert name in function.__name__


def test_the_advantages_have_their_public_name():
    from open_exaone import learn

    assert learn.group_relative is group_relative
