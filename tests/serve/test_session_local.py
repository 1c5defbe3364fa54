"""Replies of the engine in this process: the same as the engine's, each turn reading only what is new."""

import signal
from typing import Any

import pytest

from doubles import TINY, make_model, make_tokenizer
from open_exaone.base import interrupt
from open_exaone.base.errors import PromptTooLongError
from open_exaone.base.records import Request, Sampling, StopReason
from open_exaone.engine.engine import Engine
from open_exaone.engine.request import Sample
from open_exaone.serve.session import End, Note, Session, Settings
from open_exaone.serve.session_local import LocalModel
from open_exaone.text.split import Piece, join_pieces

SAMPLING = Sampling(24, seed=3)
LONG = TINY.model_copy(update={"max_positions": 1024})


def model_of(config: Any = LONG, sampling: Sampling = SAMPLING) -> LocalModel:
    return LocalModel("tiny", Engine(make_model(config), make_tokenizer(), backend="plain"), sampling)


@pytest.mark.parametrize("thinking", [True, False])
def test_a_reply_is_the_engines_and_its_pieces_make_it_up(thinking: bool) -> None:
    model = model_of()
    tokenizer = make_tokenizer()
    messages = [{"role": "user", "content": "How much is 3 + 4? 값"}]
    *events, end = model.stream(messages, Settings(thinking), 2)
    assert isinstance(end, End) and all(isinstance(event, Piece) for event in events)
    ids = tokenizer.render(messages, thinking=thinking, generation_prompt=True)
    [[wanted]] = Engine(make_model(LONG), tokenizer, backend="plain").generate([ids], Sampling(24, seed=5))
    text = tokenizer.decode(wanted.ids, skip_special=True)
    splitter = tokenizer.splitter(thinking=thinking)
    pieces = splitter.feed(text) + splitter.finish()
    assert (
        end.reply == join_pieces(pieces, finished=splitter.finished) == join_pieces(events, finished=splitter.finished)
    )
    assert end.stop is wanted.stop


def test_a_later_turn_reads_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(model_of())
    backend = session.model.session._backend
    read: list[int] = []
    prefill = backend.prefill
    monkeypatch.setattr(
        backend, "prefill", lambda chunks: (read.append(sum(len(chunk.ids) for chunk in chunks)), prefill(chunks))
    )
    list(session.ask("How much is 3 + 4? " * 40))
    first = sum(read)
    read.clear()
    list(session.ask("And 5 + 6?"))
    assert first > 200 and sum(read) < first / 3


def test_an_answer_keeps_the_ids_that_the_model_wrote() -> None:
    model, tokenizer = model_of(), make_tokenizer()
    apart = [number for sign in "The answer" for number in tokenizer.encode(sign)]
    assert apart != tokenizer.encode("The answer")
    for ids, stop in ((apart, StopReason.LENGTH), ([*apart, tokenizer.end_id], StopReason.END)):
        messages = [{"role": "user", "content": f"Q {stop}"}]
        prompt, _ = model._fit(messages, thinking=False)
        sample = Sample(0, Request((), prompt, False, SAMPLING))
        sample.ids, sample.stop = ids, stop
        assert [event.reply.answer for event in model._follow(sample, False) if isinstance(event, End)]
        messages += [{"role": "assistant", "content": "The answer"}, {"role": "user", "content": "R"}]
        again, _ = model._fit(messages, thinking=False)
        assert again[: len(prompt) + len(apart)] == (*prompt, *apart)
        assert tokenizer.decode(again) == tokenizer.decode(tokenizer.render(messages, generation_prompt=True))


def test_a_full_context_leaves_out_the_oldest_turns_and_says_so() -> None:
    session = Session(model_of(TINY, Sampling(16)))
    session.settings.system = "Be brief."
    notes = []
    for number in range(6):
        notes += [event.text for event in session.ask(f"How much is {number} + 4?") if isinstance(event, Note)]
    assert "the first 1 turn" in notes[0] and len(session.messages) == 12


def test_a_message_longer_than_the_context_is_refused_and_the_chat_goes_on() -> None:
    session = Session(model_of(TINY, Sampling(16)))
    with pytest.raises(PromptTooLongError, match="its context holds 128"):
        list(session.ask("How much is 3 + 4? " * 40))
    *_, end = session.ask("How much is 3 + 4?")
    assert isinstance(end, End) and len(session.messages) == 2


def test_a_budget_closes_the_thought() -> None:
    model = model_of(sampling=Sampling(24, seed=1))
    *_, end = model.stream([{"role": "user", "content": "Q"}], Settings(True, budget=5), 0)
    assert isinstance(end, End) and end.reply.finished


def test_ctrl_c_stops_between_two_steps_and_frees_the_slot() -> None:
    model = model_of(sampling=Sampling(500, seed=1))
    events = model.stream([{"role": "user", "content": "Q"}], Settings(), 0)
    next(events)
    signal.raise_signal(signal.SIGINT)
    *_, end = events
    assert isinstance(end, End) and end.stop is StopReason.CANCELLED
    assert model.session.finished and not interrupt.requested()


def test_a_stream_that_is_left_frees_its_slot() -> None:
    model = model_of(sampling=Sampling(500, seed=1))
    events = model.stream([{"role": "user", "content": "Q"}], Settings(), 0)
    next(events)
    events.close()
    assert model.session.finished
    model.close()
