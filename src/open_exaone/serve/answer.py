"""How an answer leaves: as a stream of events, or whole, which is a fold over the same stream."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Protocol

from open_exaone.serve.asgi import Receive, Scope, Send
from open_exaone.serve.errors import ApiError
from open_exaone.serve.reply import Delta, Outcome, Usage
from open_exaone.serve.service import Ask, Service
from open_exaone.serve.worker import Ticket

logger = logging.getLogger("open_exaone.serve")
JSON = b"application/json"


class Dialect(Protocol):
    """How one API writes answers."""

    def begin(self) -> str:
        """The first events of a stream."""

    def take(self, delta: Delta) -> str:
        """The events of what has come."""

    def end(self, outcomes: Sequence[Outcome], usage: Usage) -> str:
        """The last events."""

    def whole(self, outcomes: Sequence[Outcome], usage: Usage) -> dict[str, Any]:
        """The answer in one piece."""

    def failed(self, error: ApiError) -> str:
        """The events of a stream that fails midway."""


class Answer:
    """Generates and sends. An ASGI response; a client that leaves cancels what is generated.

    Args:
        ticket: accepted already, so that a refusal has its own status.
    """

    def __init__(self, service: Service, ask: Ask, ticket: Ticket, dialect: Dialect) -> None:
        self._service, self._ask, self._ticket, self._dialect = service, ask, ticket, dialect
        self._outcomes = [Outcome(index) for index in range(len(ticket.jobs))]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watching = asyncio.create_task(self._watch(receive))
        try:
            await (self._stream(send) if self._ask.is_streamed else self._whole(send))
        finally:
            watching.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._service.worker.cancel(self._ticket, "its client left")

    async def _deltas(self) -> AsyncIterator[list[Delta]]:
        async for deltas in self._service.deltas(self._ask, self._ticket):
            for delta in deltas:
                self._outcomes[delta.index].take(delta)
            yield deltas

    def _usage(self) -> Usage:
        return self._service.finish(self._ask, self._ticket, self._outcomes)

    async def _whole(self, send: Send) -> None:
        async for _ in self._deltas():
            pass
        await send_json(send, 200, self._dialect.whole(self._outcomes, self._usage()), request_id=self._ticket.id)

    async def _stream(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
            (b"x-request-id", self._ticket.id.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        seconds = self._service.config.client_timeout_s
        try:
            async for text in self._events():
                async with asyncio.timeout(seconds):
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        except TimeoutError:
            logger.warning("%s: cancelled: its client read nothing for %g seconds", self._ticket.id, seconds)
            self._service.worker.cancel(self._ticket, "its client did not read it")
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncIterator[str]:
        """All events; those of one step of the engine together."""
        text = self._dialect.begin()
        try:
            async for deltas in self._deltas():
                text += "".join(map(self._dialect.take, deltas))
                if text and not self._ticket.is_done:
                    yield text
                    text = ""
            yield text + self._dialect.end(self._outcomes, self._usage())
        except ApiError as error:
            yield text + self._dialect.failed(error)


def event(value: object, name: str | None = None) -> str:
    """One server-sent event."""
    return f"{f'event: {name}' + chr(10) if name else ''}data: {json.dumps(value)}\n\n"


async def send_json(
    send: Send, status: int, value: object, headers: Iterable[tuple[str, str]] = (), request_id: str | None = None
) -> None:
    """Sends an answer in one piece."""
    body = json.dumps(value).encode()
    fields = [(b"content-type", JSON), (b"content-length", str(len(body)).encode())]
    fields += [(name.encode(), text.encode()) for name, text in headers]
    if request_id is not None:
        fields.append((b"x-request-id", request_id.encode()))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
