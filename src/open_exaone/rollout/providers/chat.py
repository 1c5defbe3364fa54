"""Completions of one model behind an endpoint, with the fields that it takes and the reply that its context allows."""

import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from open_exaone.base.records import Request
from open_exaone.remote.http import Caller, EndpointError, Limits, Server
from open_exaone.rollout.providers.completion import ChatReply, is_counted, read_completion
from open_exaone.rollout.providers.context import Room, read_overflow
from open_exaone.rollout.providers.server import find_one_model

_MAX_FITS = 4  # of one request; a server that counts right needs one
_SHORTER = "give the endpoint a longer context, or lower --max-new-tokens"
# Fields that a server may refuse, and what is lost without them.
_REFUSABLE = {
    "seed": "the endpoint does not support seeds: samples are not reproducible",
    "chat_template_kwargs": "the endpoint does not support chat_template_kwargs: the model decides whether it thinks",
}
# Fields without which a sample would be another; the endpoint's own names.
CHOSEN = (
    *("top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"),
    *("logit_bias", "stop", "stop_token_ids"),
)
_NO_COUNTS = "the endpoint does not report all token counts: missing ones are estimated from the texts' lengths"


class Chat:
    """A model behind an endpoint, or several alike, and what was learned of it; threads may share it.

    Args:
        limits: of one request.
        model: its name; None asks the endpoint, which must then have one only.

    Raises:
        ConfigError: the endpoint has several models: names them.
        EndpointError: it does not say which it has.
    """

    def __init__(self, servers: Sequence[Server], limits: Limits, model: str | None) -> None:
        self._limits = limits
        context = None
        if model is None or len(servers) > 1:
            model, context = find_one_model(servers, limits, model)
        self.model = model
        self._room = Room(context)
        self._mutex = threading.Lock()
        self._refused: frozenset[str] = frozenset()  # fields that are not sent any more
        self._limit_field = "max_tokens"
        self._notes: list[str] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report must say of it, such as that it takes no seeds."""
        return (*self._notes, *self._room.notes)

    def note(self, text: str) -> None:
        with self._mutex:
            if text not in self._notes:
                self._notes.append(text)

    def complete(
        self, caller: Caller, body: Mapping[str, Any], max_tokens: int, request: Request, *, begun: bool = False
    ) -> tuple[ChatReply, int]:
        """One completion, and the limit it was asked with: less than `max_tokens` where the context has no such room.

        Args:
            body: of the HTTP request, the limit aside.
            begun: it goes on with a part of the reply.

        Raises:
            NoRoomError: the context has none at all.
            EndpointError: no completion was got.
        """
        limit = max_tokens if begun else self._room.limit(request, max_tokens)
        for has_more in (*[True] * _MAX_FITS, False):
            try:
                return self._exchange(caller, body, limit), limit
            except EndpointError as error:
                if not has_more or read_overflow(error, limit) is None:
                    raise
                context, num_prompt_tokens = self._count(caller, body, limit, error)
                room = self._room.learn(request, context, num_prompt_tokens, limit, begun=begun)
                if room >= limit:  # the figures do not explain the refusal
                    raise
                limit = room
        raise AssertionError("the last attempt returns or raises")

    def _count(
        self, caller: Caller, body: Mapping[str, Any], max_tokens: int, refusal: EndpointError
    ) -> tuple[int, int]:
        """The context and the refused request's prompt, in tokens: by the refusal, or else by a reply of one token.

        Raises:
            EndpointError: neither tells.
        """
        overflow = read_overflow(refusal, max_tokens)
        context = (overflow and overflow.context) or self._room.context
        if overflow is None or context is None:
            raise refusal
        if overflow.num_prompt_tokens is not None:
            return context, overflow.num_prompt_tokens
        if max_tokens == 1:
            raise refusal
        try:
            num_prompt_tokens = self._exchange(caller, body, 1).num_prompt_tokens
        except EndpointError as error:
            return self._count(caller, body, 1, error)
        if num_prompt_tokens is None:
            raise refusal
        return context, num_prompt_tokens

    def _exchange(self, caller: Caller, asked: Mapping[str, Any], max_tokens: int) -> ChatReply:
        """One request. Fields that the server refuses, and does without, are left out from then on."""
        refused, limit_field = self._refused, self._limit_field
        while True:
            body = {name: value for name, value in asked.items() if name not in refused}
            body[limit_field] = max_tokens
            try:
                chat = caller.exchange(
                    "POST", "/chat/completions", json.dumps(body).encode(), self._limits, read_completion
                )
            except EndpointError as error:
                overflow = read_overflow(error, max_tokens)
                named = {name for name in _REFUSABLE if name in body and name in error.detail}
                is_renamed = limit_field == "max_tokens" and "max_completion_tokens" in error.detail
                can_go_without = error.status in (400, 422) and (bool(named) or is_renamed)
                if overflow is not None and (overflow.context is not None or not can_go_without):
                    what = f"it answers {error.status} ({error.detail})"
                    raise caller.server.problem(what, _SHORTER, status=error.status, detail=error.detail) from None
                if not can_go_without:
                    raise self._named(error, body, caller.server) from None
                refused = refused | named
                limit_field = "max_completion_tokens" if is_renamed else limit_field
            else:
                self._remember(refused, limit_field)
                if not is_counted(chat):
                    self.note(_NO_COUNTS)
                return chat

    def _named(self, error: EndpointError, body: Mapping[str, Any], server: Server) -> EndpointError:
        """A refusal, with its fix where it names a field without which samples would be others."""
        named = [name for name in CHOSEN if name in body and re.search(rf"\b{name}\b", error.detail)]
        if error.status not in (400, 422) or not named:
            return error
        what = f"it answers {error.status} ({error.detail})"
        fix = f"leave {named[0]} out, or use an engine that supports it: the local one, vLLM or SGLang"
        return server.problem(what, fix, status=error.status, detail=error.detail)

    def _remember(self, refused: frozenset[str], limit_field: str) -> None:
        """The endpoint has answered, and so."""
        with self._mutex:
            self._refused |= refused
            self._limit_field = limit_field
            self._limits = replace(self._limits, max_unreachable=None)
        for name in sorted(refused):
            self.note(_REFUSABLE[name])
