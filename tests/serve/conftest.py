"""A server of a tiny model on a real socket, shared by the tests of this folder."""

import contextlib
import threading
from dataclasses import dataclass

import httpx2
import pytest

from doubles import TINY, make_model, make_tokenizer
from open_exaone.engine.engine import Engine
from open_exaone.serve.config import ServeConfig
from open_exaone.serve.server import listen, serve
from open_exaone.serve.service import Served, Service

SHAPE = TINY.model_copy(update={"max_positions": 1024})


def make_engine(num_slots: int = 4) -> Engine:
    return Engine(make_model(SHAPE), make_tokenizer(), num_slots=num_slots)


@dataclass
class Running:
    """A server that answers, and what it runs."""

    service: Service
    engine: Engine
    url: str

    def post(self, path: str, body: object, **options) -> httpx2.Response:
        return httpx2.post(self.url + path, json=body, timeout=120, **options)

    @contextlib.contextmanager
    def held(self):
        """The engine's thread does nothing meanwhile."""
        gate, holds = threading.Event(), threading.Event()
        self.service.worker._inbox.put(lambda: (holds.set(), gate.wait(120)))
        assert holds.wait(60)
        try:
            yield
        finally:
            gate.set()


@contextlib.contextmanager
def running(config: ServeConfig | None = None, models: list[Served] | None = None):
    config = config or ServeConfig(port=0)
    engine = models[0].engine if models else make_engine()
    listener, ready, addresses = listen(config), threading.Event(), []
    service = Service(models or [Served("tiny", engine, {"temperature": 1.0, "top_p": 1.0})], config)

    def say(url: str) -> None:
        addresses.append(url)
        ready.set()

    thread = threading.Thread(target=serve, args=(service, config, listener, say), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield Running(service, engine, addresses[0])
    finally:
        service.stop()
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def server():
    with running() as one:
        yield one
