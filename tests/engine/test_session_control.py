"""What a server asks of a session: ending thoughts, restricting what comes next, what was remembered."""

import gc
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from doubles import make_model, make_tokenizer, request
from open_exaone.base.errors import PromptTooLongError
from open_exaone.base.records import Sampling, StopReason
from open_exaone.engine import engine as engine_module
from open_exaone.engine.engine import Engine
from open_exaone.engine.request import Sample

SAMPLING = Sampling(max_new_tokens=20, temperature=1.0, top_p=1.0, seed=3)


def finish(session) -> None:
    while not session.finished:
        session.step()


@pytest.mark.parametrize("num_before", [0, 5])
def test_a_thought_ends_on_demand_as_a_budget_ends_it(backend, num_before) -> None:
    engine = Engine(make_model(), make_tokenizer(), num_steps=1)
    prompt = engine.tokenizer.render([{"role": "user", "content": "Q"}], thinking=True, generation_prompt=True)
    with closing(engine.open_session([64])) as session:
        [sample] = session.submit([request(prompt, SAMPLING)])
        while len(sample.ids) < num_before:
            session.step()
        free = list(sample.ids)
        assert session.end_thought(sample) and not session.end_thought(sample)
        finish(session)
        assert not session.end_thought(sample)  # it is done
    closing_ids = engine.thoughts.closing_ids(free)
    assert sample.ids[: num_before + len(closing_ids)] == free + closing_ids and len(sample.ids) == 20
    if num_before:
        budget = Sampling(max_new_tokens=20, temperature=1.0, top_p=1.0, seed=3, thinking_budget=num_before)
        [[completion]] = engine.generate([prompt], budget)
        assert list(completion.ids) == sample.ids


def test_an_answer_has_no_thought_to_end() -> None:
    engine = Engine(make_model(), make_tokenizer())
    prompt = engine.tokenizer.render([{"role": "user", "content": "Q"}], generation_prompt=True)
    with closing(engine.open_session([64])) as session:
        [sample] = session.submit([request(prompt, SAMPLING)])
        assert not session.end_thought(sample) and sample.closing_ids == ()


class Rising:
    """Each token is one higher than the last."""

    def __init__(self, first: int) -> None:
        self.next = first

    def banned_ids(self) -> np.ndarray:
        return np.array([token for token in range(320) if token != self.next], np.int32)

    def take(self, ids) -> None:
        assert ids == [self.next]
        self.next += 1


def test_a_constraint_decides_what_comes_and_leaves_the_others_alone(backend) -> None:
    engine = Engine(make_model(), make_tokenizer())
    biased = Sampling(max_new_tokens=20, temperature=1.0, top_p=1.0, seed=3, logit_bias={40: 100.0})
    with closing(engine.open_session([64] * 3)) as session:
        ruled, free, both = session.submit([request([5, 6], SAMPLING), request([7, 8], SAMPLING), request([9], biased)])
        ruled.constraint, both.constraint = Rising(100), Rising(200)
        finish(session)
    assert ruled.ids == list(range(100, 120)) and both.ids == list(range(200, 220))
    assert ruled.sampling_logprobs == [0.0] * 20 and max(ruled.logprobs) < 0
    [[alone]] = engine.generate([[7, 8]], SAMPLING)
    assert free.ids == list(alone.ids)


def test_what_allows_nothing_fails_alone() -> None:
    engine = Engine(make_model(), make_tokenizer())
    with closing(engine.open_session([64] * 2)) as session:
        ruled, free = session.submit([request([5, 6], SAMPLING), request([7, 8], SAMPLING)])
        ruled.constraint = Rising(1000)
        finish(session)
    assert ruled.stop is StopReason.ERROR and free.stop is StopReason.LENGTH


def test_remembered_tokens_are_counted() -> None:
    engine = Engine(make_model(), make_tokenizer())
    with closing(engine.open_session([128] * 4)) as session:
        for wanted in (0, 32):
            [sample] = session.submit([request(range(20, 60), SAMPLING)])
            finish(session)
            assert sample.num_cached == wanted
        assert session.holds(128) and not session.holds(100_000)


@pytest.mark.parametrize(
    ("prompt", "sampling", "why"),
    [
        ([], SAMPLING, "request 1 is empty"),
        ([5, 320], SAMPLING, "request 1 has the id 320"),
        ([5], replace(SAMPLING, max_new_tokens=128), "request 1 has 1 tokens; .* context of 128"),
        ([5], replace(SAMPLING, logit_bias={999: 1.0}), "request 1: logit_bias has the id 999"),
        ([5] * 20, replace(SAMPLING, max_new_tokens=80), "a prompt of 20 tokens .* exceeds what this session"),
    ],
)
def test_a_session_refuses_what_it_cannot_complete(prompt, sampling, why, backend) -> None:
    """Rather than to read beyond its memory, or to go on for ever; nothing of what came along is in the queue."""
    engine = Engine(make_model(), make_tokenizer())
    with closing(engine.open_session([80])) as session:
        with pytest.raises(ValueError, match=why):
            session.submit([request([7, 8], SAMPLING), request(prompt, sampling)])
        assert session.finished
        [sample] = session.submit([request([5] * 20, replace(SAMPLING, max_new_tokens=60))])
        finish(session)
    assert sample.stop is not None


def test_later_requests_that_exceed_their_announced_length_are_refused(backend) -> None:
    engine, given = Engine(make_model(), make_tokenizer()), iter([[request([5] * 100, SAMPLING)], *[[]] * 1000])
    with pytest.raises(PromptTooLongError, match="a prompt of 100 tokens"):  # rather than to wait without an end
        list(engine.stream([request([5], SAMPLING)], more=lambda num_running: next(given), lengths=[30]))


def test_later_requests_are_not_measured_by_what_the_session_left_free(monkeypatch) -> None:
    engine, given = Engine(make_model(), make_tokenizer()), iter([[request([6], SAMPLING)]])
    stream = engine.stream([request([5], SAMPLING)], more=lambda num_running: next(given, []), lengths=[21])
    first = next(stream)
    monkeypatch.setattr(engine_module, "free_bytes", lambda device: 0)
    assert sorted(place for place, _ in [first, *stream]) == [0, 1]


@pytest.mark.parametrize(
    ("lengths", "first_steps", "why"), [([], 1, "lengths"), ([5, 0], 1, "lengths"), ([5], 0, "first")]
)
def test_a_session_of_nothing_is_refused(lengths, first_steps, why) -> None:
    with pytest.raises(ValueError, match=f"{why}.* = "):
        Engine(make_model(), make_tokenizer()).open_session(lengths, first_steps=first_steps)


def test_a_closed_session_takes_nothing() -> None:
    engine = Engine(make_model(), make_tokenizer())
    session = engine.open_session([64])
    [sample] = session.submit([request([5], SAMPLING)])
    session.close()
    with pytest.raises(ValueError, match="this session is closed"):
        session.submit([request([5], SAMPLING)])
    session.cancel(sample)
    assert session.finished and session.step() == (0, [])


def test_a_sample_may_be_cancelled_twice() -> None:
    """Wherever it is: a client that leaves, and a server that stops."""
    engine = Engine(make_model(), make_tokenizer(), num_slots=1)
    with closing(engine.open_session([64])) as session:
        samples = session.submit([request([5, 6], SAMPLING, index) for index in range(4)])
        for number in (3, 0):
            session.cancel(samples[number])
            session.cancel(samples[number])
            session.step()
        session.cancel(samples[1])
        session.cancel(samples[1])
        finish(session)
    assert [sample.stop is not None for sample in samples] == [False, False, True, False]


def test_samples_that_are_done_leave_memory_at_once() -> None:
    """Without the garbage collector, which waits long where a million requests do."""
    engine = Engine(make_model(), make_tokenizer(), num_slots=2)
    gc.collect()
    gc.disable()
    try:
        with closing(engine.open_session([64] * 2)) as session:
            session.submit([request([5, number], SAMPLING, index) for number in range(3) for index in range(3)])
            finish(session)
            assert not [found for found in gc.get_objects() if isinstance(found, Sample)]
    finally:
        gc.enable()
