"""What the server answers: the engine's own replies, in every API, and its refusals."""

import asyncio
import concurrent.futures
import contextlib
import json
import math
import socket
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import anthropic
import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles import make_tokenizer
from open_exaone.base.errors import DataError, OpenExaoneError
from open_exaone.base.records import Problem, Request, Sampling, StopReason
from open_exaone.checkpoint.adapter import save_adapter
from open_exaone.engine.request import Sample
from open_exaone.engine.stop import reply_text
from open_exaone.model.lora import add_lora, lora_weights
from open_exaone.model.lora_config import LoraConfig
from open_exaone.rollout.config import ChatEndpoint
from open_exaone.rollout.provider import requests_for
from open_exaone.rollout.providers.endpoint import EndpointProvider
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.serve.answer import Patience
from open_exaone.serve.app import App
from open_exaone.serve.config import ServeConfig
from open_exaone.serve.errors import ApiError
from open_exaone.serve.models import with_adapter
from open_exaone.serve.routes.chat import begun_of
from open_exaone.serve.server import listen
from open_exaone.serve.service import Ask, Served
from open_exaone.serve.worker import Job, Ticket, Worker
from open_exaone.text.split import split_reply

from .conftest import make_engine, running

QUESTION = [{"role": "user", "content": "How much is 3 + 4?"}]
SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 99}, "unit": {"enum": ["m", "s"]}},
    "required": ["sum", "unit"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def claude(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)


def own_reply(server, seed: int, budget: int = 6, length: int = 24, **options):
    """What the engine says by itself."""
    ids = server.engine.tokenizer.render(QUESTION, thinking=True, generation_prompt=True)
    sampling = Sampling(length, 1.0, 1.0, seed=seed, thinking_budget=budget, **options)
    [[completion]] = make_engine(1).generate([ids], sampling)
    text = reply_text(server.engine.tokenizer, completion.ids, completion.stop, sampling)
    return split_reply(text, thinking=True, thought_tags=("think",)), completion


def ask(client, seed: int, **options):
    extra = {"thinking_token_budget": 6, **options.pop("extra_body", {})}
    return client.chat.completions.create(
        model="tiny", messages=QUESTION, seed=seed, max_tokens=24, extra_body=extra, **options
    )


def joined(stream):
    """Thought, answer, and why it ended, of a stream of chunks."""
    thought, answer, finish = "", "", None
    for chunk in stream:
        for choice in chunk.choices:
            thought += getattr(choice.delta, "reasoning", None) or ""
            answer += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return thought, answer, finish


def test_replies_are_the_engines_own_whole_streamed_and_among_others(server, client) -> None:
    def whole(seed):
        reply = ask(client, seed)
        message = reply.choices[0].message
        assert message.reasoning == message.reasoning_content
        return message.reasoning, message.content, reply.choices[0].finish_reason

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        among = list(threads.map(whole, range(16)))
        streamed = list(threads.map(lambda seed: joined(ask(client, seed, stream=True)), range(16)))
    for seed in range(16):
        reply, completion = own_reply(server, seed)
        finish = "length" if completion.stop is StopReason.LENGTH else "stop"
        assert (reply.thought, reply.answer, finish) == among[seed] == streamed[seed]
    assert whole(3) == among[3]
    assert len(set(among)) > 8  # seeds matter


def test_usage_counts_thoughts_and_what_was_remembered(server, client) -> None:
    _, completion = own_reply(server, 5)
    usage = [ask(client, 5).usage for _ in range(2)][1]
    assert usage.prompt_tokens == len(server.engine.tokenizer.render(QUESTION, thinking=True, generation_prompt=True))
    assert usage.completion_tokens == len(completion.ids)
    assert usage.completion_tokens_details.reasoning_tokens == 6
    assert usage.prompt_tokens_details.cached_tokens == (usage.prompt_tokens - 1) // 16 * 16 > 0
    last = list(ask(client, 5, stream=True, stream_options={"include_usage": True}))[-1]
    assert last.usage == usage


def test_stop_strings_samples_and_logprobs(server, client) -> None:
    _, free = own_reply(server, 9, length=40)
    text = server.engine.tokenizer.decode(free.ids, skip_special=True)
    stop = text[-12:-8]
    reply, completion = own_reply(server, 9, length=40, stop=[stop])
    found = client.chat.completions.create(
        model="tiny", messages=QUESTION, seed=9, max_tokens=40, stop=stop, extra_body={"thinking_token_budget": 6}
    )
    assert completion.stop is StopReason.STOP_STRING
    assert found.choices[0].message.content == reply.answer and found.choices[0].finish_reason == "stop"
    several = ask(client, 2, n=3, logprobs=True)
    ids = tuple(server.engine.tokenizer.render(QUESTION, thinking=True, generation_prompt=True))
    wanted = make_engine().generate([ids], Sampling(24, 1.0, 1.0, 3, seed=2, thinking_budget=6))[0]
    for choice, completion in zip(several.choices, wanted, strict=True):
        assert [token.logprob for token in choice.logprobs.content] == pytest.approx(completion.logprobs)


def test_completions_take_texts_and_ids(server, client) -> None:
    ids = server.engine.tokenizer.encode("How much")
    texts = [
        client.completions.create(model="tiny", prompt=prompt, max_tokens=8, seed=1).choices[0].text
        for prompt in ("How much", ids)
    ]
    [[completion]] = make_engine().generate([ids], Sampling(8, 1.0, 1.0, seed=1))
    assert texts == [server.engine.tokenizer.decode(completion.ids, skip_special=True)] * 2
    both = client.completions.create(model="tiny", prompt=["How", "How"], max_tokens=8, seed=1)
    prompts = [server.engine.tokenizer.encode("How")] * 2
    own = make_engine().generate(prompts, Sampling(8, 1.0, 1.0, seed=1))
    assert [c.text for c in both.choices] == [
        server.engine.tokenizer.decode(one.ids, skip_special=True) for [one] in own
    ]
    stream = client.completions.create(model="tiny", prompt=ids, max_tokens=8, seed=1, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == texts[0]


def test_anthropic_messages_whole_and_streamed(claude, client) -> None:
    options = {
        "model": "tiny",
        "max_tokens": 24,
        "messages": QUESTION,
        "extra_body": {"temperature": 0},
        "thinking": {"type": "enabled", "budget_tokens": 6},
        "system": "Be brief.",
    }
    whole = claude.messages.create(**options)
    with claude.messages.stream(**options) as stream:
        streamed = stream.get_final_message()
    assert [block.model_dump(exclude={"parsed_output"}) for block in streamed.content] == [
        block.model_dump() for block in whole.content
    ]
    assert [block.type for block in whole.content] == ["thinking", "text"] and whole.stop_reason == "max_tokens"
    chat = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "system", "content": "Be brief."}, *QUESTION],
        temperature=0,
        max_tokens=24,
        extra_body={"thinking_token_budget": 6},
    )
    assert whole.content[0].thinking == chat.choices[0].message.reasoning
    assert whole.content[1].text == chat.choices[0].message.content
    counted = claude.messages.count_tokens(model="tiny", messages=QUESTION, system="Be brief.")
    assert counted.input_tokens == chat.usage.prompt_tokens


def test_responses_whole_streamed_and_gone_on_with(server, client) -> None:
    options = {"model": "tiny", "temperature": 0, "max_output_tokens": 20, "reasoning": {"effort": "medium"}}
    whole = client.responses.create(input="How much is 3 + 4?", **options)
    events = list(client.responses.create(input="How much is 3 + 4?", stream=True, **options))
    streamed = events[-1].response
    assert events[-1].type == "response.incomplete" and whole.status == "incomplete"  # the limit has cut it
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for kind, item in zip(("reasoning_text", "output_text"), whole.output, strict=True):
        deltas = [event.delta for event in events if event.type == f"response.{kind}.delta"]
        assert "".join(deltas) == item.content[0].text
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert [item.content[0].text for item in streamed.output] == [item.content[0].text for item in whole.output]
    assert whole.usage.output_tokens_details.reasoning_tokens == 10  # half of it
    again = client.responses.create(input="And 5 + 5?", previous_response_id=whole.id, **options)
    turns = [*QUESTION, {"role": "assistant", "content": whole.output_text}, {"role": "user", "content": "And 5 + 5?"}]
    ids = server.engine.tokenizer.render(turns, thinking=True, generation_prompt=True)
    assert again.usage.input_tokens == len(ids)
    items = [*[{"role": "user", "content": QUESTION[0]["content"]}], *whole.output]
    sent = client.responses.create(input=[*items, {"role": "user", "content": "And 5 + 5?"}], **options)
    assert sent.output_text == again.output_text
    with pytest.raises(openai.NotFoundError, match="previous_response_id"):
        client.responses.create(input="x", previous_response_id="resp_none", **options)


def test_json_of_a_schema_behind_a_free_thought(client, claude) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}}
    for seed in range(3):
        stream = client.chat.completions.create(
            model="tiny",
            messages=QUESTION,
            seed=seed,
            stream=True,
            response_format=form,
            extra_body={"thinking_token_budget": 5},
        )
        thought, answer, finish = joined(stream)
        assert set(json.loads(answer)) == {"sum", "unit"} and finish == "stop" and not thought.startswith("{")


def test_tools_that_must_be_called(client, claude) -> None:
    options = {"model": "tiny", "messages": QUESTION, "tools": [TOOL], "parallel_tool_calls": False, "seed": 1}
    for choice in ("required", {"type": "function", "function": {"name": "add"}}):
        reply = client.chat.completions.create(tool_choice=choice, reasoning_effort="none", **options).choices[0]
        [call] = reply.message.tool_calls
        assert call.function.name == "add" and set(json.loads(call.function.arguments)) == {"sum", "unit"}
        assert reply.finish_reason == "tool_calls" and reply.message.content is None
    with client.chat.completions.stream(tool_choice="required", reasoning_effort="none", **options) as stream:
        streamed = stream.get_final_completion().choices[0].message
    assert streamed.tool_calls[0].function.arguments == call.function.arguments
    turns = [*QUESTION, reply.message, {"role": "tool", "tool_call_id": call.id, "content": "7"}]
    assert client.chat.completions.create(model="tiny", messages=turns, tools=[TOOL], max_tokens=4).choices
    used = claude.messages.create(
        model="tiny",
        max_tokens=200,
        messages=QUESTION,
        tools=[{"name": "add", "input_schema": SCHEMA}],
        tool_choice={"type": "tool", "name": "add", "disable_parallel_tool_use": True},
        thinking={"type": "disabled"},
    )
    assert used.stop_reason == "tool_use" and set(used.content[-1].input) == {"sum", "unit"}
    named = {"type": "function", "function": {"name": "multiply"}}
    with pytest.raises(openai.BadRequestError, match="names no function"):
        client.chat.completions.create(tool_choice=named, **options)


def test_a_server_without_llguidance_names_the_extra(client, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(openai.BadRequestError, match="open-exaone\\[guided\\]"):
        ask(client, 0, response_format={"type": "json_object"})


def test_a_thought_is_ended_on_demand(server, client) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        with server.held():
            asked = threads.submit(
                lambda: joined(
                    client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=40, stream=True)
                )
            )
            id = wait_for(lambda: next(iter(server.service.tickets), None))
            ended = threads.submit(server.post, f"/v1/requests/chatcmpl-{id}/end_reasoning", {})
            wait_for(lambda: server.service.worker._inbox.qsize() >= 2 or None)
        assert ended.result().json()["ended"] is True
        thought, answer, _ = asked.result()
    assert thought == "" and answer
    assert server.post("/v1/requests/none/end_reasoning", {}).status_code == 404


def test_a_client_that_leaves_frees_its_place(server) -> None:
    before = server.service.metrics.text({})
    with server.held():
        body = {"messages": QUESTION, "stream": True, "max_tokens": 900}
        with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200
            ticket = next(iter(server.service.tickets.values()))
        wait_for(lambda: server.service.worker._inbox.qsize() >= 2 or None)  # its submission, and its end
    wait_for(lambda: ticket.cancelled)
    wait_for(lambda: server.service.worker.counts() == (0, 0) or None)
    assert ticket.jobs[0].stop is StopReason.CANCELLED and len(ticket.jobs[0].sample.ids) < 900
    wait_for(lambda: server.service.metrics.text({}) != before or None)


def wait_for(found):
    """What a function gives when it is no longer None."""
    for _ in range(6000):
        if (value := found()) is not None:
            return value
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_a_full_queue_is_refused_and_says_when_to_ask_again(server, monkeypatch) -> None:
    config = server.service.config.model_copy(update={"max_waiting": 0})
    with server.held(), monkeypatch.context() as patch:
        patch.setattr(server.service, "config", config)
        refused = server.post("/v1/chat/completions", {"messages": QUESTION, "n": 5})
    assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "rate_limit_error"


def test_a_request_ends_at_its_deadline(server, monkeypatch) -> None:
    config = server.service.config.model_copy(update={"deadline_s": 0.05})
    monkeypatch.setattr(server.service, "config", config)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        with server.held():
            asked = threads.submit(server.post, "/v1/chat/completions", {"messages": QUESTION})
            wait_for(lambda: server.service.worker._inbox.qsize() >= 2 or None)  # its submission, and its end
        assert asked.result().status_code == 504 and "0.05 seconds" in asked.result().text


def test_a_step_that_fails_ends_what_runs_and_no_more(server, monkeypatch) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as threads, server.held():
        session = server.service.worker._lanes["tiny"].session
        monkeypatch.setattr(session, "step", lambda: 1 / 0)
        asked = threads.submit(server.post, "/v1/completions", {"prompt": "a", "stream": True})
        wait_for(lambda: server.service.worker._inbox.qsize() or None)
    assert "the engine failed" in asked.result().text and "ZeroDivision" in asked.result().text
    assert server.post("/v1/completions", {"prompt": "a", "max_tokens": 3}).json()["usage"]["completion_tokens"] == 3


def test_a_request_that_does_not_arrive_is_given_up(server) -> None:
    config = server.service.config.model_copy(update={"client_timeout_s": 0.05})
    with running(config.model_copy(update={"port": 0})) as hasty:
        address = ("127.0.0.1", int(hasty.url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=60) as slow:
            slow.sendall(b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{")
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_reply_that_nobody_reads_is_cancelled() -> None:
    engine = make_engine()
    worker = Worker({"tiny": engine}, max_unread_tokens=64)
    job = Job(Request((), (1, 2, 3), False, Sampling(max_new_tokens=900, temperature=1.0, top_p=1.0)))
    unread, ticket = job, Ticket("one", "tiny", [job], is_streamed=True)
    worker.start(_Loop())
    worker.submit(ticket)
    wait_for(lambda: unread.stop)
    worker.close()
    assert job.stop is StopReason.CANCELLED and 64 < job.num_ready < 900


class _Session:
    """A session without an engine."""

    def submit(self, requests):
        return [Sample(place, request) for place, request in enumerate(requests)]

    def cancel(self, sample) -> None:
        """Nothing runs."""


def taken(session: _Session):
    """A worker's lane, and a ticket of two jobs that it was given, in this thread."""
    worker = Worker({"tiny": SimpleNamespace(open_session=lambda **options: session)}, max_unread_tokens=64)
    jobs = [Job(Request((), (1,), False, Sampling(max_new_tokens=900))) for _ in range(2)]
    ticket = Ticket("one", "tiny", jobs, is_streamed=True)
    worker._submit(ticket)
    return worker, worker._lanes["tiny"], ticket


def test_a_reply_that_ends_while_its_request_is_cancelled_harms_nobody() -> None:
    worker, lane, ticket = taken(_Session())
    unread, done = (job.sample for job in ticket.jobs)
    unread.ids, done.ids, done.stop = [1] * 100, [1], StopReason.END
    worker._publish(lane)
    assert [job.stop for job in ticket.jobs] == [StopReason.CANCELLED] * 2 and not lane.jobs


def test_streams_get_their_first_tokens_and_their_end_at_once_and_the_rest_in_larger_pieces() -> None:
    worker, lane, ticket = taken(_Session())
    first, second = (job.sample for job in ticket.jobs)

    def published(num_first: int, num_second: int, since: float) -> list[int]:
        first.ids, second.ids, lane.published = [1] * num_first, [1] * num_second, since
        worker._publish(lane)
        return [job.num_ready for job in ticket.jobs]

    just_now, long_ago = math.inf, -math.inf
    assert published(1, 0, just_now) == [1, 0]
    assert published(5, 1, just_now) == [1, 1]
    assert published(6, 2, long_ago) == [6, 2] and lane.published > 0
    second.stop = StopReason.LENGTH
    assert published(9, 4, just_now) == [6, 4]
    assert [job.stop for job in ticket.jobs] == [None, StopReason.LENGTH]


@pytest.mark.parametrize("is_the_clients_turn", [True, False])
def test_a_stream_waits_for_the_engine_longer_than_for_its_client(is_the_clients_turn) -> None:
    async def waits() -> None:
        async with Patience(0.01) as patience:
            patience.begin()
            if not is_the_clients_turn:
                patience.end()
            await asyncio.sleep(0.1)

    with pytest.raises(TimeoutError) if is_the_clients_turn else contextlib.nullcontext():
        asyncio.run(waits())


def test_a_request_that_the_engine_cannot_take_ends_at_once() -> None:
    session = _Session()
    session.submit = lambda requests: 1 / 0
    _, _, ticket = taken(session)
    assert all(job.stop is StopReason.ERROR and "ZeroDivisionError" in job.error for job in ticket.jobs)


def test_what_fails_while_a_thought_is_ended_is_answered(server, monkeypatch) -> None:
    def fail(sample):
        raise ValueError("no chat format")

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        with server.held():
            monkeypatch.setattr(server.service.worker._lanes["tiny"].session, "end_thought", fail)
            asked = threads.submit(server.post, "/v1/completions", {"prompt": "a", "max_tokens": 9})
            id = wait_for(lambda: next(iter(server.service.tickets), None))
            url = f"{server.url}/v1/requests/cmpl-{id}/end_reasoning"
            ended = threads.submit(httpx2.post, url, json={}, timeout=10)
            wait_for(lambda: server.service.worker._inbox.qsize() >= 2 or None)
        assert ended.result().status_code == 500 and asked.result().status_code == 200


def test_the_queue_is_bounded_while_the_engine_is_busy(server, monkeypatch) -> None:
    config = server.service.config.model_copy(update={"max_waiting": 0})
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        with server.held():
            first = threads.submit(server.post, "/v1/completions", {"prompt": "a", "max_tokens": 3, "n": 4})
            wait_for(lambda: server.service.tickets or None)
            with monkeypatch.context() as patch:
                patch.setattr(server.service, "config", config)
                assert server.post("/v1/completions", {"prompt": "a"}).status_code == 429
        assert first.result().status_code == 200


def test_no_request_fails_the_others(server) -> None:
    body = {"prompt": "a", "max_tokens": 3, "top_k": 10**30, "stop_token_ids": [0], "seed": -(2**63)}
    assert server.post("/v1/completions", body).status_code == 200


def test_many_replies_are_counted_before_they_are_made(server, monkeypatch) -> None:
    monkeypatch.setattr(Ask, "requests", lambda ask: 1 / 0)
    refused = server.post("/v1/completions", {"prompt": [[1]] * 1000, "n": 1000, "max_tokens": 1})
    assert refused.status_code == 400 and "1000000 replies" in refused.text


def test_numbers_that_are_given_back_are_json(server) -> None:
    for text in ('"metadata": {"a": NaN}', '"metadata": {"a": [1e400]}'):
        body = f'{{"input": "a", "max_output_tokens": 2, {text}}}'
        refused = httpx2.post(f"{server.url}/v1/responses", content=body, headers={"content-type": "application/json"})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "metadata"


def test_what_a_template_refuses_does_not_name_its_file(server) -> None:
    def refuse():
        raise DataError("/srv/models/mine/chat_template.jinja: the chat template refuses this conversation: two users")

    with pytest.raises(ApiError) as refused:
        asyncio.run(server.service.run(refuse))
    assert refused.value.param == "messages" and refused.value.status == 400
    assert refused.value.message == "the chat template refuses this conversation: two users"


def test_a_path_stays_in_its_line_of_the_log(server, caplog) -> None:
    with caplog.at_level("INFO", "open_exaone.serve"):
        httpx2.get(f"{server.url}/x%0a2026%20INFO%20GET%1b%e2%80%ae")
        while not any("/x" in record.getMessage() for record in caplog.records):  # it is logged behind the answer
            time.sleep(0.01)
    [line] = [record.getMessage() for record in caplog.records if "/x" in record.getMessage()]
    assert "\n" not in line and line.isascii() and line.startswith("GET /x%0A2026%20INFO%20GET%1B")


@pytest.mark.parametrize("key", ["voilà", "\N{HANGUL SYLLABLE GA}\N{NO-BREAK SPACE}x", "k\udcff"])
def test_a_key_may_have_any_letters(key) -> None:
    app = App(None, ServeConfig.model_construct(api_key=key), "127.0.0.1")
    sent = key.encode(errors="surrogateescape").decode("latin-1")
    app._check_key({"authorization": f"Bearer {sent} "})
    with pytest.raises(ApiError):
        app._check_key({"authorization": "Bearer voila"})


@pytest.mark.parametrize("key", [" ", "k ", "a\nb"])
def test_a_key_that_no_client_can_send_is_refused(key) -> None:
    with pytest.raises(ValueError, match="api_key"):
        ServeConfig(api_key=key)


def test_a_server_without_a_key_answers_to_its_own_names_alone() -> None:
    opened = App(None, ServeConfig(allowed_hosts=("Proxy.example",)), "0.0.0.0")
    for host in ("192.168.1.7:8000", "[fe80::1]:8000", "localhost:8000", "proxy.example", socket.gethostname()):
        opened._check_host(host)
    with pytest.raises(ApiError, match="allowed-host"):
        opened._check_host("evil.example:8000")
    App(None, ServeConfig(api_key="k"), "0.0.0.0")._check_host("evil.example")


def test_a_request_of_two_lengths_is_refused_and_what_follows_is_not_read(server) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60) as smuggler:
        head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        lengths = b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        smuggler.sendall(head + lengths + b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answers = b"".join(iter(lambda: smuggler.recv(1000), b""))
    assert answers.startswith(b"HTTP/1.1 400") and answers.count(b"HTTP/1.1") == 1 and b"transfer-encoding" in answers


def test_a_connection_that_asks_nothing_is_closed() -> None:
    with running(ServeConfig(port=0, client_timeout_s=0.2)) as hasty:
        address = ("127.0.0.1", int(hasty.url.rpartition(":")[2]))
        for begun in (b"", b"GET /health HTTP/1.1\r\nho"):
            with socket.create_connection(address, timeout=60) as slow:
                slow.sendall(begun)
                assert slow.recv(1000) == b""
        with socket.create_connection(address, timeout=60) as large:
            with contextlib.suppress(OSError):
                large.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * (1 << 20))
            assert large.recv(1000).startswith(b"HTTP/1.1 4")


class _Loop:
    """An event loop that has nothing to do."""

    def is_closed(self) -> bool:
        return True


REFUSED = [
    ("/v1/chat/completions", {"model": "gpt"}, 404, ["'gpt'", "tiny"]),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "a " * 3000}]},
        400,
        ["1024 tokens", "requested"],
    ),
    ("/v1/chat/completions", {"max_tokens": 5000}, 400, ["1024 tokens", "5000"]),
    ("/v1/chat/completions", {"fuctions": []}, 400, ["fuctions", "not supported"]),
    ("/v1/chat/completions", {"functions": []}, 400, ["functions", "use tools"]),
    ("/v1/chat/completions", {"chat_template": "{{ 1 }}"}, 400, ["chat_template"]),
    ("/v1/chat/completions", {"temperature": -1}, 400, ["temperature", "-1"]),
    ("/v1/chat/completions", {"logit_bias": {"9999": 1}}, 400, ["logit_bias", "9999"]),
    ("/v1/chat/completions", {"logit_bias": {"x": 1}}, 400, ["logit_bias", "'x'"]),
    ("/v1/chat/completions", {"messages": []}, 400, ["messages"]),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, ["messages.0"]),
    ("/v1/chat/completions", {"messages": [{"role": "wizard", "content": ""}]}, 400, ["messages.0.role", "wizard"]),
    ("/v1/chat/completions", {"n": 65}, 400, ["65", "64"]),
    (
        "/v1/chat/completions",
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}},
        400,
        ["response_format"],
    ),
    ("/v1/completions", {"prompt": ""}, 400, ["empty"]),
    ("/v1/completions", {"prompt": [99999]}, 400, ["99999"]),
    ("/v1/chat/completions", {"no name": 1}, 400, ["no name: this field is not supported"]),
    ("/v1/chat/completions", {"": 1}, 400, ["not supported"]),
    (
        "/v1/chat/completions",
        {"tools": [{"type": "function", "function": {"name": "f", "str": 1}}]},
        400,
        ["0.function.str"],
    ),
    (
        "/v1/messages",
        {"model": "tiny", "max_tokens": 5, "messages": [{"role": "assistant", "content": "a"}]},
        400,
        ["messages"],
    ),
    ("/detokenize", {"tokens": [-1]}, 400, ["tokens.0"]),
    ("/tokenize", {}, 400, ["prompt"]),
    ("/nowhere", {}, 404, ["openapi"]),
    ("/health", {}, 405, ["GET"]),
]


@pytest.mark.parametrize(("path", "body", "status", "said"), REFUSED)
def test_refusals_say_what_is_wrong(server, path, body, status, said) -> None:
    body = {"messages": QUESTION, **body} if path.endswith("chat/completions") else body
    refused = server.post(path, body)
    error = refused.json()["error"]
    assert refused.status_code == status and all(text in error["message"] for text in said), error
    assert "Traceback" not in refused.text and len(refused.text) < 2000
    assert ("param" in error) is not path.startswith("/v1/messages")


def test_only_json_of_a_bounded_size_is_read(server) -> None:
    url = f"{server.url}/v1/chat/completions"
    body = json.dumps({"messages": QUESTION, "max_tokens": 2})
    assert httpx2.post(url, content=body, headers={"content-type": "text/plain"}).status_code == 400
    assert httpx2.post(url, content="{", headers={"content-type": "application/json"}).status_code == 400
    assert httpx2.post(url, content="[" * 100_000, headers={"content-type": "application/json"}).status_code == 400
    large = "x" * (server.service.config.max_body_bytes + 1)
    assert httpx2.post(url, content=large, headers={"content-type": "application/json"}).status_code == 413
    parts = (b"x" * 65536 for _ in range(1 + server.service.config.max_body_bytes // 65536))
    assert httpx2.post(url, content=parts, headers={"content-type": "application/json"}).status_code == 413


def test_strangers_are_kept_out(server) -> None:
    assert httpx2.get(f"{server.url}/v1/models", headers={"host": "evil.example"}).status_code == 403
    assert (
        "access-control-allow-origin"
        not in httpx2.get(f"{server.url}/v1/models", headers={"origin": "https://evil.example"}).headers
    )
    config = ServeConfig(port=0, api_key="s3cret", cors_origins=("https://chat.example",))
    with running(config) as guarded:
        url = f"{guarded.url}/v1/models"
        assert httpx2.get(url).status_code == 401
        assert (
            httpx2.get(url, headers={"authorization": "Bearer wrong"}).json()["error"]["type"] == "authentication_error"
        )
        assert httpx2.get(url, headers={"authorization": "Bearer s3cret"}).status_code == 200
        assert httpx2.get(url, headers={"x-api-key": "s3cret"}).status_code == 200
        assert guarded.post("/v1/messages", {}).json()["type"] == "error"
        assert httpx2.get(f"{guarded.url}/health").status_code == 200
        allowed = httpx2.options(url, headers={"origin": "https://chat.example"})
        assert allowed.status_code == 204 and allowed.headers["access-control-allow-origin"] == "https://chat.example"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["user", "text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = {
    "/v1/chat/completions": [
        "temperature",
        "tools",
        "stop",
        "n",
        "seed",
        "response_format",
        "logit_bias",
        "tool_choice",
    ],
    "/v1/completions": ["prompt", "stop_token_ids", "top_k", "min_p", "stream"],
    "/v1/responses": ["input", "tools", "text", "reasoning", "instructions"],
    "/v1/messages": ["messages", "system", "tools", "thinking", "tool_choice", "stop_sequences"],
    "/tokenize": ["prompt", "messages"],
    "/detokenize": ["tokens"],
}
VALID = {
    "/v1/chat/completions": {"messages": QUESTION, "max_tokens": 2},
    "/v1/completions": {"prompt": "a", "max_tokens": 2},
    "/v1/responses": {"input": "a", "max_output_tokens": 2},
    "/v1/messages": {"model": "tiny", "messages": QUESTION, "max_tokens": 2},
    "/tokenize": {},
    "/detokenize": {},
}


@settings(max_examples=150)
@given(data=st.data())
def test_no_request_breaks_the_server(server, data) -> None:
    path = data.draw(st.sampled_from(sorted(FIELDS)))
    names = st.sampled_from([*FIELDS[path], "messages", "model"]) | st.text(max_size=4)
    changed = data.draw(st.dictionaries(names, JSON, max_size=2))
    content = json.dumps({**VALID[path], **changed}).encode()
    if data.draw(st.integers(0, 3)) == 0:
        place = data.draw(st.integers(0, len(content)))
        content = content[:place] + data.draw(st.binary(max_size=3)) + content[place + 1 :]
    answer = httpx2.post(server.url + path, content=content, headers={"content-type": "application/json"}, timeout=120)
    assert answer.status_code < 500, (path, content, answer.text)


def test_an_evaluation_of_the_server_is_one_of_the_model(server) -> None:
    problems = [Problem(str(n), "sum", "en", f"How much is {n} + 4?", "7", "math") for n in range(4)]
    sampling = Sampling(max_new_tokens=12, temperature=0.0)
    endpoint = EndpointProvider(ChatEndpoint(url=f"{server.url}/v1"))
    local = LocalProvider(make_engine())
    found = [
        {
            place: (one.reply, one.stop, one.num_tokens, one.num_prompt_tokens)
            for place, one in provider.stream(requests_for(problems, provider.tokenizer, sampling, thinking=False))
        }
        for provider in (endpoint, local)
    ]
    assert found[0] == found[1]


def test_a_reply_that_is_begun_is_continued(server, client, claude) -> None:
    tokenizer = server.engine.tokenizer
    begun = {"role": "assistant", "content": "The answer is"}
    ids = [*tokenizer.render(QUESTION, generation_prompt=True), *tokenizer.encode("The answer is")]
    [[completion]] = make_engine().generate([ids], Sampling(8, 0.0))
    options = {"model": "tiny", "messages": [*QUESTION, begun], "max_tokens": 8}
    extra = {"continue_final_message": True, "add_generation_prompt": False}
    reply = client.chat.completions.create(temperature=0, reasoning_effort="none", extra_body=extra, **options)
    assert reply.choices[0].message.content == tokenizer.decode(completion.ids, skip_special=True).strip("\n")
    assert reply.usage.prompt_tokens == len(ids)
    prefilled = claude.messages.create(extra_body={"temperature": 0}, **options)
    assert prefilled.content[0].text == reply.choices[0].message.content
    thought = {"role": "assistant", "content": "3 + 4\n</think>\n\nIt is"}
    options["messages"] = [*QUESTION, thought]
    closed = client.chat.completions.create(extra_body=extra, **options)
    assert not hasattr(closed.choices[0].message, "reasoning") and closed.choices[0].message.content
    assert closed.usage.completion_tokens_details.reasoning_tokens == 0
    text = tokenizer.render(QUESTION, thinking=True, generation_prompt=True)
    rest = [*tokenizer.encode("3 + 4\n"), tokenizer.think_close_id, *tokenizer.encode("\n\nIt is")]
    assert closed.usage.prompt_tokens == len(text) + len(rest)
    with pytest.raises(openai.BadRequestError, match="must be a reply"):
        client.chat.completions.create(model="tiny", messages=QUESTION, extra_body=extra)


def test_a_thought_that_is_begun_is_continued_and_its_budget_and_end_hold(server) -> None:
    tokenizer = server.engine.tokenizer
    thought = {"role": "assistant", "content": "", "reasoning_content": "3 + 4"}
    body = {"messages": [*QUESTION, thought], "max_tokens": 12, "temperature": 0, "continue_final_message": True}
    prompt = [*tokenizer.render(QUESTION, thinking=True, generation_prompt=True), *tokenizer.encode("3 + 4")]
    [[completion]] = make_engine().generate([prompt], Sampling(12, 0.0))
    reply = server.post("/v1/chat/completions", body).json()
    assert reply["usage"]["prompt_tokens"] == len(prompt)
    expected = tokenizer.split(completion.ids, thinking=True)
    assert reply["choices"][0]["message"].get("reasoning", "") == expected.thought
    budget = {**body, "thinking_token_budget": 3, "logit_bias": {str(tokenizer.think_close_id): -100}}
    limited = server.post("/v1/chat/completions", budget).json()
    assert limited["usage"]["completion_tokens_details"]["reasoning_tokens"] == 3
    assert limited["choices"][0]["message"]["content"]
    closed = {**budget, "messages": [*QUESTION, {**thought, "content": "It is"}]}
    answered = server.post("/v1/chat/completions", closed).json()
    assert answered["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    begun = [*tokenizer.encode("3 + 4\n"), tokenizer.think_close_id, *tokenizer.encode("\n\nIt is")]
    assert answered["usage"]["prompt_tokens"] == len(prompt) - len(tokenizer.encode("3 + 4")) + len(begun)
    message = answered["choices"][0]["message"]
    assert "reasoning" not in message and "</think>" not in message["content"]


def test_a_format_whose_prompt_opens_no_thought_gets_the_tag_that_opens_it() -> None:
    message = {"role": "assistant", "content": "", "reasoning_content": "hm"}
    chat_format = make_tokenizer().chat_format
    assert begun_of(message, chat_format, thinking=True) == "hm"
    assert begun_of(message, replace(chat_format, opens_thought=lambda _: False), thinking=True) == "<think>\nhm"


def test_adapters_are_models_of_their_own(tmp_path) -> None:
    base = make_engine()
    trained = make_engine().model
    config = LoraConfig(rank=2, alpha=64.0)
    add_lora(trained, config, 0)
    for weight in lora_weights(trained).values():
        weight.data.normal_()
    save_adapter(tmp_path, trained, config, base="tiny")
    adapted = with_adapter(base.model, tmp_path)
    assert adapted.model.embed_tokens.weight.data_ptr() == base.model.model.embed_tokens.weight.data_ptr()
    engine = type(base)(adapted, base.tokenizer, num_slots=4)
    with running(models=[Served("tiny", base), Served("mine", engine)]) as both:
        body = {"prompt": [5, 6, 7], "max_tokens": 12, "temperature": 0}
        texts = [
            both.post("/v1/completions", {**body, "model": name}).json()["choices"][0]["text"]
            for name in ("tiny", "mine")
        ]
        names = [model["id"] for model in httpx2.get(f"{both.url}/v1/models").json()["data"]]
    for text, own in zip(texts, (make_engine(), type(base)(trained, base.tokenizer)), strict=True):
        [[completion]] = own.generate([(5, 6, 7)], Sampling(12, 0.0))
        assert text == base.tokenizer.decode(completion.ids, skip_special=True)
    assert texts[0] != texts[1] and names == ["tiny", "mine"]


def test_a_model_named_as_on_the_hub_and_the_description(server) -> None:
    served = Served("LGAI-EXAONE/EXAONE", make_engine())
    with running(models=[served]) as one:
        assert httpx2.get(f"{one.url}/v1/models/LGAI-EXAONE/EXAONE").json()["max_model_len"] == 1024
        assert httpx2.get(f"{one.url}/v1/models/other").status_code == 404
    described = httpx2.get(f"{server.url}/openapi.json").json()
    for path in (*FIELDS, "/metrics", "/v1/requests/{id}/end_reasoning"):
        assert path in described["paths"]
    fields = described["components"]["schemas"]["ChatRequest"]["properties"]
    assert fields["seed"]["description"].startswith("Equal requests")
    metrics = httpx2.get(f"{server.url}/metrics").text
    assert "# TYPE open_exaone_first_token_seconds histogram" in metrics
    assert all(len(line.rsplit(" ", 1)) == 2 for line in metrics.splitlines())


def test_a_port_in_use_says_how_to_go_on(server) -> None:
    with pytest.raises(OpenExaoneError, match="--port"):
        listen(ServeConfig(port=int(server.url.rpartition(":")[2])))
