"""One question to a language model behind an OpenAI-compatible endpoint: vLLM, llama.cpp's server, OpenAI.

The peer is not trusted: whatever it sends, or fails to send, the call ends within its limits of time and memory.
Every attempt has a connection of its own and nothing is shared, so threads may ask at once. Proxies named in the
environment are not used, and redirects are not followed: the key goes to the host in the recipe and nowhere else.
"""

import email.utils
import http.client
import io
import json
import os
import queue
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast
from urllib.parse import urlsplit

from open_exaone.base.errors import ConfigError, OpenExaoneError
from open_exaone.verify.settings import Endpoint

MAX_RESPONSE_BYTES = 1 << 20
_RECORD_BYTES = 1 << 14  # TLS sends no more at once, so that the clock is looked at between records
_FIRST_WAIT_S = 0.5  # before the second attempt; doubled for each further one
_LONGEST_WAIT_S = 8.0
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_MENDS = {
    400: "check [judge.endpoint] model, and that its context holds 8192 tokens",
    401: "check the key in the environment variable that [judge.endpoint] api_key_variable names",
    403: "check the key in the environment variable that [judge.endpoint] api_key_variable names",
    404: "check [judge.endpoint] base_url, which mostly ends in /v1, and model",
    429: "ask less at once, or raise [judge.endpoint] timeout_s and max_attempts",
}
_NO_ENDPOINT = "check that [judge.endpoint] base_url names an OpenAI-compatible endpoint"


class EndpointError(OpenExaoneError):
    """The endpoint cannot be reached, refuses, or answers what is no answer: names its address and the mend."""


@dataclass(frozen=True, slots=True)
class _Target:
    """An endpoint that was checked: every part may stand in the head of a request as it is."""

    is_tls: bool
    host: str
    port: int
    netloc: str
    path: str
    key: str | None = field(repr=False)


def ask(endpoint: Endpoint, messages: Sequence[Mapping[str, str]], *, max_tokens: int, temperature: float = 0.0) -> str:
    """The text of one chat completion.

    Attempts are repeated, with growing pauses or those that the endpoint asks for, where it cannot be reached, or
    answers 429 or 5xx; all of them together take at most `endpoint.timeout_s`.

    Raises:
        ConfigError: the endpoint's settings cannot work: the address is none, or the key's variable is not set.
        EndpointError: no whole answer was got, or `max_tokens` cut it.
    """
    target = _target(endpoint)
    deadline = time.monotonic() + endpoint.timeout_s
    question = {"model": endpoint.model, "messages": messages, "max_tokens": max_tokens, "temperature": temperature}
    request = _request(target, json.dumps(question).encode())
    for attempt in range(endpoint.max_attempts):
        wait = None
        try:
            response, body = _exchange(target, request, deadline)
        except (OSError, http.client.HTTPException) as error:
            problem = _problem(endpoint, target, *_no_answer(endpoint, error, deadline))
        else:
            if response.status == 200 and len(body) <= MAX_RESPONSE_BYTES:
                return _content(endpoint, target, body)
            problem = _problem(endpoint, target, *_refusal(response, body))
            if response.status != 429 and response.status < 500:
                raise problem
            wait = _retry_after(response.getheader("Retry-After"))
        pause_s = _backoff_s(attempt) if wait is None else wait
        if attempt + 1 == endpoint.max_attempts or time.monotonic() + pause_s >= deadline:
            raise problem
        time.sleep(pause_s)
    raise AssertionError("max_attempts is at least 1")


def _target(endpoint: Endpoint) -> _Target:
    """Takes the address apart and fetches the key.

    Raises:
        ConfigError: one of them cannot be used. What may hold a secret is not shown.
    """
    url = endpoint.base_url
    if any(mark in url for mark in "@?#"):
        raise ConfigError(
            "[judge.endpoint] base_url: may hold no user, password, query or fragment (no @, ? or #);"
            " name the environment variable with the key as api_key_variable"
        )
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
        is_usable = parts.scheme in ("http", "https") and host.encode("idna") != b"" and port != 0
    except ValueError:  # UnicodeError too
        is_usable = False
    if not is_usable or not _is_plain(url):
        raise ConfigError(
            f"[judge.endpoint] base_url = {_short(url)!r}: must be an http or https address in plain ASCII,"
            ' such as "http://localhost:8000/v1"'
        )
    is_tls = parts.scheme == "https"
    path = parts.path.rstrip("/") + "/chat/completions"
    return _Target(is_tls, host, port or (443 if is_tls else 80), parts.netloc, path, _key(endpoint))


def _key(endpoint: Endpoint) -> str | None:
    name = endpoint.api_key_variable
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key or not _is_plain(key):
        state = "holds what is no key: white space or other than ASCII" if key else "is not set"
        raise ConfigError(f"[judge.endpoint] api_key_variable = {name!r}: this environment variable {state}")
    return key


def _request(target: _Target, body: bytes) -> bytes:
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"Host: {target.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "User-Agent: open-exaone",
        "Connection: close",
    ]
    if target.key is not None:
        lines.append(f"Authorization: Bearer {target.key}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _exchange(target: _Target, request: bytes, deadline: float) -> tuple[http.client.HTTPResponse, bytes]:
    """Sends a request; returns the response, and one byte more of its body than it may have where it is too long.

    Raises:
        OSError, http.client.HTTPException: there is no connection, no HTTP, no end of the body, or no time left.
    """
    with _connect(target, deadline) as connection:
        for start in range(0, len(request), _RECORD_BYTES):
            connection.settimeout(_left_s(deadline))
            connection.sendall(request[start : start + _RECORD_BYTES])
        with http.client.HTTPResponse(cast(socket.socket, _Wire(connection, deadline))) as response:
            response.begin()
            body = response.read(MAX_RESPONSE_BYTES + 1)
            if response.length and len(body) <= MAX_RESPONSE_BYTES:  # read(n) itself is silent about it
                raise http.client.IncompleteRead(body, response.length)
            return response, body


class _Wire(io.RawIOBase):
    """What is received, until a moment by the clock: a socket's own limit starts anew with every byte."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        """All that `http.client` wants of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_left_s(self._deadline))
        return self._connection.recv_into(buffer)


def _connect(target: _Target, deadline: float) -> socket.socket:
    """Tries the host's addresses in turn; each may take its share of the time that is left."""
    addresses = _addresses(target, deadline)
    failure: OSError = OSError("the host has no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left_s(deadline) / (len(addresses) - index))
            connection.connect(address)
            return _tls().wrap_socket(connection, server_hostname=target.host) if target.is_tls else connection
        except OSError as error:
            connection.close()
            failure = error
    raise failure


def _addresses(target: _Target, deadline: float) -> Sequence[tuple[Any, ...]]:
    """The host's addresses, looked up in a thread: the system's resolver knows no limit of ours."""
    found: queue.SimpleQueue[Sequence[tuple[Any, ...]] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        addresses = found.get(timeout=_left_s(deadline))
    except queue.Empty:
        raise TimeoutError("the host's name was not resolved in time") from None
    if isinstance(addresses, OSError):
        raise addresses
    return addresses


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads the machine's certificates: 20 ms


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the time is up")
    return left_s


def _backoff_s(attempt: int) -> float:
    """Doubles from attempt to attempt, with a share of chance, so that many askers do not come back as one."""
    longest_s = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)
    return random.SystemRandom().uniform(longest_s / 2, longest_s)  # the run's own seeded numbers are left alone


def _retry_after(value: str | None) -> float | None:
    """The pause in seconds that a Retry-After asks for, as a number or as a date; None where it says neither."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text[:40]).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    return max(0.0, moment - time.time())


def _content(endpoint: Endpoint, target: _Target, body: bytes) -> str:
    """The text that a completion holds."""
    try:
        choice = json.loads(body)["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        what = f"its answer is no chat completion ({type(error).__name__})"
        raise _problem(endpoint, target, what, _NO_ENDPOINT) from None
    if reason == "length":
        mend = "let it think less, or use a model that does not think"
        raise _problem(endpoint, target, f"the model {endpoint.model} did not come to an end", mend)
    if not isinstance(text, str):
        mend = "use a model that answers in text"
        raise _problem(endpoint, target, f"the model {endpoint.model} answered without a text", mend)
    return text


def _no_answer(endpoint: Endpoint, error: Exception, deadline: float) -> tuple[str, str]:
    """What went wrong before there was a whole answer, and the mend."""
    if time.monotonic() >= deadline:
        return f"no whole answer in timeout_s = {endpoint.timeout_s:g}", "raise it, or use a faster model"
    return f"no answer ({type(error).__name__}: {error})", "start the server, or mend [judge.endpoint] base_url"


def _refusal(response: http.client.HTTPResponse, body: bytes) -> tuple[str, str]:
    """What is wrong with an answer that is not to be read, and the mend."""
    status = response.status
    if len(body) > MAX_RESPONSE_BYTES:
        return f"it answers with more than {MAX_RESPONSE_BYTES} bytes", _NO_ENDPOINT
    if 300 <= status < 400:
        location = response.getheader("Location", "nowhere")
        return f"it redirects to {location}", "mend [judge.endpoint] base_url: redirects are not followed"
    if status in (401, 403):  # what they say quotes parts of the key
        return f"it answers {status}", _MENDS[status]
    said = body.decode("utf-8", "replace")
    return f"it answers {status} ({said})", _MENDS.get(status, "look into the server's own log")


def _problem(endpoint: Endpoint, target: _Target, what: str, mend: str) -> EndpointError:
    """The error; what the peer said is shortened, and stripped of the key that it may say back."""
    if target.key is not None:
        what = what.replace(target.key, "[key]")
    what = "".join(character if character.isprintable() else " " for character in what)
    return EndpointError(f"{_short(endpoint.base_url)}: {_short(what)}; {mend}")


def _is_plain(text: str) -> bool:
    """Whether a text may stand in the head of a request: ASCII without white space or control characters."""
    return text.isascii() and text.isprintable() and " " not in text


def _short(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
