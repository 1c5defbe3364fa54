"""What a request or a connection may take away from the others: nothing."""

import asyncio
import concurrent.futures
import json
import random
import socket
import threading
import time

import httpx2
import pytest

from doubles import make_tokenizer
from open_exaone.serve import app, conversation, guided, prompts
from open_exaone.serve.config import ServeConfig
from open_exaone.serve.errors import ApiError
from open_exaone.serve.remembered import Responses
from open_exaone.serve.service import LONG_CHARS
from open_exaone.text.tokenizer import Tokenizer

from .conftest import running

QUESTION = [{"role": "user", "content": "How much is 3 + 4?"}]


LONG = "17 + 25, " * (LONG_CHARS // 8)


def test_short_prompts_do_not_wait_for_long_ones(server, monkeypatch) -> None:
    gate, begun, own = threading.Event(), threading.Event(), Tokenizer.encode_batch

    def slow(self, texts):
        if max(map(len, texts)) > LONG_CHARS:
            begun.set()
            gate.wait(600)
        return own(self, texts)

    monkeypatch.setattr(Tokenizer, "encode_batch", slow)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        try:
            long = threads.submit(server.post, "/tokenize", {"prompt": LONG})
            assert begun.wait(300)
            assert server.post("/v1/chat/completions", {"messages": QUESTION, "max_tokens": 4}).status_code == 200
            assert server.post("/tokenize", {"prompt": "17 + 25"}).status_code == 200
            assert not long.done()
        finally:
            gate.set()
        assert long.result().json()["tokens"] == make_tokenizer().encode(LONG)


def test_a_long_prompt_waits_until_earlier_replies_are_kept(server) -> None:
    gate, done = threading.Event(), []

    async def ask() -> None:
        server.service._renderer.submit(lambda: (gate.wait(600), done.append("kept")))
        asked = asyncio.create_task(server.service.run(done.append, "rendered", size=LONG_CHARS + 1))
        await asyncio.sleep(0.2)
        gate.set()
        await asked

    asyncio.run(ask())
    assert done == ["kept", "rendered"]


TURN = {"role": "user", "content": LONG}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [TURN]}),
        ("/v1/completions", {"prompt": LONG}),
        ("/v1/responses", {"input": LONG}),
        ("/v1/messages", {"messages": [TURN], "max_tokens": 4}),
    ],
)
def test_a_prompt_that_is_far_too_long_is_refused_by_its_beginning(server, path, body, monkeypatch) -> None:
    read, own = [], Tokenizer.encode_segments
    monkeypatch.setattr(Tokenizer, "encode_segments", lambda *one: read.append(one) or own(*one))
    refused = server.post(path, {"model": "tiny", **body})
    assert refused.status_code == 400 and "at least" in refused.json()["error"]["message"]
    assert not read


def test_prompts_of_any_length_can_be_counted(server) -> None:
    num = len(make_tokenizer().encode(LONG))
    counted = server.post("/v1/messages/count_tokens", {"model": "tiny", "messages": [TURN]}).json()["input_tokens"]
    assert num < counted == server.post("/tokenize", {"messages": [TURN]}).json()["count"] < num + 20


def test_no_text_that_fits_is_refused_by_its_beginning(monkeypatch) -> None:
    monkeypatch.setattr(prompts, "_CHARS_PER_TOKEN", 2)
    tokenizer, draw, num_refused = make_tokenizer(), random.Random(0), 0
    for _ in range(400):
        texts = ["".join(draw.choices(["The answer", " much", "7", "한", "한국", "+"], k=12)) for _ in range(3)]
        most_tokens = draw.randrange(8, 120)
        try:
            prompts.check_length(tokenizer, texts, most_tokens)
        except ApiError:
            num_refused += 1
            assert sum(map(len, tokenizer.encode_batch(texts))) > most_tokens
    assert 40 < num_refused < 360


def restricted(schema, **options):
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    return {"messages": QUESTION, "reasoning_effort": "none", "response_format": form, "max_tokens": 8, **options}


def test_others_go_on_while_a_schema_is_compiled(server, monkeypatch) -> None:
    """Rendering, streams and requests without a schema; also where all compilers are taken."""
    gate, begun = threading.Event(), threading.Semaphore(0)
    own = conversation._rule

    def slow(*arguments):
        begun.release()
        gate.wait(600)
        return own(*arguments)

    monkeypatch.setattr(conversation, "_rule", slow)
    config = server.service.config
    monkeypatch.setattr(server.service, "config", config.model_copy(update={"schema_timeout_s": 600.0}))
    body = {"messages": QUESTION, "max_tokens": 400, "stream": True, "seed": 1}
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        try:
            asked = [threads.submit(server.post, "/v1/chat/completions", restricted({"enum": ["a"]})) for _ in range(2)]
            assert all(begun.acquire(timeout=300) for _ in asked)
            with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=120) as stream:
                assert stream.read().endswith(b"data: [DONE]\n\n")
            assert server.post("/v1/chat/completions", {**body, "stream": False}).status_code == 200
            assert not any(one.done() for one in asked)
            with monkeypatch.context() as patch:
                patch.setattr(server.service, "config", config.model_copy(update={"schema_timeout_s": 0.05}))
                refused = server.post("/v1/chat/completions", restricted({"enum": ["b"]}))
            assert refused.status_code == 503 and refused.headers["retry-after"] == "5"
        finally:
            gate.set()
        assert [json.loads(one.result().json()["choices"][0]["message"]["content"]) for one in asked] == ["a", "a"]


def test_a_schema_that_takes_too_long_is_refused(server, monkeypatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(conversation, "_rule", lambda *arguments: gate.wait(600))
    config = server.service.config.model_copy(update={"schema_timeout_s": 1.5})
    try:
        with monkeypatch.context() as patch:
            patch.setattr(server.service, "config", config)
            refused = server.post("/v1/chat/completions", restricted({"enum": ["a"]}))
    finally:
        gate.set()
    assert refused.status_code == 400 and "longer than 1.5 seconds" in refused.json()["error"]["message"]


HOSTILE = [
    {"type": "integer", "multipleOf": 9_999_991},
    {"allOf": [{"multipleOf": 997}, {"type": "integer", "multipleOf": 991}]},
    {"type": "number", "multipleOf": 1e300},
    {"properties": {"a": {"items": [{"multipleOf": 10_000_000}]}}},
]


@pytest.mark.parametrize("schema", HOSTILE)
def test_multiples_that_no_memory_holds_are_refused_before_they_are_compiled(server, schema, monkeypatch) -> None:
    monkeypatch.setattr(guided, "_compiled", lambda *arguments: 1 / 0)
    refused = server.post("/v1/chat/completions", restricted(schema))
    assert refused.status_code == 400 and "multipleOf" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "nonsense"}, "Invalid type: nonsense"),
        ({"$ref": "#/nowhere"}, "Pointer '/nowhere' does not exist"),
        ({"type": "string", "pattern": "("}, "regex parse error: ( ^ error: unclosed group"),
        ({"properties": {"a": 5}}, "schema must be an object or boolean"),
    ],
)
def test_a_schema_that_is_wrong_is_refused_without_the_grammar_around_it(server, schema, why) -> None:
    refused = server.post("/v1/chat/completions", restricted(schema))
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == f"response_format: the JSON schema cannot be used: {why}"


def test_usual_multiples_are_taken(server) -> None:
    for divisor, least in ((5, 20), (0.25, 20), (100, 200)):
        schema = {"type": "number", "multipleOf": divisor, "minimum": least, "maximum": least}
        reply = server.post("/v1/chat/completions", restricted(schema, max_tokens=20)).json()
        assert json.loads(reply["choices"][0]["message"]["content"]) == least
    tool = {"multipleOf": {"type": "integer"}}  # a property of that name
    schema = {"type": "object", "properties": tool, "additionalProperties": False}
    assert server.post("/v1/chat/completions", restricted(schema)).status_code == 200


def test_a_schema_is_compiled_once(server) -> None:
    before = guided._compiled.cache_info().misses
    body = restricted({"enum": ["only once"]}, n=3, max_tokens=40)
    replies = [server.post("/v1/chat/completions", body).json()["choices"] for _ in range(2)]
    assert {choice["message"]["content"] for choices in replies for choice in choices} == {'"only once"'}
    assert guided._compiled.cache_info().misses == before + 1


def test_connections_above_the_most_are_refused_and_room_is_given_back() -> None:
    with running(ServeConfig(port=0, max_connections=2)) as small:
        address = ("127.0.0.1", int(small.url.rpartition(":")[2]))
        first, second = (socket.create_connection(address, timeout=60) for _ in range(2))
        with first, second:
            second.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert second.recv(1000).startswith(b"HTTP/1.1 200")  # both are accepted by now
            with socket.create_connection(address, timeout=60) as third:
                answer = b"".join(iter(lambda: third.recv(1000), b""))
            assert answer.startswith(b"HTTP/1.1 503") and b"retry-after: 5" in answer
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_many_connections"
            first.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert first.recv(1000).startswith(b"HTTP/1.1 200")
        for _ in range(600):
            if httpx2.get(f"{small.url}/health").status_code == 200:
                break
        else:
            raise AssertionError("no room is given back")


def test_a_turn_is_stored_once_and_the_latest_conversations_stay() -> None:
    stored, turns = Responses(most_bytes=3500), [{"role": "user", "content": "한" * 30 + "\ud800"}]
    stored.keep("first", None, turns)
    for number in range(20):
        stored.keep(f"other_{number}", None, turns)
        assert stored.turns("first") == turns  # what is used stays
    stored.keep("second", "first", [*turns, *turns])
    assert stored.turns("second") == 3 * turns
    assert stored.turns("other_19") == stored.turns("other_18") == turns
    assert stored._num_bytes < 3500
    for name in [f"other_{number}" for number in range(14)]:
        with pytest.raises(ApiError, match=f"{name}.*is not remembered"):
            stored.turns(name)
    for number in range(6):
        stored.keep(f"new_{number}", None, turns)
    with pytest.raises(ApiError, match="'second' is not remembered"):  # its beginning is not
        stored.turns("second")


def test_a_long_conversation_is_stored_without_copies_of_its_beginning() -> None:
    stored, previous = Responses(most_bytes=200_000), None
    for number in range(200):
        stored.keep(f"{number}", previous, [{"role": "user", "content": f"{number}" + "x" * 300}])
        previous = f"{number}"
    assert [turn["content"][:3].rstrip("x") for turn in stored.turns("199")] == [str(n)[:3] for n in range(200)]


def sent(server, size: int, *, pause_s: float = 0.0) -> bytes:
    """The answer to a request that is sent whole before any of it is read."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n"
        client.sendall(f"{head}content-type: application/json\r\nconnection: close\r\n\r\n".encode())
        for start in range(0, size, 4 << 20):
            client.sendall(b" " * min(4 << 20, size - start))
            time.sleep(pause_s)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


@pytest.mark.parametrize("pause_s", [0.0, 0.1])
def test_a_client_that_still_sends_gets_the_whole_answer(server, pause_s) -> None:
    head, _, body = sent(server, 24 << 20, pause_s=pause_s).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413") and "at most" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("limit", [("UNREAD_BYTES", 1 << 20), ("UNREAD_S", 0.0)])
def test_nobody_holds_a_connection_by_sending_on(server, monkeypatch, limit) -> None:
    monkeypatch.setattr(app, *limit)
    with pytest.raises(ConnectionError):
        sent(server, 64 << 20)
