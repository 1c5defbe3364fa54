"""Listens and answers until it gets a signal to stop; accepted requests may then finish within a time limit."""

import asyncio
import errno
import json
import logging
import math
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from open_exaone.base.errors import OpenExaoneError
from open_exaone.serve.app import LOOPBACK, App
from open_exaone.serve.config import ServeConfig
from open_exaone.serve.errors import ApiError
from open_exaone.serve.service import Service

logger = logging.getLogger("open_exaone.serve")
_FIXES = {
    errno.EADDRINUSE: "another program listens there: stop it, or choose another with --port",
    errno.EACCES: "ports below 1024 need more rights: choose another with --port",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose another with --host",
}


def listen(config: ServeConfig) -> socket.socket:
    """A socket that listens.

    Raises:
        OpenExaoneError: the address cannot be had; says how to fix it.
    """
    where = f"{config.host}:{config.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except socket.gaierror as error:
        raise OpenExaoneError(f"{where}: there is no such address: choose another with --host") from error
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, error.strerror or "it cannot be had")
        raise OpenExaoneError(f"{where}: {fix}") from error
    return listener


def serve(service: Service, config: ServeConfig, listener: socket.socket, say: Callable[[str], object]) -> None:
    """Answers until Ctrl-C or SIGTERM.

    Args:
        say: gets the server's address when it is ready.
    """
    host, port = listener.getsockname()[:2]
    app = App(service, config, config.host)
    options = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_keep_alive=math.ceil(config.client_timeout_s),  # longer than clients keep connections they use again
        http=_http(config.client_timeout_s, config.max_connections),
        h11_max_incomplete_event_size=64 << 10,
        timeout_graceful_shutdown=int(config.drain_s) + 5,
    )
    shown = f"[{host}]" if ":" in host else host
    server = _Server(
        options, service, lambda: say(f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else shown}:{port}")
    )
    if config.host not in LOOPBACK and config.api_key is None:
        logger.warning(
            "%s can be reached from other machines, and no --api-key is set: anybody there can send requests",
            config.host,
        )
    asyncio.run(server.serve(sockets=[listener]))


def _http(patience_s: float, most_connections: int) -> type[H11Protocol]:
    """uvicorn's protocol on h11, which bounds the size of headers.

    A connection that begins no request is closed, and so is one above the most, with an answer.
    """

    class Http(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._timer = self.loop.call_later(patience_s, self._watch, None)
            if len(self.connections) > most_connections:
                logger.warning("a connection is refused: %d are open", most_connections)
                transport.write(_REFUSAL)
                transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

        def _watch(self, before: object) -> None:
            """Closes it where no request has begun since the last look, and none is being answered."""
            if self.cycle is before and (self.cycle is None or self.cycle.response_complete):
                self.transport.close()
            else:
                self._timer = self.loop.call_later(patience_s, self._watch, self.cycle)

    return Http


def _refusal() -> bytes:
    """What a connection above the most gets, whatever it would ask."""
    error = ApiError(503, "too many connections are open: retry later", code="too_many_connections")
    body = json.dumps(error.openai()).encode()
    head = "HTTP/1.1 503 Service Unavailable", "content-type: application/json", "retry-after: 5", "connection: close"
    return "\r\n".join((*head, f"content-length: {len(body)}", "", "")).encode() + body


_REFUSAL = _refusal()


class _Server(uvicorn.Server):
    """uvicorn's, which says when it is ready, and has requests that are refused or cut short while it stops."""

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._service, self._on_ready, self._is_cut_short = service, on_ready, False
        service.stop = self._stop

    def _stop(self) -> None:
        """Stops as SIGTERM does; any thread may call it."""
        self._service.is_draining = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops; Ctrl-C meanwhile cancels what still goes on, and once more leaves it as it stands.

        A second SIGTERM changes nothing: a supervisor may send it to a process and to its group.
        """
        if sig == signal.SIGINT and self.should_exit:
            self.force_exit = self._is_cut_short
            self._is_cut_short = True
            self._service.cancel_all("the server stops")
        self._stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        service = self._service
        service.is_draining = True
        if service.tickets:
            logger.info(
                "shutting down: %d running requests have %g s to finish", len(service.tickets), service.config.drain_s
            )
        loop = asyncio.get_running_loop()
        loop.call_later(service.config.drain_s, service.cancel_all, "the server stops")
        await super().shutdown(sockets)


def key_from_environment() -> str | None:
    """The API key that OPEN_EXAONE_API_KEY holds."""
    return os.environ.get("OPEN_EXAONE_API_KEY") or None
