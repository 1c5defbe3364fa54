"""What providers over HTTP have in common: many requests at once, one thread each, and failures that end the stream.

`pool` shares the requests out where several servers have the model.
"""

import json
import os
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Generation, Request
from open_exaone.remote.http import Caller, EndpointError, Limits, Server, UnreadableError, Words, find_server
from open_exaone.rollout.config import ChatEndpoint, VllmServer
from open_exaone.rollout.providers.completion import count_of
from open_exaone.rollout.providers.pool import Peer, Result, Terms, Work

MAX_RESPONSE_BYTES = 64 << 20
NUM_LIKE_FAILURES = 8  # in a row, after which the others would fail alike
_UNREACHABLE_ATTEMPTS = 3  # before anything was answered: a wrong address is reported soon
_POLL_S = 0.1  # how soon Ctrl-C takes effect
_DEFAULT_KEY = "OPENAI_API_KEY"
_KEY = "set the right key in the environment variable OPENAI_API_KEY, or in the one that api_key_variable names"
_WORDS = Words(
    address="the endpoint's address",
    key_variable="api_key_variable",
    key_fix=_KEY,
    wrong_peer="check that the address is an OpenAI-compatible endpoint's",
    fixes={
        400: "check the model's name, its context's length, and what it allows",
        401: _KEY,
        403: _KEY,
        404: "check the address, which mostly ends in /v1, and the model's name",
        429: "lower concurrency, or wait",
    },
)
T = TypeVar("T")


class ServerProvider:
    """Answers requests, `concurrency` at once at each server; see `Provider`. A subclass defines how one is answered.

    Where an exchange fails, it is tried again, so a server that sometimes fails gives the same replies as one that
    never does. With several servers the next attempt is another one's.

    Raises:
        ConfigError: the address or the key cannot be used.
    """

    def __init__(self, config: ChatEndpoint | VllmServer) -> None:
        self.config = config
        has_default = config.api_key_variable is None and os.environ.get(_DEFAULT_KEY, "").strip()
        self.key_variable = _DEFAULT_KEY if has_default else config.api_key_variable
        self.servers = tuple(find_server(url, self.key_variable, _WORDS) for url in config.urls)
        self.peers = [Peer(server) for server in self.servers]
        num_attempts = config.max_attempts if len(self.servers) == 1 else 1
        self.limits = Limits(config.timeout_s, num_attempts, MAX_RESPONSE_BYTES, _UNREACHABLE_ATTEMPTS)
        self.num_failures, self._failure = 0, ""  # how many requests were left out so far, and why the first was

    @property
    def server(self) -> Server:
        """The first one."""
        return self.servers[0]

    @property
    def engine(self) -> str:
        """The servers' addresses, as a report names what has generated."""
        return ", ".join(server.url.rstrip("/") for server in self.servers)

    @property
    def server_notes(self) -> tuple[str, ...]:
        """What a report must state of the servers: how often requests were repeated, and why."""
        several = len(self.servers) > 1
        return tuple(f"{one.url}: {note}" if several else note for one in self.servers for note in one.notes)

    def revive(self, server: Server) -> None:
        """Checks whether a server that failed may receive requests again.

        Raises:
            EndpointError, ConfigError: it may not.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Frees what is kept for servers that return."""

    @property
    def failure(self) -> str | None:
        return self._failure or None

    def flops(self, generation: Generation) -> float | None:
        if self.config.num_parameters is None:
            return None
        return 2.0 * self.config.num_parameters * (generation.num_prompt_tokens + generation.num_tokens)

    def answer(self, request: Request, caller: Caller) -> Generation:
        """One request, whatever number of exchanges that takes.

        Raises:
            EndpointError, ConfigError: see `stream`.
        """
        raise NotImplementedError

    def stream(self, requests: Sequence[Request]) -> Generator[tuple[int, Generation], None, None]:
        """See `Provider`; closing the iterator cancels the requests in flight, which the server can see.

        Raises:
            EndpointError: many requests in a row, or all of them, failed for one reason that no retry fixes.
            ConfigError: there is a thinking budget, and the server cannot continue a reply.
        """
        results: queue.Queue[tuple[int, Result]] = queue.Queue(1)  # none is asked before the last is kept
        config = self.config
        terms = Terms(self.answer, self.revive, config.concurrency, config.max_attempts, config.timeout_s)
        work = Work(terms, self.peers, requests)

        def put(place: int, result: Result) -> None:
            while not work.stopped.is_set():
                with suppress(queue.Full):
                    return results.put((place, result), timeout=_POLL_S)

        try:
            for number in range(min(config.concurrency * len(self.peers), len(requests))):
                # a daemon: a server that hangs does not keep the process
                threading.Thread(target=work.work, args=[put], name=f"request-{number}", daemon=True).start()
            yield from self._collect(results, len(requests))
        finally:
            work.stop()

    def _collect(
        self, results: "queue.Queue[tuple[int, Result]]", num_requests: int
    ) -> Iterator[tuple[int, Generation]]:
        """Yields results as they come; raises when the rest would fail alike."""
        num_in_row, last_kind, has_any = 0, None, False
        for num_done in range(1, num_requests + 1):
            place, result = _next(results)
            if isinstance(result, Generation):
                num_in_row, has_any = 0, True
                yield place, result
                continue
            error = result.error
            if result.is_final or not isinstance(error, EndpointError):
                raise error
            self.num_failures += 1
            self._failure = self._failure or str(error)
            kind = _kind(error, has_any)
            num_in_row = num_in_row + 1 if kind is not None and kind == last_kind else 1
            last_kind = kind
            is_hopeless = kind is not None and num_in_row >= NUM_LIKE_FAILURES
            if is_hopeless or (num_done == num_requests and not has_any):
                raise error


def _next(results: "queue.Queue[T]") -> T:
    """Waits for a result; Ctrl-C ends the wait."""
    while True:
        interrupt.check()
        with suppress(queue.Empty):
            return results.get(timeout=_POLL_S)


def _kind(error: EndpointError, has_any: bool) -> str | int | None:
    """The failure that other requests would have too; None if they may succeed."""
    if error.is_unreachable:
        return "unreachable"
    status = error.status
    if status is None or status == 200 or status >= 500 or status in (408, 429):
        return None if has_any else "no answer"  # a server that has never answered
    return None if has_any and status in (400, 413, 422) else status  # those may be one prompt's


def find_model(server: Server, limits: Limits, name: str | None) -> tuple[str, int | None]:
    """The model that is asked for, or the only one, and its context where the server states it.

    Returns:
        its name, "default" where the server names none; and its context in tokens.

    Raises:
        ConfigError: the server has several models and none is asked for: names them.
        EndpointError: it does not say which it has.
    """
    models = _listed(server, limits)
    if models is None:
        return name or "default", None
    if name is not None:
        return name, dict(models).get(name)
    if len(models) > 1:
        raise ConfigError(
            f"{server.url}: has {len(models)} models; name one of them, as exaone eval NAME --engine "
            f"{server.url}, or as model in Python: {_shown(models)}"
        )
    return models[0] if models else ("default", None)


def find_one_model(servers: Sequence[Server], limits: Limits, name: str | None) -> tuple[str, int | None]:
    """The same of several servers, which must all have it; the context is the shortest of theirs.

    Raises:
        ConfigError: a server has another model, or several of which none is asked for: names the server.
        EndpointError: a server does not answer.
    """
    model, context = find_model(servers[0], limits, name)
    for server in servers[1:]:
        context = min(filter(None, (context, check_model(server, limits, model, servers[0]))), default=None)
    return model, context


def check_model(server: Server, limits: Limits, model: str, first: Server) -> int | None:
    """Checks that a server has the model of the first one; returns its context if the server reports it.

    Raises:
        ConfigError: it has not: names both servers.
        EndpointError: it does not answer.
    """
    models = _listed(server, limits)
    if models is not None and model not in dict(models):
        raise ConfigError(
            f"{server.url}: has no model {model!r}, which {first.url} has, but {_shown(models) or 'none'}: all servers "
            "must have the same model: start them with the same --served-model-name, or name the model that they share"
        )
    return dict(models or ()).get(model)


def _shown(models: Sequence[tuple[str, int | None]]) -> str:
    return ", ".join(name[:100] for name, _ in models[:8]) + (", …" if len(models) > 8 else "")


def _listed(server: Server, limits: Limits) -> list[tuple[str, int | None]] | None:
    """The models that a server names, with their contexts; None where it names none."""
    limits = Limits(min(60.0, limits.timeout_s), 4, limits.max_bytes, limits.max_unreachable)
    try:
        return Caller(server).exchange("GET", "/models", b"", limits, _models)
    except EndpointError as error:
        if error.status in (404, 405, 501):
            return None
        raise


def _models(body: bytes) -> list[tuple[str, int | None]]:
    """Each model's name, and its context where the server states it."""
    try:
        entries = [entry for entry in json.loads(body)["data"] if isinstance(entry["id"], str)]
        return [(entry["id"], count_of(entry, "max_model_len") or None) for entry in entries]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableError(f"its response is not a list of models ({type(error).__name__})") from None
