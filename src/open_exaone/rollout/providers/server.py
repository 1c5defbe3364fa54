"""What answers over HTTP has in common: many requests at once, one thread each, and failures that end the stream."""

import json
import os
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Generation, Request
from open_exaone.remote.http import Caller, EndpointError, Limits, Server, UnreadableError, Words, find_server
from open_exaone.rollout.config import ChatEndpoint, VllmServer
from open_exaone.rollout.providers.completion import count_of

MAX_RESPONSE_BYTES = 64 << 20
NUM_LIKE_FAILURES = 8  # in a row, after which the others would fail alike
_UNREACHABLE_ATTEMPTS = 3  # before anything was answered: a wrong address is reported soon
_POLL_S = 0.1  # how soon Ctrl-C takes effect
_DEFAULT_KEY = "OPENAI_API_KEY"
_KEY = "put the right key into the environment variable OPENAI_API_KEY, or that which api_key_variable names in Python"
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
        429: "ask less at once (concurrency), or wait",
    },
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Failed:
    """What came instead of a generation."""

    error: Exception


class ServerProvider:
    """Answers requests, `concurrency` at once; see `Provider`. A subclass says how one of them is answered.

    Where an exchange fails, it is tried again, so a server that sometimes fails gives the same replies as one that
    never does.

    Raises:
        ConfigError: the address or the key cannot be used.
    """

    def __init__(self, config: ChatEndpoint | VllmServer) -> None:
        self.config = config
        has_default = config.api_key_variable is None and os.environ.get(_DEFAULT_KEY, "").strip()
        self.key_variable = _DEFAULT_KEY if has_default else config.api_key_variable
        self.server = find_server(config.url, self.key_variable, _WORDS)
        self.limits = Limits(config.timeout_s, config.max_attempts, MAX_RESPONSE_BYTES, _UNREACHABLE_ATTEMPTS)
        self.num_failures, self._failure = 0, ""  # how many requests were left out so far, and why the first was

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
        """See `Provider`; what is in flight when the iterator is closed is cut, and the server can see that.

        Raises:
            EndpointError: many requests in a row, or all of them, failed for one reason that no retry fixes.
            ConfigError: there is a thinking budget, and the server cannot continue a reply.
        """
        todo = iter(enumerate(requests))
        results: queue.Queue[tuple[int, Generation | _Failed]] = queue.Queue(1)  # none is asked before the last is kept
        cancelled = threading.Event()
        num_callers = min(self.config.concurrency, len(requests))
        callers = [Caller(self.server, keeps_connection=True) for _ in range(num_callers)]
        run = _Run(self, todo, results, cancelled)
        try:
            for number, caller in enumerate(callers):  # daemons: a server that hangs does not keep the process
                threading.Thread(target=run.work, args=[caller], name=f"request-{number}", daemon=True).start()
            yield from self._collect(results, len(requests))
        finally:
            cancelled.set()
            for caller in callers:
                caller.cancel()

    def _collect(
        self, results: "queue.Queue[tuple[int, Generation | _Failed]]", num_requests: int
    ) -> Iterator[tuple[int, Generation]]:
        """Gives results as they come; sees when the rest would fail alike."""
        num_in_row, last_kind, has_any = 0, None, False
        for num_done in range(1, num_requests + 1):
            place, result = _next(results)
            if isinstance(result, Generation):
                num_in_row, has_any = 0, True
                yield place, result
                continue
            error = result.error
            if not isinstance(error, EndpointError):
                raise error
            self.num_failures += 1
            self._failure = self._failure or str(error)
            kind = _kind(error, has_any)
            num_in_row = num_in_row + 1 if kind is not None and kind == last_kind else 1
            last_kind = kind
            is_hopeless = kind is not None and num_in_row >= NUM_LIKE_FAILURES
            if is_hopeless or (num_done == num_requests and not has_any):
                raise error


class _Run:
    """What the threads of one stream share."""

    def __init__(
        self,
        provider: ServerProvider,
        todo: Iterator[tuple[int, Request]],
        results: "queue.Queue[tuple[int, Generation | _Failed]]",
        cancelled: threading.Event,
    ) -> None:
        self._provider, self._todo, self._results, self._cancelled = provider, todo, results, cancelled
        self._mutex = threading.Lock()

    def work(self, caller: Caller) -> None:
        """One thread: takes the next request until there is none."""
        with suppress(StopIteration):
            while not self._cancelled.is_set():
                with self._mutex:
                    place, request = next(self._todo)
                try:
                    self._put(place, self._provider.answer(request, caller))
                except Exception as error:  # a thread's border: raised again where the stream is read
                    self._put(place, _Failed(error))
        caller.close()

    def _put(self, place: int, result: "Generation | _Failed") -> None:
        while not self._cancelled.is_set():
            with suppress(queue.Full):
                return self._results.put((place, result), timeout=_POLL_S)


def _next(results: "queue.Queue[T]") -> T:
    """Waits for a result; Ctrl-C ends the wait."""
    while True:
        interrupt.check()
        with suppress(queue.Empty):
            return results.get(timeout=_POLL_S)


def _kind(error: EndpointError, has_any: bool) -> str | int | None:
    """What other requests would fail of too; None where they need not."""
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
    caller = Caller(server)
    limits = Limits(min(60.0, limits.timeout_s), 4, limits.max_bytes, limits.max_unreachable)
    try:
        models = caller.exchange("GET", "/models", b"", limits, _models)
    except EndpointError as error:
        if error.status in (404, 405, 501):
            return name or "default", None
        raise
    if name is not None:
        return name, dict(models).get(name)
    if len(models) > 1:
        shown = ", ".join(name[:100] for name, _ in models[:8]) + (", …" if len(models) > 8 else "")
        raise ConfigError(
            f"{server.url}: has {len(models)} models; name one of them, as exaone eval NAME --engine "
            f"{server.url}, or as model in Python: {shown}"
        )
    return models[0] if models else ("default", None)


def _models(body: bytes) -> list[tuple[str, int | None]]:
    """Each model's name, and its context where the server states it."""
    try:
        entries = [entry for entry in json.loads(body)["data"] if isinstance(entry["id"], str)]
        return [(entry["id"], count_of(entry, "max_model_len") or None) for entry in entries]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableError(f"its answer is no list of models ({type(error).__name__})") from None
