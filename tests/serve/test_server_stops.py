"""How a server stops while requests go on, and while the engine does not answer."""

import asyncio
import concurrent.futures
import json
import signal
import threading
from types import SimpleNamespace

import pytest
import uvicorn

from open_exaone.serve.app import App
from open_exaone.serve.config import ServeConfig
from open_exaone.serve.server import _Server
from open_exaone.serve.service import Served, Service
from open_exaone.serve.worker import Worker

from .conftest import make_engine


def test_a_second_signal() -> None:
    """SIGTERM may come twice; Ctrl-C while requests go on cancels them, and only once more leaves them unanswered."""
    cancelled: list[str] = []
    service = SimpleNamespace(cancel_all=cancelled.append, is_draining=False, stop=None)
    server = _Server(uvicorn.Config(lambda: None, log_config=None), service, lambda: None)
    for _ in range(2):
        server.handle_exit(signal.SIGTERM, None)
    assert service.is_draining and server.should_exit and not cancelled and not server.force_exit
    server.handle_exit(signal.SIGINT, None)
    assert cancelled == ["the server stops"] and not server.force_exit
    server.handle_exit(signal.SIGINT, None)
    assert server.force_exit


@pytest.mark.parametrize(("path", "shape"), [("/v1/completions", "param"), ("/v1/messages", "type")])
def test_a_request_that_is_given_up_is_answered(path, shape) -> None:
    """As where the engine is in a step that outlasts the time to stop: there, uvicorn cancels the task."""
    sent: list = []
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "a"}]} if shape == "type" else {"prompt": "a"}
    body = {"type": "http.request", "body": json.dumps({**asked, "max_tokens": 4}).encode()}
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}

    async def main() -> None:
        service = Service([Served("tiny", make_engine())], ServeConfig())  # its thread does not run
        messages = [body]

        async def receive():
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message) -> None:
            sent.append(message)

        task = asyncio.create_task(App(service, service.config, "127.0.0.1")(scope, receive, send))
        while not (service.tickets and service.worker._inbox.qsize()):
            await asyncio.sleep(0)
        task.cancel()
        await task

    asyncio.run(main())
    assert [message.get("status") for message in sent] == [503, None]
    assert (
        shape in json.loads(sent[1]["body"])["error"]
        and "shutting down" in json.loads(sent[1]["body"])["error"]["message"]
    )


def test_a_step_that_does_not_end_does_not_hold_up_the_end() -> None:
    worker = Worker({"tiny": make_engine()}, max_unread_tokens=64)
    holds, gate = threading.Event(), threading.Event()
    worker._thread.start()
    worker._inbox.put(lambda: (holds.set(), gate.wait(60)))
    assert holds.wait(60)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        closing = threads.submit(worker.close, 0.01)
        try:
            concurrent.futures.wait([closing], 20)
            assert closing.done() and worker._thread.is_alive()
        finally:
            gate.set()
    worker._thread.join(60)
    assert not worker._thread.is_alive()
