"""Replies of an engine in this process: one open session, so that a turn reads only what is new in the conversation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from open_exaone.base import interrupt
from open_exaone.base.errors import PromptTooLongError
from open_exaone.base.records import Request, Sampling, StopReason
from open_exaone.engine.request import Sample, prompt_of
from open_exaone.serve.prompts import Prompts
from open_exaone.serve.session import End, Events, Message, Note, Settings
from open_exaone.text.split import join_pieces
from open_exaone.text.stream import Detokenizer

if TYPE_CHECKING:  # loads torch
    from open_exaone.engine.engine import Engine


class LocalModel:
    """A model and its engine; see `session.Model`.

    Args:
        name: as users know it.
        sampling: how each reply is drawn, `max_new_tokens` its longest. Stop strings are not supported.
    """

    def __init__(self, name: str, engine: "Engine", sampling: Sampling) -> None:
        self.name = name
        self._engine, self._sampling = engine, sampling
        self._context = engine.model.config.max_positions
        self.session = engine.open_session([self._context] * 8)  # an eighth remembers prompts that were read
        self._prompts = Prompts(engine.tokenizer)
        self._num_left_out = 0  # turns, when it was said last

    def stream(self, messages: Sequence[Message], settings: Settings, turn: int) -> Events:
        """See `session.Model`.

        Where the conversation leaves no room for a whole reply, the oldest turns are left out; where its last message
        alone leaves less, the reply is shorter.

        Raises:
            PromptTooLongError: the last message leaves no room at all.
            CheckpointError, DataError: the model's chat format is broken, or cannot say the conversation.
        """
        prompt, num_left_out = self._fit(list(messages), settings.thinking)
        if num_left_out > self._num_left_out:
            yield Note(
                f"the conversation no longer fits the model's context: the first {num_left_out} turns are left out"
            )
        self._num_left_out = num_left_out
        sampling = self._drawn(settings, self._context - len(prompt), turn)
        request = Request(tuple(messages), prompt, settings.thinking, sampling)
        with interrupt.deferred_interrupts():
            [sample] = self.session.submit([request])
            try:
                yield from self._follow(sample, settings.thinking)
            finally:
                self.session.cancel(sample)

    def close(self) -> None:
        self.session.close()

    def _follow(self, sample: Sample, thinking: bool) -> Events:
        """The events of a reply as its tokens are drawn."""
        tokenizer = self._engine.tokenizer
        text, splitter = Detokenizer(tokenizer, skip_special=True), tokenizer.splitter(thinking=thinking)
        pieces, num_read = list(splitter.feed("")), 0
        while sample.stop is None and not interrupt.requested():
            self.session.step()
            some = splitter.feed(text.feed(sample.ids[num_read:]))
            num_read = len(sample.ids)
            pieces += some
            yield from some
        some = splitter.feed(text.finish()) + splitter.finish()
        pieces += some
        yield from some
        if sample.stop is StopReason.ERROR and sample.error:
            yield Note(sample.error)
        is_ended = sample.stop in (StopReason.END, StopReason.BUDGET)
        self._prompts.keep(prompt_of(sample.request), sample.ids[:-1] if is_ended else sample.ids)
        yield End(join_pieces(pieces, finished=splitter.finished), sample.stop or StopReason.CANCELLED)

    def _fit(self, messages: list[Message], thinking: bool) -> tuple[tuple[int, ...], int]:
        """The prompt, and how many turns had to be left out of it."""
        first, num_left_out = int(messages[0]["role"] == "system"), 0
        wanted = min(self._sampling.max_new_tokens, self._context // 2)
        while True:
            prompt = self._prompts.render(messages, thinking=thinking)
            if len(prompt) + wanted <= self._context or len(messages) - first <= 1:
                break
            del messages[first : first + 2]
            num_left_out += 1
        if len(prompt) >= self._context:
            raise PromptTooLongError(
                f"this message has {len(prompt)} tokens with the model's own, and its context holds {self._context}: "
                "shorten it or the system message"
            )
        return prompt, num_left_out

    def _drawn(self, settings: Settings, room: int, turn: int) -> Sampling:
        limit = min(self._sampling.max_new_tokens, room)
        budget = settings.budget if settings.thinking and settings.budget and settings.budget < limit else None
        own = replace(self._sampling, max_new_tokens=limit, num_samples=1, thinking_budget=budget)
        return replace(own, seed=self._sampling.seed + turn)
