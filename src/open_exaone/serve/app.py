"""The application: who may ask, how large a request may be, and which function answers which path. ASGI."""

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from open_exaone.serve.answer import Answer, send_json
from open_exaone.serve.asgi import Message, Receive, Scope, Send
from open_exaone.serve.config import ServeConfig
from open_exaone.serve.errors import ApiError
from open_exaone.serve.page import send_page
from open_exaone.serve.routes.route import Route
from open_exaone.serve.routes.table import ROUTES
from open_exaone.serve.service import Service

logger = logging.getLogger("open_exaone.serve")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OPEN_PATHS = frozenset({"/health"})  # that need no key
_SAFE_HEADERS = (("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"))


# How long, and how much, the rest of a refused request's body is read. A connection that is closed while data is unread
# is reset, and the answer may then not reach the client.
UNREAD_S, UNREAD_BYTES = 10.0, 64 << 20


@dataclass(slots=True)
class _Seen:
    """What has come and gone of a request so far."""

    status: int = 0
    is_read: bool = False  # its body, to the end


class App:
    """Answers HTTP requests.

    Args:
        bound: the address that the server listens on. Unless it is open to the network and needs a key, requests
            under foreign names are refused, which a page that has a name of its own point here would send.
    """

    def __init__(self, service: Service, config: ServeConfig, bound: str) -> None:
        self.service = service
        self._config = config
        self._key = config.api_key.encode(errors="surrogateescape") if config.api_key else None
        names = {*LOOPBACK, bound, *config.allowed_hosts, *(() if bound in LOOPBACK else (socket.gethostname(),))}
        is_guarded = bound not in LOOPBACK and self._key is not None
        self._hosts = None if is_guarded else {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:  # a web socket
            await send({"type": "websocket.close", "code": 1000})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.service.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                self.service.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, seen = time.perf_counter(), _Seen()
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        extra = [*_SAFE_HEADERS, *self._cors(headers.get("origin"))]

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                message["headers"] = [*message["headers"], *((name.encode(), text.encode()) for name, text in extra)]
            await send(message)

        async def receive_more() -> Message:
            message = await receive()
            seen.is_read = not message.get("more_body")
            return message

        async def send_last(message: Message) -> None:
            """Sends all of an answer, reads what the client still sends, and only then ends the answer."""
            is_last = message["type"] == "http.response.body"
            await send_more({**message, "more_body": True} if is_last else message)
            if is_last:
                await _discard(receive_more, seen)
                await send_more({"type": "http.response.body", "body": b""})

        is_anthropic = scope["path"].startswith("/v1/messages")
        try:
            await self._dispatch(scope, headers, receive_more, send_more)
        except ApiError as error:
            await self._refuse(error, is_anthropic, send_last, seen)
        except asyncio.CancelledError:  # the time to stop is over, and the engine has not cancelled it
            logger.warning("%s %s is cancelled: the server is shutting down", scope["method"], _shown(scope["path"]))
            stopped = ApiError(
                503, "the server is shutting down: retry later, or use another one", code="draining", retry_after_s=5
            )
            await self._refuse(stopped, is_anthropic, send_more, seen)
        except Exception:  # a border: nothing of it goes out
            logger.exception("%s %s failed", scope["method"], _shown(scope["path"]))
            await self._refuse(ApiError(500, "the server has failed; see its log"), is_anthropic, send_more, seen)
        finally:
            path = scope["path"] if (scope["path"]) in _PATHS else "other"
            self.service.metrics.count("requests_total", labels=f'path="{path}",status="{seen.status}"')
            milliseconds = 1000 * (time.perf_counter() - began)
            logger.info("%s %s %d %.1f ms", scope["method"], _shown(scope["path"]), seen.status, milliseconds)

    async def _refuse(self, error: ApiError, is_anthropic: bool, send: Send, seen: _Seen) -> None:
        if seen.status:  # an answer has begun: it ends here
            return
        await send_json(
            send, error.status, error.anthropic() if is_anthropic else error.openai(), error.headers.items()
        )

    async def _dispatch(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        self._check_host(headers.get("host", ""))
        method, path = scope["method"], scope["path"]
        if method == "OPTIONS" and headers.get("origin") in self._config.cors_origins:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        found = _find(method, path)
        if found is None:
            if await send_page(method, path, send):
                return
            raise ApiError(404, f"{method} {path[:100]}: there is nothing here; /openapi.json lists what there is")
        route, values = found
        if path not in _OPEN_PATHS:
            self._check_key(headers)
        try:
            async with asyncio.timeout(self._config.client_timeout_s):
                body = await self._body(headers, receive) if method == "POST" else b""
        except TimeoutError as error:
            raise ApiError(408, "the request did not arrive in time") from error
        if "content-length" in headers and "transfer-encoding" in headers:
            raise _two_lengths()
        answer = await route.function(self.service, body, **values)
        if isinstance(answer, Answer):
            await answer(scope, receive, send)
        elif isinstance(answer, str):
            kind = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
            await send({"type": "http.response.start", "status": 200, "headers": kind})
            await send({"type": "http.response.body", "body": answer.encode()})
        else:
            status = 503 if path == "/health" and self.service.is_draining else 200
            await send_json(send, status, answer)

    def _check_host(self, host: str) -> None:
        if self._hosts is None:
            return
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if name not in self._hosts and not _is_address(name):
            raise ApiError(403, f"the host {host[:100]!r} is not this server's: name it with --allowed-host")

    def _check_key(self, headers: Mapping[str, str]) -> None:
        if self._key is None:
            return
        given = headers.get("authorization", "")
        given = given[7:] if given[:7].lower() == "bearer " else headers.get("x-api-key", "")
        if not hmac.compare_digest(given.strip(" \t").encode("latin-1"), self._key):
            raise ApiError(401, "the API key is missing or wrong", code="invalid_api_key")

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """A request's body. Only JSON is read: another type could be sent by any page without being asked for leave."""
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        most = self._config.max_body_bytes
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > most:
            raise ApiError(413, f"the body has {length[:20]} bytes; at most {most}")
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ApiError(400, "the body is cut short")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise ApiError(413, f"the body has more than {most} bytes")
            if not message.get("more_body"):
                break
        if size and kind != "application/json":
            raise ApiError(400, f"content-type: {kind[:100] or 'none'}: send application/json", param="content-type")
        return b"".join(parts)

    def _cors(self, origin: str | None) -> list[tuple[str, str]]:
        if origin is None or origin not in self._config.cors_origins:
            return []
        return [
            ("access-control-allow-origin", origin),
            ("access-control-allow-headers", "authorization, content-type, x-api-key, anthropic-version"),
            ("access-control-allow-methods", "GET, POST"),
            ("vary", "origin"),
        ]


async def _discard(receive: Receive, seen: _Seen) -> None:
    """Reads what is left of a request's body, within limits."""
    size = 0
    with contextlib.suppress(TimeoutError, asyncio.CancelledError):  # the answer has gone, and the task ends here
        async with asyncio.timeout(UNREAD_S):
            while not seen.is_read and size < UNREAD_BYTES:
                size += len((await receive()).get("body", b""))


def _shown(path: str) -> str:
    """A path for the log: whatever it holds, it stays in one line."""
    return quote(path[:100], errors="replace")


def _two_lengths() -> ApiError:
    """The error of a request that a proxy may have cut elsewhere: what follows it is not read (RFC 9112, 6.1)."""
    error = ApiError(400, "the headers have content-length and transfer-encoding: send one of them")
    error.headers["connection"] = "close"
    return error


def _is_address(name: str) -> bool:
    """Whether a host is named by its number, which no page can have point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _find(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """Which route a path takes, and what stands at its braces.

    Raises:
        ApiError: the path takes another method.
    """
    fits = [(route, values) for route in ROUTES if (values := route.match(path)) is not None]
    for route, values in fits:
        if route.method == method:
            return route, values
    if fits:
        raise ApiError(405, f"{path[:100]}: takes {fits[0][0].method}, not {method[:20]}")
    return None


_PATHS = frozenset(route.path for route in ROUTES)
