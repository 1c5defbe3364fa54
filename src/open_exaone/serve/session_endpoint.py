"""Replies of an OpenAI-compatible endpoint, streamed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from open_exaone.base import interrupt
from open_exaone.base.errors import PromptTooLongError
from open_exaone.base.records import Reply, StopReason
from open_exaone.remote.http import EndpointError, Limits, Server
from open_exaone.remote.stream import stream_events
from open_exaone.rollout.providers.context import read_overflow
from open_exaone.serve.session import End, Event, Events, Message, Note, Settings
from open_exaone.text.split import Part, Piece, ReplySplitter, join_pieces
from open_exaone.text.stored import STORED_TAGS, split_stored

_OPTIONAL = {  # fields that a server may refuse, and what is lost without them
    "chat_template_kwargs": "the endpoint does not support chat_template_kwargs: the model decides whether it thinks",
    "thinking_token_budget": "the endpoint does not support thinking_token_budget: thoughts have no limit",
    "seed": "the endpoint does not support seeds",
}
_STOPS = {"length": StopReason.LENGTH, "content_filter": StopReason.ERROR}
_CLOSING = ("</think>", "</thought>")


class EndpointModel:
    """A model behind an endpoint; see `session.Model`.

    Args:
        model: its name there.
        fields: of each request, besides the conversation: how replies are drawn.
        limits: of one reply.
    """

    def __init__(self, server: Server, model: str, fields: Mapping[str, Any], limits: Limits) -> None:
        self.name = model
        self._server, self._fields, self._limits = server, dict(fields), limits
        self._refused = set[str]()

    def stream(self, messages: Sequence[Message], settings: Settings, turn: int) -> Events:
        """See `session.Model`. Where the endpoint's context is full, the oldest turns are left out.

        Raises:
            PromptTooLongError: its context does not hold the last message.
            EndpointError: it cannot be reached, refuses, or breaks off.
        """
        kept, first = list(messages), int(messages[0]["role"] == "system")
        while True:
            body = self._body(kept, settings, turn)
            try:
                with interrupt.deferred_interrupts():
                    yield from self._follow(body)
                return
            except EndpointError as error:
                named = [name for name in _OPTIONAL if name in body and name in error.detail]
                if read_overflow(error, body.get("max_tokens", 1)) is not None:
                    if len(kept) - first <= 1:
                        raise PromptTooLongError(f"{error}; shorten the message or begin a new conversation") from error
                    del kept[first : first + 2]
                    yield Note("the conversation no longer fits the model's context: its oldest turn is left out")
                elif error.status in (400, 422) and named:
                    self._refused.update(named)
                    yield from (Note(_OPTIONAL[name]) for name in named)
                else:
                    raise

    def close(self) -> None:
        """Nothing is held between two replies."""

    def _body(self, messages: Sequence[Message], settings: Settings, turn: int) -> dict[str, Any]:
        body = {**self._fields, "model": self.name, "messages": list(messages), "stream": True}
        body["chat_template_kwargs"] = {"enable_thinking": settings.thinking}
        if "seed" in body:
            body["seed"] += turn
        if settings.thinking and settings.budget:
            body["thinking_token_budget"] = settings.budget
        return {name: value for name, value in body.items() if name not in self._refused}

    def _follow(self, body: Mapping[str, Any]) -> Events:
        """The events of one reply; what came is given before what breaks it off."""
        reader = _Reader()
        events = stream_events(self._server, "/chat/completions", json.dumps(body).encode(), self._limits)
        try:
            for value in events:
                yield from reader.take(value)
        finally:
            events.close()
        yield from reader.finish()
        yield End(reader.reply(), StopReason.CANCELLED if interrupt.requested() else reader.stop)


class _Reader:
    """Deltas to pieces; thoughts come in fields of their own, or in the content between their tags."""

    def __init__(self) -> None:
        self.stop = StopReason.END
        self._splitter = ReplySplitter(thinking=False)
        self._pieces: list[Piece] = []
        self._content: list[str] = []
        self._end = ""  # its last few characters, where a tag may have begun
        self._calls: dict[int, dict[str, str]] = {}
        self._has_thought = False

    def take(self, value: Mapping[str, Any]) -> Iterator[Event]:
        """One event of the endpoint; whatever it holds that is no delta is skipped."""
        choices = value.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        delta = choice.get("delta", choice.get("message"))
        if isinstance(delta, dict):
            thought = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
            if thought:
                self._has_thought = True
                yield from self._give([Piece(Part.THOUGHT, thought)])
            yield from self._take_content(_text(delta.get("content")))
            self._take_calls(delta.get("tool_calls"))
        self.stop = _STOPS.get(str(choice.get("finish_reason")), self.stop)

    def finish(self) -> Iterator[Event]:
        """What was held back."""
        yield from self._give(self._splitter.finish())
        for call in self._calls.values():
            text = (
                f'{{"name": {json.dumps(call["name"], ensure_ascii=False)}, "arguments": {call["arguments"] or "{}"}}}'
            )
            yield from self._give([Piece(Part.TOOL_CALL, text)])

    def reply(self) -> Reply:
        """The whole reply. A closing tag without an opening one ends a thought that the prompt opened."""
        content = "".join(self._content)
        if not self._has_thought and any(tag in content for tag in STORED_TAGS.values()):
            return split_stored(content, thinking=False)
        answered = any(piece.part is not Part.THOUGHT for piece in self._pieces)
        finished = self._splitter.finished and (answered or not self._has_thought)
        return join_pieces(self._pieces, finished=finished)

    def _take_content(self, text: str) -> Iterator[Event]:
        if not text:
            return
        self._content.append(text)
        pieces = self._splitter.feed(text)
        yield from self._give(pieces)
        end, self._end = self._end + text, (self._end + text)[-10:]
        is_new = any(tag in end for tag in _CLOSING)
        if is_new and not self._has_thought:
            self._has_thought = any(piece.part is Part.THOUGHT for piece in self._pieces)
            if not self._has_thought:
                yield Note("the text before the tag is the model's thought: the endpoint has no reasoning parser")

    def _take_calls(self, calls: object) -> None:
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict):
                continue
            number = call.get("index") if isinstance(call.get("index"), int) else len(self._calls)
            kept = self._calls.setdefault(number, {"name": "", "arguments": ""})
            kept["name"] += _text(function.get("name"))
            kept["arguments"] += _text(function.get("arguments"))

    def _give(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        self._pieces += pieces
        return pieces


def _text(value: object) -> str:
    """JSON can say half a character, which nothing else can."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
