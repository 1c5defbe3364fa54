"""Advantages group by group in plain Python; what is masked, what is rounding, and what AGAPO makes of verdicts."""

import functools
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.learn.advantage import (
    ADVANTAGES,
    Rewards,
    advantages_of,
    agapo_advantages,
    batch_normalised,
    group_relative,
    leave_one_out,
)
from open_exaone.learn.policy import Agapo, Grpo
from policy_by_hand import advantages_by_hand

ALL = [Grpo(advantage=name) for name in ADVANTAGES if name != "agapo"]
ALL += [Grpo(divide_by_std=False), *(Agapo(all_wrong_advantage=constant) for constant in (-0.1, 0.0, "drop"))]


def known(rewards, is_valid=None, is_correct=None, sizes=None):
    rewards_PG = torch.as_tensor(rewards, dtype=torch.float64)
    is_valid_PG = torch.ones_like(rewards_PG).bool() if is_valid is None else torch.as_tensor(is_valid)
    is_correct_PG = rewards_PG == 1 if is_correct is None else torch.as_tensor(is_correct)
    return Rewards(rewards_PG, is_valid_PG, sizes, is_correct_PG)


def numbers(*rows):
    return torch.tensor(rows, dtype=torch.float64)


@given(st.integers(1, 5), st.integers(2, 6), st.sampled_from(ALL), st.data())
@settings(max_examples=200, deadline=None)
def test_every_advantage_is_its_definition_and_what_is_masked_counts_in_none(num_groups, size, loss, data):
    """The reward of a masked member may be anything, even none."""
    row = functools.partial(st.lists, min_size=size, max_size=size)

    def drawn(values):
        return data.draw(st.lists(row(values), min_size=num_groups, max_size=num_groups))

    rewards, flags = drawn(st.sampled_from([0.0, 1.0, 0.3, -0.5, 7.0])), drawn(st.booleans())
    correct = drawn(st.booleans())
    hidden = numbers(*rewards).where(torch.tensor(flags), data.draw(st.sampled_from([math.nan, 1e30, -math.inf])))
    found = advantages_of(known(hidden, flags, correct), loss)
    wanted, stays = advantages_by_hand(rewards, flags, correct, loss)
    torch.testing.assert_close(found.advantages_PG, numbers(*wanted), rtol=0, atol=1e-10)
    assert found.is_kept_P.tolist() == stays


@given(st.integers(0, 10_000), st.sampled_from(ALL), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_groups_and_within_a_group_changes_nothing(seed, loss, random):
    draw = torch.Generator().manual_seed(seed)
    rewards_PG = torch.randint(0, 3, (5, 4), generator=draw).double() / 2
    valid_PG = torch.rand(5, 4, generator=draw) < 0.8
    groups, members = torch.tensor(random.sample(range(5), 5)), torch.tensor(random.sample(range(4), 4))
    before = advantages_of(known(rewards_PG, valid_PG), loss)
    after = advantages_of(known(rewards_PG[groups][:, members], valid_PG[groups][:, members]), loss)
    torch.testing.assert_close(after.advantages_PG, before.advantages_PG[groups][:, members], rtol=0, atol=1e-12)
    assert torch.equal(after.is_kept_P, before.is_kept_P[groups])


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


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("value", [0.3, 1 / 3, -0.7, 1.0, 0.0])
def test_equal_rewards_have_no_advantage_in_any_mixture_of_groups(loss, value):
    """Exactly 0, beside groups that teach too; but for the constant that AGAPO adds to what is all wrong."""
    for is_correct in ([False] * 8, [True, False] * 4):
        beside = advantages_of(known([[value] * 8, [0.0, 1.0] * 4], None, [is_correct, [False, True] * 4]), loss)
        alone = advantages_of(known([[value] * 8], None, [is_correct]), loss)
        constant = getattr(loss, "all_wrong_advantage", "drop")
        constant = 0.0 if constant == "drop" or any(is_correct) else constant
        assert beside.advantages_PG[0].tolist() == alone.advantages_PG[0].tolist() == [constant] * 8
        assert beside.advantages_PG[1].any() and beside.is_kept_P[1]


def test_an_all_correct_group_leaves_the_statistics_and_an_all_wrong_one_stays():
    """LOO of (1, 0) is (1, -1), their deviation 1; four zeros beside them make it sqrt(2 / 6)."""
    mixed, all_correct, all_wrong = [1.0, 0.0], [1.0, 0.5], [0.0, 0.0]
    correct = [[True, False], [True, True], [False, False]]
    rewards = numbers(mixed, all_correct, all_wrong)
    found = agapo_advantages(rewards, torch.tensor(correct), all_wrong_advantage=-0.25)
    root = math.sqrt(2)
    torch.testing.assert_close(found.advantages_PG, numbers([root, -root], [0, 0], [-0.25, -0.25]))
    assert found.is_kept_P.tolist() == [True, False, True]
    printed = agapo_advantages(rewards, torch.tensor(correct), all_wrong_advantage=0.0)
    assert printed.advantages_PG[2].tolist() == [0.0, 0.0] and printed.is_kept_P.tolist() == [True, False, True]
    aside = agapo_advantages(rewards, torch.tensor(correct), all_wrong_advantage="drop")  # by variance alone
    torch.testing.assert_close(aside.advantages_PG, numbers([1, -1], [0.5, -0.5], [0, 0]) / math.sqrt(0.625))
    assert aside.is_kept_P.tolist() == [True, True, False]


def test_the_constant_is_added_behind_the_normalisation_where_wrong_rewards_differ_too():
    rewards, wrong = numbers([0.0, 0.2], [0.0, 0.0]), torch.zeros(2, 2, dtype=torch.bool)
    found = agapo_advantages(rewards, wrong, all_wrong_advantage=-0.25).advantages_PG
    root = math.sqrt(2)
    torch.testing.assert_close(found, numbers([-root - 0.25, root - 0.25], [-0.25, -0.25]))


def test_a_batch_of_one_all_wrong_group_has_the_constant_alone_and_no_batch_nothing():
    found = agapo_advantages(numbers([0.3] * 4), torch.zeros(1, 4, dtype=torch.bool))
    assert found.advantages_PG.tolist() == [[-0.1] * 4] and found.is_kept_P.tolist() == [True]
    found = agapo_advantages(numbers([1.0] * 4), torch.ones(1, 4, dtype=torch.bool))
    assert found.advantages_PG.tolist() == [[0.0] * 4] and found.is_kept_P.tolist() == [False]


def test_verdicts_of_masked_members_decide_nothing():
    valid = torch.tensor([[True, True, False], [True, False, False], [False] * 3])
    rewards, correct = numbers([0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0] * 3), torch.tensor([[False, False, True]] * 3)
    found = agapo_advantages(rewards, correct, is_valid_PG=valid)
    assert found.advantages_PG.tolist() == [[-0.1, -0.1, 0.0], [0.0] * 3, [0.0] * 3]
    assert found.is_kept_P.tolist() == [True, False, False]


def test_rewards_may_be_whole_numbers():
    rewards = torch.tensor([[1, 0, 0, 0]])
    assert leave_one_out(rewards).tolist() == [pytest.approx([1.0, *[-1 / 3] * 3])]
    assert group_relative(rewards, divide_by_std=False).tolist() == [[0.75, -0.25, -0.25, -0.25]]
    assert batch_normalised(rewards).sum() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("function", [group_relative, leave_one_out, batch_normalised, agapo_advantages])
def test_the_advantages_have_their_public_name(function):
    from open_exaone import learn

    assert getattr(learn, function.__name__) is function
