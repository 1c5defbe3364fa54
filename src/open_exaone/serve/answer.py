"""How an answer leaves: as a stream of events, or whole, which is a fold over the same stream."""

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self

from open_exaone.serve.asgi import Receive, Scope, Send
from open_exaone.serve.errors import ApiError
from open_exaone.serve.reply import Delta, Outcome, Usage
from open_exaone.serve.service import Ask, Replies, Service
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

    async def _read(self, replies: Replies) -> list[Delta]:
        deltas = await replies.read()
        for delta in deltas:
            self._outcomes[delta.index].take(delta)
        return deltas

    def _usage(self) -> Usage:
        return self._service.finish(self._ask, self._ticket, self._outcomes)

    async def _whole(self, send: Send) -> None:
        with Replies(self._service, self._ask, self._ticket) as replies:
            while not replies.are_done:
                await self._read(replies)
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
            async with Patience(seconds) as patience:
                await self._send_events(send, patience)
        except TimeoutError:
            logger.warning("%s: cancelled: its client read nothing for %g seconds", self._ticket.id, seconds)
            self._service.worker.cancel(self._ticket, "its client did not read it")

    async def _send_events(self, send: Send, patience: "Patience") -> None:
        """Sends all events; those of one step of the engine together."""
        text = self._dialect.begin()
        try:
            with Replies(self._service, self._ask, self._ticket) as replies:
                while not replies.are_done:
                    text += "".join(map(self._dialect.take, await self._read(replies)))
                    if text and not self._ticket.is_done:
                        patience.begin()
                        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                        patience.end()
                        text = ""
            text += self._dialect.end(self._outcomes, self._usage())
        except ApiError as error:
            text += self._dialect.failed(error)
        patience.begin()
        await send({"type": "http.response.body", "body": text.encode(), "more_body": False})


class Patience:
    """Ends a block with TimeoutError where something in it takes too long.

    One timer that looks now and then: a piece of a stream costs two assignments.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._limit = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None

    def begin(self) -> None:
        """What may take no longer begins."""
        self._began = self._loop.time()

    def end(self) -> None:
        """It has ended."""
        self._began = None

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._look()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(*exception)

    def _look(self) -> None:
        now = self._loop.time()
        ends = (now if self._began is None else self._began) + self._seconds
        if ends <= now:
            self._limit.reschedule(now)
        else:
            self._timer = self._loop.call_at(ends, self._look)


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
