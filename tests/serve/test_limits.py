"""What a request or a connection may take away from the others: nothing."""

import concurrent.futures
import json
import socket
import threading

import httpx2
import pytest

from open_exaone.serve import conversation, guided
from open_exaone.serve.config import ServeConfig

from .conftest import running

QUESTION = [{"role": "user", "content": "How much is 3 + 4?"}]


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
