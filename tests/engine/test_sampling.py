"""Drawing one token a row: against a few lines of numpy, against transformers, by counting, and at the ends of what
may be asked for."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process

import sampling_reference as reference
from open_exaone.base.records import Sampling
from open_exaone.engine import sampling as module
from open_exaone.engine.sampling import GREEDY_BELOW, Settings, TokenCounts, changed_scores, draw
from open_exaone.model.logprobs import token_logprobs

VOCAB = 50
LOGITS = torch.randn(64, VOCAB, generator=torch.Generator().manual_seed(0)) * 8
UNIFORMS = torch.rand(64, generator=torch.Generator().manual_seed(1))
TINY_VALUES = [5e-324, 1e-320, 1e-45, 1e-40, 1e-38, 1e-30, 1e-12, 9e-6]
PLAIN = Sampling(8, 1.0, 1.0)


def draw_with(logits_BV, uniforms_B, *samplings, prompts=None, replies=None):
    """One sampling for all rows, or one a row; counts as the engine keeps them."""
    counts = None
    if prompts is not None:
        kept = TokenCounts(len(logits_BV), logits_BV.shape[1], torch.device("cpu"))
        for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
            kept.enter(row, prompt, reply[:1])
            for token in reply[1:]:
                kept.add([row], torch.tensor([token]))
        counts = kept.of(range(len(logits_BV)))
    return draw(logits_BV, Settings.of(samplings, logits_BV.shape[1]), uniforms_B, counts)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(reference.SAMPLINGS, min_size=1, max_size=5),
    vocab=st.sampled_from([12, 700]),
    num_candidates=st.sampled_from([4, 256]),
    levels=st.sampled_from([2, 9, 100_000]),
    seed=st.integers(0, 1 << 30),
)
def test_every_row_follows_the_definitions(rows, vocab, num_candidates, levels, seed):
    """Rows of unlike settings in one batch; logits with few levels are full of ties."""
    random = np.random.default_rng(seed)
    logits = (random.integers(0, levels, (len(rows), vocab)) / levels * 12 - 5).astype(np.float32)
    uniforms = random.random(len(rows), dtype=np.float32)
    prompts = [random.integers(0, vocab, 5).tolist() for _ in rows]
    replies = [random.integers(0, 9, 6).tolist() for _ in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NUM_CANDIDATES", num_candidates)
        found = draw_with(torch.tensor(logits), torch.tensor(uniforms), *rows, prompts=prompts, replies=replies)
    raw_B = token_logprobs(torch.tensor(logits), found.ids_B)
    assert found.is_valid_B.all() and torch.equal(found.logprobs_B, raw_B)
    for row, sampling in enumerate(rows):
        weights = reference.kept_weights(logits[row], sampling, prompts[row], replies[row])
        token, logprob = reference.drawn(logits[row], sampling, uniforms[row], prompts[row], replies[row])
        mine = int(found.ids_B[row])
        if mine != token:  # only where exp's last bit moves a limit past the number
            shares = np.cumsum(weights) / weights.sum()
            assert min(abs(shares - uniforms[row])) < 1e-6
        assert weights[mine] > 0
        logprob = math.log(weights[mine] / weights.sum())
        assert float(found.sampling_logprobs_B[row]) == pytest.approx(logprob, abs=2e-5)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(reference.SAMPLINGS, min_size=2, max_size=6), seed=st.integers(0, 1 << 30))
def test_a_row_does_not_depend_on_the_others(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, uniforms = torch.randn(len(rows), 900, generator=generator) * 3, torch.rand(len(rows), generator=generator)
    prompts, replies = [[1, 2]] * len(rows), [[2, 3, 3]] * len(rows)
    together = draw_with(logits, uniforms, *rows, prompts=prompts, replies=replies)
    for row, sampling in enumerate(rows):
        part = slice(row, row + 1)
        alone = draw_with(logits[part], uniforms[part], sampling, prompts=[[1, 2]], replies=[[2, 3, 3]])
        assert alone.ids_B[0] == together.ids_B[row]
        assert float(alone.sampling_logprobs_B[0]) == pytest.approx(float(together.sampling_logprobs_B[row]), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "theirs"),
    [
        ({"top_k": 7}, logits_process.TopKLogitsWarper(7)),
        ({"top_k": 1}, logits_process.TopKLogitsWarper(1)),
        ({"top_p": 0.9}, logits_process.TopPLogitsWarper(0.9)),
        ({"top_p": 0.3}, logits_process.TopPLogitsWarper(0.3)),
        ({"min_p": 0.05}, logits_process.MinPLogitsWarper(0.05)),
        ({"temperature": 1.4}, logits_process.TemperatureLogitsWarper(1.4)),
        ({"repetition_penalty": 1.3}, logits_process.RepetitionPenaltyLogitsProcessor(1.3)),
        ({"repetition_penalty": 0.7}, logits_process.RepetitionPenaltyLogitsProcessor(0.7)),
    ],
)
@pytest.mark.parametrize("vocab", [VOCAB, 1000])
def test_each_alone_is_what_transformers_does(changes, theirs, vocab):
    """Whatever the number that draws, the token is one of theirs, as likely as in theirs."""
    generator = torch.Generator().manual_seed(3)
    logits, uniforms = torch.randn(256, vocab, generator=generator) * 3, torch.rand(256, generator=generator)
    prompts, replies = [[4, 9]] * 256, [[9, 11, 11]] * 256
    wanted_BV = theirs(torch.tensor([[4, 9, 9, 11, 11]] * 256), logits.clone()).log_softmax(-1)
    found = draw_with(logits, uniforms, replace(PLAIN, **changes), prompts=prompts, replies=replies)
    wanted_B = wanted_BV.gather(1, found.ids_B[:, None])[:, 0]
    torch.testing.assert_close(found.sampling_logprobs_B, wanted_B, rtol=1e-4, atol=1e-5)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    sampling=reference.SAMPLINGS,
    temperature=st.sampled_from([0.6, 1.0, 1.7, 100.0]),
    reply=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    seed=st.integers(0, 1 << 30),
)
def test_together_they_are_transformers_processors_in_this_order(sampling, temperature, reply, seed):
    """Transformers has no presence and frequency penalty: they are biases that depend on the reply."""
    sampling, prompt = replace(sampling, temperature=temperature), [1, 3, 11]
    logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3
    biases = {(token,): bias for token, bias in sampling.logit_bias}
    penalties = {
        (token,): -sampling.presence_penalty - sampling.frequency_penalty * reply.count(token) for token in reply
    }
    steps = [
        *([logits_process.SequenceBiasLogitsProcessor(biases)] if biases else []),
        logits_process.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty),
        logits_process.SequenceBiasLogitsProcessor(penalties),
        logits_process.TemperatureLogitsWarper(temperature),
        *([logits_process.MinPLogitsWarper(sampling.min_p)] if sampling.min_p else []),
        *([logits_process.TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []),
        *([logits_process.TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []),
    ]
    wanted_BV = logits_process.LogitsProcessorList(steps)(torch.tensor([[*prompt, *reply]]), logits.clone()).softmax(-1)
    weights = reference.kept_weights(logits[0].numpy(), sampling, prompt, reply)
    np.testing.assert_allclose(weights / weights.sum(), wanted_BV[0].numpy(), atol=2e-6)
    found = draw_with(logits, UNIFORMS[:1], sampling, prompts=[prompt], replies=[reply])
    wanted = wanted_BV.gather(1, found.ids_B[:, None])[:, 0]
    torch.testing.assert_close(found.sampling_logprobs_B.exp(), wanted, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.6, "top_p": 0.95},
        {"temperature": 1.3, "top_p": 0.5},
        {"top_k": 4},
        {"min_p": 0.2},
        {"top_k": 6, "top_p": 0.8, "min_p": 0.02, "logit_bias": {2: 1.5}},
        {"frequency_penalty": 1.1, "repetition_penalty": 1.5, "presence_penalty": 0.5},
    ],
)
def test_draws_follow_the_distribution(changes):
    num_draws, sampling = 40_000, replace(PLAIN, **changes)
    logits_V = torch.randn(12, generator=torch.Generator().manual_seed(1)) * 2
    uniforms = torch.rand(num_draws, generator=torch.Generator().manual_seed(2))
    one = draw_with(logits_V[None], uniforms[:1], sampling, prompts=[[1, 2]], replies=[[3, 3, 2]])
    counts = TokenCounts(1, 12, torch.device("cpu"))
    counts.enter(0, [1, 2], [3, 3, 2])
    drawn = draw(
        logits_V.expand(num_draws, -1),
        Settings.of([sampling], 12),
        uniforms,
        tuple(part.expand(num_draws, -1) for part in counts.of([0])),
    )
    assert drawn.ids_B[0] == one.ids_B[0]
    weights = torch.tensor(reference.kept_weights(logits_V.numpy(), sampling, [1, 2], [3, 3, 2]))
    wanted = weights / weights.sum()
    found = torch.bincount(drawn.ids_B, minlength=12) / num_draws
    assert ((found - wanted).abs() < 5 * (wanted * (1 - wanted) / num_draws).sqrt() + 1e-9).all()
    assert (found[wanted == 0] == 0).all()


def test_top_p_keeps_the_fewest_that_reach_it_and_of_equals_the_lower_id():
    logits = torch.tensor([[0.2, 0.5, 0.1, 0.2]]).log()
    for top_p, kept in ((0.5, {1}), (0.51, {0, 1}), (0.75, {0, 1, 3}), (0.95, {0, 1, 2, 3})):
        drawn = draw_with(logits.expand(400, -1), torch.arange(400) / 400, replace(PLAIN, top_p=top_p))
        assert set(drawn.ids_B.tolist()) == kept


def test_top_k_keeps_all_that_equal_the_kth():
    logits = torch.tensor([[3.0, 1.0, 1.0, 1.0, 0.0]])
    drawn = draw_with(logits.expand(400, -1), torch.arange(400) / 400, replace(PLAIN, top_k=2))
    assert set(drawn.ids_B.tolist()) == {0, 1, 2, 3}


def test_a_flat_row_is_cut_in_order_of_id():
    """Thousands of equal logits: the candidates can't hold what is kept."""
    drawn = draw_with(torch.zeros(1, 4000).expand(64, -1), UNIFORMS, replace(PLAIN, top_p=0.25))
    assert drawn.ids_B.max() < 1000 and len(set(drawn.ids_B.tolist())) > 50
    torch.testing.assert_close(drawn.sampling_logprobs_B, torch.full((64,), -math.log(1000)))


def test_the_vocabulary_is_not_sorted_where_candidates_hold_what_is_kept(monkeypatch):
    sorted_widths = []
    sort = torch.Tensor.sort

    def counting(tensor, *args, **kwargs):
        sorted_widths.append(tensor.shape[-1])
        return sort(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "sort", counting)
    logits = torch.randn(8, 5000, generator=torch.Generator().manual_seed(0)) * 4
    for changes in ({"top_k": 50}, {"top_p": 0.9}, {"top_k": 20, "top_p": 0.9, "min_p": 0.01}):
        draw_with(logits, UNIFORMS[:8], replace(PLAIN, **changes))
    assert max(sorted_widths) <= 256
    sorted_widths.clear()
    draw_with(logits, UNIFORMS[:8], replace(PLAIN, min_p=0.01))
    draw_with(logits, UNIFORMS[:8], PLAIN)
    assert not sorted_widths


def test_greedy_is_the_best_of_the_changed_scores():
    sampling = Sampling(8, 0.0, 0.1, top_k=3, min_p=0.4, repetition_penalty=1.4, logit_bias={7: 9.0})
    best = LOGITS.argmax(-1).tolist()
    drawn = draw_with(LOGITS, UNIFORMS, sampling, prompts=[[token] for token in best], replies=[[1, 1]] * 64)
    wanted = [
        int(reference.changed(row, sampling, [token], [1, 1]).argmax())
        for row, token in zip(LOGITS.numpy(), best, strict=True)
    ]
    assert drawn.ids_B.tolist() == wanted != best
    assert not drawn.sampling_logprobs_B.any()
    assert torch.equal(drawn.logprobs_B, token_logprobs(LOGITS, drawn.ids_B))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("changes", [{}, {"temperature": 0.0}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}])
@pytest.mark.parametrize("vocab", [VOCAB, 1000])
def test_a_row_whose_logits_are_no_numbers_fails_alone(value, changes, vocab):
    logits = torch.randn(6, vocab, generator=torch.Generator().manual_seed(3))
    sampling, broken = replace(PLAIN, **changes), logits.clone()
    broken[2, 17] = value
    broken[4] = -math.inf
    whole, found = (draw_with(rows, UNIFORMS[:6], sampling) for rows in (logits, broken))
    assert found.is_valid_B.tolist() == [True, True, False, True, False, True]
    assert whole.is_valid_B.all()
    for mine, wanted in zip(found[:3], whole[:3], strict=True):
        assert torch.equal(mine[found.is_valid_B], wanted[found.is_valid_B])


def test_masked_logits_are_never_drawn():
    logits = LOGITS.clone()
    logits[:, ::2] = -math.inf
    drawn = draw_with(logits, UNIFORMS, replace(PLAIN, temperature=50.0))
    assert drawn.is_valid_B.all() and (drawn.ids_B % 2 == 1).all()


@pytest.mark.parametrize("temperature", TINY_VALUES)
@pytest.mark.parametrize("top_p", [1.0, 0.5, 1e-40])
def test_a_tiny_temperature_is_greedy(temperature, top_p):
    drawn, greedy = (draw_with(LOGITS, UNIFORMS, Sampling(8, value, top_p)) for value in (temperature, 0.0))
    assert torch.equal(drawn.ids_B, LOGITS.argmax(-1))
    assert all(torch.equal(one, other) for one, other in zip(drawn, greedy, strict=True))


@pytest.mark.parametrize("temperature", [GREEDY_BELOW, 1e-3, 0.6, 1.0, 100.0])
@pytest.mark.parametrize("top_p", [*TINY_VALUES, 0.3, 1 - 1e-7, 1.0])
def test_whatever_is_asked_for_is_a_token_with_a_finite_probability(temperature, top_p):
    drawn = draw_with(LOGITS, UNIFORMS, Sampling(8, temperature, top_p))
    assert torch.isfinite(drawn.logprobs_B).all() and torch.isfinite(drawn.sampling_logprobs_B).all()
    if top_p <= 1e-5:  # the nucleus is the most likely token alone
        assert torch.equal(drawn.ids_B, LOGITS.argmax(-1)) and not drawn.sampling_logprobs_B.any()


@pytest.mark.parametrize("uniform", [0.0, 0.99999994])
def test_the_outermost_numbers_stay_inside_what_is_kept(uniform):
    logits = torch.tensor([[-1e9, 5.0, 4.9, -30.0, -1e9]])
    for changes in ({}, {"top_p": 0.9}, {"top_k": 2}, {"min_p": 0.5}):
        assert draw_with(logits, torch.tensor([uniform]), replace(PLAIN, **changes)).ids_B.item() in (1, 2)


def test_the_limit_is_reached_without_a_jump():
    """At the limit, only tokens within 1e-4 of the best are drawn."""
    drawn = draw_with(LOGITS, UNIFORMS, Sampling(8, GREEDY_BELOW, 1.0))
    best = LOGITS.max(-1).values
    assert math.isclose(float((best - LOGITS.gather(1, drawn.ids_B[:, None])[:, 0]).max()), 0.0, abs_tol=1e-4)


def test_scores_that_nothing_changes_are_the_logits():
    assert changed_scores(LOGITS, Settings.of([PLAIN], VOCAB)) is LOGITS
