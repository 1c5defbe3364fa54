"""The native backend and the one of CUDA graphs against the plain one, to which they add nothing but speed.

Without a GPU the steps that graphs would replay are called.
"""

from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from doubles import TINY, make_model, make_tokenizer, random_ids, request
from open_exaone.base.records import Sampling
from open_exaone.engine import engine as engine_module
from open_exaone.engine import graphs, native, sampling, scheduler
from open_exaone.engine.engine import Engine
from open_exaone.model.config import ModelConfig, RopeScaling
from open_exaone.model.logprobs import token_logprobs
from open_exaone.model.lora import add_lora, merge_lora, without_lora
from open_exaone.model.lora_config import LoraConfig

with_kernels = pytest.mark.skipif(native.why_not(make_model()) is not None, reason="there are no native kernels here")

WARM = Sampling(20, 1.0, 1.0, seed=3)
ODD = {"vocab_size": 333, "ffn_width": 70, "num_heads": 6, "num_kv_heads": 1, "width": 48, "head_width": 16}
CONFIGS = {
    "reordered norms": TINY,
    "windows": TINY.model_copy(update={"num_layers": 5, "pattern": "LLG", "window": 20}),
    "odd sizes, one head of keys": TINY.model_copy(update=ODD),
    "wide heads, untied": TINY.model_copy(update={"head_width": 112, "num_kv_heads": 2, "tied_embeddings": False}),
    "llama, scaled": TINY.model_copy(
        update={"family": "llama", "rope_scaling": RopeScaling(factor=8.0, original_max_positions=32)}
    ),
    "biases": TINY.model_copy(update={"family": "qwen2"}),
    "deep products": TINY.model_copy(update={"ffn_width": 4200}),  # the sums go on over 512 inputs and more
    "norms of queries and keys": TINY.model_copy(update={"family": "qwen3", "pattern": "LG", "window": 33}),
}
# Over 16 MiB in float32, and 4 in 8 bits: threads share a step where few sequences run.
LARGE = TINY.model_copy(update={"width": 256, "num_heads": 8, "head_width": 32, "ffn_width": 776, "num_layers": 6})
SAMPLINGS = {
    "raw": WARM,
    "greedy": replace(WARM, temperature=0.0),
    "filters": replace(WARM, temperature=0.8, top_k=30, top_p=0.9, min_p=0.01),
    "top_p": replace(WARM, temperature=0.5, top_p=0.7),
    "penalties": replace(WARM, frequency_penalty=0.5, presence_penalty=0.3, repetition_penalty=1.2, top_k=9),
    "bias and stops": replace(WARM, logit_bias={40: 5.0, 50: -9.0}, stop_ids=(60, 61, 62), stop=("e", "1")),
}


def model_of(config: ModelConfig):
    model = make_model(config.model_copy(update={"max_positions": 2048}))
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.copy_(torch.randn(weight.shape, generator=generator))
    return model


def prompts_of(lengths):
    return [random_ids(length, seed=length).tolist() for length in lengths]


def completions(engine, requests):
    found = dict(engine.stream(requests))
    return [found[place] for place in range(len(requests))]


def asked(sampling, lengths=(1, 16, 17, 40, 66, 130), num_samples=2):
    return [request(prompt, sampling, index) for prompt in prompts_of(lengths) for index in range(num_samples)]


def assert_alike(ours, plain):
    for one, other in zip(ours, plain, strict=True):
        assert (one.ids, one.stop) == (other.ids, other.stop)
        for values, others in ((one.logprobs, other.logprobs), (one.sampling_logprobs, other.sampling_logprobs)):
            np.testing.assert_allclose(values, others, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_plain_backend(fast, name):
    model, tokenizer = model_of(CONFIGS[name]), make_tokenizer()
    engines = [Engine(model, tokenizer, backend=name) for name in (fast, "plain")]
    ours, plain = (completions(engine, asked(WARM) + asked(replace(WARM, temperature=0.0))) for engine in engines)
    assert_alike(ours, plain)


@pytest.mark.parametrize("name", SAMPLINGS)
def test_draws_as_the_plain_backend(fast, name):
    model, tokenizer = make_model(), make_tokenizer()
    engines = [Engine(model, tokenizer, backend=name) for name in (fast, "plain")]
    ours, plain = (completions(engine, asked(SAMPLINGS[name], (3, 20, 50), 6)) for engine in engines)
    assert_alike(ours, plain)


@pytest.mark.parametrize("name", SAMPLINGS)
def test_rows_that_a_graph_cannot_draw_are_drawn_behind_it(monkeypatch, name):
    """Where the most likely tokens do not hold what is kept, often in the middle of a call."""
    model, tokenizer, requests = make_model(), make_tokenizer(), asked(SAMPLINGS[name], (3, 20, 50), 6)
    plain = completions(Engine(model, tokenizer, backend="plain"), requests)
    monkeypatch.setattr(sampling, "NUM_CANDIDATES", 24)
    monkeypatch.setattr(graphs.GraphBackend, "most_steps", lambda backend, num_samples: 16)
    assert_alike(completions(Engine(model, tokenizer, backend="graphs"), requests), plain)


def test_graphs_are_captured_anew_only_where_weights_have_moved():
    model = make_model()
    with closing(Engine(model, make_tokenizer(), backend="graphs", num_steps=1).open_session([200])) as session:
        session.submit([request([5, 6], WARM)])

        def kept():
            """Whether the steps are those of before."""
            before = list(session._backend._steps.values())
            session.refresh()
            session.step()
            return before == list(session._backend._steps.values())

        session.step()
        assert kept()
        with torch.no_grad():
            model.model.norm.weight.add_(0.1)
        assert kept()
        model.model.norm.weight.data = model.model.norm.weight.clone()
        assert not kept() and kept()
        add_lora(model, LoraConfig(rank=4), seed=0)
        assert not kept()
        with without_lora(model):
            assert not kept()


def test_pools_that_stay_change_nothing(monkeypatch):
    """A second session reads the pools of the first where they are as large, and so keeps its graphs."""
    model, tokenizer = make_model(), make_tokenizer()
    engine = Engine(model, tokenizer, backend="graphs")
    wanted = [completions(engine, asked(WARM, lengths)) for lengths in ((30, 40), (17,), (60, 80, 90))]
    monkeypatch.setattr(graphs.GraphBackend, "_may_keep", lambda backend: True)
    pools = []
    for lengths, replies in zip(((30, 40), (17,), (60, 80, 90)), wanted, strict=True):
        assert completions(engine, asked(WARM, lengths)) == replies
        pools.append(engine._free_backends[0]._cache)
    assert pools[0] is pools[1] is not pools[2]


def test_one_long_reply_does_not_widen_all(monkeypatch):
    """Rows of unlike lengths decode apart where that costs less than the weights, read twice."""
    backend = graphs.GraphBackend(make_model(), frozenset())
    lengths = [3] * 60 + [4000]
    monkeypatch.setattr(backend, "_block_bytes", (1 << 20, 0))
    *parts, last = backend._parts(range(61), lengths)
    assert list(last) == [60] and sorted(row for rows in (*parts, last) for row in rows) == list(range(61))
    monkeypatch.setattr(backend, "_block_bytes", (1, 0))
    assert list(map(list, backend._parts(range(20), lengths))) == [list(range(20))]


@with_kernels
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_nothing_but_the_request_decides_to_the_bit(monkeypatch, kind):
    """Not the threads, the slots, the steps of a call, the chunks of a prompt, or the memory."""
    model = model_of(CONFIGS["windows"])
    model = model.bfloat16() if kind == "bfloat16" else model
    requests, tokenizer = asked(replace(WARM, top_p=0.95)), make_tokenizer()

    def found(threads=1, **options):
        monkeypatch.setattr(native.NativeBackend, "num_threads", threads)
        return completions(Engine(model, tokenizer, int8=kind == "int8", **options), requests)

    first = found()
    for threads, options in ((2, {}), (3, {"num_slots": 5}), (1, {"num_slots": 1, "num_steps": 3})):
        assert found(threads, **options) == first
    monkeypatch.setattr(scheduler, "CHUNK_TOKENS", 7)
    assert found(2) == first
    free = 3 * model.config.kv_cache_bytes(200, bytes_per_value=model.dtype.itemsize)
    monkeypatch.setattr(engine_module, "free_bytes", lambda device: free)
    assert found(2) == first


@with_kernels
@pytest.mark.parametrize("num_prompts", [1, 2, 5, 20])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_threads_that_share_a_step_change_nothing(monkeypatch, kind, num_prompts):
    """A model large enough for that; a team's pace decides by the clock when it computes, so several calls are made.

    So many threads get into each other's way that teams are given up in the middle of a step. A trial of theirs ends
    before a call of many steps does.
    """
    model, tokenizer = make_model(LARGE), make_tokenizer()
    model = model.bfloat16() if kind == "bfloat16" else model
    requests = asked(replace(WARM, max_new_tokens=12), range(30, 30 + num_prompts), 1)
    found = []
    for threads, num_steps in ((1, 2), (2, 2), (3, 2), (24, 2), (24, 12)):
        monkeypatch.setattr(native.NativeBackend, "num_threads", threads)
        engine = Engine(model, tokenizer, backend="native", int8=kind == "int8", num_steps=num_steps)
        found.append(completions(engine, requests))
    assert found[1:] == found[:1] * 4


def test_a_long_prompt_equals_the_plain_backend(fast):
    """Longer than a chunk, so that the second is read behind the first."""
    model, tokenizer = model_of(CONFIGS["windows"]), make_tokenizer()
    requests = asked(replace(WARM, max_new_tokens=8), (1100, 1025, 1024, 1023), 2)
    ours, plain = (completions(Engine(model, tokenizer, backend=name), requests) for name in (fast, "plain"))
    assert_alike(ours, plain)


@with_kernels
@torch.no_grad()
def test_what_is_rounded_stays_close():
    model, tokenizer = model_of(CONFIGS["llama, scaled"]).bfloat16(), make_tokenizer()
    exact = model_of(CONFIGS["llama, scaled"])
    exact.load_state_dict(model.state_dict())
    for options, mean, most in (({}, 0.02, 0.1), ({"int8": True}, 0.08, 0.6)):
        gaps = []
        for one, done in zip(asked(WARM), completions(Engine(model, tokenizer, **options), asked(WARM)), strict=True):
            ids = torch.tensor([*one.prompt_ids, *done.ids])
            logits_TV = exact(ids[None])[0, len(one.prompt_ids) - 1 : -1]
            wanted_T = token_logprobs(logits_TV, ids[len(one.prompt_ids) :])
            gaps += (wanted_T - torch.tensor(done.logprobs)).abs().tolist()
        assert (np.mean(gaps), max(gaps)) < (mean, most) and max(gaps) < most


def test_new_weights_are_taken_when_a_call_begins(fast):
    model, tokenizer = model_of(TINY), make_tokenizer()
    engine = Engine(model, tokenizer, backend=fast)
    before = completions(engine, asked(WARM))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.tensor([[3, 4, 5]])).logsumexp(-1).sum().backward()
    optimizer.step()
    after = completions(engine, asked(WARM))
    assert after != before
    assert after == completions(Engine(model, tokenizer, backend=fast), asked(WARM))
    with torch.inference_mode():
        assert completions(engine, asked(WARM)) == after


def test_adapters_count_while_they_are_on(fast):
    model, tokenizer = model_of(TINY), make_tokenizer()
    plain = completions(Engine(model, tokenizer, backend=fast), asked(WARM))
    add_lora(model, LoraConfig(rank=4), seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    engine = Engine(model, tokenizer, backend=fast)
    adapted = completions(engine, asked(WARM))
    with without_lora(model):
        assert completions(engine, asked(WARM)) == plain
    assert completions(engine, asked(WARM)) == adapted != plain
    merge_lora(model)
    assert_alike(completions(Engine(model, tokenizer, backend=fast), asked(WARM)), adapted)


@with_kernels
def test_what_it_cannot_compute_is_named():
    narrow = make_model(TINY.model_copy(update={"head_width": 8}))
    with pytest.raises(ValueError, match="head_width = 8 are not multiples of 16"):
        Engine(narrow, make_tokenizer(), backend="native")
    assert Engine(narrow, make_tokenizer()).generate([[3]], Sampling(2))
    with pytest.raises(ValueError, match="the weights are float64"):
        Engine(make_model().double(), make_tokenizer(), int8=True)
    with pytest.raises(ValueError, match="num_slots = 0"):
        Engine(make_model(), make_tokenizer(), num_slots=0)


def test_counts_of_a_very_long_reply_stop_at_the_largest_that_fits() -> None:
    penalized = Sampling(9, presence_penalty=1.0)
    sample = SimpleNamespace(ids=[3] * 70_000 + [5], uniforms_T=np.zeros(9), request=request((1,), penalized))
    row = native._Row(sample, native._Settings(penalized, frozenset()), 8)
    _, _, counts_V = row._kept
    assert counts_V.tolist() == [0, 0, 0, 65_535, 0, 1, 0, 0]
