"""Requests to an OpenAI-compatible endpoint over HTTP: vLLM, SGLang, llama.cpp's server, OpenAI.

The peer is not trusted: whatever it sends, or fails to send, an exchange ends within its limits of time and memory.
Proxies named in the environment are not used, and redirects are not followed: the key goes to the host that was named
and nowhere else.

httpx limits each read, not a whole exchange. So requests run as tasks of one event loop, in a thread of its own; the
caller's thread waits for its task until the deadline, and then cancels it.
"""

import asyncio
import logging
import os
import random
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from open_exaone.base.errors import ConfigError, OpenExaoneError
from open_exaone.remote.pause import Pause, retry_after_s

if TYPE_CHECKING:  # imported where it is used: 0.1 s
    import httpx2

FIRST_WAIT_S = 0.5  # before the second attempt; doubled for each further one
_LONGEST_WAIT_S = 8.0  # between attempts, where the peer asks for none
_LONGEST_CONNECT_S = 30.0
_MAY_PASS = frozenset({408, 429})  # and all from 500 on
_REFUSALS = frozenset({*range(300, 400), 401, 403, 404})
_found: set[str] = set()  # hosts that answered once: where the name of one of them is not found later, that passes
_counting = threading.Lock()
T = TypeVar("T")
_Answer = tuple[int, Mapping[str, str], bytes]  # status, headers, body


def may_pass(status: int) -> bool:
    """Whether a retry may succeed after this status."""
    return status in _MAY_PASS or status >= 500


class EndpointError(OpenExaoneError):
    """The endpoint cannot be reached, refuses, or sends an invalid response: names its address and how to fix it.

    Attributes:
        status: of the answer; None where no whole answer was got.
        detail: the text of the answer, at most 4,000 characters, without the key.
        is_unreachable: nobody listens there, or it is not who it should be.
        is_down: it answers nobody, or too many at once; later it may: no connection, no whole answer, 408, 429, 5xx.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        detail: str = "",
        is_unreachable: bool = False,
        is_down: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail
        self.is_unreachable = is_unreachable
        self.is_down = is_down or (status is not None and may_pass(status))

    @property
    def is_refusal(self) -> bool:
        """Whether it refuses every question alike, so that waiting does not help.

        That is 3xx, 401, 403, 404, a wrong certificate, or a host name that was never found.
        """
        return self.status in _REFUSALS or (self.is_unreachable and not self.is_down)


class UnreadableError(ValueError):
    """An invalid response that a retry may fix; its text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Words:
    """What error messages call the settings, and the fix for each failure."""

    address: str  # such as "[judge.endpoint] base_url"
    key_variable: str
    wrong_peer: str  # the fix where what answers is no such endpoint
    fixes: Mapping[int, str]  # by status
    key_fix: str = ""  # where a key belongs; else, that `key_variable` names its variable


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one exchange."""

    timeout_s: float  # the longest it may take, all attempts and pauses together
    max_attempts: int
    max_bytes: int  # of an answer's body
    max_unreachable: int | None = None  # attempts where nobody listens; None: `max_attempts`


@dataclass(frozen=True, slots=True)
class Server:
    """A checked address, and the retries of its requests."""

    url: str
    host: str
    words: Words
    key: str | None = field(repr=False)
    retries: Counter[str] = field(default_factory=Counter, repr=False, compare=False)
    """Repeated attempts by cause: a status such as "429", "timeout", "no connection" or "unreadable answer"."""
    pause: Pause = field(default_factory=Pause, repr=False, compare=False)  # that a Retry-After asked for

    def count_retry(self, cause: str) -> None:
        with _counting:
            self.retries[cause] += 1

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report must say of it: how often requests were repeated, and why."""
        total = self.retries.total()
        causes = ", ".join(f"{count} x {cause}" for cause, count in self.retries.most_common())
        return (f"requests were retried {total} time{'s' * (total > 1)}: {causes}",) if total else ()

    def problem(self, what: str, fix: str, **details: Any) -> EndpointError:
        """The error; the text of the answer is shortened, and the key that it may repeat is taken out."""
        if "detail" in details:
            details["detail"] = self._without_key(details["detail"])[:4000]
        what = "".join(character if character.isprintable() else " " for character in self._without_key(what))
        return EndpointError(f"{_short(self.url)}: {_short(what)}; {fix}", **details)

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
            f" {words.key_fix or f'name the environment variable with the key as {words.key_variable}'}"
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
    return Server(url, host, words, None if key_variable is None else _key(key_variable, words))


class Caller:
    """One thread's way to a server; `cancel` alone may be called by other threads.

    Args:
        keeps_connection: leaves the connection open for the next exchange, until `close`.
    """

    def __init__(self, server: Server, *, keeps_connection: bool = False) -> None:
        self.server, self._keeps_connection = server, keeps_connection
        self._loop = _loop()
        self._client: httpx2.AsyncClient | None = None
        self._has_connection = False  # left open by the last exchange; the peer may have closed it since
        self._request: Future[Any] | None = None
        self._cancelled = threading.Event()

    def exchange(self, method: str, path: str, body: bytes, limits: Limits, read: Callable[[bytes], T]) -> T:
        """What `read` makes of the body of the answer.

        Attempts are repeated, with growing pauses or those that the endpoint asks for, where it cannot be reached,
        answers 408, 429 or 5xx, or `read` raises `UnreadableError`; `Server.retries` counts them.

        Raises:
            EndpointError: no such answer was got, or the exchange was cancelled.
        """
        import httpx2

        deadline = time.monotonic() + limits.timeout_s
        client = self._client = self._client or _client(self.server, self._keeps_connection)
        for attempt in range(limits.max_attempts):
            wait_s, num_attempts = 0.0, limits.max_attempts
            try:
                send = partial(_send, client, method, path, body, limits.max_bytes)
                status, headers, answer = self._attempt(send, deadline)
                _found.add(self.server.host)
                if status == 200 and len(answer) <= limits.max_bytes:
                    return read(answer)
                problem, cause = _refusal(self.server, status, headers, answer, limits.max_bytes), str(status)
                if not may_pass(status):
                    raise problem
                wait_s = retry_after_s(headers.get("Retry-After"))
                if wait_s and time.monotonic() + wait_s < deadline:
                    self.server.pause.until = time.monotonic() + wait_s
            except UnreadableError as error:
                problem, cause = self.server.problem(str(error), self.server.words.wrong_peer), "unreadable answer"
            except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
                problem = _no_answer(self.server, error, limits, deadline)
                cause = "timeout" if isinstance(error, TimeoutError | httpx2.TimeoutException) else "no connection"
                if problem.is_unreachable:
                    num_attempts = min(limits.max_unreachable or num_attempts, num_attempts)
            pause_s = max(wait_s, backoff_s(attempt))
            if attempt + 1 >= num_attempts or time.monotonic() + pause_s >= deadline or self._cancelled.wait(pause_s):
                raise problem
            self.server.count_retry(cause)
        raise AssertionError("max_attempts is at least 1")

    def cancel(self) -> None:
        """Cancels the current exchange; the peer sees that the connection is closed."""
        self._cancelled.set()
        if self._request is not None:
            self._request.cancel()

    def close(self) -> None:
        if self._client is not None:
            asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop)
            self._client = None

    def _attempt(self, send: Callable[[], Coroutine[Any, Any, _Answer]], deadline: float) -> _Answer:
        import httpx2

        try:
            answer = self._wait(send(), deadline)
        except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError):
            if not self._has_connection:
                raise
            self._has_connection = False
            answer = self._wait(send(), deadline)
        self._has_connection = self._keeps_connection
        return answer

    def _wait(self, task: Coroutine[Any, Any, T], deadline: float) -> T:
        """The result of a task of the event loop.

        Raises:
            TimeoutError: it did not come in time.
            ConnectionAbortedError: `cancel` was called.
        """
        self._request = request = asyncio.run_coroutine_threadsafe(task, self._loop)
        if self._cancelled.is_set():
            request.cancel()
        try:
            return request.result(deadline - time.monotonic())
        except CancelledError:
            raise ConnectionAbortedError("cancelled") from None
        finally:
            request.cancel()  # does nothing where it has ended


@cache
def _loop() -> asyncio.AbstractEventLoop:
    for name in ("httpx2", "httpcore2"):  # they log a line for each request, and headers, which may hold the key
        logging.getLogger(name).setLevel(logging.WARNING)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="http", daemon=True).start()
    return loop


os.register_at_fork(after_in_child=_loop.cache_clear)  # the child has no such thread


def _client(server: Server, keeps_connection: bool) -> "httpx2.AsyncClient":
    import httpx2

    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "open-exaone"}
    headers["Connection"] = "keep-alive" if keeps_connection else "close"
    if server.key is not None:
        headers["Authorization"] = f"Bearer {server.key}"
    transport = httpx2.AsyncHTTPTransport(
        verify=_tls(),
        trust_env=False,
        limits=httpx2.Limits(max_connections=1, max_keepalive_connections=int(keeps_connection)),
        socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],  # a long thought is a long silence
    )
    return httpx2.AsyncClient(
        transport=transport,
        base_url=server.url,
        headers=headers,
        timeout=httpx2.Timeout(None, connect=_LONGEST_CONNECT_S),
        trust_env=False,
        follow_redirects=False,
    )


async def _send(client: "httpx2.AsyncClient", method: str, path: str, body: bytes, max_bytes: int) -> _Answer:
    """Sends a request; the body of the answer is read no further than it takes to see that it is too long."""
    import httpx2

    headers = {"Content-Type": "application/json"} if method == "POST" else {}
    async with client.stream(method, path, content=body or None, headers=headers) as response:
        answer = bytearray()
        try:
            async for part in response.aiter_raw():
                answer += part
                if len(answer) > max_bytes:
                    break
        except httpx2.RemoteProtocolError as error:  # unlike one before the answer: it does speak HTTP
            raise ConnectionResetError(str(error)) from None
        return response.status_code, response.headers, bytes(answer)


def _key(name: str, words: Words) -> str:
    key = os.environ.get(name, "").strip()
    if not key or not _is_plain(key):
        state = "holds white space or other characters that no key has" if key else "is not set"
        fix = f"; {words.key_fix}" if words.key_fix else ""
        raise ConfigError(f"{words.key_variable} = {name!r}: this environment variable {state}{fix}")
    return key


@cache
def _tls() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()  # reads the machine's certificates: 20 ms


def backoff_s(attempt: int) -> float:
    """Doubles from attempt to attempt, with random jitter, so that many clients do not retry at the same time."""
    longest_s = min(FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)
    return random.SystemRandom().uniform(longest_s / 2, longest_s)  # the run's own seeded numbers are left alone


def _no_answer(server: Server, error: Exception, limits: Limits, deadline: float) -> EndpointError:
    """What went wrong before there was a whole answer."""
    import httpx2

    if time.monotonic() >= deadline:
        what = f"no complete response within timeout_s = {limits.timeout_s:g}"
        return server.problem(what, "raise it, or use a faster model", is_down=True)
    cause = _cause(error)
    what, fix = f"no answer ({type(cause).__name__}: {cause})", f"start the server, or correct {server.words.address}"
    strangers = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)
    is_foreign = isinstance(error, httpx2.RemoteProtocolError) and cause is not error.__cause__  # it speaks no HTTP
    is_wrong = isinstance(cause, ssl.SSLCertVerificationError) or (
        isinstance(cause, socket.gaierror) and server.host not in _found
    )
    is_down = isinstance(error, OSError | httpx2.TransportError) and not is_foreign and not is_wrong
    return server.problem(what, fix, is_unreachable=isinstance(cause, strangers), is_down=is_down)


def _cause(error: BaseException) -> BaseException:
    """What the system reported, behind the errors that httpx made of it; of several addresses, for the first."""
    if isinstance(error, BaseExceptionGroup):
        return _cause(error.exceptions[0])
    inner = error.__cause__ or (None if isinstance(error, OSError) else error.__context__)
    return error if inner is None else _cause(inner)


def _refusal(server: Server, status: int, headers: Mapping[str, str], body: bytes, max_bytes: int) -> EndpointError:
    """What is wrong with a response that is rejected."""
    words = server.words
    if len(body) > max_bytes:
        return server.problem(f"its response is larger than {max_bytes} bytes", words.wrong_peer, status=status)
    if 300 <= status < 400:
        location = headers.get("Location", "nowhere")
        fix = f"correct {words.address}: redirects are not followed"
        return server.problem(f"it redirects to {location}", fix, status=status)
    if status in (401, 403):  # what they say quotes parts of the key
        return server.problem(f"it answers {status}", words.fixes[status], status=status)
    detail = body[:100_000].decode("utf-8", "replace")
    fix = words.fixes.get(status, "see the server's log")
    return server.problem(f"it answers {status} ({detail})", fix, status=status, detail=detail)


def _is_plain(text: str) -> bool:
    """Whether a text may stand in the head of a request: ASCII without white space or control characters."""
    return text.isascii() and text.isprintable() and " " not in text


def _short(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
