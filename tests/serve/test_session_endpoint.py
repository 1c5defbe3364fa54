"""Replies of an endpoint: thoughts wherever it puts them, and what came before it fails."""

import json
from contextlib import closing, contextmanager
from typing import Any

import pytest

from mock_endpoint import mock_endpoint
from open_exaone.base.errors import OpenExaoneError, PromptTooLongError
from open_exaone.base.records import StopReason
from open_exaone.remote.http import EndpointError, Limits
from open_exaone.rollout.config import ChatEndpoint
from open_exaone.rollout.providers.server import ServerProvider
from open_exaone.serve.session import End, Note, Session
from open_exaone.serve.session_endpoint import EndpointModel
from open_exaone.text.split import Part, Piece

LIMITS = Limits(60.0, 1, 1 << 20)


@contextmanager
def chat_with(reply: Any, fields: dict[str, Any] | None = None, **settings: Any):
    with mock_endpoint(lambda question, request: reply, **settings) as server:
        yield session_of(server.url, fields or {}), server


def session_of(url: str, fields: dict[str, Any], limits: Limits = LIMITS) -> Session:
    return Session(EndpointModel(ServerProvider(ChatEndpoint(url=url)).server, "mock", fields, limits))


def texts(events: list[Any]) -> dict[Part, str]:
    pieces = [event for event in events if isinstance(event, Piece)]
    return {part: "".join(piece.text for piece in pieces if piece.part is part) for part in Part}


@pytest.mark.parametrize(
    "reply",
    [
        {"reasoning_content": "hm 값", "content": "It is 7. 값"},
        {"reasoning": "hm 값", "content": "It is 7. 값"},
        "<think>\nhm 값\n</think>\n\nIt is 7. 값",
        "<thought>\nhm 값\n</thought>\n\nIt is 7. 값",
    ],
)
def test_thought_and_answer_are_told_apart_as_they_come(reply: Any) -> None:
    with chat_with(reply) as (session, _):
        *events, end = session.ask("Q")
    assert (texts(events)[Part.THOUGHT], texts(events)[Part.ANSWER]) == ("hm 값", "It is 7. 값")
    assert (end.reply.thought, end.reply.answer, end.reply.finished) == ("hm 값", "It is 7. 값", True)
    assert len([event for event in events if isinstance(event, Piece)]) > 3
    assert session.messages[-1]["content"] == "It is 7. 값"


def test_a_thought_that_the_prompt_opened_is_told_apart_in_the_end() -> None:
    with chat_with("hm\n</think>\n\nIt is 7.") as (session, _):
        *events, end = session.ask("Q")
    assert (end.reply.thought, end.reply.answer) == ("hm", "It is 7.")
    assert any("no reasoning parser" in event.text for event in events if isinstance(event, Note))


def test_a_thought_alone_is_no_answer() -> None:
    with chat_with({"reasoning_content": "hm", "content": None, "finish_reason": "length"}) as (session, _):
        *_, end = session.ask("Q")
    assert not end.reply.finished and end.reply.answer == "" and end.stop is StopReason.LENGTH


def test_tool_calls_come_as_calls() -> None:
    parts = [
        {"index": 0, "function": {"name": "roll", "arguments": '{"n"'}},
        {"index": 0, "function": {"arguments": ": 6}"}},
        {"index": 1, "function": {"name": "stop", "arguments": ""}},
    ]
    with chat_with({"content": "Rolling.", "tool_calls": parts}) as (session, _):
        *_, end = session.ask("Q")
    assert [(call.name, call.arguments) for call in end.reply.tool_calls] == [("roll", {"n": 6}), ("stop", {})]


def test_what_is_asked_holds_the_settings_and_each_turn_a_seed_of_its_own() -> None:
    with chat_with("ok", {"temperature": 0.5, "seed": 7}) as (session, server):
        session.settings.budget = 9
        list(session.ask("Q"))
        session.settings.thinking = False
        list(session.ask("R"))
    first, second = server.requests
    assert (first["seed"], first["thinking_token_budget"], first["temperature"]) == (7, 9, 0.5)
    assert first["chat_template_kwargs"] == {"enable_thinking": True} and first["stream"]
    assert (second["seed"], second["chat_template_kwargs"]) == (8, {"enable_thinking": False})
    assert "thinking_token_budget" not in second
    assert [turn["content"] for turn in second["messages"]] == ["Q", "ok", "R"]


def test_fields_that_it_refuses_are_left_out_with_a_note() -> None:
    with chat_with("ok", refuse_fields=["chat_template_kwargs", "thinking_token_budget"]) as (session, _):
        session.settings.budget = 9
        *events, end = session.ask("Q")
        assert end.reply.answer == "ok" and sum(isinstance(event, Note) for event in events) == 2
        assert not [event for event in session.ask("R") if isinstance(event, Note)]


def test_a_full_context_leaves_out_the_oldest_turns_and_at_last_says_how_to_go_on() -> None:
    with chat_with("a b c", context=7) as (session, server):
        list(session.ask("one two"))
        *events, _ = session.ask("three four")
        assert any("oldest turn is left out" in event.text for event in events if isinstance(event, Note))
        assert [turn["content"] for turn in server.requests[-1]["messages"]] == ["three four"]
        with pytest.raises(PromptTooLongError, match="shorten the message"):
            list(session.ask("word " * 20))
    assert len(session.messages) == 4


@pytest.mark.parametrize("message", [{}, {"stream_error": "out of memory"}])
def test_what_came_before_a_failure_in_the_middle_is_kept(message: dict[str, str]) -> None:
    reply, why = {"content": "It is seven.", **message}, r"in the middle|out of memory"
    with chat_with(reply, cut_after=3) as (session, _), pytest.raises(EndpointError, match=why) as failed:
        list(session.ask("Q"))
    assert session.messages[-1]["content"] == "It is "
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"fail_prompts": ["Q"]}, "answers 500"),
        ({"refuse_prompts": ["Q"]}, "too long"),
        ({"error_share": 1.0, "seed": 1}, "127.0.0.1"),
        ({"error_share": 1.0, "seed": 3}, "127.0.0.1"),
        ({"error_share": 1.0, "seed": 6}, "127.0.0.1"),
    ],
)
def test_a_failure_is_one_sentence_and_the_turn_is_forgotten(settings: dict[str, Any], why: str) -> None:
    with chat_with("ok", **settings) as (session, _), pytest.raises(OpenExaoneError, match=why) as failed:
        list(session.ask("Q"))
    assert session.messages == [] and session.unanswered == "Q" and "127.0.0.1" in str(failed.value)


def test_nobody_there_is_one_sentence() -> None:
    with mock_endpoint(lambda question, request: "ok") as server:
        url = server.url
    with pytest.raises(EndpointError, match="start the server"):
        list(session_of(url, {}).ask("Q"))


def test_an_answer_without_end_is_cut_off() -> None:
    with mock_endpoint(lambda question, request: "x" * 5000) as server:
        session = session_of(server.url, {}, Limits(60.0, 1, 10_000))
        with pytest.raises(EndpointError, match="is larger than"):
            list(session.ask("Q"))
    assert session.messages[-1]["content"].startswith("xxx")


def test_leaving_a_stream_closes_the_connection() -> None:
    with chat_with({"content": "It goes on", "waits": True}) as (session, server):
        events = session.ask("Q")
        while texts([next(events)])[Part.ANSWER] != "It ":
            pass
        with closing(events):
            pass
        assert server.left.wait(60)  # the server sees it
    assert session.messages[-1]["content"].startswith("It")


def test_whatever_an_event_holds_the_chat_goes_on() -> None:
    from open_exaone.serve.session_endpoint import _Reader

    reader = _Reader()
    strange: list[Any] = [
        {"choices": None},
        {"choices": [3]},
        {"choices": [{"delta": 3}]},
        {"choices": [{"delta": {"content": 3, "reasoning": [], "tool_calls": [3, {"function": {"name": 4}}]}}]},
        {"choices": [{"delta": {"content": "\ud800"}}]},
        {"usage": {}},
    ]
    events = [event for value in strange for event in reader.take(value)] + list(reader.finish())
    assert "?" in json.dumps(texts(events)) or texts(events)[Part.ANSWER]
    assert isinstance(End(reader.reply(), reader.stop), End)
