"""The native code's draws against the definitions in `engine/sampling.py`, from logits that the test chooses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sampling_reference as reference
from doubles import TINY, make_model, make_tokenizer, request
from open_exaone.base.records import Sampling, StopReason
from open_exaone.engine import native
from open_exaone.engine.engine import Engine
from open_exaone.engine.request import random_stream

pytestmark = pytest.mark.skipif(native.why_not(make_model()) is not None, reason="there are no native kernels here")

WIDTH = 64
SHAPE = TINY.model_copy(
    update={"vocab_size": 333, "width": WIDTH, "num_layers": 1, "norm_eps": 1e-12, "tied_embeddings": False}
)


def engine_of(logits_WV, dtype=torch.float32, **options):
    """Of a model whose logits after token t are row t % WIDTH, to the bit: its one layer adds nothing."""
    model = make_model(SHAPE)
    with torch.no_grad():
        layer = model.model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(8 * torch.eye(WIDTH).repeat(6, 1)[: SHAPE.vocab_size])
        model.model.norm.weight.fill_(1 / 8)
        model.lm_head.weight.copy_(torch.as_tensor(logits_WV).T)
    return Engine(model.to(dtype), make_tokenizer(), backend="native", **options)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(reference.SAMPLINGS, min_size=1, max_size=5),
    levels=st.sampled_from([2, 9, 100_000]),
    seed=st.integers(0, 1 << 30),
)
def test_every_draw_follows_the_definitions(rows, levels, seed):
    random = np.random.default_rng(seed)
    logits = (random.integers(0, levels, (WIDTH, SHAPE.vocab_size)) / levels * 12 - 5).astype(np.float32)
    samplings = [replace(sampling, max_new_tokens=12, seed=seed) for sampling in rows]
    requests = [request([9, 3 + place], sampling, place) for place, sampling in enumerate(samplings)]
    for place, completion in engine_of(logits).stream(requests):
        prompt, sampling, ids = requests[place].prompt_ids, samplings[place], completion.ids
        uniforms = random_stream(requests[place], 12)
        for number, (token, logprob) in enumerate(zip(ids, completion.sampling_logprobs, strict=True)):
            logits_V = logits[(*prompt, *ids)[len(prompt) + number - 1] % WIDTH]
            raw_V = torch.tensor(logits_V).log_softmax(-1)
            assert completion.logprobs[number] == pytest.approx(float(raw_V[token]), abs=2e-5)
            weights = reference.kept_weights(logits_V, sampling, prompt, ids[:number])
            shares = np.cumsum(weights) / weights.sum()
            # What float32 leaves of x / temperature moves the limits between tokens.
            most = float(np.abs(reference.changed(logits_V, sampling, prompt, ids[:number])).max())
            exact = 2e-5 + 4e-7 * most / max(sampling.temperature, 1e-5) * (sampling.temperature >= 1e-5)
            assert weights[token] > 0
            if sampling.temperature >= 1e-5:
                assert (
                    shares[token] - weights[token] / weights.sum() - exact <= uniforms[number] <= shares[token] + exact
                )
            assert logprob == pytest.approx(float(np.log(weights[token] / weights.sum())), abs=exact)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sampling", [Sampling(4, 0.0), Sampling(4, 1.0, 1.0), Sampling(4, 0.7, 0.9, top_k=20)])
@pytest.mark.parametrize("token", [0, 200, 332])
def test_one_logit_that_is_no_number_fails_the_request(value, sampling, token):
    """Wherever it stands; minus infinity among others is a token that is never drawn."""
    logits = np.random.default_rng(0).standard_normal((WIDTH, SHAPE.vocab_size)).astype(np.float32)
    engine = engine_of(logits)
    with torch.no_grad():
        engine.model.model.embed_tokens.weight[:, 1] = 8  # after every token, row 1 is added
        engine.model.model.embed_tokens.weight[:, 0] = 0
        engine.model.lm_head.weight[token, 1] = value
    engines = [engine, Engine(engine.model, engine.tokenizer, backend="plain")]
    found, wanted = ([done for _, done in one.stream([request([9], sampling)])] for one in engines)
    assert [(done.ids, done.stop, done.error) for done in found] == [(one.ids, one.stop, one.error) for one in wanted]
    assert (found[0].stop is StopReason.ERROR) == (value != -np.inf)


def test_scores_that_a_penalty_makes_infinite_fail_the_request():
    logits = np.zeros((WIDTH, SHAPE.vocab_size), np.float32)
    logits[9, 9] = 1e38
    for temperature in (0.0, 1.0):
        [(_, done)] = engine_of(logits).stream([request([9], Sampling(4, temperature, repetition_penalty=0.01))])
        assert (done.ids, done.stop) == ((), StopReason.ERROR)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_matrix_hides_a_weight_that_is_no_number(value, int8):
    """Wherever among the 32 numbers that share a scale in 8 bits."""
    for name in ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"):
        model = make_model()
        with torch.no_grad():
            model.get_parameter(f"model.layers.1.{name}.weight")[20, 5] = value
        [(_, done)] = Engine(model, make_tokenizer(), backend="native", int8=int8).stream(
            [request([9, 10], Sampling(4))]
        )
        assert done.stop is StopReason.ERROR, name
