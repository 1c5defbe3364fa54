"""What every API of the server asks: render a prompt, generate, and read what comes."""

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from open_exaone.base.errors import CheckpointError, DataError
from open_exaone.base.records import Request, Sampling, StopReason
from open_exaone.engine.request import Constraint, check_ids
from open_exaone.serve.config import ServeConfig
from open_exaone.serve.errors import ApiError, context_exceeded
from open_exaone.serve.metrics import Metrics
from open_exaone.serve.prompts import Prompts
from open_exaone.serve.remembered import Responses
from open_exaone.serve.reply import Delta, Outcome, Reader, Usage, num_prompt_tokens
from open_exaone.serve.worker import Job, Ticket, Worker
from open_exaone.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from open_exaone.engine.engine import Engine

logger = logging.getLogger("open_exaone.serve")
T = TypeVar("T")
LONG_CHARS = 16_384  # more of them are tokenised in threads of their own
NUM_LONG = max(1, min(4, (os.cpu_count() or 1) // 2))  # such texts that are tokenised at once
NUM_COMPILERS = 2  # schemas that are compiled at once; one that takes long stays in its thread


@dataclass(frozen=True, slots=True)
class Example:
    """A message that a model can answer, for a client to suggest."""

    language: str  # "en" or "ko"
    text: str


@dataclass(frozen=True, slots=True)
class Served:
    """One model that the server answers with."""

    name: str
    engine: "Engine"
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of `Sampling`, where a request does not say
    examples: Sequence[Example] = ()
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.tokenizer

    @property
    def context(self) -> int:
        """Tokens that a prompt and its reply may have together."""
        return self.engine.model.config.max_positions


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client wants generated, whatever the API."""

    model: Served
    prompts: Sequence[tuple[int, ...]]
    sampling: Sampling  # of which `num_samples` replies to each prompt
    thinking: bool | None  # as the prompts were rendered; None: these are plain texts
    is_streamed: bool = False
    reads_calls: bool = False  # whether tools are on offer
    constraint: Callable[[], Constraint] | None = None  # makes one for each reply
    begun: str = ""  # what the prompts have of the reply already
    num_top_logprobs: int = 0  # how many of the most likely tokens are given at each place
    num_begun: int = 0  # the same in tokens
    arrived: float = field(default_factory=time.perf_counter)

    def requests(self) -> list[Request]:
        """One for each reply; their random streams are those of `Engine.generate`."""
        seen: Counter[tuple[int, ...]] = Counter()
        requests = []
        for prompt in self.prompts:
            first = Request(
                (),
                prompt,
                bool(self.thinking),
                self.sampling,
                occurrence=seen[prompt],
                num_top_logprobs=self.num_top_logprobs,
                num_begun=self.num_begun,
            )
            requests += [replace(first, index=index) for index in range(self.sampling.num_samples)]
            seen[prompt] += 1
        return requests


class Service:
    """The models, the thread that runs them, and what is going on."""

    def __init__(self, models: Sequence[Served], config: ServeConfig) -> None:
        self.models = {model.name: model for model in models}
        self.config = config
        self.metrics = Metrics()
        self.tickets: dict[str, Ticket] = {}
        self.responses = Responses()
        self.is_draining = False
        self.stop: Callable[[], None] = lambda: None  # set by the server that answers with it
        self._prompts = {model.name: Prompts(model.tokenizer) for model in models}
        engines = {model.name: model.engine for model in models}
        self.worker = Worker(engines, max_unread_tokens=config.max_unread_tokens)
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="render")  # a template's process takes turns
        self._long_renderers = ThreadPoolExecutor(NUM_LONG, thread_name_prefix="render-long")
        self._compilers = ThreadPoolExecutor(NUM_COMPILERS, thread_name_prefix="schema")
        self._num_slots = sum(model.engine.num_slots for model in models)

    def start(self) -> None:
        """Begins to answer; called in the event loop that will ask."""
        for model in self.models.values():
            self._warm(model)
        self.worker.start(asyncio.get_running_loop())

    def _warm(self, model: Served) -> None:
        """Does once what is slow the first time. A model without a chat format is still served to /v1/completions."""
        with contextlib.suppress(CheckpointError, DataError):
            self._prompts[model.name].render([{"role": "user", "content": "Hi"}], thinking=True)
            _ = model.engine.thoughts

    def close(self) -> None:
        """Ends everything."""
        self.worker.close()
        self._long_renderers.shutdown(cancel_futures=True)
        self._renderer.shutdown(cancel_futures=True)
        self._compilers.shutdown(wait=False, cancel_futures=True)

    def model(self, name: str | None) -> Served:
        """The model of a name; the first where none is named.

        Raises:
            ApiError: there is none of that name.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            served = ", ".join(self.models)
            raise ApiError(
                404, f"model {name[:100]!r} is not served here: use {served}", param="model", code="model_not_found"
            )
        return self.models[name]

    async def run(self, function: Callable[..., T], *arguments: Any, size: int = 0, **options: Any) -> T:
        """Calls what takes long, such as rendering, in a thread; what is wrong with the request becomes status 400.

        Args:
            size: characters or ids that the function reads. No other request waits for a long text.

        Raises:
            ApiError: the arguments are refused.
        """
        call = partial(function, *arguments, **options)
        with _refusals():
            if size <= LONG_CHARS:
                return await asyncio.wrap_future(self._renderer.submit(call))
            kept = self._renderer.submit(bool)  # a prompt may hold replies that are still to be kept
            return await asyncio.wrap_future(self._long_renderers.submit(lambda: (kept.result(), call())[1]))

    async def compile(self, function: Callable[..., T], *arguments: Any) -> T:
        """Calls what compiles a schema, in threads of its own: nothing else waits for it.

        Raises:
            ApiError: the schema is refused, or takes too long.
        """
        seconds, future = self.config.schema_timeout_s, self._compilers.submit(function, *arguments)
        try:
            with _refusals():
                async with asyncio.timeout(seconds):
                    return await asyncio.wrap_future(future)
        except TimeoutError as error:
            if future.cancelled():  # it has not begun
                raise ApiError(503, "other schemas are being compiled: retry later", retry_after_s=5) from error
            why = f"the JSON schema takes longer than {seconds:g} seconds to compile: simplify it"
            raise ApiError(400, why, param="response_format", code="invalid_schema") from error

    async def render(self, model: Served, messages: Sequence[Mapping[str, Any]], **options: Any) -> tuple[int, ...]:
        """A conversation's prompt; see `Prompts.render`.

        Raises:
            ApiError: the conversation is refused.
        """
        render = self._prompts[model.name].render
        return await self.run(render, messages, size=num_chars(messages), **options)

    def open(self, ask: Ask) -> Ticket:
        """Accepts a request and has it generated.

        Raises:
            ApiError: it cannot be answered, or not now.
        """
        self._check_number(ask)
        requests = ask.requests()
        self._check(ask, requests)
        if self.is_draining:
            raise ApiError(
                503, "the server is shutting down: retry later, or use another one", code="draining", retry_after_s=5
            )
        # The tickets know what the thread has not yet taken from its inbox.
        num_open = sum(job.stop is None for ticket in self.tickets.values() for job in ticket.jobs)
        if num_open + len(requests) > self._num_slots + self.config.max_waiting:
            num_waiting = max(0, num_open - self._num_slots)
            raise ApiError(
                429, f"{num_waiting} replies are already waiting: retry later", code="queue_full", retry_after_s=1
            )
        jobs = [Job(request, ask.constraint() if ask.constraint else None) for request in requests]
        ticket = Ticket(secrets.token_hex(12), ask.model.name, jobs, ask.is_streamed)
        self.tickets[ticket.id] = ticket
        self.worker.submit(ticket)
        return ticket

    def finish(self, ask: Ask, ticket: Ticket, outcomes: Sequence[Outcome]) -> Usage:
        """Counts a request that is done, and keeps its replies' ids for when their conversation goes on."""
        num_prompt, num_cached = num_prompt_tokens(ticket.jobs)
        num_thought = 0
        for job, outcome in zip(ticket.jobs, outcomes, strict=True):
            if ask.thinking is not None:
                num_thought += num_thought_tokens(ask, outcome)
                if outcome.stop in (StopReason.END, StopReason.BUDGET) and not ask.sampling.stop_ids:
                    keep = self._prompts[ask.model.name].keep
                    self._renderer.submit(keep, job.request.prompt_ids or (), outcome.ids[:-1])
        usage = Usage(num_prompt, num_cached, sum(len(outcome.ids) for outcome in outcomes), num_thought)
        self.metrics.count("prompt_tokens_total", usage.num_prompt)
        self.metrics.count("cached_prompt_tokens_total", usage.num_cached)
        self.metrics.count("reply_tokens_total", usage.num_reply)
        self.metrics.count("thought_tokens_total", usage.num_thought)
        self.metrics.time("request_seconds", time.perf_counter() - ask.arrived)
        return usage

    def cancel_all(self, why: str) -> None:
        """Cancels all that is going on."""
        for ticket in list(self.tickets.values()):
            self.worker.cancel(ticket, why)

    def gauges(self) -> dict[str, int]:
        """What `Metrics.text` does not count itself."""
        running, waiting = self.worker.counts()
        return {
            "replies_running": running,
            "replies_waiting": waiting,
            "engine_steps_total": self.worker.num_steps,
            "engine_tokens_total": self.worker.num_tokens,
        }

    def _check_number(self, ask: Ask) -> None:
        num, limit = len(ask.prompts) * ask.sampling.num_samples, self.config.max_samples
        if num > limit:
            raise ApiError(400, f"{num} replies are asked for: at most {limit}", param="n")
        if num == 0:
            raise ApiError(400, "the prompt is empty: give it at least one token", param="prompt")

    def _check(self, ask: Ask, requests: Sequence[Request]) -> None:
        for prompt in ask.prompts:
            if not prompt:
                raise ApiError(400, "the prompt is empty: give it at least one token", param="prompt")
            length = len(prompt) + ask.sampling.max_new_tokens
            if length > ask.model.context:
                raise context_exceeded(ask.model.context, len(prompt), ask.sampling.max_new_tokens)
            if not self.worker.holds(ask.model.name, length):
                raise ApiError(400, f"memory does not hold {length} tokens: lower max_tokens", param="max_tokens")
        try:
            firsts = [request for request in requests if request.index == 0]
            check_ids(firsts, ask.model.engine.model.config.vocab_size, "prompt")
        except ValueError as error:
            raise ApiError(400, str(error)) from error


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What is wrong with a request becomes status 400."""
    try:
        yield
    except (DataError, ValueError) as error:
        where, _, why = str(error).partition(": ")
        if where.endswith((".jinja", ".json", ".gguf")):  # the path of the model's chat template
            raise ApiError(400, why, param="messages") from error
        raise ApiError(400, str(error), param=where.split(":")[0].split(" ")[0][:60]) from error
    except CheckpointError as error:
        logger.warning("%s", error)
        raise ApiError(
            400, "the model's chat format cannot express this; see the server's log", param="messages"
        ) from error


class Replies:
    """Reads a ticket's replies as they come. Leaving it early cancels what is still generated."""

    def __init__(self, service: Service, ask: Ask, ticket: Ticket) -> None:
        self._service, self._ask, self._ticket = service, ask, ticket
        self._readers = [
            Reader(
                index,
                job,
                ask.model.tokenizer,
                thinking=ask.thinking,
                reads_calls=ask.reads_calls,
                begun=ask.begun,
            )
            for index, job in enumerate(ticket.jobs)
        ]
        self._is_first = True

    def __enter__(self) -> Self:
        seconds = self._service.config.deadline_s
        why = f"it took longer than {seconds:g} seconds"
        loop, worker = asyncio.get_running_loop(), self._service.worker
        self._timer = loop.call_later(seconds, worker.cancel, self._ticket, why)
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        service, ticket = self._service, self._ticket
        service.worker.cancel(ticket, "its client left")
        service.tickets.pop(ticket.id, None)
        if ticket.cancelled is not None or not ticket.is_done:
            service.metrics.count("cancelled_total")

    @property
    def are_done(self) -> bool:
        """Whether all has been read."""
        return all(reader.is_done for reader in self._readers)

    async def read(self) -> list[Delta]:
        """Waits for more, and reads what has come of each reply; an empty list where nothing has.

        Raises:
            ApiError: the engine failed, or the request took too long.
        """
        await self._ticket.changed.wait()
        self._ticket.changed.clear()
        found = [delta for reader in self._readers if (delta := reader.read()) is not None]
        if found and self._is_first:
            self._service.metrics.time("first_token_seconds", time.perf_counter() - self._ask.arrived)
            self._is_first = False
        _check_stops(self._ticket, found)
        return found


def num_chars(value: Any) -> int:
    """Characters of all texts in a value of JSON."""
    if isinstance(value, str):
        return len(value)
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return sum(map(num_chars, parts))


def num_thought_tokens(ask: Ask, outcome: Outcome) -> int:
    """How many of a reply's tokens are its thought; what was begun already is not counted."""
    begun = ask.model.tokenizer.splitter(thinking=bool(ask.thinking))
    begun.feed(ask.begun)
    if ask.begun and begun.finished:
        return 0
    reply = ask.model.tokenizer.split(outcome.ids, thinking=bool(ask.thinking))
    return ask.model.engine.thoughts.num_tokens(outcome.ids, reply)


def _check_stops(ticket: Ticket, deltas: Sequence[Delta]) -> None:
    stops = [delta.stop for delta in deltas if delta.stop is not None]
    if StopReason.CANCELLED in stops:
        raise ApiError(504, f"the request was cancelled: {ticket.cancelled}", code="cancelled")
    if StopReason.ERROR in stops:
        why = next((job.error for job in ticket.jobs if job.error), "the engine failed")
        raise ApiError(500, why, code="engine_failed")
