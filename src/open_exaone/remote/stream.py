"""Server-sent events of an OpenAI-compatible endpoint, each as soon as it comes.

What `remote.http` says of its peers holds here too: an exchange ends within its limits of time and memory.
"""

import asyncio
import json
import queue
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any

from open_exaone.base import interrupt
from open_exaone.remote.http import EndpointError, Limits, Server, _client, _loop, _no_answer, _refusal

_POLL_S = 0.05  # how soon Ctrl-C takes effect
_DONE = "[DONE]"
_END = object()


def stream_events(server: Server, path: str, body: bytes, limits: Limits) -> Generator[dict[str, Any], None, None]:
    """Posts a request, and gives the JSON object of each event; closing the iterator closes the connection.

    Nothing is repeated. An answer that is no stream of events is given as one object. Ctrl-C, where it is deferred
    (`base.interrupt`), ends the stream.

    Args:
        limits: `timeout_s` is the longest silence, `max_bytes` that of the whole answer.

    Raises:
        EndpointError: the endpoint cannot be reached, refuses, or breaks off; what came before was given.
    """
    chunks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    task = asyncio.run_coroutine_threadsafe(_post(server, path, body, limits, chunks), _loop())
    try:
        yield from _objects(server, limits, _texts(server, limits, chunks))
    finally:
        task.cancel()


async def _post(server: Server, path: str, body: bytes, limits: Limits, chunks: "queue.SimpleQueue[Any]") -> None:
    """Puts the status, the headers, then the bytes as they come, then how it ended."""
    try:
        async with _client(server, False) as client:
            headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
            async with asyncio.timeout(limits.timeout_s) as silence:
                async with client.stream("POST", path, content=body, headers=headers) as response:
                    chunks.put((response.status_code, dict(response.headers)))
                    async for part in response.aiter_raw():
                        silence.reschedule(asyncio.get_running_loop().time() + limits.timeout_s)
                        chunks.put(part)
        chunks.put(_END)
    except Exception as error:  # a thread's border: raised again where the stream is read
        chunks.put(error)


def _next(chunks: "queue.SimpleQueue[Any]") -> Any:
    while not interrupt.requested():
        with suppress(queue.Empty):
            return chunks.get(timeout=_POLL_S)
    return _END


def _texts(server: Server, limits: Limits, chunks: "queue.SimpleQueue[Any]") -> Iterator[tuple[bool, bytes]]:
    """The answer's lines where it is a stream of events, else all of it; each with which of the two."""
    first = _next(chunks)
    if first is _END:
        return
    status, headers = first if isinstance(first, tuple) else (0, {})
    is_stream = status == 200 and headers.get("content-type", "").split(";")[0].strip() == "text/event-stream"
    kept, num_bytes, chunk = b"", 0, b"" if status else first
    while chunk is not _END:
        if isinstance(chunk, Exception):
            raise _broken(server, chunk, limits, has_begun=num_bytes > 0)
        num_bytes += len(chunk)
        kept += chunk
        if is_stream:
            *lines, kept = kept.split(b"\n")
            yield from ((True, line) for line in lines)
        if num_bytes > limits.max_bytes:
            break
        chunk = _next(chunks)
    if (status != 200 and not interrupt.requested()) or num_bytes > limits.max_bytes:
        raise _refusal(server, status, headers, kept, limits.max_bytes if num_bytes <= limits.max_bytes else -1)
    yield is_stream, kept


def _objects(server: Server, limits: Limits, texts: Iterator[tuple[bool, bytes]]) -> Iterator[dict[str, Any]]:
    has_ended = False
    for is_stream, text in texts:
        text = text.strip()
        if is_stream and not text.startswith(b"data:"):
            continue
        data = text.removeprefix(b"data:").strip() if is_stream else text
        if data.decode("utf-8", "replace") == _DONE:
            return
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if interrupt.requested():
            return
        if not isinstance(value, dict):
            raise server.problem("its response is not a chat completion", server.words.wrong_peer)
        if value.get("error"):
            raise server.problem(f"it fails ({_message(value['error'])})", "try again, or see the server's log")
        has_ended = has_ended or not is_stream or _is_last(value)
        yield value
    if not has_ended and not interrupt.requested():
        raise server.problem("the connection was closed in the middle of the reply", "try again", is_down=True)


def _is_last(value: dict[str, Any]) -> bool:
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return isinstance(first, dict) and first.get("finish_reason") is not None


def _message(error: object) -> str:
    text = error.get("message") if isinstance(error, dict) else error
    return str(text)[:1000]


def _broken(server: Server, error: Exception, limits: Limits, *, has_begun: bool) -> EndpointError:
    if isinstance(error, TimeoutError):
        what = f"no data arrived for timeout_s = {limits.timeout_s:g}"
        return server.problem(what, "try again, or use a faster model", is_down=True)
    if has_begun:
        return server.problem("the connection broke in the middle of the reply", "try again", is_down=True)
    return _no_answer(server, error, limits, float("inf"))
