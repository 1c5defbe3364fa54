"""Preference losses against closed forms, and the names of all losses."""

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch

from open_exaone.learn.cross_entropy import SUPERVISED_LOSSES, SupervisedLoss
from open_exaone.learn.policy import POLICY_LOSSES, PolicyLoss
from open_exaone.learn.preference import PREFERENCE_LOSSES, Dpo, Ipo, PreferenceLoss, Replies, SimPER, dpo, ipo, simper


def replies_of(*pairs):
    """Replies, chosen and rejected in turn, and their parts: a token's log-probabilities, and the reference's sum."""
    flat = [reply for pair in pairs for reply in pair]
    return Replies(
        torch.stack([logprobs.sum() for logprobs, _ in flat]),
        torch.tensor([float(len(logprobs)) for logprobs, _ in flat]),
        torch.tensor([1.0, -1.0] * len(pairs)),
        torch.arange(len(pairs)).repeat_interleave(2),
        torch.tensor([reference for _, reference in flat], dtype=torch.double),
    )


def some_pairs(*lengths, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [
        [(torch.randn(n, dtype=torch.double, generator=draw).sub(1).requires_grad_(), -1.2 * n + 0.3) for n in pair]
        for pair in lengths
    ]


def test_simper_and_its_gradient_are_the_papers():
    """Gradient: -(p_w / |y_w| grad log pi(y_w) - p_l / |y_l| grad log pi(y_l)), p the inverse perplexity."""
    pairs = some_pairs((3, 5), (8, 2))
    loss = simper(replies_of(*pairs), 2, SimPER())
    expected = sum(math.exp(float(r.detach().mean())) - math.exp(float(c.detach().mean())) for (c, _), (r, _) in pairs)
    assert float(loss.detach()) == pytest.approx(expected / 2)
    loss.backward()
    for pair in pairs:
        for sign, (reply, _) in zip((-1, 1), pair, strict=True):
            probability = math.exp(float(reply.detach().mean()))
            torch.testing.assert_close(reply.grad, torch.full_like(reply, sign * probability / len(reply) / 2))


def test_dpo_and_its_gradient_are_the_papers():
    """Equation 7; gradient: -beta sigma(beta (rejected - chosen)) (grad log pi(y_w) - grad log pi(y_l))."""
    pairs, beta = some_pairs((3, 5), (8, 2)), 0.4
    loss = dpo(replies_of(*pairs), 3, Dpo(beta=beta))
    margins = [float((c.sum() - c_ref - r.sum() + r_ref).detach()) for (c, c_ref), (r, r_ref) in pairs]
    assert float(loss.detach()) == pytest.approx(sum(math.log1p(math.exp(-beta * margin)) for margin in margins) / 3)
    loss.backward()
    for margin, pair in zip(margins, pairs, strict=True):
        for sign, (reply, _) in zip((-1, 1), pair, strict=True):
            push = beta / (1 + math.exp(beta * margin)) / 3
            torch.testing.assert_close(reply.grad, torch.full_like(reply, sign * push))


def test_ipo_is_equation_17_with_means_and_rests_where_the_margin_is_enough():
    pairs, tau = some_pairs((3, 5), (8, 2)), 0.4
    margins = [((c.sum() - c_ref) / len(c) - (r.sum() - r_ref) / len(r)).detach() for (c, c_ref), (r, r_ref) in pairs]
    loss = ipo(replies_of(*pairs), 3, Ipo(tau=tau))
    assert float(loss.detach()) == pytest.approx(sum(float(margin - 1.25) ** 2 for margin in margins) / 3)
    loss.backward()
    for margin, pair in zip(margins, pairs, strict=True):
        for sign, (reply, _) in zip((1, -1), pair, strict=True):
            push = sign * 2 * (margin - 1 / (2 * tau)) / len(reply) / 3
            torch.testing.assert_close(reply.grad, push.expand_as(reply))
    (pair,) = some_pairs((1, 1))
    replies = replace(replies_of(pair), logprobs_D=torch.tensor([2.0, 1.5]), reference_D=torch.tensor([0.0, 4.5]))
    assert float(ipo(replies, 1, Ipo())) == 0.0


def test_dpo_stays_finite_where_replies_are_long_and_wants_its_reference():
    (pair,) = some_pairs((2, 2))
    replies = replies_of(pair)
    far = replace(replies, logprobs_D=torch.tensor([-9e4, -1.0], requires_grad=True))
    dpo(far, 1, Dpo()).backward()
    torch.testing.assert_close(far.logprobs_D.grad, torch.tensor([-0.1, 0.1]))
    with pytest.raises(ValueError, match="needs reference log-probabilities"):
        dpo(replace(replies, reference_D=None), 1, Dpo())


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
