"""The local engine as a provider: what is asked, what comes back, and how it is told from another's."""

import functools
import random
from dataclasses import replace

import pytest
import torch

from doubles import make_model, make_tokenizer
from open_exaone.base import interrupt
from open_exaone.base.errors import CheckpointError
from open_exaone.base.records import Problem, Sampling, StopReason
from open_exaone.engine.engine import Engine
from open_exaone.rollout.provider import requests_for, sample_seed
from open_exaone.rollout.providers.local import LocalProvider, weights_hash
from open_exaone.text.tokenizer import Tokenizer

WARM = Sampling(max_new_tokens=90, temperature=1.3, top_p=1.0, seed=4)


def make_provider(num_slots=16):
    engine = Engine(make_model(), make_tokenizer(), num_slots=num_slots)
    return LocalProvider(engine, model="tiny", weights="abc")


def asks(num_questions=3, num_samples=4, sampling=WARM, thinking=True):
    conversations = [[{"role": "user", "content": f"{number} + 4?"}] for number in range(num_questions)]
    return requests_for(conversations, make_tokenizer(), replace(sampling, num_samples=num_samples), thinking=thinking)


def mixed():
    return [*asks(), *asks(thinking=False), *asks(sampling=replace(WARM, thinking_budget=9))]


@functools.cache
def completions():
    """What the engine itself makes of `mixed()`."""
    found = dict(Engine(make_model(), make_tokenizer(), num_slots=16).stream(mixed()))
    return [found[place] for place in range(len(found))]


def test_generations_are_the_engines_completions_split():
    asked = mixed()
    found = dict(make_provider().stream(asked))
    assert sorted(found) == list(range(len(asked)))
    for place, (ask, completion) in enumerate(zip(asked, completions(), strict=True)):
        generation = found[place]
        assert generation.reply == make_tokenizer().split(completion.ids, thinking=ask.thinking)
        assert generation.stop is completion.stop
        assert generation.num_prompt_tokens == len(ask.prompt_ids)
        assert generation.num_tokens == len(completion.ids)
        assert (generation.ids, generation.logprobs) == (completion.ids, completion.sampling_logprobs)
        assert generation.policy_version == completion.policy_version
    assert {generation.stop for generation in found.values()} > {StopReason.BUDGET, StopReason.LENGTH}


def test_thought_tokens_are_those_before_the_closing_tag():
    tokenizer, asked = make_tokenizer(), mixed()
    counted = {"open": 0, "closed": 0, "none": 0}
    for place, generation in make_provider().stream(asked):
        ask, ids = asked[place], completions()[place].ids
        budget = ask.sampling.thinking_budget
        if not ask.thinking and tokenizer.think_close_id not in ids:
            wanted, kind = 0, "none"
        elif tokenizer.think_close_id not in ids:
            wanted, kind = len(ids), "open"
        else:
            before = ids[: ids.index(tokenizer.think_close_id)]
            wanted, kind = len(before) - (before[-1:] == tuple(tokenizer.encode("\n"))), "closed"
        assert generation.num_thought_tokens == wanted
        assert budget is None or wanted <= budget
        counted[kind] += 1
    assert all(counted.values())


def test_requests_hold_the_rendered_prompt_and_count_the_ones_that_stand_again():
    tokenizer = make_tokenizer()
    questions = ["1 + 4?", "2 + 4?", "1 + 4?"]
    problems = [Problem(f"p/{n}", "p", "en", text, "5", "math") for n, text in enumerate(questions)]
    found = requests_for(problems, tokenizer, replace(WARM, num_samples=2), thinking=True)
    assert [(one.index, one.occurrence) for one in found] == [(0, 0), (1, 0)] * 2 + [(0, 1), (1, 1)]
    for one, text in zip(found[::2], questions, strict=True):
        assert one.messages == ({"role": "user", "content": text},)
        assert list(one.prompt_ids) == tokenizer.render(one.messages, thinking=True, generation_prompt=True)
    samples = [generation.ids for _, generation in sorted(make_provider().stream(found), key=lambda pair: pair[0])]
    assert len(set(samples)) == 6


def test_log_probabilities_are_under_what_was_sampled_from():
    own = replace(WARM, temperature=1.0)
    [raw] = Engine(make_model(), make_tokenizer()).stream(asks(1, 1, own))
    [plain] = make_provider().stream(asks(1, 1, own))
    assert plain[1].logprobs == raw[1].logprobs  # the model's own, without the rounding of a sum over the vocabulary
    [(_, forced)] = make_provider().stream(asks(1, 1, replace(own, thinking_budget=9)))
    assert 0.0 in forced.logprobs[9:]  # the forced end of the thought


def test_a_stream_of_what_is_missing_gives_the_rest():
    asked = mixed()
    whole = dict(make_provider().stream(asked))
    missing = [1, 2, 7, 20, 30]
    rest = dict(make_provider(num_slots=2).stream([asked[place] for place in missing]))
    assert [rest[place].ids for place in range(5)] == [whole[place].ids for place in missing]


@pytest.mark.parametrize("seed", range(3))
def test_no_sample_changes_with_the_order_or_the_parts_in_which_requests_are_streamed(seed):
    """Equal prompts among them; all members of all groups differ."""
    questions = [[{"role": "user", "content": text}] for text in ("1?", "2?", "1?", "3?", "1?")]
    own = replace(WARM, max_new_tokens=20, temperature=1.0, num_samples=4)
    asked = requests_for(questions, make_tokenizer(), own, thinking=[True, False, True, True, False])
    whole = {place: found.ids for place, found in make_provider().stream(asked)}
    assert len(set(whole.values())) == len(asked) == 20
    draw = random.Random(seed)
    order = draw.sample(range(20), 20)
    again, start = {}, 0
    while start < 20:
        part = order[start : (start := start + draw.randint(1, 9))]
        stream = make_provider(num_slots=draw.randint(1, 9)).stream([asked[place] for place in part])
        again |= {part[place]: found.ids for place, found in stream}
    assert again == whole


def test_a_prompt_that_is_the_same_in_both_modes_stands_twice(tmp_path):
    """As EXAONE Deep's, whose format has no other."""
    make_tokenizer().save(tmp_path)
    deep = Tokenizer.load(tmp_path, chat_format="exaone-deep")
    first, second = requests_for([[{"role": "user", "content": "?"}]] * 2, deep, WARM, thinking=[True, False])
    assert first.prompt_ids == second.prompt_ids and (first.occurrence, second.occurrence) == (0, 1)


def test_the_seeds_of_one_prompt_s_samples_all_differ():
    """Hashes of 31 bits would meet among a hundred thousand: twice or so."""
    first = asks(1, 1)[0]
    seeds = {
        sample_seed(replace(first, index=index, occurrence=occurrence), "prompt")
        for occurrence in (0, 1, 2, 32_766)
        for index in range(65_537)
    }
    assert len(seeds) == 4 * 65_537 and 0 <= min(seeds) and max(seeds) < 2**31
    others = [sample_seed(first, "another"), sample_seed(replace(first, sampling=replace(WARM, seed=5)), "prompt")]
    assert len({sample_seed(first, "prompt"), *others}) == 3


def test_a_questions_prompt_is_read_once(monkeypatch):
    provider = make_provider()
    provider._engine._backend = "plain"
    forward, rows = provider._engine.model.model.forward, []

    def counting(ids_BT, *args, **kwargs):
        rows.append(ids_BT.shape)
        return forward(ids_BT, *args, **kwargs)

    monkeypatch.setattr(provider._engine.model.model, "forward", counting)
    list(provider.stream(asks(num_questions=2, num_samples=6)))
    assert [shape[0] for shape in rows if shape[1] > 1] == [2]


def test_closing_the_stream_and_ctrl_c_stop_the_engine(monkeypatch):
    steps = []
    monkeypatch.setattr(interrupt, "check", lambda: steps.append(1))
    stream = make_provider(2).stream(asks())
    next(stream)
    num_steps = len(steps)
    stream.close()
    assert list(stream) == []
    assert 0 < num_steps == len(steps)
    monkeypatch.undo()
    monkeypatch.setattr(interrupt, "_requested", True)
    with pytest.raises(interrupt.Interrupted):
        list(make_provider().stream(asks()))


def test_replies_end_where_the_context_does():
    provider = make_provider()
    short, long, longer = "2 + 3?", "5 + 4? " * 8, "5 + 4? " * 60
    sampling = Sampling(max_new_tokens=100, temperature=0.7, thinking_budget=90)
    conversations = [[{"role": "user", "content": question}] for question in (short, long, longer)]
    told = dict(provider.stream(requests_for(conversations, make_tokenizer(), sampling, thinking=True)))
    context = make_model().config.max_positions
    assert len(told) == 3
    assert all(generation.num_prompt_tokens + generation.num_tokens <= context for generation in (told[0], told[1]))
    assert (told[2].stop, told[2].num_tokens, told[2].reply.answer) == (StopReason.LENGTH, 0, "")
    [note] = provider.notes
    assert f"context of {context} tokens" in note


def test_a_stop_string_ends_the_text_and_not_the_ids():
    tokenizer, asked = make_tokenizer(), asks(sampling=replace(WARM, stop=("e", "7")), num_samples=8)
    found = dict(make_provider().stream(asked))
    stopped = [generation for generation in found.values() if generation.stop is StopReason.STOP_STRING]
    assert stopped
    for generation in stopped:
        text = tokenizer.decode(generation.ids, skip_special=True)
        before = text[: min(place for place in map(text.find, ("e", "7")) if place >= 0)]
        assert generation.reply == tokenizer.split(before, thinking=True)
        assert len(generation.ids) == len(generation.logprobs) == generation.num_tokens


def test_a_request_whose_logits_are_no_numbers_is_left_out_and_reported():
    provider, asked = make_provider(), asks(3, 1, replace(WARM, logit_bias={300: -100.0}))
    whole = dict(provider.stream(asked))
    assert provider.failure is None
    with torch.no_grad():
        provider._engine.model.model.embed_tokens.weight = torch.nn.Parameter(
            provider._engine.model.model.embed_tokens.weight.clone()
        )
        provider._engine.model.model.embed_tokens.weight[300] = float("nan")
    broken = replace(asked[1], prompt_ids=(*asked[1].prompt_ids, 300))
    found = dict(provider.stream([asked[0], broken, asked[2]]))
    assert {place: generation.ids for place, generation in found.items()} == {n: whole[n].ids for n in (0, 2)}
    assert "are NaN or infinite: check its weights" in provider.failure


def test_a_model_without_a_chat_format_is_refused(tmp_path):
    make_tokenizer().save(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    mute = LocalProvider(Engine(make_model(), Tokenizer.load(tmp_path)))
    with pytest.raises(CheckpointError, match="has no chat template"):
        requests_for([[{"role": "user", "content": "?"}]], mute.tokenizer, WARM, thinking=True)


def test_identity_and_cost():
    provider = make_provider()
    identity = {"engine": "local", "model": "tiny", "weights": "abc", "dtype": "float32", "device": "cpu"}
    assert provider.identity == identity
    assert (provider.failure, provider.gives_ids) == (None, True)
    [(_, generation)] = provider.stream(asks(1, 1))
    total = generation.num_prompt_tokens + generation.num_tokens
    config = make_model().config
    exact = sum(config.flops_per_token(context) for context in range(total))
    assert provider.flops(generation) == pytest.approx(exact, rel=0.01)


def test_the_hash_of_the_weights_changes_with_any_file_that_decides(tmp_path):
    def folder(name, **changes):
        files = {"model.safetensors": b"12", "config.json": b"{}", "tokenizer.json": b"[]", "README.md": b"read"}
        (tmp_path / name).mkdir()
        for file, content in (files | changes).items():
            (tmp_path / name / file).write_bytes(content)
        return weights_hash(tmp_path / name)

    plain = folder("plain")
    assert len(plain) == 64
    assert plain == folder("elsewhere") == folder("noted", **{"README.md": b"reread"})
    changed = [
        folder("weights", **{"model.safetensors": b"13"}),
        folder("shards", **{"model-2.safetensors": b""}),
        folder("config", **{"config.json": b"{ }"}),
        folder("tokenizer", **{"tokenizer.json": b""}),
        folder("template", **{"chat_template.jinja": b""}),
        folder("ends", **{"generation_config.json": b"{}"}),
    ]
    assert len({plain, *changed}) == 7
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty: holds no .safetensors file"):
        weights_hash(tmp_path / "empty")
