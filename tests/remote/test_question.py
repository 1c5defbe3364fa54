"""One question to an endpoint that does what a script says: answers, fails, lies, floods, or stays silent."""

import json
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from email.utils import formatdate
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Outage
from open_exaone.remote import http as transport
from open_exaone.remote.http import Caller, Limits, Words, find_server
from open_exaone.remote.question import MAX_RESPONSE_BYTES, EndpointError, ask, find_outage, outage_of
from open_exaone.remote.settings import Endpoint

MESSAGES = [{"role": "user", "content": "물의 화학식은? <é>"}]
KEY = "sk-test-0123456789abcdef"
Step = bytes | Callable[[socket.socket], None]


def response(body: bytes | object, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    size = len(data) if length is None else length
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers, "", ""]).encode() + data


def completion(text: object, reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}]}


OK = response(completion("yes"))
BUSY = response({"error": {"message": "busy"}}, "503 Service Unavailable")


class Script:
    """A server: the n-th connection gets the n-th step, those after the last one get the last one."""

    def __init__(self, *steps: Step, context: ssl.SSLContext | None = None) -> None:
        self.steps = steps
        self.requests: list[bytes] = []
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http{'s' if self.context else ''}://localhost:{self.listener.getsockname()[1]}/v1"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                self.requests.append(read_request(connection))
                step = self.steps[min(len(self.requests), len(self.steps)) - 1]
                connection.sendall(step) if isinstance(step, bytes) else step(connection)
        except OSError:  # the asker went away
            pass


def silence(connection: socket.socket) -> None:
    connection.recv(1)  # nothing, until the asker goes away


def drips(connection: socket.socket) -> None:
    """A line that never ends, a byte at a time: every single read is quick."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(10_000):
        connection.sendall(b"x")
        time.sleep(0.02)


def read_request(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        head = b"".join(takewhile(bytes.strip, iter(stream.readline, b"")))
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        return head + b"\r\n" + stream.read(length)


@pytest.fixture
def serve() -> Iterator[Callable[..., Script]]:
    servers: list[Script] = []

    def start(*steps: Step, context: ssl.SSLContext | None = None) -> Script:
        servers.append(Script(*steps, context=context))
        return servers[-1]

    yield start
    for server in servers:
        server.listener.close()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_WAIT_S", 0.02)


def at(url: str, **fields: Any) -> Endpoint:
    return Endpoint(base_url=url, model="judge-1", **{"timeout_s": 20.0, **fields})


def question(server: Script, **fields: Any) -> str:
    return ask(at(server.url, **fields), MESSAGES, max_tokens=7)


def failure(server: Script, **fields: Any) -> str:
    with pytest.raises(EndpointError) as caught:
        question(server, **fields)
    assert str(caught.value).startswith(f"{server.url}: ")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_the_question_arrives_and_the_text_comes_back(
    serve: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\n")  # as `cat file` leaves it
    server = serve(response(completion("예, 같습니다.\nSAME")))
    assert question(server, api_key_variable="JUDGE_KEY") == "예, 같습니다.\nSAME"
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert f"Host: {server.url[7:-3]}" in lines
    assert f"Authorization: Bearer {KEY}" in lines
    asked = {"model": "judge-1", "messages": MESSAGES, "max_tokens": 7, "temperature": 0.0}
    assert json.loads(body) == asked


def test_without_a_variable_no_key_is_sent_and_a_slash_changes_nothing(serve: Callable[..., Script]) -> None:
    server = serve(OK)
    assert ask(at(server.url + "/"), MESSAGES, max_tokens=7) == "yes"
    assert b"Authorization" not in server.requests[0]
    assert server.requests[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


def test_a_chunked_answer_is_read_whole(serve: Callable[..., Script]) -> None:
    data = json.dumps(completion("yes")).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:9], data[9:]))
    assert question(serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")) == "yes"


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


@pytest.mark.parametrize(
    "step",
    [
        response("x", "500 Internal Server Error"),
        BUSY,
        response({}, "429 Too Many Requests"),
        response({}, "429 Too Many Requests", "Retry-After: 0"),
        response({}, "429 Too Many Requests", "Retry-After: soon"),
        response({}, "429 Too Many Requests", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"),
        response({}, "429 Too Many Requests", f"Retry-After: {'9' * 50_000}"),
        response(completion("cut off"), length=1000),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
        close,
        reset,
    ],
)
def test_what_may_pass_is_tried_again(serve: Callable[..., Script], step: Step) -> None:
    server = serve(step, step, OK)
    assert question(server) == "yes"
    assert len(server.requests) == 3
    assert server.requests[0] == server.requests[2]
    failure(serve(step), max_attempts=2)


def test_retries_are_counted_by_their_cause(serve: Callable[..., Script]) -> None:
    busy = response({}, "429 Too Many Requests")
    server = find_server(serve(busy, busy, BUSY, close, OK).url, None, Words("url", "key", "", {}))
    caller = Caller(server)
    caller.exchange("POST", "/", b"{}", Limits(20.0, 5, 1000), bytes)
    assert server.retries == {"429": 2, "503": 1, "no connection": 1}
    caller.exchange("POST", "/", b"{}", Limits(20.0, 5, 1000), bytes)
    assert server.retries.total() == 4


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (response({"error": {"message": "no such model"}}, "404 Not Found"), r"404 .*no such model.*base_url.* model"),
        (response({}, "400 Bad Request"), "400"),
        (response({}, "401 Unauthorized"), "401; .*api_key_variable"),
        (response({}, "418 I'm a teapot"), "418"),
        (response({}, "204 No Content"), "204"),
        (response(b"{]"), "not a chat completion"),
        (response(b"\xff\xfe"), "not a chat completion"),
        (response(b"[" * 200_000), "not a chat completion"),
        (response(b'{"choices": ' + b"9" * 100_000 + b"}"), "not a chat completion"),
        (response({"choices": []}), "not a chat completion"),
        (response({"choices": {"0": 1}}), "not a chat completion"),
        (response([1]), "not a chat completion"),
        (response({"choices": [None]}), "not a chat completion"),
        (response({"choices": [{"message": "x"}]}), "not a chat completion"),
        (response(completion(None)), "returned no text"),
        (response(completion([{"type": "text", "text": "yes"}])), "returned no text"),
        (response(completion("SAME", reason="length")), "did not finish its reply"),
        (response(b"x" * (MAX_RESPONSE_BYTES + 1)), "larger than 1048576 bytes"),
        (response(b"x" * (MAX_RESPONSE_BYTES + 1), "503 Busy", length=10**15), "larger than 1048576 bytes"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(serve: Callable[..., Script], step: bytes, says: str) -> None:
    server = serve(step)
    with pytest.raises(EndpointError, match=says):
        question(server, max_attempts=1 if b"503" in step[:20] else 3)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("step", "outage"),
    [
        (response("x", "500 Internal Server Error"), Outage.DOWN),
        (BUSY, Outage.DOWN),
        (response({}, "429 Too Many Requests"), Outage.DOWN),
        (response({}, "408 Request Timeout"), Outage.DOWN),
        (close, Outage.DOWN),
        (reset, Outage.DOWN),
        (b"", Outage.DOWN),
        (response(completion("cut off"), length=1000), Outage.DOWN),
        (response({}, "401 Unauthorized"), Outage.REFUSED),
        (response({}, "403 Forbidden"), Outage.REFUSED),
        (response({}, "404 Not Found"), Outage.REFUSED),
        (response({}, "302 Found", "Location: /"), Outage.REFUSED),
        (response({}, "400 Bad Request"), None),
        (response({}, "422 Unprocessable"), None),
        (response(b"<html>"), None),
        (response(completion(None)), None),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Outage.DOWN),  # it went away before the end of a head
        (b"RTSP/1.0 400 Bad Request\r\n\r\n", None),
    ],
)
def test_an_outage_a_refusal_and_a_bad_answer_are_told_apart(
    serve: Callable[..., Script], step: Step, outage: Outage | None
) -> None:
    server = serve(step)
    with pytest.raises(EndpointError) as caught:
        question(server, max_attempts=1)
    assert outage_of(caught.value) is outage
    assert (find_outage(at(server.url)) is None) == (outage is None)


def test_nobody_there_and_nobody_in_time_are_outages(serve: Callable[..., Script]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        late = find_outage(at(silent, timeout_s=0.2))
        assert late is not None and late.is_down
    nobody = find_outage(at(silent))
    assert nobody is not None and nobody.is_down and nobody.is_unreachable


def test_a_body_of_the_largest_size_is_read(serve: Callable[..., Script]) -> None:
    data = json.dumps(completion("yes")).encode().ljust(MAX_RESPONSE_BYTES)
    assert question(serve(response(data))) == "yes"


def test_a_flood_is_read_no_further_than_the_limit(serve: Callable[..., Script]) -> None:
    sent = [0]

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent[0] < 200 << 20:
            sent[0] += connection.send(b"x" * 65536)

    assert "larger than 1048576 bytes" in failure(serve(flood))
    assert sent[0] < 100 << 20  # what the machine's buffers hold


@pytest.mark.parametrize("location", ["http://127.0.0.2/v1/chat/completions", "file:///etc/passwd", "/v2", "x" * 9999])
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_redirects_are_not_followed(serve: Callable[..., Script], status: str, location: str) -> None:
    other = serve(OK)
    location = location.replace("127.0.0.2", other.url[7:-3])
    server = serve(response(b"", status, f"Location: {location}"))
    assert f"redirects to {location[:60]}" in failure(server)
    assert (len(server.requests), other.requests) == (1, [])


def test_the_pause_that_is_asked_for_is_made(serve: Callable[..., Script]) -> None:
    start = time.monotonic()
    assert question(serve(response({}, "429 Too Many Requests", "Retry-After: 1"), OK)) == "yes"
    assert time.monotonic() - start >= 1.0
    start = time.monotonic()
    later = formatdate(time.time() + 2, usegmt=True)  # whole seconds: one to two from now
    assert question(serve(response({}, "503 Busy", f"Retry-After: {later}"), OK)) == "yes"
    assert time.monotonic() - start >= 0.9


def test_a_pause_beyond_the_limit_is_not_made(serve: Callable[..., Script]) -> None:
    server = serve(response({}, "429 Too Many Requests", "Retry-After: 3600"), OK)
    start = time.monotonic()
    assert "429" in failure(server)
    assert time.monotonic() - start < 10
    assert len(server.requests) == 1


def continues(connection: socket.socket) -> None:
    for _ in range(10_000):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.01)


def drips_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
    drips(connection)


def is_late(url: str, timeout_s: float = 0.6) -> bool:
    """Later than a busy machine makes it; the peers go on for longer."""
    start = time.monotonic()
    with pytest.raises(EndpointError, match=rf"no complete response within timeout_s = {timeout_s}; raise it"):
        ask(at(url, timeout_s=timeout_s), MESSAGES, max_tokens=7)
    return time.monotonic() - start > 30


@pytest.mark.parametrize("step", [silence, drips, drips_body, continues])
def test_no_peer_is_waited_for_beyond_the_limit(serve: Callable[..., Script], step: Step) -> None:
    """One limit for all attempts and all bytes, however quick every single one is."""
    assert not is_late(serve(step).url)


def test_attempts_share_one_limit(serve: Callable[..., Script]) -> None:
    server = serve(BUSY, silence)
    assert not is_late(server.url, timeout_s=2.5)
    assert len(server.requests) == 2


def test_a_peer_without_tls_is_not_waited_for(serve: Callable[..., Script]) -> None:
    assert not is_late(serve(OK).url.replace("http:", "https:"))  # one waits for a request, the other for a greeting


def test_a_peer_that_never_reads_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://localhost:{silent.getsockname()[1]}/v1"
        start = time.monotonic()
        with pytest.raises(EndpointError, match="no complete response"):
            ask(at(url, timeout_s=0.6), [{"role": "user", "content": "x" * (20 << 20)}], max_tokens=7)
        assert time.monotonic() - start < 30


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(60) and [])
    start = time.monotonic()
    with pytest.raises(EndpointError, match=r"no complete response within timeout_s"):
        ask(at("http://judge.example/v1", timeout_s=0.3), MESSAGES, max_tokens=7)
    ended.set()
    assert time.monotonic() - start < 30


def test_where_nobody_listens_the_error_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(EndpointError, match=r"ConnectionRefusedError.*; start the server, or correct"):
        ask(at(url), MESSAGES, max_tokens=7)


def test_a_host_without_a_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for resolved, outage in ((set(), Outage.REFUSED), ({"judge.example"}, Outage.DOWN)):
        monkeypatch.setattr(transport, "_found", resolved)
        with pytest.raises(EndpointError, match="Name or service not known") as caught:
            ask(at("http://judge.example/v1"), MESSAGES, max_tokens=7)
        assert outage_of(caught.value) is outage


def test_a_host_name_that_was_found_once_is_remembered(
    serve: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_found", set())
    question(serve(OK))
    assert transport._found == {"localhost"}


def test_the_next_address_is_tried(serve: Callable[..., Script], monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(OK)
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()
    kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
    addresses = [(*kind, closed), (*kind, server.listener.getsockname())]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    assert question(server, max_attempts=1) == "yes"


def test_an_address_that_never_answers_leaves_time_for_the_next(
    serve: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(OK)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(4):  # whoever comes next is not even greeted
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        addresses = [(*kind, full.getsockname()), (*kind, server.listener.getsockname())]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        assert question(server, max_attempts=1, timeout_s=1.5) == "yes"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "file:///etc/passwd",
        "ftp://host/v1",
        "http://",
        "http://host:99999/v1",
        "http://host:0/v1",
        "http://[::1/v1",
        "http://host/v1\r\nX-Injected: 1",
        "http://host/a b",
        "http://호스트/v1",
        "http://a..b/v1",
        f"http://{'a' * 70}/v1",
        "",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"base_url"):  # by the setting itself, or else before anything is asked
        ask(at(url), MESSAGES, max_tokens=7)


@pytest.mark.parametrize("url", [f"http://me:{KEY}@host/v1", f"http://host/v1?key={KEY}", f"http://host/v1#{KEY}"])
def test_an_address_with_a_secret_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="api_key_variable") as caught:
        ask(at(url), MESSAGES, max_tokens=7)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "value", [None, "", " \n", f"{KEY}\r\nX-Injected: 1", f"{KEY} {KEY}", f"{KEY}열쇠", f"{KEY}\0"]
)
def test_a_key_that_is_none_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.setattr("os.environ", {} if value is None else {"JUDGE_KEY": value})
    with pytest.raises(ConfigError, match="api_key_variable = 'JUDGE_KEY': this environment variable") as caught:
        ask(at("http://host/v1", api_key_variable="JUDGE_KEY"), MESSAGES, max_tokens=7)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "step",
    [
        response({"error": {"message": f"Wrong key {KEY[:6]}***{KEY[-4:]}"}}, "401 Unauthorized"),
        response({"error": {"message": f"Wrong key {KEY}"}}, "403 Forbidden"),
        response({"error": {"message": f"Wrong key {KEY}"}}, "400 Bad Request"),
        response(f"{KEY} " * 100, "500 Internal Server Error"),
        response(b"", "302 Found", f"Location: http://evil.example/?{KEY}"),
        f"{KEY} {KEY}\r\n".encode(),
        f"HTTP/1.1 {KEY}\r\n\r\n".encode(),
    ],
)
def test_the_key_is_in_no_error_and_no_log(
    serve: Callable[..., Script], step: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    server = serve(step)
    with pytest.raises(EndpointError) as caught:
        question(server, api_key_variable="JUDGE_KEY", max_attempts=2)
    shown = [str(caught.value), repr(caught.value), caplog.text]
    assert not any(KEY[:12] in text or KEY[-4:] in text for text in shown)


def test_threads_ask_at_once(serve: Callable[..., Script]) -> None:
    together = threading.Barrier(8)

    def answer(connection: socket.socket) -> None:
        together.wait(10)  # no answer before there are eight questions
        connection.sendall(OK)

    server = serve(answer)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: question(server), range(16))) == ["yes"] * 16


def test_the_runs_own_random_numbers_are_left_alone(serve: Callable[..., Script]) -> None:
    import random

    state = random.getstate()
    question(serve(BUSY, BUSY, OK))
    assert random.getstate() == state


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server with a certificate of its own for localhost, and an asker who trusts it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl to make a certificate")
    folder: Path = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return server, ssl.create_default_context(cafile=str(folder / "cert.pem"))


def test_tls_asks_only_whom_it_trusts(
    serve: Callable[..., Script], tls: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(response(completion("yes" * 50_000)), drips, context=tls[0])
    assert "CERTIFICATE_VERIFY_FAILED" in failure(server, max_attempts=1)
    assert server.requests == []
    monkeypatch.setattr(transport, "_tls", lambda: tls[1])
    assert question(server) == "yes" * 50_000
    assert not is_late(server.url)
