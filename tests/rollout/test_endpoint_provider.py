"""Answers from an endpoint: what is asked, what is made of the replies, and what happens when it fails."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mock_endpoint import endpoint, mock_endpoint
from open_exaone.base import interrupt
from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Generation, Reply, Request, Sampling, StopReason
from open_exaone.remote import http as transport
from open_exaone.remote.http import EndpointError, UnreadableError
from open_exaone.rollout.config import ChatEndpoint
from open_exaone.rollout.provider import Provider, requests_for
from open_exaone.rollout.providers.completion import read_completion, split, to_generation

KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def _short_waits_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_WAIT_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def asks(number: int, k: int = 1, *, thinking: bool = True, **sampling: Any) -> list[Request]:
    setting = Sampling(**{"max_new_tokens": 1000, **sampling})
    conversations = [[{"role": "user", "content": f"질문 {place}?"}] for place in range(number)]
    return requests_for(conversations, None, replace(setting, num_samples=k), thinking=thinking)


def echo(question: str, request: dict[str, Any]) -> str:
    return f"<think>\nhm, {question}\n</think>\n\nIt is {question} by {request.get('seed')}."


def answers(provider: Provider, wanted: list[Request]) -> dict[int, Generation]:
    done = dict(provider.stream(wanted))
    assert all(0 <= place < len(wanted) for place in done)
    return done


def chat(content: Any = "", reason: Any = "stop", usage: Any = None, **message: Any) -> bytes:
    choice = {"message": {"content": content, **message}, "finish_reason": reason}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def generation(*args: Any, **kwargs: Any) -> Generation:
    return to_generation(read_completion(chat(*args, **kwargs)), "prompt", thinking=False)


def test_each_ask_is_one_request_with_a_seed_of_its_own() -> None:
    with mock_endpoint(echo) as server:
        provider = endpoint(server.url)
        wanted = asks(5, 3)
        done = answers(provider, wanted)
        again = answers(provider, wanted[::-1])
        other = answers(provider, asks(5, 3, seed=1))
    assert len(server.requests) == 45
    first = server.requests[:15]
    assert len({request["seed"] for request in server.requests}) == 30
    assert all(0 <= request["seed"] < 2**31 for request in first)
    question = next(request for request in first if request["messages"] == [{"role": "user", "content": "질문 0?"}])
    del question["seed"]
    assert question == {
        "model": "mock",
        "messages": [{"role": "user", "content": "질문 0?"}],
        "temperature": 0.6,
        "top_p": 0.95,
        "max_tokens": 1000,
        "chat_template_kwargs": {"enable_thinking": True},
    }
    assert [done[place] for place in range(15)] == [again[14 - place] for place in range(15)]
    assert all(done[place] != other[place] for place in range(15))
    assert done[3].reply.thought == "hm, 질문 1?"
    assert done[3].reply.answer.startswith("It is 질문 1? by ")
    assert provider.notes == ()


def test_what_plays_no_part_is_not_sent() -> None:
    with mock_endpoint(echo) as server:
        provider = endpoint(server.url)
        answers(provider, asks(1, thinking=False, temperature=0.0, presence_penalty=1.5))
    [request] = server.requests
    assert request["temperature"] == 0
    assert request["presence_penalty"] == 1.5
    assert request["chat_template_kwargs"] == {"enable_thinking": False}
    assert "top_p" not in request


def test_every_setting_that_changes_something_is_sent() -> None:
    chosen = {"top_k": 9, "min_p": 0.1, "frequency_penalty": 0.5, "repetition_penalty": 1.2, "logit_bias": {7: -1.5}}
    with mock_endpoint(echo) as server:
        answers(endpoint(server.url), asks(1, stop="\n\n", stop_ids=[5], top_p=1.0, **chosen))
        answers(endpoint(server.url), asks(1, temperature=0.0, top_k=9, min_p=0.1))
    sent, greedy = server.requests
    assert {name: sent[name] for name in chosen} == chosen | {"logit_bias": {"7": -1.5}}
    assert (sent["stop"], sent["stop_token_ids"]) == (["\n\n"], [5])
    assert sent["top_p"] == 1.0 and "presence_penalty" not in sent
    assert not {"top_p", "top_k", "min_p", "repetition_penalty", "stop"} & greedy.keys()


def test_an_endpoint_that_does_not_know_a_setting_is_refused_in_one_sentence() -> None:
    """Other samples than were asked for are none."""
    with mock_endpoint(echo, refuse_fields=["min_p"]) as server:
        with pytest.raises(EndpointError, match="Unsupported field: min_p.*; leave min_p out, or use an engine that"):
            answers(endpoint(server.url), asks(20, min_p=0.1))
        assert len(answers(endpoint(server.url), asks(2))) == 2


@pytest.mark.parametrize(
    ("fields", "stop"),
    [
        ({"stop_reason": "\n\n"}, StopReason.STOP_STRING),
        ({"matched_stop": "\n\n"}, StopReason.STOP_STRING),
        ({"stop_reason": 361, "matched_stop": 361}, StopReason.END),
        ({"stop_reason": None}, StopReason.END),
    ],
)
def test_a_server_that_names_its_stop_string_is_believed(fields: dict[str, Any], stop: StopReason) -> None:
    body = json.loads(chat("an answer"))
    body["choices"][0] |= fields
    assert read_completion(json.dumps(body).encode()).stop is stop


def test_the_key_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with mock_endpoint(echo) as server:
        provider = endpoint(server.url)
        answers(provider, asks(1))
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert KEY not in str(provider.identity) + repr(provider.server)
        monkeypatch.setenv("OTHER", "other-key")
        answers(endpoint(server.url, api_key_variable="OTHER"), asks(1))
        assert server.headers[1]["Authorization"] == "Bearer other-key"
        with pytest.raises(ConfigError, match="api_key_variable = 'MISSING': this environment variable is not set"):
            endpoint(server.url, api_key_variable="MISSING")
        with pytest.raises(ConfigError) as caught:
            endpoint(server.url.replace("//", f"//me:{KEY}@"))
        assert KEY not in str(caught.value)


def test_mends_are_those_of_the_command_line_and_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    both = "environment variable OPENAI_API_KEY, .*api_key_variable"
    with pytest.raises(ConfigError, match=both):
        endpoint("http://me@localhost/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "no key")
    with pytest.raises(ConfigError, match=f"holds white space.*{both}"):
        endpoint("http://localhost/v1")


def test_connections_are_kept() -> None:
    with mock_endpoint(echo) as server:
        answers(endpoint(server.url, "mock", concurrency=4), asks(100))
        assert len(server.requests) == 100
        assert server.num_connections <= 4


def test_a_connection_that_the_endpoint_has_closed_meanwhile_is_made_anew() -> None:
    body = chat("yes")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    taken: list[int] = []

    def serve(listener: socket.socket) -> None:  # closes behind every answer, without having said so
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                received = part = connection.recv(1 << 16)
                while part and not received.endswith(b"}"):
                    received += (part := connection.recv(1 << 16))
                taken.append(1)
                connection.sendall(head + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        done = answers(endpoint(url, "m", concurrency=1, max_attempts=1), asks(20))
    assert [done[place].reply.answer for place in range(20)] == ["yes"] * 20
    assert len(taken) == 20


def test_the_only_model_is_taken_and_of_several_one_must_be_named() -> None:
    with mock_endpoint(echo, models=["a-model"]) as server:
        provider = endpoint(server.url + "/")
        assert dict(provider.identity) == {"engine": server.url, "model": "a-model"}
    with mock_endpoint(echo, models=None) as server:
        assert endpoint(server.url).identity["model"] == "default"
    with mock_endpoint(echo, models=["a", "b"]) as server:
        with pytest.raises(ConfigError, match="has 2 models; .*exaone eval NAME --engine .*: a, b"):
            endpoint(server.url)
        assert endpoint(server.url, "b").identity["model"] == "b"


@pytest.mark.parametrize("field", ["seed", "chat_template_kwargs"])
def test_a_field_that_is_refused_is_left_out_from_then_on(field: str) -> None:
    with mock_endpoint(echo, refuse_fields=[field]) as server:
        provider = endpoint(server.url, concurrency=2)
        done = answers(provider, asks(30))
    assert len(done) == 30
    assert sum(field in request for request in server.requests) <= 2
    assert len(provider.notes) == 1
    assert field.split("_")[0] in provider.notes[0]


def test_an_endpoint_that_wants_another_name_for_the_limit_gets_it() -> None:
    with mock_endpoint(echo, refuse_fields=["max_tokens"]) as server:
        done = answers(endpoint(server.url, concurrency=1), asks(3, max_new_tokens=7))
    assert [request.get("max_tokens") for request in server.requests] == [7, None, None, None]
    assert [done[place].num_tokens for place in range(3)] == [7] * 3


def test_a_refusal_that_only_quotes_a_field_loses_no_field() -> None:
    """A prompt that is too long, say, where the error says the request back."""
    with mock_endpoint(echo, refuse_prompts=["질문 1?"]) as server:
        provider = endpoint(server.url, concurrency=1)
        assert sorted(answers(provider, asks(4))) == [0, 2, 3]
    assert all("seed" in request for request in server.requests if request["messages"][0]["content"] != "질문 1?")
    assert provider.notes == ()
    assert provider.failure is not None and "answers 400" in provider.failure


def test_errors_change_no_reply() -> None:
    wanted = asks(60, 4)
    with mock_endpoint(echo) as server:
        sound = answers(endpoint(server.url), wanted)
    with mock_endpoint(echo, error_share=0.2) as server:
        provider = endpoint(server.url, max_attempts=12)
        done = answers(provider, wanted)
        assert server.num_errors > 20
    assert done == sound
    assert len(sound) == 240
    assert sum(server.num_by_prompt.values()) == 240
    assert provider.failure is None
    (note,) = provider.notes
    counts = re.findall(r"(\d+) x ", note)
    assert note.startswith(f"requests were retried {sum(map(int, counts))} times: ")


def test_an_ask_that_fails_after_all_attempts_is_left_out_and_told() -> None:
    with mock_endpoint(echo, error_share=0.5) as server:
        provider = endpoint(server.url, max_attempts=1)
        done = answers(provider, asks(100))
    assert len(done) == 100 - provider.num_failures
    assert 20 < provider.num_failures <= server.num_errors  # a kept connection that drops is made anew
    assert provider.failure is not None and server.url in provider.failure


@pytest.mark.parametrize(
    ("status", "fix"),
    [(401, "OPENAI_API_KEY.*api_key_variable"), (404, "ends in /v1"), (400, "context"), (302, "redirect")],
)
def test_what_no_retry_mends_ends_the_stream_at_once(status: int, fix: str) -> None:
    taken: list[int] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                received = part = connection.recv(1 << 16)
                while part and not received.endswith(b"}"):
                    received += (part := connection.recv(1 << 16))
                taken.append(1)
                connection.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with pytest.raises(EndpointError, match=fix):
            answers(endpoint(url, "m", concurrency=2), asks(1000))
        with pytest.raises(EndpointError, match=fix):  # fewer asks than it takes to be sure
            answers(endpoint(url, "m", concurrency=2), asks(2))
    assert len(taken) < 30


def test_where_nobody_listens_the_stream_ends_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    wanted = "ConnectionRefusedError.*start the server, or correct the endpoint's address"
    with pytest.raises(EndpointError, match=wanted):
        answers(endpoint(url, "m"), asks(1000))
    with pytest.raises(EndpointError, match="start the server"):
        endpoint(url)


def test_a_server_that_starts_anew_is_waited_for_longer_than_a_wrong_address(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    async def refuse(*_: object, **__: object) -> None:
        tried.append(1)
        raise ConnectionRefusedError

    with mock_endpoint(echo) as server:
        wrong, right = (endpoint(server.url, max_attempts=6, concurrency=1) for _ in range(2))
        answers(right, asks(1))
        monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", refuse)
        for provider, num_attempts in ((wrong, 3), (right, 6)):
            tried.clear()
            with pytest.raises(EndpointError, match="start the server"):
                answers(provider, asks(1))
            assert len(tried) == num_attempts


def test_many_prompts_that_are_refused_do_not_end_the_stream() -> None:
    too_long = [f"질문 {place}?" for place in range(1, 20)]
    with mock_endpoint(echo, refuse_prompts=too_long) as server:
        provider = endpoint(server.url, concurrency=1)
        assert sorted(answers(provider, asks(30))) == [0, *range(20, 30)]
    assert provider.num_failures == 19


def test_a_late_answer_is_not_waited_for() -> None:
    with mock_endpoint(echo, latency_s=30) as server:
        provider = endpoint(server.url, timeout_s=0.3)
        start = time.monotonic()
        with pytest.raises(EndpointError, match="no complete response within timeout_s = 0.3"):
            answers(provider, asks(3))
        assert time.monotonic() - start < 25


def test_results_come_as_they_are_ready_and_closing_stops_the_rest() -> None:
    gate = threading.Event()

    def reply(question: str, request: dict[str, Any]) -> str:
        if question == "질문 0?":
            gate.wait(30)
        return "x"

    with mock_endpoint(reply) as server:
        provider = endpoint(server.url, concurrency=4)
        stream = provider.stream(asks(1000))
        places = [next(stream)[0] for _ in range(20)]
        assert 0 not in places
        start = time.monotonic()
        stream.close()
        assert time.monotonic() - start < 25
        num_asked = len(server.requests)
        gate.set()
        time.sleep(0.3)
        assert num_asked < 1000
        assert len(server.requests) <= num_asked + 4


def test_an_endpoint_sees_that_a_cut_request_is_not_wanted_any_more() -> None:
    gone = threading.Event()
    came = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            came.set()
            while connection.recv(1 << 16):  # the rest of the request
                pass
            gone.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        stream = endpoint(url, "m", concurrency=1).stream(asks(3))
        reader = threading.Thread(target=lambda: came.wait(100) and interrupt_soon(stream))
        reader.start()
        with pytest.raises(interrupt.Interrupted):
            next(stream)
        reader.join()
        interrupt._requested = False
        assert gone.wait(100)
        listener.settimeout(0.3)
        with pytest.raises(TimeoutError):  # nor is it asked again
            listener.accept()


def interrupt_soon(stream: Iterator[Any]) -> None:
    interrupt._requested = True


CTRL_C = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts jobs in the background without it
from open_exaone.base.records import Request, Sampling
from open_exaone.rollout.config import ChatEndpoint
from open_exaone.rollout.providers.endpoint import EndpointProvider
print("asking", flush=True)
messages = ({"role": "user", "content": "Q"},)
provider = EndpointProvider(ChatEndpoint(url=sys.argv[1], model="m"))
list(provider.stream([Request(messages, None, True, Sampling(10), i) for i in range(100)]))
"""


def test_ctrl_c_ends_the_process_at_once_while_all_requests_hang() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        environment = {**os.environ, "PYTHONPATH": str(Path(transport.__file__).parents[2])}
        process = subprocess.Popen(
            [sys.executable, "-c", CTRL_C, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        assert process.stdout is not None
        process.stdout.readline()
        silent.accept()
        said = b""
        while not said:  # Python drops an interrupt that meets it in a destructor, as a user's second one shows
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                _, said = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in said


@pytest.mark.parametrize(
    ("body", "thought", "answer", "finished"),
    [
        (chat("<think>\na\n</think>\n\nb"), "a", "b", True),
        (chat("a\n</think>\n\nb"), "a", "b", True),
        (chat("생각\n</thought>\n\n답"), "생각", "답", True),
        (chat("b", reasoning_content="a\n"), "a", "b", True),
        (chat("b", reasoning="a"), "a", "b", True),
        (chat("b </think> c", reasoning_content="a"), "a", "b </think> c", True),
        (chat("b", reasoning_content=None, reasoning=""), "", "b", True),
        (chat(None, reasoning_content="a", reason="length"), "a", "", False),
        (chat("<think>\na", reason="length"), "a", "", False),
        (chat(None), "", "", True),
        (chat([{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]), "", "bc", True),
        (chat("just b"), "", "just b", True),
        (chat("b\ud800", reasoning="a\udfff"), "a?", "b?", True),
    ],
)
def test_thought_and_answer_are_found(body: bytes, thought: str, answer: str, finished: bool) -> None:
    reply = split(read_completion(body))
    assert (reply.thought, reply.answer, reply.finished) == (thought, answer, finished)


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("stop", StopReason.END),
        ("eos", StopReason.END),
        (None, StopReason.END),
        ([1], StopReason.END),
        ("length", StopReason.LENGTH),
        ("content_filter", StopReason.ERROR),
    ],
)
def test_why_a_reply_ended(reason: Any, stop: StopReason) -> None:
    assert generation("x", reason).stop is stop


def test_a_thought_that_the_prompt_opened_and_the_limit_cut_is_a_thought() -> None:
    cut = read_completion(chat("Let me see. First", "length"))
    assert to_generation(cut, "p", thinking=True).reply == Reply("Let me see. First", "", finished=False)
    assert to_generation(cut, "p", thinking=False).reply == Reply("", "Let me see. First")
    closed = read_completion(chat("Hm.\n</think>\n\nIt is", "length"))
    assert to_generation(closed, "p", thinking=True).reply == Reply("Hm.", "It is")


def test_an_endpoint_that_never_answers_is_soon_given_up() -> None:
    with mock_endpoint(lambda question, _: "5", error_share=1.0) as server:
        provider = endpoint(server.url, max_attempts=2, concurrency=2)
        with pytest.raises(EndpointError):
            list(provider.stream(asks(300)))
        assert len(server.requests) < 60


def test_what_is_counted_and_what_is_estimated() -> None:
    told = {"prompt_tokens": 9, "completion_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 30}}
    first = generation("answer", usage=told, reasoning="t" * 18)
    assert (first.num_prompt_tokens, first.num_tokens, first.num_thought_tokens) == (9, 40, 30)
    del told["completion_tokens_details"]
    assert generation("answer", usage=told, reasoning="t" * 18).num_thought_tokens == 30  # 18 of 24 characters
    assert generation("answer", usage=told).num_thought_tokens == 0
    for usage in (None, [], "x", {"completion_tokens": -1}, {"completion_tokens": True}, {"completion_tokens": "7"}):
        estimated = generation("b" * 30, usage=usage, reasoning="a" * 10)
        assert (estimated.num_prompt_tokens, estimated.num_tokens, estimated.num_thought_tokens) == (2, 10, 2)
    absurd = {"completion_tokens": 10, "prompt_tokens": 10**30, "completion_tokens_details": {"reasoning_tokens": 99}}
    assert generation("b", usage=absurd, reasoning="a").num_thought_tokens == 10
    assert generation("b", usage=absurd, reasoning="a").num_prompt_tokens == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        b"[1]",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": "x"}]}',
        b'{"choices": [{"message": {"content": [7]}}]}',
        chat("x", "abort"),
    ],
)
def test_what_is_no_completion_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_completion(body)


def test_that_counts_are_estimated_is_noted_once() -> None:
    with mock_endpoint(echo, usage=False) as server:
        provider = endpoint(server.url)
        assert all(generation.num_tokens > 0 for generation in answers(provider, asks(20)).values())
    assert len(provider.notes) == 1
    assert "estimated" in provider.notes[0]


LONG = "<think>\n" + "hm " * 50 + "\n</think>\n\nThe answer is \\boxed{7}."


def opened_by_prompt(question: str, request: dict[str, Any]) -> str:
    return LONG.removeprefix("<think>\n")


def test_a_thought_over_its_budget_is_closed_and_the_answer_follows() -> None:
    for reply, opening in ((lambda question, request: LONG, "<think>\n"), (opened_by_prompt, "")):
        with mock_endpoint(reply) as server:
            provider = endpoint(server.url)
            [done] = answers(provider, asks(1, thinking_budget=20)).values()
        first, second = server.requests
        assert (first["max_tokens"], second["max_tokens"]) == (20, 980)
        assert first["seed"] != second["seed"]  # the answer draws other numbers than the thought has drawn
        assert second["continue_final_message"] is True
        assert second["add_generation_prompt"] is False
        begun = second["messages"][-1]
        assert begun["role"] == "assistant"
        assert begun["content"].startswith(f"{opening}hm hm") and begun["content"].endswith("hm\n</think>\n\n")
        assert done.reply.answer == "The answer is \\boxed{7}."
        assert done.reply.finished
        assert 18 <= done.reply.thought.count("hm") <= 20
        assert done.stop is StopReason.BUDGET
        assert (done.num_thought_tokens, done.num_tokens) == (20, 24)


def test_exaone_s_template_continues_what_is_sent(exaone: Path) -> None:
    """It drops the last thought unless told not to, and eats a letter behind an opening tag."""
    template = pytest.importorskip("transformers").PreTrainedTokenizerFast.from_pretrained(exaone).apply_chat_template
    texts = ["hm " * 50 + "\n</think>\n\nIt is 7.", "hm\n</think>\n\nIt is " + "very " * 50]
    for text, ends in zip(texts, ["</think>", "</think>\n\nIt is very"], strict=True):
        with mock_endpoint(lambda question, request, text=text: text) as server:
            answers(endpoint(server.url), asks(1, thinking_budget=5))
        first, second = server.requests
        continued = template(
            second["messages"], tokenize=False, continue_final_message=True, **second["chat_template_kwargs"]
        )
        prompt = template(
            first["messages"], tokenize=False, add_generation_prompt=True, **first["chat_template_kwargs"]
        )
        assert continued.startswith(prompt + "hm")
        assert continued.endswith(ends)


def test_a_budget_cuts_no_answer_and_no_short_thought() -> None:
    text = "<think>\nhm\n</think>\n\n" + "word " * 30 + "\\boxed{7}"
    with mock_endpoint(lambda question, request: text) as server:
        provider = endpoint(server.url)
        [short] = answers(provider, asks(1, thinking_budget=10)).values()
        [whole] = answers(provider, asks(1, thinking_budget=500)).values()
        [other] = answers(provider, asks(1, thinking_budget=10, thinking=False)).values()
    assert len(server.requests) == 2 + 1 + 1
    assert short.reply == whole.reply == other.reply == split(read_completion(chat(text)))
    assert short.stop is whole.stop is StopReason.END
    assert short.num_tokens == whole.num_tokens == 34


def test_a_parser_that_takes_the_continued_answer_for_a_thought_is_seen_through() -> None:
    def reply(question: str, request: dict[str, Any]) -> dict[str, Any]:
        if "continue_final_message" in request:
            return {"content": None, "reasoning_content": "It is \\boxed{7}."}
        return {"content": None, "reasoning_content": "hm hm", "finish_reason": "length"}

    with mock_endpoint(reply) as server:
        [done] = answers(endpoint(server.url), asks(1, thinking_budget=2)).values()
    assert (done.reply.thought, done.reply.answer) == ("hm hm", "It is \\boxed{7}.")
    assert done.stop is StopReason.BUDGET


def test_an_endpoint_that_cannot_continue_a_reply_says_so() -> None:
    def says_long(question: str, request: dict[str, Any]) -> str:
        return LONG

    refused = pytest.raises(ConfigError, match="continue.*local engine or vLLM")
    with mock_endpoint(says_long, refuse_fields=["continue_final_message"]) as server, refused:
        answers(endpoint(server.url), asks(50, thinking_budget=20))

    def begins_anew(question: str, request: dict[str, Any]) -> dict[str, Any]:
        return {"content": LONG, "finish_reason": "length"}

    with mock_endpoint(begins_anew) as server, pytest.raises(ConfigError, match="does not continue a reply"):
        answers(endpoint(server.url), asks(1, thinking_budget=20))


def test_one_continuation_that_is_refused_does_not_end_the_stream() -> None:
    """Its prompt may have no room left."""

    def says_long(question: str, request: dict[str, Any]) -> str:
        return LONG

    with mock_endpoint(says_long) as server:
        provider = endpoint(server.url, concurrency=1)
        wanted = asks(3, thinking_budget=20)
        assert len(answers(provider, wanted)) == 3
        server.settings["refuse_fields"] = ["continue_final_message"]
        with pytest.raises(EndpointError, match="answers 400"):
            answers(provider, wanted)


def test_flops_are_counted_where_the_size_is_known() -> None:
    done = generation("answer", usage={"prompt_tokens": 10, "completion_tokens": 40})
    with mock_endpoint(echo) as server:
        assert endpoint(server.url).flops(done) is None
        assert endpoint(server.url, num_parameters=10**9).flops(done) == 2 * 1e9 * 50


def test_a_question_that_stands_again_gets_a_seed_of_its_own() -> None:
    conversation = [{"role": "user", "content": "질문?"}]
    with mock_endpoint(echo) as server:
        answers(endpoint(server.url), requests_for([conversation] * 3, None, Sampling(9, num_samples=2), thinking=True))
        alone = answers(endpoint(server.url), requests_for([conversation], None, Sampling(9), thinking=True))
    assert len({request["seed"] for request in server.requests[:6]}) == 6
    assert server.requests[6]["seed"] in [request["seed"] for request in server.requests[:6]]
    assert (alone[0].ids, alone[0].logprobs, alone[0].policy_version) == (None, None, None)


def test_a_conversation_is_sent_whole() -> None:
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user")]
    with mock_endpoint(echo) as server:
        answers(endpoint(server.url), requests_for([turns], None, Sampling(9), thinking=False))
    assert server.requests[0]["messages"] == turns


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"timeout_s": 0}, {"max_attempts": 0}, {"concurrency": 9999}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        validate(ChatEndpoint, {"url": "http://localhost/v1", "model": "m", **wrong}, "engine")
