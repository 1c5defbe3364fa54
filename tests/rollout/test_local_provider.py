"""The local engine as a provider: what is asked, what comes back, and how it is told from another's."""

import functools
from dataclasses import replace

import pytest

from doubles import make_model, make_tokenizer
from open_exaone.base.errors import CheckpointError
from open_exaone.base.records import Ask, Sampling, StopReason
from open_exaone.engine.engine import Engine
from open_exaone.engine.request import Request
from open_exaone.rollout.providers.local import LocalProvider, weights_hash
from open_exaone.text.tokenizer import Tokenizer

WARM = Sampling(max_new_tokens=90, temperature=1.3, top_p=1.0, seed=4)


def make_provider(num_slots=16, on_step=None):
    engine = Engine(make_model(), make_tokenizer(), num_slots=num_slots)
    return LocalProvider(engine, model="tiny", weights="abc", on_step=on_step)


def asks(num_questions=3, num_samples=4, sampling=WARM, thinking=True):
    return [
        Ask(f"{number} + 4?", thinking, sampling, index)
        for number in range(num_questions)
        for index in range(num_samples)
    ]


def mixed():
    return [*asks(), *asks(thinking=False), *asks(sampling=replace(WARM, thinking_budget=9))]


def prompt_of(ask):
    conversation = [{"role": "user", "content": ask.question}]
    return make_tokenizer().render(conversation, thinking=ask.thinking, generation_prompt=True)


@functools.cache
def completions():
    """What the engine itself makes of `mixed()`."""
    requests = [Request(prompt_of(ask), ask.sampling, ask.index) for ask in mixed()]
    found = dict(Engine(make_model(), make_tokenizer(), num_slots=16).stream(requests))
    return [found[place] for place in range(len(requests))]


def test_generations_are_the_engines_completions_split():
    asked = mixed()
    found = dict(make_provider().stream(asked))
    assert sorted(found) == list(range(len(asked)))
    for place, (ask, completion) in enumerate(zip(asked, completions(), strict=True)):
        generation = found[place]
        assert generation.reply == make_tokenizer().split(completion.ids, thinking=ask.thinking)
        assert generation.stop is completion.stop
        assert generation.num_prompt_tokens == len(prompt_of(ask))
        assert generation.num_tokens == len(completion.ids)
    assert {generation.stop for generation in found.values()} > {StopReason.BUDGET, StopReason.LENGTH}


def test_thought_tokens_are_those_before_the_closing_tag():
    tokenizer, asked = make_tokenizer(), mixed()
    counted = {"open": 0, "closed": 0, "none": 0}
    for place, generation in make_provider().stream(asked):
        ask, ids = asked[place], completions()[place].ids
        budget = ask.sampling.thinking_budget
        if not ask.thinking:
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


def test_prompts_are_the_ids_that_are_sent():
    asked = mixed()
    assert make_provider().prompts(asked) == [" ".join(map(str, prompt_of(ask))) for ask in asked]


def test_a_stream_of_what_is_missing_gives_the_rest():
    asked = mixed()
    whole = dict(make_provider().stream(asked))
    missing = [1, 2, 7, 20, 30]
    rest = dict(make_provider(num_slots=2).stream([asked[place] for place in missing]))
    assert [rest[place] for place in range(5)] == [whole[place] for place in missing]


def test_a_questions_prompt_is_read_once(monkeypatch):
    provider = make_provider()
    forward, rows = provider._engine.model.model.forward, []

    def counting(ids_BT, *args, **kwargs):
        rows.append(ids_BT.shape)
        return forward(ids_BT, *args, **kwargs)

    monkeypatch.setattr(provider._engine.model.model, "forward", counting)
    list(provider.stream(asks(num_questions=2, num_samples=6)))
    assert [shape[0] for shape in rows if shape[1] > 1] == [2]


def test_closing_the_stream_stops_the_engine():
    steps = []
    stream = make_provider(2, lambda *step: steps.append(step)).stream(asks())
    next(stream)
    num_steps = len(steps)
    stream.close()
    assert list(stream) == []
    assert 0 < num_steps == len(steps)


def test_on_step_may_stop_it():
    class Stop(Exception):
        pass

    def stop(num_tokens, num_done):
        raise Stop

    with pytest.raises(Stop):
        list(make_provider(on_step=stop).stream(asks()))


def test_replies_end_where_the_context_does():
    provider = make_provider()
    short, long, longer = "2 + 3?", "5 + 4? " * 8, "5 + 4? " * 60
    sampling = Sampling(max_new_tokens=100, temperature=0.7, thinking_budget=90)
    told = dict(provider.stream([Ask(question, True, sampling, 0) for question in (short, long, longer)]))
    context = make_model().config.max_positions
    assert len(told) == 3
    assert all(generation.num_prompt_tokens + generation.num_tokens <= context for generation in (told[0], told[1]))
    assert (told[2].stop, told[2].num_tokens, told[2].reply.answer) == (StopReason.LENGTH, 0, "")
    [note] = provider.notes
    assert f"context of {context} tokens" in note
    asked = make_provider()
    asked.prompts([Ask(short, True, sampling, 0)])
    assert asked.notes == ()
    asked.prompts([Ask(longer, True, sampling, 0)])
    assert list(asked.notes) == [note]  # also where every sample is there already


def test_a_model_without_a_chat_format_is_refused(tmp_path):
    make_tokenizer().save(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    mute = LocalProvider(Engine(make_model(), Tokenizer.load(tmp_path)), model="mute", weights="")
    for ask in (mute.prompts, lambda asked: list(mute.stream(asked))):
        with pytest.raises(CheckpointError, match="has no chat template"):
            ask(asks())


def test_identity_and_cost():
    provider = make_provider()
    identity = {"engine": "local", "model": "tiny", "weights": "abc", "dtype": "float32", "device": "cpu"}
    assert provider.identity == identity
    assert provider.failure is None
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
