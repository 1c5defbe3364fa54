"""Whenever requests join, leave, are cancelled or make room for others, each gets the reply that it gets alone."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles import SHAPES, make_model, make_tokenizer, random_ids, request
from open_exaone.base.records import Sampling, StopReason
from open_exaone.engine.engine import Engine
from open_exaone.engine.request import max_length

TOKENIZER = make_tokenizer()
# Of few beginnings, so that what is remembered is used; some open a thought, which a budget may cut.
BEGINNINGS = [random_ids(40, seed=seed).tolist() for seed in (1, 2)]
CHATS = [
    TOKENIZER.render([{"role": "user", "content": f"{number} + 3?"}], thinking=thinking, generation_prompt=True)
    for number, thinking in ((1, True), (2, True), (3, False))
]
PROMPTS = [*CHATS, *(beginning[:length] for beginning in BEGINNINGS for length in (1, 16, 17, 33, 40))]
LIMITED = st.builds(
    lambda room, **fields: Sampling(room, thinking_budget=min(7, room - 1) if room % 2 else None, **fields),
    st.integers(2, 30),
    temperature=st.sampled_from([0.0, 0.7, 1.3]),
    top_p=st.sampled_from([0.9, 1.0]),
    top_k=st.sampled_from([None, 20]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    frequency_penalty=st.sampled_from([0.0, 0.6]),
    seed=st.integers(0, 2),
    stop=st.sampled_from([(), ("e", "1", "+ ")]),
    stop_ids=st.sampled_from([(), (60, 61, 62)]),
)
GROUPS = st.lists(st.tuples(st.sampled_from(PROMPTS), LIMITED, st.integers(1, 4)), min_size=2, max_size=6)
# Of each turn: whether a group joins, which sample is cancelled (where there are so many), and one step.
TURNS = st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=20)


@pytest.fixture(scope="module")
def alone(backend):
    """A function: the reply to a request that has the engine for itself."""
    model = make_model(SHAPES["exaone4-hybrid"])
    found = {}

    def reply(asked):
        if asked not in found:
            [(_, found[asked])] = Engine(model, TOKENIZER, num_slots=1).stream([asked])
        return found[asked]

    reply.model = model
    return reply


def assert_same(sample, wanted, backend):
    if sample.stop is None:  # cancelled
        assert tuple(sample.ids) == wanted.ids[: len(sample.ids)]
        return
    found = sample.completion(wanted.policy_version)
    if backend == "native":  # to the bit
        assert found == wanted
        return
    assert (found.ids, found.stop) == (wanted.ids, wanted.stop)
    for name in ("logprobs", "sampling_logprobs"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-4)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(GROUPS, TURNS, st.integers(1, 6), st.integers(1, 3), st.sampled_from([None, 1, 3]))
def test_each_gets_the_reply_that_it_gets_alone(alone, backend, groups, turns, num_slots, num_held, num_steps):
    """With memory for few of those that run, so that the last make room for the first."""
    waiting = [
        [request(prompt, replace(sampling, num_samples=num), index) for index in range(num)]
        for prompt, sampling, num in groups
    ]
    longest = max(max_length(asked) for group in waiting for asked in group)
    engine = Engine(alone.model, TOKENIZER, num_slots=num_slots, num_steps=num_steps)
    samples, cancelled = [], []
    with closing(engine.open_session([longest] * num_held)) as session:
        for joins, place in [*turns, *[(True, 30)] * len(waiting)]:
            if joins and waiting:
                samples += session.submit(waiting.pop())
            if place < len(samples) and samples[place].stop is None:
                session.cancel(samples[place])
                cancelled.append(samples[place])
            session.step()
        for _ in range(5000):
            if session.finished:
                break
            session.step()
        assert session.finished
        blocks = session.scheduler.blocks
        assert all(pool.num_free == pool.size for pool in blocks.used)
    assert all((sample.stop is None) == (sample in cancelled) for sample in samples)
    assert all(sample.stop not in (StopReason.ERROR, StopReason.CANCELLED) for sample in samples)
    for sample in samples:
        assert_same(sample, alone(sample.request), backend)
