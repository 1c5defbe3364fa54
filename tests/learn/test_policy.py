"""Policy losses against NumPy and finite differences, and in a game whose expectations are sums over all outcomes."""

import functools
import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from open_exaone.learn.advantage import Rewards, advantages_of
from open_exaone.learn.policy import POLICY_LOSSES, Grpo, PolicyLoss, grpo
from open_exaone.learn.policy_parts import Advantage, Correction, Sampled, sampler_weights
from policy_by_hand import Game, advantages_by_hand, loss_by_hand, sampled_of, some_completions

LOSSES, ESTIMATORS, MAX_NEW_TOKENS = list(POLICY_LOSSES), [None, "k1", "k2", "k3", "sequence"], 9
AGGREGATES = ["tokens", "sequences", "sums", "constant"]
CORRECTIONS = [None, *({"kind": kind, "max_ratio": 1.3} for kind in ("truncate", "mask", "off"))]


PARSER = TypeAdapter(PolicyLoss)


def settings_of(name, **fields):
    return PARSER.validate_python({"name": name, **fields})


@functools.cache
def variants(name):
    """Each aggregation with each divergence, and each correction with one of them; weights' bounds that act."""
    found = []
    for aggregate, estimator, correction in itertools.product(AGGREGATES, ESTIMATORS, CORRECTIONS):
        if correction is not None and (name == "agapo_off_policy" or estimator in ("k1", "k2")):
            continue
        if name in ("gspo", "rloo") and aggregate != "sequences":
            continue
        kl = {"beta": 0.0} if estimator is None else {"beta": 0.3, "estimator": estimator}
        fields = {"aggregate": aggregate, "kl": kl} | ({} if correction is None else {"correction": correction})
        fields |= {"max_ratio": 1.2} if name in ("cispo", "agapo_off_policy") else {}
        found.append(settings_of(name, **fields))
    return found


def loss_of(sampled, loss_settings):
    number = len(sampled.documents_M.unique())
    denominator = loss_settings.denominator(len(sampled.logprobs_M), number, MAX_NEW_TOKENS)
    return POLICY_LOSSES[loss_settings.name](sampled, denominator, loss_settings)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_its_equation_in_numpy(name):
    for seed, lengths in enumerate([(1,), (2, 7, 1, 4)]):
        completions = some_completions(lengths, seed)
        for variant in variants(name):
            found = float(loss_of(sampled_of(completions), variant).detach())
            assert found == pytest.approx(loss_by_hand(completions, variant, MAX_NEW_TOKENS), abs=1e-10), variant


@pytest.mark.parametrize("name", LOSSES)
def test_every_gradient_is_the_finite_difference_with_what_is_detached_held_fixed(name):
    completions, step = some_completions((3, 1), seed=5), 1e-6
    for variant in variants(name):
        sampled = sampled_of(completions)
        loss_of(sampled, variant).backward()
        found, wanted = sampled.logprobs_M.grad.numpy(), []
        for completion, place in ((c, t) for c in range(2) for t in range(len(completions[c].now))):
            sides = []
            for sign in (1, -1):
                moved = [c.now.copy() for c in completions]
                moved[completion][place] += sign * step
                sides.append(loss_by_hand(completions, variant, MAX_NEW_TOKENS, moved))
            wanted.append((sides[0] - sides[1]) / (2 * step))
        np.testing.assert_allclose(found, wanted, atol=1e-8, err_msg=repr(variant))


@pytest.mark.parametrize("name", ["grpo", "gspo", "rloo"])
def test_what_is_differentiable_as_written_passes_gradcheck(name):
    completions, variant = some_completions((3, 2), seed=1), settings_of(name, kl={"beta": 0.2, "estimator": "k3"})
    sampled = sampled_of(completions)

    def value(logprobs_M):
        return loss_of(sampled_of(completions, logprobs_M=logprobs_M), variant)

    assert torch.autograd.gradcheck(value, sampled.logprobs_M)


@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.integers(0, 1000), st.sampled_from(LOSSES), st.data())
@settings(max_examples=40, deadline=None)
def test_neither_the_order_nor_the_split_of_completions_changes_a_loss(lengths, seed, name, data):
    completions = some_completions(lengths, seed)
    variant = data.draw(st.sampled_from(variants(name)))
    denominator = variant.denominator(sum(lengths), len(lengths), MAX_NEW_TOKENS)
    whole = loss_of(sampled_of(completions), variant)
    order = data.draw(st.permutations(completions))
    cut = data.draw(st.integers(1, len(lengths) - 1))
    parts = [POLICY_LOSSES[name](sampled_of(part), denominator, variant) for part in (order[:cut], order[cut:])]
    torch.testing.assert_close(sum(parts), whole, rtol=0, atol=1e-12)


def test_each_aggregation_has_its_denominator():
    found = [settings_of("grpo", aggregate=aggregate).denominator(12, 3, 50) for aggregate in AGGREGATES]
    assert found == [12, 3, 3, 150]
    assert settings_of("dapo").denominator(0, 0, 50) == 1


def test_the_defaults_are_the_published_ones():
    found = {name: settings_of(name) for name in LOSSES}
    aggregates = dict.fromkeys(("grpo", "gspo", "rloo", "agapo_off_policy"), "sequences")
    aggregates |= dict.fromkeys(("dapo", "cispo", "reinforce_pp"), "tokens")
    aggregates |= {"dr_grpo": "constant", "agapo": "sums"}
    assert {name: loss.aggregate for name, loss in found.items()} == aggregates
    clips = {name: (loss.clip_low, loss.clip_high) for name, loss in found.items() if hasattr(loss, "clip_low")}
    assert clips["dapo"] == (0.2, 0.28) and clips["gspo"] == (3e-4, 4e-4) and clips["grpo"] == (0.2, 0.2)
    assert [name for name in LOSSES if not found[name].divide_by_std] == ["dr_grpo"]
    assert [name for name in LOSSES if found[name].kl is not None] == ["agapo"]


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False), (1.25, 1.0, True), (0.85, -1.0, True)],
)
def test_a_clip_stops_only_what_has_gone_far_enough(ratio, advantage, moves):
    logprobs = torch.tensor([math.log(ratio)], requires_grad=True)
    sampled = Sampled(logprobs, torch.zeros(1), torch.tensor([advantage]), torch.zeros(1).long())
    grpo(sampled, 1.0, Grpo(clip_low=0.2, clip_high=0.28)).backward()
    assert bool(logprobs.grad.abs() > 0) == moves


def test_a_divergence_without_reference_is_an_error_and_a_sampler_without_numbers_is_not():
    sampled = sampled_of(some_completions((2,)), reference_M=None, sampler_M=None)
    for estimator in ESTIMATORS[1:]:
        with pytest.raises(ValueError, match="needs reference log-probabilities"):
            loss_of(sampled, settings_of("grpo", kl={"beta": 0.1, "estimator": estimator}))
    assert sampler_weights(sampled, Correction()) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "rloo", "divide_by_std": False}, "divide_by_std has no effect with advantage = 'leave_one"),
        ({"name": "agapo_off_policy", "correction": {"kind": "mask"}}, "weighs by the sampler's own probabilities"),
        ({"name": "agapo", "all_wrong_advantage": 0.1}, "less than or equal to 0"),
        ({"name": "agapo", "advantage": "leave_one_out", "all_wrong_advantage": -0.2}, "has no effect with advantage"),
        ({"name": "grpo", "kl": {"beta": -1}}, "greater than or equal to 0"),
        ({"name": "agapo", "kl": None}, r"kl is missing: \{ beta = 0 \} switches it off"),
        ({"name": "gspo", "aggregate": "tokens"}, "gspo compares whole replies, each of which counts once"),
        ({"name": "grpo", "kl": {"beta": 0.1, "estimator": "k4"}}, "'k1', 'k2', 'k3' or 'sequence'"),
    ],
)
def test_settings_without_sense_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        settings_of(**fields)


@pytest.mark.parametrize("name", LOSSES)
def test_any_loss_may_have_any_advantage_and_can_be_parsed_from_its_own_dump(name):
    for advantage in get_args(Advantage):
        found = settings_of(name, advantage=advantage)
        assert PARSER.validate_python(found.model_dump()) == found


def divergence_gradient(estimator):
    """The expectation over all sequences of the gradient of AGAPO's loss without reward, and the game."""
    game = Game(3)
    variant = settings_of("agapo", kl={"beta": 0.7, "estimator": estimator})
    for sequence in game.sequences:
        value = POLICY_LOSSES["agapo"](game.sampled([sequence], [0.0]), 1.0, variant)
        (game.probability(sequence) * value).backward()
    return game.logits.grad, game


def contexts(game):
    """How likely each context is, [S, 1], and the two distributions in it; for the trained one with gradient."""
    reached = torch.zeros(len(game.rows), 1, dtype=torch.float64)
    for sequence in game.sequences:
        for t in range(len(sequence)):
            reached[game.rows[sequence[:t]]] += game.probability(sequence)
    return reached, game.logits.log_softmax(-1), game.reference.log_softmax(-1)


def gradient_of(value, game):
    return torch.autograd.grad(value, game.logits)[0]


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_the_divergence_of_whole_completions_has_the_gradient_of_the_closed_form():
    found, game = divergence_gradient("sequence")
    assert sum(game.probability(sequence) for sequence in game.sequences) == pytest.approx(1)
    kl = 0.0
    for sequence in game.sequences:
        logp, logq = game.logprobs(sequence, game.logits).sum(), game.logprobs(sequence, game.reference).sum()
        kl = kl + logp.exp() * (logp - logq)
    close(found, 0.7 * gradient_of(kl, game))
    close(found.sum(1), torch.zeros(len(game.rows), dtype=torch.float64))  # a softmax's gradient


def test_k2_moves_as_the_divergence_of_each_token_k3_as_its_reverse_and_k1_not_at_all():
    found, game = divergence_gradient("k2")
    reached, p, q = contexts(game)
    per_token = gradient_of((reached * p.exp() * (p - q)).sum(), game)
    close(found, 0.7 * per_token)
    whole, _ = divergence_gradient("sequence")
    assert (found - whole).abs().max() > 1e-2  # the last token of a completion apart, they differ
    found, game = divergence_gradient("k3")
    reached, p, q = contexts(game)
    close(found, 0.7 * gradient_of((reached * q.exp() * (q - p)).sum(), game))
    found, _ = divergence_gradient("k1")
    close(found, torch.zeros_like(found))


def expected_steps(name, num_groups, size, length):
    """The expectation over all batches of the step that our code takes, and of the published gradient by hand."""
    game = Game(length)
    variant = settings_of(name, **({"kl": {"beta": 0.0}} if name == "agapo" else {}))
    wanted = np.zeros(game.logits.shape)
    for batch in itertools.product(game.sequences, repeat=num_groups * size):
        rewards = torch.tensor([game.rewards[sequence] for sequence in batch], dtype=torch.float64).view(-1, size)
        valid, correct = torch.ones_like(rewards).bool(), rewards == 1
        advantages, kept = advantages_of(Rewards(rewards, valid, None, correct), variant)
        by_hand, _ = advantages_by_hand(rewards.tolist(), valid.tolist(), correct.tolist(), variant)
        kept = kept.repeat_interleave(size).tolist()
        rows = [
            row
            for row in zip(batch, advantages.flatten().tolist(), itertools.chain(*by_hand), kept, strict=True)
            if row[3]
        ]
        if not rows:
            continue
        chosen, ours, theirs, _ = zip(*rows, strict=True)
        num_tokens, probability = sum(map(len, chosen)), game.probability(*batch)
        denominator = variant.denominator(num_tokens, len(chosen), length)
        (probability * POLICY_LOSSES[name](game.sampled(chosen, ours), denominator, variant)).backward()
        for sequence, advantage in zip(chosen, theirs, strict=True):
            share = {  # of A ∇ log p(o), as each paper has it
                "grpo": 1 / len(sequence) / len(chosen),
                "dr_grpo": 1 / length / len(chosen),
                "dapo": 1 / num_tokens,
                "gspo": 1 / len(sequence) / len(chosen),
                "cispo": 1 / num_tokens,
                "rloo": 1 / len(chosen),
                "reinforce_pp": 1 / num_tokens,
                "agapo": 1 / len(chosen),
                "agapo_off_policy": 1 / len(sequence) / len(chosen),
            }[name]
            wanted -= probability * advantage * share * game.score(sequence)
    return game.logits.grad, torch.from_numpy(wanted), game


@pytest.mark.parametrize("name", LOSSES)
def test_the_expected_step_is_the_published_gradient(name):
    for num_groups, size, length in ((1, 2, 2), (2, 2, 1), (1, 3, 1)):
        found, wanted, _ = expected_steps(name, num_groups, size, length)
        close(found, wanted)
        assert wanted.abs().max() > 1e-3


@pytest.mark.parametrize(("size", "length"), [(2, 2), (3, 1)])
def test_leave_one_out_follows_the_expected_reward_and_a_group_mean_its_share(size, length):
    """Of one group the mean with the member itself shrinks the step by (G - 1) / G, and biases nothing."""
    for name, scale in (("rloo", 1.0), ("dr_grpo", (size - 1) / size / length)):
        found, _, game = expected_steps(name, 1, size, length)
        value = sum(
            game.logprobs(sequence, game.logits).sum().exp() * reward for sequence, reward in game.rewards.items()
        )
        close(found, -scale * gradient_of(value, game))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_finds_the_best_of_three_arms(name):
    game = Game(1, seed=1)
    game.rewards = {(0,): 0.0, (1,): 1.0, (2,): 0.5}
    variant = settings_of(name, **({"kl": {"beta": 0.0}} if name == "agapo" else {}))
    for _ in range(25):
        game.logits.grad = None
        for pair in itertools.product(game.sequences, repeat=2):
            rewards = torch.tensor([[game.rewards[arm] for arm in pair]], dtype=torch.float64)
            known = Rewards(rewards, torch.ones_like(rewards).bool(), None, rewards == 1)
            [advantages] = advantages_of(known, variant).advantages_PG.tolist()
            value = POLICY_LOSSES[name](game.sampled(pair, advantages), variant.denominator(2, 2, 1), variant)
            (game.probability(*pair) * value).backward()
        with torch.no_grad():
            game.logits -= 8 * game.logits.grad
    assert game.probability((1,)) > 0.9
