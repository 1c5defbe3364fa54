"""One exchange with an OpenAI-compatible endpoint over HTTP/1.1: vLLM, SGLang, llama.cpp's server, OpenAI.

The peer is not trusted: whatever it sends, or fails to send, an exchange ends within its limits of time and memory.
Proxies named in the environment are not used, and redirects are not followed: the key goes to the host that was named
and nowhere else.
"""

import contextlib
import email.utils
import http.client
import io
import os
import queue
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from open_exaone.base.errors import ConfigError, OpenExaoneError

_RECORD_BYTES = 1 << 14  # TLS sends no more at once, so that the clock is looked at between records
FIRST_WAIT_S = 0.5  # before the second attempt; doubled for each further one
_LONGEST_WAIT_S = 8.0  # between attempts, where the peer asks for none
_LONGEST_CONNECT_S = 30.0
_MAY_PASS = frozenset({408, 429})  # and all from 500 on
_REFUSALS = frozenset({*range(300, 400), 401, 403, 404})
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_resolved: set[str] = set()  # hosts whose names were found once: where one of them is not found later, that passes
T = TypeVar("T")


def may_pass(status: int) -> bool:
    """Whether a refusal with this status may be none later."""
    return status in _MAY_PASS or status >= 500


class EndpointError(OpenExaoneError):
    """The endpoint cannot be reached, refuses, or answers what is no answer: names its address and the mend.

    Attributes:
        status: of the answer; None where no whole answer was got.
        said: what the answer said, at most 4,000 characters, without the key.
        is_unreachable: nobody listens there, or it is not who it should be.
        is_down: it answers nobody, or too many at once; later it may: no connection, no whole answer, 408, 429, 5xx.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        said: str = "",
        is_unreachable: bool = False,
        is_down: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.said = said
        self.is_unreachable = is_unreachable
        self.is_down = is_down or (status is not None and may_pass(status))

    @property
    def is_refusal(self) -> bool:
        """Whether it refuses every question alike, so that waiting does not help.

        That is 3xx, 401, 403, 404, a wrong certificate, or a host name that was never found.
        """
        return self.status in _REFUSALS or (self.is_unreachable and not self.is_down)


class UnreadableError(ValueError):
    """An answer that is not what was asked for, but may be next time; its text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Words:
    """What messages call the settings, and the mends."""

    address: str  # such as "[judge.endpoint] base_url"
    key_variable: str
    wrong_peer: str  # the mend where what answers is no such endpoint
    mends: Mapping[int, str]  # by status
    key_mend: str = ""  # where a key belongs; else, that `key_variable` names its variable


@dataclass(frozen=True, slots=True)
class Limits:
    """What one exchange may cost."""

    timeout_s: float  # the longest it may take, all attempts and pauses together
    max_attempts: int
    max_bytes: int  # of an answer's body
    max_unreachable: int | None = None  # attempts where nobody listens; None: `max_attempts`


@dataclass(frozen=True, slots=True)
class Server:
    """An address that was checked: every part may stand in the head of a request as it is."""

    url: str
    is_tls: bool
    host: str
    port: int
    netloc: str
    path: str
    words: Words
    key: str | None = field(repr=False)

    def problem(self, what: str, mend: str, **details: Any) -> EndpointError:
        """The error; what the peer said is shortened, and stripped of the key that it may say back."""
        if "said" in details:
            details["said"] = self._without_key(details["said"])[:4000]
        what = "".join(character if character.isprintable() else " " for character in self._without_key(what))
        return EndpointError(f"{_short(self.url)}: {_short(what)}; {mend}", **details)

    def _without_key(self, text: str) -> str:
        return text if self.key is None else text.replace(self.key, "[key]")


def find_server(url: str, key_variable: str | None, words: Words) -> Server:
    """Takes an address apart and fetches the key from its environment variable.

    Raises:
        ConfigError: one of them cannot be used. What may hold a secret is not shown.
    """
    if any(mark in url for mark in "@?#"):
        raise ConfigError(
            f"{words.address}: may hold no user, password, query or fragment (no @, ? or #);"
            f" {words.key_mend or f'name the environment variable with the key as {words.key_variable}'}"
        )
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
        is_usable = parts.scheme in ("http", "https") and host.encode("idna") != b"" and port != 0
    except ValueError:  # UnicodeError too
        is_usable = False
    if not is_usable or not _is_plain(url):
        raise ConfigError(
            f"{words.address} = {_short(url)!r}: must be an http or https address in plain ASCII,"
            ' such as "http://localhost:8000/v1"'
        )
    is_tls = parts.scheme == "https"
    key = None if key_variable is None else _key(key_variable, words)
    port = port or (443 if is_tls else 80)
    return Server(url, is_tls, host, port, parts.netloc, parts.path.rstrip("/"), words, key)


class Caller:
    """One thread's way to a server; `cancel` alone may be called by other threads.

    Args:
        keeps_connection: leaves the connection open for the next exchange, until `close`.
    """

    def __init__(self, server: Server, *, keeps_connection: bool = False) -> None:
        self._server = server
        self._keeps_connection = keeps_connection
        self._connection: socket.socket | None = None
        self._cancelled = threading.Event()

    def exchange(self, method: str, path: str, body: bytes, limits: Limits, read: Callable[[bytes], T]) -> T:
        """What `read` makes of the body of the answer.

        Attempts are repeated, with growing pauses or those that the endpoint asks for, where it cannot be reached,
        answers 408, 429 or 5xx, or `read` raises `UnreadableError`.

        Raises:
            EndpointError: no such answer was got, or the exchange was cancelled.
        """
        deadline = time.monotonic() + limits.timeout_s
        request = _request(self._server, method, path, body, self._keeps_connection)
        for attempt in range(limits.max_attempts):
            wait_s, num_attempts = 0.0, limits.max_attempts
            try:
                response, answer = self._attempt(request, deadline, limits.max_bytes)
                if response.status == 200 and len(answer) <= limits.max_bytes:
                    return read(answer)
                problem = _refusal(self._server, response, answer, limits.max_bytes)
                if not may_pass(response.status):
                    raise problem
                wait_s = _retry_after_s(response.getheader("Retry-After"))
            except UnreadableError as error:
                problem = self._server.problem(str(error), self._server.words.wrong_peer)
            except (OSError, http.client.HTTPException) as error:
                problem = _no_answer(self._server, error, limits, deadline)
                if problem.is_unreachable:
                    num_attempts = min(limits.max_unreachable or num_attempts, num_attempts)
            pause_s = max(wait_s, _backoff_s(attempt))
            if attempt + 1 >= num_attempts or time.monotonic() + pause_s >= deadline or self._cancelled.wait(pause_s):
                raise problem
        raise AssertionError("max_attempts is at least 1")

    def cancel(self) -> None:
        """Ends the exchange at hand, whatever it waits for; the peer sees the connection close."""
        self._cancelled.set()
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):  # it is closed already
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # also of TLS, whose reader is elsewhere

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attempt(self, request: bytes, deadline: float, max_bytes: int) -> tuple[http.client.HTTPResponse, bytes]:
        if self._connection is not None:
            with contextlib.suppress(ConnectionError):  # the peer has closed it meanwhile
                return self._send_and_read(self._connection, request, deadline, max_bytes)
        connection = _connect(self._server, deadline)
        self._connection = connection
        if self._cancelled.is_set():
            self.close()
            raise ConnectionAbortedError("cancelled")
        return self._send_and_read(connection, request, deadline, max_bytes)

    def _send_and_read(
        self, connection: socket.socket, request: bytes, deadline: float, max_bytes: int
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Sends a request; returns the response, and one byte more of its body than it may have if it is too long.

        Raises:
            OSError, http.client.HTTPException: there is no connection, no HTTP, no end of the body, or no time left.
        """
        is_kept = False
        try:
            for start in range(0, len(request), _RECORD_BYTES):
                connection.settimeout(_left_s(deadline))
                connection.sendall(request[start : start + _RECORD_BYTES])
            with http.client.HTTPResponse(cast(socket.socket, _Wire(connection, deadline))) as response:
                response.begin()
                body = response.read(max_bytes + 1)
                if response.length and len(body) <= max_bytes:  # read(n) itself is silent about it
                    raise http.client.IncompleteRead(body, response.length)
                is_kept = self._keeps_connection and response.isclosed() and not response.will_close
                return response, body
        finally:
            if not is_kept:
                self.close()


def _key(name: str, words: Words) -> str:
    key = os.environ.get(name, "").strip()
    if not key or not _is_plain(key):
        state = "holds what is no key: white space or other than ASCII" if key else "is not set"
        mend = f"; {words.key_mend}" if words.key_mend else ""
        raise ConfigError(f"{words.key_variable} = {name!r}: this environment variable {state}{mend}")
    return key


def _request(server: Server, method: str, path: str, body: bytes, keeps_connection: bool) -> bytes:
    lines = [
        f"{method} {server.path}{path} HTTP/1.1",
        f"Host: {server.netloc}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "User-Agent: open-exaone",
        f"Connection: {'keep-alive' if keeps_connection else 'close'}",
    ]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    if server.key is not None:
        lines.append(f"Authorization: Bearer {server.key}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


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


def _connect(server: Server, deadline: float) -> socket.socket:
    """Tries the host's addresses in turn; each may take its share of the time that is left."""
    addresses = _addresses(server, deadline)
    failure: OSError = OSError("the host has no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(min(_left_s(deadline) / (len(addresses) - index), _LONGEST_CONNECT_S))
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a long thought is a long silence
            return _tls().wrap_socket(connection, server_hostname=server.host) if server.is_tls else connection
        except OSError as error:
            connection.close()
            failure = error
    raise failure


def _addresses(server: Server, deadline: float) -> Sequence[tuple[Any, ...]]:
    """The host's addresses, looked up in a thread: the system's resolver knows no limit of ours."""
    found: queue.SimpleQueue[Sequence[tuple[Any, ...]] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        addresses = found.get(timeout=_left_s(deadline))
    except queue.Empty:
        raise TimeoutError("the host's name was not resolved in time") from None
    if isinstance(addresses, OSError):
        raise addresses
    _resolved.add(server.host)
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
    longest_s = min(FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)
    return random.SystemRandom().uniform(longest_s / 2, longest_s)  # the run's own seeded numbers are left alone


def _retry_after_s(value: str | None) -> float:
    """The pause that a Retry-After asks for, as a number or as a date; 0 where it says neither."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text[:40]).timestamp()
    except (ValueError, OverflowError, TypeError):
        return 0.0
    return max(0.0, moment - time.time())


def _no_answer(server: Server, error: Exception, limits: Limits, deadline: float) -> EndpointError:
    """What went wrong before there was a whole answer."""
    if time.monotonic() >= deadline:
        what = f"no whole answer in timeout_s = {limits.timeout_s:g}"
        return server.problem(what, "raise it, or use a faster model", is_down=True)
    what, mend = f"no answer ({type(error).__name__}: {error})", f"start the server, or mend {server.words.address}"
    strangers = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)
    is_down = isinstance(error, OSError | http.client.IncompleteRead)  # else it speaks no HTTP
    is_wrong = isinstance(error, socket.gaierror) and server.host not in _resolved
    is_down = is_down and not is_wrong and not isinstance(error, ssl.SSLCertVerificationError)
    return server.problem(what, mend, is_unreachable=isinstance(error, strangers), is_down=is_down)


def _refusal(server: Server, response: http.client.HTTPResponse, body: bytes, max_bytes: int) -> EndpointError:
    """What is wrong with an answer that is not to be read."""
    status, words = response.status, server.words
    if len(body) > max_bytes:
        return server.problem(f"it answers with more than {max_bytes} bytes", words.wrong_peer, status=status)
    if 300 <= status < 400:
        location = response.getheader("Location", "nowhere")
        mend = f"mend {words.address}: redirects are not followed"
        return server.problem(f"it redirects to {location}", mend, status=status)
    if status in (401, 403):  # what they say quotes parts of the key
        return server.problem(f"it answers {status}", words.mends[status], status=status)
    said = body[:100_000].decode("utf-8", "replace")
    mend = words.mends.get(status, "look into the server's own log")
    return server.problem(f"it answers {status} ({said})", mend, status=status, said=said)


def _is_plain(text: str) -> bool:
    """Whether a text may stand in the head of a request: ASCII without white space or control characters."""
    return text.isascii() and text.isprintable() and " " not in text


def _short(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
