"""The engine against the plain loop, and its promises: streams, slots, shared prompts, log-probabilities."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import tokenizers
import torch

import sampling_reference as reference
from doubles import SHAPES, make_model, make_tokenizer, random_ids, request
from open_exaone.base.errors import CheckpointError, PromptTooLongError
from open_exaone.base.records import Sampling, StopReason
from open_exaone.engine import engine as engine_module
from open_exaone.engine.engine import Engine
from open_exaone.engine.request import random_stream
from open_exaone.model.logprobs import token_logprobs
from open_exaone.text.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("backend")

WARM = Sampling(max_new_tokens=16, temperature=1.0, top_p=1.0, num_samples=3)
PROMPTS = [random_ids(length, seed=length).tolist() for length in (3, 12, 7, 1, 9, 5, 12)]
DISTINCT = PROMPTS[:-1]  # the last stands before


def make_engine(shape="exaone4-global", num_slots=4, **options):
    return Engine(make_model(SHAPES[shape]), make_tokenizer(), num_slots=num_slots, **options)


@pytest.mark.parametrize("shape", ["exaone4-global", "exaone4-hybrid", "llama"])
@torch.no_grad()
def test_greedy_equals_the_plain_loop(shape):
    engine = make_engine(shape)
    replies = engine.generate(PROMPTS, Sampling(max_new_tokens=20, temperature=0))
    for prompt, [completion] in zip(PROMPTS, replies, strict=True):
        ids = torch.tensor([prompt])
        for token in completion.ids:
            assert int(engine.model(ids)[0, -1].argmax()) == token
            ids = torch.cat((ids, torch.tensor([[token]])), dim=1)
        assert (completion.ids[-1] == make_tokenizer().end_id) == (completion.stop is StopReason.END)
        assert len(completion.ids) == 20 or completion.stop is StopReason.END


@pytest.mark.parametrize("shape", ["exaone4-global", "exaone4-hybrid"])
def test_a_sample_depends_on_seed_prompt_and_index_alone(shape):
    """Not on the number of slots, its neighbours, or their order."""
    sampling = Sampling(max_new_tokens=16, temperature=1.0, top_p=0.9, num_samples=3, seed=5)
    whole = make_engine(shape, num_slots=16).generate(DISTINCT, sampling)
    narrow = make_engine(shape, num_slots=2).generate(DISTINCT, sampling)
    backwards = make_engine(shape, num_slots=5).generate(DISTINCT[::-1], sampling)[::-1]
    alone = [make_engine(shape).generate([prompt], sampling)[0] for prompt in DISTINCT]
    ids = [[completion.ids for completion in group] for group in whole]
    for other in (narrow, backwards, alone):
        assert ids == [[completion.ids for completion in group] for group in other]
    more = make_engine(shape).generate(DISTINCT[:1], Sampling(16, 1.0, 0.9, num_samples=5, seed=5))
    assert [completion.ids for completion in more[0][:3]] == ids[0]
    assert len({completion.ids for completion in more[0]}) > 1
    changed = make_engine(shape).generate(DISTINCT, Sampling(16, 1.0, 0.9, num_samples=3, seed=6))
    assert ids != [[completion.ids for completion in group] for group in changed]


@torch.no_grad()
def test_logprobs_are_those_of_the_full_forward():
    engine = make_engine("exaone4-hybrid")
    sampling = Sampling(max_new_tokens=16, temperature=0.7, top_p=0.8, num_samples=2)
    for prompt, group in zip(PROMPTS, engine.generate(PROMPTS, sampling), strict=True):
        for completion in group:
            ids = torch.tensor([*prompt, *completion.ids])
            logits_TV = engine.model(ids[None])[0, len(prompt) - 1 : -1]
            new_T = ids[len(prompt) :]
            raw_T = token_logprobs(logits_TV, new_T)
            torch.testing.assert_close(torch.tensor(completion.logprobs), raw_T, rtol=1e-4, atol=1e-4)
            sampled_T = torch.tensor(reference.logprobs(logits_TV.numpy(), sampling, prompt, completion.ids))
            torch.testing.assert_close(torch.tensor(completion.sampling_logprobs), sampled_T, rtol=1e-3, atol=1e-4)


def test_a_groups_prompt_is_computed_once(monkeypatch):
    engine = make_engine(num_slots=3, backend="plain")
    lengths = []
    original = engine.model.model.forward

    def counting(ids_BT, *args, **kwargs):
        lengths.append(ids_BT.shape)
        return original(ids_BT, *args, **kwargs)

    monkeypatch.setattr(engine.model.model, "forward", counting)
    engine.generate(PROMPTS[1:2], Sampling(max_new_tokens=6, num_samples=8))
    assert [shape for shape in lengths if shape[1] > 1] == [(1, 11)]


def test_slots_are_refilled_while_others_run():
    """Seven prompts of unlike lengths of reply through two slots take fewer steps than batch after batch."""
    engine = make_engine(num_slots=2)
    steps = []
    replies = engine.generate(
        PROMPTS, Sampling(max_new_tokens=24, temperature=1.5, top_p=1.0), lambda tokens, done: steps.append(tokens)
    )
    lengths = [len(completion.ids) for [completion] in replies]
    assert sum(steps) == sum(lengths)
    in_batches = sum(max(lengths[start : start + 2]) for start in range(0, 7, 2))
    assert len(steps) < in_batches or len(set(lengths)) == 1


def test_random_streams_are_their_own():
    assert random_stream(request([1, 2], WARM), 8).tolist() == random_stream(request([1, 2], WARM), 16)[:8].tolist()
    keys = [([1, 2], 0), ([1, 2], 1), ([12], 0), ([1, 2], 0, 1), ([1, 2], 1, 1), ([1, 2], 0, 2)]
    asked = [request([1, 2], replace(WARM, seed=1)), *(request(prompt, WARM, *rest) for prompt, *rest in keys)]
    assert len({tuple(random_stream(one, 4)) for one in asked}) == 7


def test_the_stream_of_a_prompt_that_stands_once_is_that_of_its_hashed_text():
    """Results that were measured stay: what is hashed may not change."""
    key = int.from_bytes(hashlib.blake2b(b"7:3:1,22", digest_size=16).digest(), "little")
    wanted = np.random.Generator(np.random.Philox(key=key)).random(4, dtype=np.float32)
    assert random_stream(request([1, 22], replace(WARM, seed=7), 3), 4).tolist() == wanted.tolist()


def test_a_prompt_that_stands_again_gets_other_samples():
    engine, prompt = make_engine(num_slots=16), PROMPTS[1]
    alone, first, _, again = (
        [completion.ids for completion in group]
        for prompts in ([prompt], [prompt, PROMPTS[0], prompt])
        for group in engine.generate(prompts, WARM)
    )
    assert first == alone and len({*first, *again}) == 2 * len(first)


@pytest.mark.parametrize("kind", [np.array, torch.tensor, lambda ids: list(map(np.int32, ids))])
def test_ids_are_numbers_of_any_type(kind):
    """The same random streams, also where a prompt stands again."""
    engine, prompts = make_engine(), [[1, 22], [1, 22], [7]]
    assert engine.generate([kind(prompt) for prompt in prompts], WARM) == engine.generate(prompts, WARM)
    numbers = [request(kind(prompt), WARM) for prompt in prompts]
    assert random_stream(numbers[0], 4).tolist() == random_stream(request(prompts[0], WARM), 4).tolist()


def test_prompts_that_cannot_be_completed_are_refused():
    engine, sampling = make_engine(), Sampling(max_new_tokens=2)
    engine.model.forward = None
    with pytest.raises(PromptTooLongError, match="prompt 1 has 120 tokens.*context of 128"):
        engine.generate([[5], [5] * 120], Sampling(max_new_tokens=20))
    for wrong, why in (
        ([], "is empty"),
        ([5, 320], "has the id 320: the model.s ids are 0 to 319"),
        ([-1], "has the id -1"),
        ([5, 1.5], "has 1.5, which"),
    ):
        with pytest.raises(ValueError, match=f"prompt 1 {why}"):
            engine.generate([[5], wrong], sampling)
    for changes, name in (({"logit_bias": {999: 1.0}}, "logit_bias"), ({"stop_ids": [999]}, "stop_ids")):
        with pytest.raises(ValueError, match=f"prompt 0: {name} has the id 999: the model.s ids are 0 to 319"):
            engine.generate([[5]], replace(sampling, **changes))
    assert engine.generate([], sampling) == []


def test_a_tokenizer_that_names_no_end_is_refused():
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a"))
    with pytest.raises(CheckpointError, match="names no token that ends a generation"):
        Engine(make_model(SHAPES["llama"]), Tokenizer(backend))


def test_stopping_midway_leaves_nothing_behind():
    engine = make_engine()

    class Stop(Exception):
        pass

    def stop(num_tokens, num_done):
        raise Stop

    with pytest.raises(Stop):
        engine.generate(PROMPTS, Sampling(max_new_tokens=8), stop)
    fresh = make_engine().generate(PROMPTS, Sampling(max_new_tokens=8))
    assert engine.generate(PROMPTS, Sampling(max_new_tokens=8)) == fresh
    assert not hasattr(engine_module, "_cache")
