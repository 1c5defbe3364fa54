"""Answers from any OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp's server, a company's own."""

import hashlib
import json
import os
import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Ask, Generation, StopReason
from open_exaone.remote.http import Caller, EndpointError, Limits, Words, find_server
from open_exaone.rollout.providers.chat import Chat
from open_exaone.rollout.providers.completion import (
    ChatReply,
    cut_at_budget,
    num_reply_tokens,
    split,
    to_generation,
)
from open_exaone.rollout.providers.context import NoRoomError, empty, read_overflow

MAX_RESPONSE_BYTES = 64 << 20
MAX_CONCURRENCY = 1024
NUM_LIKE_FAILURES = 8  # in a row, after which the others would fail alike
_UNREACHABLE_ATTEMPTS = 3  # before anything was answered: a wrong address is told soon
_POLL_S = 0.1  # how soon Ctrl-C is heeded
_DEFAULT_KEY = "OPENAI_API_KEY"
_KEY = "put the right key into the environment variable OPENAI_API_KEY, or that which api_key_variable names in Python"
_WORDS = Words(
    address="the endpoint's address",
    key_variable="api_key_variable",
    key_mend=_KEY,
    wrong_peer="check that the address is an OpenAI-compatible endpoint's",
    mends={
        400: "check the model's name, its context's length, and what it allows",
        401: _KEY,
        403: _KEY,
        404: "check the address, which mostly ends in /v1, and the model's name",
        429: "ask less at once (concurrency), or wait",
    },
)
_THINKS_AGAIN = "in some replies, the model began to think again behind the forced end of its thought"
_CANNOT_CONTINUE = (
    "does not continue a reply that was begun, which a thinking budget needs; leave the budget out, take the local"
    " engine or vLLM in process, or serve the model with vLLM"
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Failed:
    """What came instead of a generation."""

    error: Exception


class EndpointProvider:
    """Answers asks, `concurrency` at once, one request each; see `Provider`.

    Where a request fails, it is tried again, so an endpoint that sometimes fails gives the same replies as one that
    never does. An endpoint that refuses seeds or the switch for thinking is asked without, and one whose context has no
    room for the token limit with a limit that fits; `notes` says so.

    Args:
        url: what comes before /chat/completions, such as "http://localhost:8000/v1".
        model: its name there; None asks the endpoint, which must then have one only.
        timeout_s: the longest that one request may take, its retries included.
        max_attempts: how often one request is tried before its ask is left out.
        api_key_variable: the environment variable that holds the key; None is OPENAI_API_KEY, where that is set.
        num_parameters: of the model, where FLOPs are to be counted.
        thought_tag: what the model's thoughts stand in; matters under a thinking budget only.

    Raises:
        ConfigError: an argument cannot work, or the endpoint has several models: names them.
        EndpointError: the endpoint does not say which models it has.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        concurrency: int = 32,
        timeout_s: float = 3600.0,
        max_attempts: int = 8,
        api_key_variable: str | None = None,
        num_parameters: int | None = None,
        thought_tag: str = "think",
    ) -> None:
        _check("concurrency", concurrency, 1, MAX_CONCURRENCY)
        _check("timeout_s", timeout_s, 1e-3, 7 * 86400)
        _check("max_attempts", max_attempts, 1, 100)
        if api_key_variable is None and os.environ.get(_DEFAULT_KEY, "").strip():
            api_key_variable = _DEFAULT_KEY
        self._server = find_server(url, api_key_variable, _WORDS)
        limits = Limits(timeout_s, max_attempts, MAX_RESPONSE_BYTES, _UNREACHABLE_ATTEMPTS)
        self._concurrency = concurrency
        self._num_parameters = num_parameters
        self._tag = thought_tag
        self._chat = Chat(self._server, limits, model)
        self._mutex = threading.Lock()
        self._has_continued = False
        self._num_failures, self._failure = 0, ""

    @property
    def identity(self) -> Mapping[str, str]:
        return {"engine": self._server.url.rstrip("/"), "model": self._chat.model}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report must say of this endpoint, such as that it takes no seeds."""
        return (*self._chat.notes, *self._server.notes)

    @property
    def failure(self) -> str | None:
        return self._failure or None

    @property
    def num_failures(self) -> int:
        """How many asks were left out so far."""
        return self._num_failures

    def prompts(self, asks: Sequence[Ask]) -> list[str]:
        return [_prompt(ask) for ask in asks]

    def flops(self, generation: Generation) -> float | None:
        if self._num_parameters is None:
            return None
        return 2.0 * self._num_parameters * (generation.num_prompt_tokens + generation.num_tokens)

    def stream(self, asks: Sequence[Ask]) -> Generator[tuple[int, Generation], None, None]:
        """See `Provider`; what is in flight when the iterator is closed is cut, and the endpoint can see that.

        Raises:
            EndpointError: many asks in a row, or all of them, failed for one reason that no retry mends.
            ConfigError: there is a thinking budget, and the endpoint cannot continue a reply.
        """
        todo = iter(enumerate(asks))
        results: queue.Queue[tuple[int, Generation | _Failed]] = queue.Queue(1)  # none is asked before the last is kept
        cancelled = threading.Event()
        callers = [Caller(self._server, keeps_connection=True) for _ in range(min(self._concurrency, len(asks)))]
        run = _Run(self, todo, results, cancelled)
        try:
            for number, caller in enumerate(callers):  # daemons: a server that hangs does not keep the process
                threading.Thread(target=run.work, args=[caller], name=f"ask-{number}", daemon=True).start()
            yield from self._collect(results, len(asks))
        finally:
            cancelled.set()
            for caller in callers:
                caller.cancel()

    def _collect(
        self, results: "queue.Queue[tuple[int, Generation | _Failed]]", num_asks: int
    ) -> Iterator[tuple[int, Generation]]:
        """Gives results as they come; sees when the rest would fail alike."""
        num_in_row, last_kind, has_any = 0, None, False
        for num_done in range(1, num_asks + 1):
            place, result = _next(results)
            if isinstance(result, Generation):
                num_in_row, has_any = 0, True
                yield place, result
                continue
            error = result.error
            if not isinstance(error, EndpointError):
                raise error
            with self._mutex:
                self._num_failures += 1
                self._failure = self._failure or str(error)
            kind = _kind(error, has_any)
            num_in_row = num_in_row + 1 if kind is not None and kind == last_kind else 1
            last_kind = kind
            is_hopeless = kind is not None and num_in_row >= NUM_LIKE_FAILURES
            if is_hopeless or (num_done == num_asks and not has_any):
                raise error

    def answer(self, ask: Ask, caller: Caller) -> Generation:
        """One ask, whatever number of requests that takes.

        Raises:
            EndpointError, ConfigError: see `stream`.
        """
        prompt, sampling = _prompt(ask), ask.sampling
        request: dict[str, Any] = {
            "model": self._chat.model,
            "messages": _messages(ask),
            "temperature": sampling.temperature,
            "seed": sample_seed(sampling.seed, ask.index, prompt),
            "chat_template_kwargs": {"enable_thinking": ask.thinking},
        }
        if sampling.temperature > 0:
            request["top_p"] = sampling.top_p
        if sampling.presence_penalty != 0:
            request["presence_penalty"] = sampling.presence_penalty
        budget = sampling.thinking_budget if ask.thinking else None
        try:
            chat, limit = self._chat.complete(caller, request, budget or sampling.max_new_tokens, ask)
        except NoRoomError as full:
            return empty(ask, full.num_prompt_tokens)
        if limit == budget and chat.stop is StopReason.LENGTH:  # not where the context left less than the budget
            return self._continue(caller, request, chat, ask, prompt)
        return to_generation(chat, prompt, thinking=ask.thinking)

    def _continue(
        self, caller: Caller, request: Mapping[str, Any], begun: ChatReply, ask: Ask, prompt: str
    ) -> Generation:
        """Lets the answer follow a reply that the thinking budget has cut, its thought closed where it was open."""
        thought, answer, is_open = cut_at_budget(begun)
        # The opening tag stands here where the model wrote it; elsewhere it's the template's, which puts it back.
        opening = f"<{self._tag}>\n" if begun.content.lstrip().startswith(f"<{self._tag}>") else ""
        turn = {"role": "assistant", "content": f"{opening}{thought.strip()}\n</{self._tag}>\n\n{answer}"}
        num_begun = num_reply_tokens(begun)
        further = {
            **request,
            "messages": [*_messages(ask), turn],
            "add_generation_prompt": False,
            "continue_final_message": True,
            # EXAONE 4.0's template leaves the thought of a reply out unless told not to skip it
            "chat_template_kwargs": {"enable_thinking": True, "skip_think": False},
        }
        try:
            limit = max(1, ask.sampling.max_new_tokens - num_begun)
            chat, _ = self._chat.complete(caller, further, limit, ask, begun=True)
        except NoRoomError:
            return to_generation(begun, prompt, thinking=True)
        except EndpointError as error:
            if error.status in (400, 422) and not self._has_continued and read_overflow(error, 1) is None:
                raise ConfigError(f"{error} (it {_CANNOT_CONTINUE})") from None
            raise
        rest = self._continuation(chat)
        whole = replace(split(replace(begun, thought=thought, content=answer + rest, stop=chat.stop)), finished=True)
        stop = StopReason.BUDGET if is_open and chat.stop is StopReason.END else chat.stop
        first = to_generation(begun, prompt, thinking=True)
        num_thought_tokens = num_begun if is_open else first.num_thought_tokens
        num_tokens = num_begun + num_reply_tokens(chat)
        return Generation(whole, stop, first.num_prompt_tokens, num_tokens, num_thought_tokens)

    def _continuation(self, chat: ChatReply) -> str:
        """What follows the end of a thought; a server's parser that misses the thought's tags may take it for one.

        Raises:
            ConfigError: the first of them all begins with a thought: the server has not continued the reply.
        """
        thought, content = chat.thought.strip(), chat.content
        is_anew = bool(thought and content.strip()) or content.lstrip().startswith(f"<{self._tag}>")
        if not is_anew:
            self._has_continued = True
            return content if content.strip() else chat.thought
        if not self._has_continued:
            raise ConfigError(f"{self._server.url}: the endpoint {_CANNOT_CONTINUE}")
        self._chat.note(_THINKS_AGAIN)
        return content


class _Run:
    """What the threads of one stream share."""

    def __init__(
        self,
        provider: EndpointProvider,
        todo: Iterator[tuple[int, Ask]],
        results: "queue.Queue[tuple[int, Generation | _Failed]]",
        cancelled: threading.Event,
    ) -> None:
        self._provider, self._todo, self._results, self._cancelled = provider, todo, results, cancelled
        self._mutex = threading.Lock()

    def work(self, caller: Caller) -> None:
        """One thread: takes the next ask until there is none."""
        with suppress(StopIteration):
            while not self._cancelled.is_set():
                with self._mutex:
                    place, ask = next(self._todo)
                try:
                    self._put(place, self._provider.answer(ask, caller))
                except Exception as error:  # a thread's border: raised again where the stream is read
                    self._put(place, _Failed(error))
        caller.close()

    def _put(self, place: int, result: "Generation | _Failed") -> None:
        while not self._cancelled.is_set():
            with suppress(queue.Full):
                return self._results.put((place, result), timeout=_POLL_S)


def _next(results: "queue.Queue[T]") -> T:
    """Waits for a result, and heeds Ctrl-C meanwhile."""
    while True:
        interrupt.check()
        with suppress(queue.Empty):
            return results.get(timeout=_POLL_S)


def _kind(error: EndpointError, has_any: bool) -> str | int | None:
    """What other asks would fail of too; None where they need not."""
    if error.is_unreachable:
        return "unreachable"
    status = error.status
    if status is None or status == 200 or status >= 500 or status in (408, 429):
        return None if has_any else "no answer"  # a server that has never answered
    return None if has_any and status in (400, 413, 422) else status  # those may be one prompt's


def _messages(ask: Ask) -> list[dict[str, str]]:
    return [{"role": "user", "content": ask.question}]


def _prompt(ask: Ask) -> str:
    return json.dumps({"messages": _messages(ask), "thinking": ask.thinking}, ensure_ascii=False)


def sample_seed(seed: int, index: int, prompt: str) -> int:
    """One sample's own: 31 bits, as some servers take no more."""
    text = f"{seed}:{index}:{prompt}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1


def _check(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise ConfigError(f"{name} = {value}: must lie in {lowest:g} to {highest:g}")
