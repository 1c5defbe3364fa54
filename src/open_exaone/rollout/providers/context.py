"""Replies that end where the model's context does: LG's limits are the whole context of some of its models."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from open_exaone.base.records import Generation, Reply, Request, Sampling, StopReason
from open_exaone.remote.http import EndpointError
from open_exaone.rollout.provider import prompt_text

# How vLLM of all ages, SGLang, llama.cpp's server, OpenAI and TGI tell the context, and the prompt's tokens.
_CONTEXT = re.compile(
    r"(?:context (?:length|size|window)(?: is| of)?(?: only)? ?\(?|\"n_ctx\": ?|max_model_len=\D{0,20}"
    r"|maximum model length of |must be <= )(\d{1,9})",
    re.ASCII | re.IGNORECASE,
)
_PROMPT = re.compile(
    r"(at least )?\b(\d{1,9}) (?:input tokens|in (?:the messages|your prompt)|tokens from the input|`inputs` tokens)"
    r"|(?:messages resulted in |\"n_prompt_tokens\": ?|(?:request|input|input length) \(|prompt \(length )(\d{1,9})",
    re.ASCII | re.IGNORECASE,
)
_LENGTH = re.compile(
    r"context[ _](?:length|size|window)|too (?:long|large)|max_model_len|fewer output tokens|completion tokens", re.I
)


CONTEXT = "cuts some replies short, or leaves no room for them: these count as truncated"


@dataclass(frozen=True, slots=True)
class Fitted:
    """Requests as a context has room for them."""

    requests: dict[int, Request]  # place -> the request, its reply no longer than there is room for
    unanswered: list[tuple[int, Generation]]  # those whose prompt fills the context, with their empty reply
    notes: tuple[str, ...]  # what a report must state of it


def fit(requests: Sequence[Request], context: int) -> Fitted:
    """Shortens replies to what `context` positions have room for behind each prompt's ids; a cut one is truncated."""
    fitted, unanswered = dict[int, Request](), list[tuple[int, Generation]]()
    is_short = False
    for place, request in enumerate(requests):
        room = context - len(request.prompt_ids or ())
        is_short = is_short or room < request.sampling.max_new_tokens
        if room < 1:
            unanswered.append((place, empty(request, context - room)))
        elif room < request.sampling.max_new_tokens:
            fitted[place] = replace(request, sampling=_shortened(request.sampling, room))
        else:
            fitted[place] = request
    return Fitted(fitted, unanswered, (note(context),) if is_short else ())


def empty(request: Request, num_prompt_tokens: int) -> Generation:
    """The generation for a prompt that fills the context by itself."""
    reply = Reply("", "", finished=not request.thinking)
    return Generation(reply, StopReason.LENGTH, num_prompt_tokens, 0, 0, ids=(), logprobs=())


@dataclass(frozen=True, slots=True)
class Overflow:
    """What a server says of a request that its context has no room for."""

    context: int | None  # None: not stated
    num_prompt_tokens: int | None  # None: not stated, or no more than that there are so many at least


def read_overflow(refusal: EndpointError, max_tokens: int) -> Overflow | None:
    """Reads what came of a request for `max_tokens`; None where it is no refusal, or not for the length.

    A server that stops counting a prompt as soon as it is too long (vLLM since 0.15) tells one token more than there
    is room for, whatever the prompt's length.
    """
    found, counted = _CONTEXT.search(refusal.detail), _PROMPT.search(refusal.detail)
    if refusal.status not in (400, 413, 422) or not (found or _LENGTH.search(refusal.detail)):
        return None
    context = int(found[1]) if found else None
    if context is None or counted is None:
        return Overflow(context, None)
    num_prompt_tokens = int(counted[2] or counted[3])
    is_bound = bool(counted[1]) or num_prompt_tokens + max_tokens <= context + 1
    return Overflow(context, None if is_bound and num_prompt_tokens < context else num_prompt_tokens)


class NoRoomError(Exception):
    """A prompt fills the context by itself: nothing can follow it."""

    def __init__(self, num_prompt_tokens: int) -> None:
        super().__init__(f"the prompt of {num_prompt_tokens} tokens fills the context")
        self.num_prompt_tokens = num_prompt_tokens


class Room:
    """What is known of an endpoint's context, by /models or by what it refused; threads may share it.

    Args:
        context: in tokens; None until it is known.
    """

    def __init__(self, context: int | None = None) -> None:
        self.context = context
        self._num_spare = 0  # 1 for a server that refuses to fill its context, as SGLang has
        self._num_prompt_tokens: dict[str, int] = {}  # of the prompts that leave too little room
        self._has_shortened = False

    @property
    def notes(self) -> tuple[str, ...]:
        return (note(self.context),) if self.context and self._has_shortened else ()

    def limit(self, request: Request, max_tokens: int) -> int:
        """How long the reply may be, as far as is known.

        Raises:
            NoRoomError: it can't be.
        """
        num_prompt_tokens = self._num_prompt_tokens.get(prompt_text(request))
        if num_prompt_tokens is None or self.context is None:
            return max_tokens
        return min(max_tokens, self._behind(self.context, num_prompt_tokens))

    def learn(self, request: Request, context: int, num_prompt_tokens: int, max_tokens: int, *, begun: bool) -> int:
        """Keeps what the refusal of `max_tokens` taught, and gives the room behind the prompt, in tokens.

        Args:
            begun: the prompt is the request's with a part of the reply.

        Raises:
            NoRoomError: there is none.
        """
        if num_prompt_tokens + max_tokens < context:
            return context - num_prompt_tokens
        self.context = context
        if num_prompt_tokens + max_tokens == context:
            self._num_spare = 1
        self._has_shortened = True
        if not begun:
            self._num_prompt_tokens[prompt_text(request)] = num_prompt_tokens
        return self._behind(context, num_prompt_tokens)

    def _behind(self, context: int, num_prompt_tokens: int) -> int:
        room = context - self._num_spare - num_prompt_tokens
        if room < 1:
            raise NoRoomError(num_prompt_tokens)
        return room


def counted(notes: Iterable[str], num_cut: int, number: int) -> list[str]:
    """Providers' notes, each once; that of the context with the number of replies it cut, and only if there are any.

    Args:
        num_cut: the replies that ended at a limit before they had `max_new_tokens` tokens, of `number` replies.
    """
    added = f" ({num_cut:,} of {number:,} replies)"
    return list(dict.fromkeys(text + added * (CONTEXT in text) for text in notes if num_cut or CONTEXT not in text))


def note(context: int) -> str:
    """What a report must state; the same for every part of an evaluation."""
    return f"the model's context of {context} tokens {CONTEXT}"


def _shortened(sampling: Sampling, room: int) -> Sampling:
    budget = sampling.thinking_budget
    return replace(sampling, max_new_tokens=room, thinking_budget=budget if budget and budget < room else None)
