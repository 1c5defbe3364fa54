"""What a server asks of a session: ending thoughts, restricting what comes next, what was remembered."""

from contextlib import closing

import numpy as np
import pytest

from doubles import make_model, make_tokenizer, request
from open_exaone.base.records import Sampling, StopReason
from open_exaone.engine.engine import Engine

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
