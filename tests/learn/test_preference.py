"""Preference losses against NumPy, written from the papers' equations, and against finite differences."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from open_exaone.learn.preference import (
    PREFERENCE_LOSSES,
    Dpo,
    GrouPER,
    Ipo,
    Kto,
    Orpo,
    Replies,
    SimPER,
    SimPO,
    dpo,
    grouper,
    grouper_advantages,
    ipo,
    kto,
    orpo,
    simper,
)

SETTINGS = [
    SimPER(),
    SimPER(sft_weight=0.3),
    Dpo(beta=0.4),
    Ipo(tau=0.4),
    SimPO(beta=2.5, gamma=0.7),
    Orpo(odds_weight=0.6),
    Kto(beta=0.3, lambda_desirable=1.2, lambda_undesirable=0.7),
    GrouPER(),
]
LENGTHS = ((3, 5), (8, 2), (1, 4))
KL = 0.37


def drawn(units, seed=0):
    """Units of replies (token log-probabilities, reference sum, advantage), a reply's length and advantage given."""
    draw = np.random.default_rng(seed)
    return [[(-draw.exponential(1.0, n), -1.2 * n + draw.normal(), a) for n, a in unit] for unit in units]


def some_pairs(lengths=LENGTHS, seed=0):
    return drawn([((chosen, 1.0), (rejected, -1.0)) for chosen, rejected in lengths], seed)


def some_units(name, seed=0):
    if name == "kto":
        return drawn([((3, 1.0), (5, -1.0)), ((4, 1.0),), ((2, -1.0),), ((6, -1.0),)], seed)
    if name == "grouper":
        return drawn([((3, 1.0), (5, -0.25), (2, -0.75)), ((4, 1.0), (1, -1.0)), ((2, 0.5), (7, 0.5), (3, -1.0))], seed)
    return some_pairs(seed=seed)


def replies_of(units, kl=KL):
    flat = [reply for unit in units for reply in unit]
    return Replies(
        torch.tensor([tokens.sum() for tokens, _, _ in flat], dtype=torch.double),
        torch.tensor([len(tokens) for tokens, _, _ in flat], dtype=torch.double),
        torch.tensor([advantage for _, _, advantage in flat], dtype=torch.double),
        torch.arange(len(units)).repeat_interleave(torch.tensor([len(unit) for unit in units])),
        torch.tensor([reference for _, reference, _ in flat], dtype=torch.double),
        kl,
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_numpy(settings, units):
    """The papers' loss, averaged over units, or with KTO over replies; token by token, one unit after the other."""
    total = []
    for unit in units:
        if settings.name == "kto":
            total += [kto_by_numpy(settings, *reply) for reply in unit]
        elif settings.name == "grouper":
            total.append(-np.mean([advantage * np.exp(tokens.mean()) for tokens, _, advantage in unit]))
        else:
            total.append(pair_by_numpy(settings, *unit))
    return np.mean(total)


def kto_by_numpy(s, tokens, reference, advantage):
    ratio, weight = tokens.sum() - reference, s.lambda_desirable if advantage > 0 else s.lambda_undesirable
    value = weight * sigmoid(s.beta * (ratio - KL if advantage > 0 else KL - ratio))
    return weight - value


def pair_by_numpy(s, chosen, rejected):
    mean_w, mean_l = chosen[0].mean(), rejected[0].mean()
    ratio_w, ratio_l = chosen[0].sum() - chosen[1], rejected[0].sum() - rejected[1]
    match s.name:
        case "simper":
            return -np.exp(mean_w) + np.exp(mean_l) - s.sft_weight * mean_w
        case "dpo":
            return -np.log(sigmoid(s.beta * (ratio_w - ratio_l)))
        case "ipo":
            return (ratio_w / len(chosen[0]) - ratio_l / len(rejected[0]) - 1 / (2 * s.tau)) ** 2
        case "simpo":
            return -np.log(sigmoid(s.beta * mean_w - s.beta * mean_l - s.gamma))
    odds_w, odds_l = (np.exp(mean) / (1 - np.exp(mean)) for mean in (mean_w, mean_l))
    return -mean_w - s.odds_weight * np.log(sigmoid(np.log(odds_w / odds_l)))


def number(settings, units):
    return sum(map(len, units)) if settings.learns == "replies" else len(units)


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
def test_a_loss_is_its_papers(settings):
    for seed in range(5):
        units = some_units(settings.name, seed)
        found = PREFERENCE_LOSSES[settings.name](replies_of(units), number(settings, units), settings)
        assert float(found) == pytest.approx(by_numpy(settings, units), abs=1e-10, rel=1e-10)


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
def test_a_gradient_is_that_of_finite_differences(settings):
    replies = replies_of(some_units(settings.name))

    def loss(logprobs_D):
        return PREFERENCE_LOSSES[settings.name](replace(replies, logprobs_D=logprobs_D), 3, settings)

    assert torch.autograd.gradcheck(loss, replies.logprobs_D.clone().requires_grad_(), eps=1e-6, atol=1e-8)


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
def test_the_order_of_units_and_the_split_of_a_step_change_nothing(settings):
    units = some_units(settings.name)
    loss, total = PREFERENCE_LOSSES[settings.name], number(settings, units)
    whole = float(loss(replies_of(units), total, settings))
    assert float(loss(replies_of(units[::-1]), total, settings)) == pytest.approx(whole, rel=1e-12)
    for cut in range(1, len(units)):
        parts = [float(loss(replies_of(part), total, settings)) for part in (units[:cut], units[cut:])]
        assert sum(parts) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
def test_the_order_within_a_unit_changes_nothing(settings):
    units, loss = some_units(settings.name), PREFERENCE_LOSSES[settings.name]
    turned = [unit[::-1] for unit in units]
    assert float(loss(replies_of(turned), 1, settings)) == pytest.approx(float(loss(replies_of(units), 1, settings)))


def test_simper_is_bounded_and_its_gradient_is_the_papers():
    """Gradient: -(p_w / |y_w| grad log pi(y_w) - p_l / |y_l| grad log pi(y_l)), p the inverse perplexity."""
    replies = replies_of(some_pairs())
    logprobs_D = replies.logprobs_D.clone().requires_grad_()
    loss = simper(replace(replies, logprobs_D=logprobs_D), 3, SimPER())
    assert -1 < float(loss.detach()) < 1
    loss.backward()
    wanted = -replies.advantages_D * replies.mean_logprobs_D.exp() / replies.num_tokens_D / 3
    torch.testing.assert_close(logprobs_D.grad, wanted)


def test_grouper_of_pairs_is_half_of_simper():
    replies = replies_of(some_pairs())
    half = simper(replies, 3, SimPER()) / 2
    torch.testing.assert_close(grouper(replies, 3, GrouPER()), half, rtol=0, atol=1e-15)


def test_ipo_rests_where_the_margin_is_enough():
    replies = replace(
        replies_of(some_pairs([(1, 1)])),
        logprobs_D=torch.tensor([2.0, 1.5]),
        num_tokens_D=torch.ones(2),
        reference_D=torch.tensor([0.0, 4.5]),
    )
    assert float(ipo(replies, 1, Ipo())) == 0.0


def test_losses_stay_finite_where_replies_are_long_or_certain():
    replies = replies_of(some_pairs([(2, 2)]))
    far = replace(replies, logprobs_D=torch.tensor([-9e4, -1.0], requires_grad=True), reference_D=torch.zeros(2))
    dpo(far, 1, Dpo()).backward()
    torch.testing.assert_close(far.logprobs_D.grad, torch.tensor([-0.1, 0.1]))
    for dtype in (torch.float32, torch.float64):
        for values in ([0.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [-1e-9, -1e-9], [-9e4, 0.0], [0.0, -9e4]):
            logprobs_D = torch.tensor(values, dtype=dtype, requires_grad=True)
            loss = orpo(replace(replies, logprobs_D=logprobs_D), 1, Orpo())
            loss.backward()
            assert loss.isfinite() and logprobs_D.grad.isfinite().all()


@pytest.mark.parametrize(
    ("mean", "log_odds"),
    [
        (math.log1p(-1e-13), -math.log(1e-13)),
        (math.log1p(-1e-9), -math.log(1e-9)),
        (math.log(0.5), 0.0),
        (-70.0, -70.0),
    ],
)
def test_orpos_odds_are_exact_where_a_rejected_reply_is_next_to_certain_or_impossible(mean, log_odds):
    replies = replace(
        replies_of(some_pairs([(1, 1)])),
        logprobs_D=torch.tensor([math.log(0.5), mean], dtype=torch.double),
        num_tokens_D=torch.ones(2, dtype=torch.double),
    )
    found = float(orpo(replies, 1, Orpo(odds_weight=1.0))) + math.log(0.5)
    assert found == pytest.approx(max(log_odds, 0.0) + math.log1p(math.exp(-abs(log_odds))), rel=1e-6)


def test_kto_pushes_each_side_its_way_and_feels_z0():
    replies = replies_of(some_units("kto"))
    logprobs_D = replies.logprobs_D.clone().requires_grad_()
    loss = kto(replace(replies, logprobs_D=logprobs_D), 1, Kto())
    loss.backward()
    assert (logprobs_D.grad.sign() == -replies.advantages_D).all()
    assert float(kto(replace(replies, kl=KL + 1), 1, Kto())) != pytest.approx(float(loss.detach()))
    assert math.isnan(float(kto(replace(replies, kl=math.nan), 1, Kto())))


@pytest.mark.parametrize("name", ["dpo", "ipo", "kto"])
def test_a_loss_that_compares_wants_its_reference(name):
    replies = replace(replies_of(some_pairs()), reference_D=None)
    settings = {"dpo": Dpo(), "ipo": Ipo(), "kto": Kto()}[name]
    with pytest.raises(ValueError, match="needs reference log-probabilities"):
        PREFERENCE_LOSSES[name](replies, 1, settings)


@pytest.mark.parametrize(
    ("rewards", "wanted"),
    [
        ([1.0, 0.0], [1.0, -1.0]),
        ([1.0, 0.0, 0.0, 0.0], [1.0, -1 / 3, -1 / 3, -1 / 3]),
        ([0.0, 1.0, 2.0], [-1.0, 0.0, 1.0]),
        ([5.0, 1.0, 1.0, 1.0, 2.0], [1.0, -1 / 3, -1 / 3, -1 / 3, 0.0]),
        ([0.3] * 8, [0.0] * 8),
        ([0.1 + 0.2, 0.3], [0.0, 0.0]),
        ([7.0], [0.0]),
    ],
)
def test_groupers_advantages_are_z_scores_scaled_by_the_largest(rewards, wanted):
    found = grouper_advantages(torch.tensor([rewards], dtype=torch.double))[0]
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.double))
    if any(wanted):
        values = np.array(rewards)
        scores = (values - values.mean()) / values.std()
        np.testing.assert_allclose(found.numpy(), scores / np.abs(scores).max(), atol=1e-12)


def test_a_group_without_variance_neither_moves_nor_changes_the_others():
    rewards = torch.tensor([[1.0, 0.0, 0.5], [0.3, 0.3, 0.3]], dtype=torch.double)
    advantages_PG = grouper_advantages(rewards)
    assert torch.equal(advantages_PG[0], grouper_advantages(rewards[:1])[0])
    assert not advantages_PG[1].any()
    units = drawn([[(3, a) for a in group] for group in advantages_PG.tolist()])
    replies = replies_of(units)
    logprobs_D = replies.logprobs_D.clone().requires_grad_()
    loss = grouper(replace(replies, logprobs_D=logprobs_D), 1, GrouPER())
    loss.backward()
    assert not logprobs_D.grad[3:].any() and logprobs_D.grad[:3].any()
    assert float(loss.detach()) == float(grouper(replies_of(units[:1]), 1, GrouPER()))


def test_what_is_masked_counts_in_no_advantage():
    rewards, is_valid = torch.tensor([[1.0, math.nan, 0.0]]), torch.tensor([[True, False, True]])
    assert grouper_advantages(rewards, is_valid_PG=is_valid).tolist() == [[1.0, 0.0, -1.0]]
