"""Generates with a model on this machine: sessions of continuous batching over one of three backends."""

import operator
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Literal

from open_exaone.base.errors import CheckpointError, PromptTooLongError
from open_exaone.base.records import Completion, Request, Sampling
from open_exaone.engine.backend import Backend
from open_exaone.engine.graphs import GraphBackend
from open_exaone.engine.memory import block_bytes, free_bytes, pool_sizes
from open_exaone.engine.native import NativeBackend, why_not
from open_exaone.engine.plain import PlainBackend
from open_exaone.engine.request import check_ids, max_length, prompt_of
from open_exaone.engine.session import Session
from open_exaone.engine.thought import Thoughts
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer

OnStep = Callable[[int, int], None]  # how many tokens a step made, how many completions it finished; may raise to stop
More = Callable[[int], Sequence[Request]]  # from how many requests are not completed yet, further ones; may raise
Completions = Generator[tuple[int, Completion], None, None]
BackendName = Literal["native", "graphs", "plain"]

NUM_SLOTS = 256  # more gain little: by then a step's time grows with its rows


def default_backend(model: LanguageModel) -> BackendName:
    """CUDA graphs on a GPU, native code on a CPU where it can compute the model, else plain torch."""
    if model.device.type == "cuda":
        return "graphs"
    return "native" if why_not(model) is None else "plain"


class Engine:
    """Generates with one model. New weights need no notice: they are taken when a call begins."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        *,
        num_slots: int | None = None,
        int8: bool = False,
        backend: BackendName | None = None,
        num_steps: int | None = None,
    ) -> None:
        """Args:
        tokenizer: says which tokens end a completion, and what ends a thought.
        num_slots: the most samples that decode together; None: 256. Fewer do where memory does not hold their keys and
            values.
        int8: whether the native code rounds matrices to 8 bits.
        backend: what computes; None: as `default_backend` chooses.
        num_steps: the most tokens that a step draws for each sample; None: as many as the backend draws at once.

        Raises:
            CheckpointError: the tokenizer has more ids than the model, or names no token that ends a completion.
            ValueError: `num_slots` or `num_steps` is below 1; or native code or `int8` is asked for and cannot be had:
                says why.
        """
        if tokenizer.vocab_size > model.config.vocab_size:
            raise CheckpointError(
                f"the tokenizer has {tokenizer.vocab_size} ids and the model {model.config.vocab_size}: "
                f"they do not belong together"
            )
        for name, number in (("num_slots", num_slots), ("num_steps", num_steps)):
            if number is not None and number < 1:
                raise ValueError(f"{name} = {number}: must be at least 1")
        backend = backend or ("native" if int8 else default_backend(model))
        if backend == "native" and (why := why_not(model)):
            raise ValueError(f"the native engine cannot compute this model: {why}")
        if backend != "native" and int8:
            raise ValueError(f"int8 = True is for the native engine, not for backend = {backend!r}")
        self.model = model
        self.tokenizer = tokenizer
        self.end_ids = frozenset(tokenizer.end_ids)
        self.num_slots = num_slots or NUM_SLOTS
        self._num_steps = num_steps
        self.int8 = int8
        self._backend = backend
        self._free_backends: list[Backend] = []

    def _free_backend(self) -> Backend:
        """One that no session uses: each has memory of its own."""
        try:
            return self._free_backends.pop()
        except IndexError:
            if self._backend == "native":
                return NativeBackend(self.model, self.end_ids, int8=self.int8)
            return GraphBackend(self.model, self.end_ids) if self._backend == "graphs" else PlainBackend(self.model)

    @cached_property
    def thoughts(self) -> Thoughts:
        """Where thoughts end. Found out when a budget first asks.

        Raises:
            CheckpointError: the tokenizer's folder has no chat format, or a broken one.
        """
        return Thoughts(self.tokenizer)

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, on_step: OnStep | None = None
    ) -> list[list[Completion]]:
        """Completes every prompt `sampling.num_samples` times; each is another random stream, also of equal prompts.

        Args:
            prompts: token ids, each with at least one token.
            on_step: called after each step with how many tokens it made and how many completions it finished; may
                raise to stop.

        Returns:
            per prompt, its completions in order of sample index. One whose logits are no numbers stops with "error" and
            says so in `error`; the others are what they are without it.

        Raises:
            ValueError: a prompt is empty, or has an id that the model does not have.
            PromptTooLongError: a prompt and `max_new_tokens` exceed the model's context, or memory.
            CheckpointError: there is a thinking budget, and the model has no chat format.
            MemoryError: memory does not hold the weights, or what a step computes in: lower `num_slots`.
        """
        seen: Counter[tuple[int, ...]] = Counter()
        firsts = []
        for prompt in map(_whole, prompts):
            firsts.append(Request((), prompt, False, sampling, occurrence=seen[prompt]))
            seen[prompt] += 1
        self.check(firsts, "prompt")
        requests = [replace(first, index=index) for first in firsts for index in range(sampling.num_samples)]
        completions = dict(self._stream(requests, on_step))
        rest = iter([completions[place] for place in range(len(requests))])
        return [[next(rest) for _ in range(sampling.num_samples)] for _ in prompts]

    def stream(
        self,
        requests: Sequence[Request],
        on_step: OnStep | None = None,
        *,
        more: More | None = None,
        lengths: Sequence[int] = (),
    ) -> Completions:
        """Completes every request, each with a sampling of its own; closing the iterator stops and frees all.

        What a request gives depends on the model, its prompt, its sampling and its index alone. Under a thinking budget
        of B tokens the first B are those of the same request without one. Where its thought is still open then, its end
        is forced: the format's tag and newlines, with a sampling log-probability of 0, count among the reply's tokens;
        the answer follows. A reply in which they took the place of others stops with "budget" if it ends by itself.

        Args:
            requests: neighbours with one prompt share its computation.
            on_step: as for `generate`; called when what the step finished has been given.
            more: called before each step: further requests, whose places follow those before. All is over where none is
                left and it gives none.
            lengths: with `more`, the most tokens that prompt and reply of each request may have that is still to come.

        Returns:
            (place in `requests`, completion), each as soon as the step that drew its last token is over.

        Raises:
            ValueError, PromptTooLongError, CheckpointError: as `generate`, before anything is generated; of what `more`
                gives, before that is.
        """
        self.check(requests, "request")
        return self._stream(requests, on_step, more, lengths)

    def _stream(
        self, requests: Sequence[Request], on_step: OnStep | None, more: More | None = None, lengths: Sequence[int] = ()
    ) -> Completions:
        waiting = list(requests)
        longest = sorted([*map(max_length, waiting), *lengths], reverse=True)
        if not longest:
            return
        num_given = num_done = 0
        with closing(self.open_session(longest[: self.num_slots])) as session:
            while True:
                if more is not None and (further := more(num_given + len(waiting) - num_done)):
                    waiting += further
                if waiting:
                    for sample in session.submit(waiting):
                        sample.place += num_given
                    num_given, waiting = num_given + len(waiting), []
                if session.finished:
                    return
                num_tokens, done = session.step()
                num_done += len(done)
                for sample in done:
                    yield sample.place, sample.completion(self.model.version)
                if on_step:
                    on_step(num_tokens, len(done))

    def open_session(self, lengths: Sequence[int] | None = None, *, first_steps: int | None = None) -> Session:
        """A session, to which requests are submitted. Several may be open, also in several threads.

        Args:
            lengths: the most tokens of prompt and reply of each sample that may run together, longest first; None: as
                many samples as there are slots, each of the model's whole context. Memory limits both.
            first_steps: the most tokens that a step draws for each sample where it draws some sample's first; None: as
                many as others. A server takes 1: first tokens come soon, and requests that came meanwhile join.

        Raises:
            ValueError: `lengths` or `first_steps` is below 1, or no length is given.
            PromptTooLongError: memory does not hold the first length.
        """
        config = self.model.config
        if first_steps is not None and first_steps < 1:
            raise ValueError(f"first_steps = {first_steps}: must be at least 1")
        if lengths is not None and min(lengths, default=0) < 1:
            raise ValueError(f"lengths = {list(lengths)}: give at least one, and none below 1")
        self.model.eval()
        if lengths is None:
            lengths = [config.max_positions] * self.num_slots
        return Session(
            self._free_backend(),
            self._pool_sizes(lengths),
            window=config.window,
            num_slots=self.num_slots,
            tokenizer=self.tokenizer,
            end_ids=self.end_ids,
            thoughts=lambda: self.thoughts,
            num_steps=self._num_steps,
            first_steps=first_steps,
            check=self._check,
            on_close=self._free_backends.append,
        )

    def check(self, requests: Sequence[Request], what: str = "request") -> None:
        """Refuses what cannot be completed, or not with the memory that is free now.

        Raises:
            ValueError, PromptTooLongError, CheckpointError: as `generate`; names the first such request by its place.
        """
        self._check(requests, what)
        if requests:
            longest = max(range(len(requests)), key=lambda place: max_length(requests[place]))
            try:
                self._pool_sizes([max_length(requests[longest])])
            except PromptTooLongError as error:
                raise PromptTooLongError(f"{what} {longest}: {error}") from None

    def _check(self, requests: Sequence[Request], what: str = "request") -> None:
        context = self.model.config.max_positions
        for place, request in enumerate(requests):
            if not request.prompt_ids:
                raise ValueError(f"{what} {place} is empty: give it at least one token")
            if max_length(request) > context:
                raise PromptTooLongError(
                    f"{what} {place} has {len(prompt_of(request))} tokens; with max_new_tokens = "
                    f"{request.sampling.max_new_tokens} that exceeds the model's context of {context}: "
                    f"shorten the prompt or lower max_new_tokens"
                )
        check_ids(requests, self.model.config.vocab_size, what)
        if any(request.sampling.thinking_budget is not None for request in requests):
            _ = self.thoughts  # a model without a chat format is refused now

    def _pool_sizes(self, lengths: Sequence[int]) -> tuple[int, int]:
        config = self.model.config
        sizes = block_bytes(config, self.model.dtype)
        return pool_sizes(lengths, config.window, sizes, free_bytes(self.model.device))


def _whole(prompt: Sequence[int]) -> tuple[int, ...]:
    """Its ids as Python's integers, whatever type they have; what is no integer stays, and is refused later."""
    try:
        return tuple(map(operator.index, prompt))
    except TypeError:
        return tuple(prompt)
