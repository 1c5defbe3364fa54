"""/v1/completions: plain texts, or token ids, that are continued."""

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from open_exaone.base.records import StopReason
from open_exaone.serve.answer import event
from open_exaone.serve.errors import ApiError
from open_exaone.serve.fields import SamplingFields, to_sampling
from open_exaone.serve.logprobs import NumTop
from open_exaone.serve.reply import Delta, Outcome, Usage
from open_exaone.serve.routes.chat import usage_record
from open_exaone.serve.service import Ask, Served, Service
from open_exaone.serve.worker import Ticket
from open_exaone.text.split import Part

Ids = tuple[Annotated[int, Field(ge=0)], ...]


class CompletionRequest(SamplingFields):
    """Texts to go on with."""

    prompt: str | Ids | tuple[str, ...] | tuple[Ids, ...]
    """A text, its token ids, or several of either; a marker's name in a text is text."""
    logprobs: NumTop | None = None
    """Give each token's log-probability, under the model at temperature 1, and so many of the most likely tokens'."""
    echo: Literal[False] | None = None
    """The prompt is not given back."""


async def ask_completion(service: Service, request: CompletionRequest) -> Ask:
    """What a completion request asks for.

    Raises:
        ApiError: it is refused.
    """
    model = service.model(request.model)
    is_text = isinstance(request.prompt, str) or any(isinstance(one, str) for one in request.prompt[:1])
    prompts = await service.run(_prompts, model, request.prompt) if is_text else _prompts(model, request.prompt)
    longest = max(map(len, prompts), default=0)
    sampling = to_sampling(model, request.given(), longest, request.max_tokens)
    return Ask(model, prompts, sampling, None, bool(request.stream), num_top_logprobs=request.logprobs or 0)


def _prompts(model: Served, prompt: str | Sequence[Any]) -> list[tuple[int, ...]]:
    if isinstance(prompt, str):
        prompt = [prompt]
    if prompt and isinstance(prompt[0], int):
        return [tuple(prompt)]
    begin = model.tokenizer.text_begin_ids
    return [(*begin, *model.tokenizer.encode(one)) if isinstance(one, str) else tuple(one) for one in prompt]


class CompletionDialect:
    """Writes completions."""

    def __init__(self, ask: Ask, ticket: Ticket, request: CompletionRequest) -> None:
        self._ask, self._request = ask, request
        self._head = {
            "id": f"cmpl-{ticket.id}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": ask.model.name,
        }

    def begin(self) -> str:
        return ""

    def take(self, delta: Delta) -> str:
        text = "".join(text for _, text in delta.pieces)
        if not text and not (self._request.logprobs is not None and delta.ids):
            return ""
        return self._chunk(self._choice(delta, text, None))

    def end(self, outcomes: Sequence[Outcome], usage: Usage) -> str:
        chunks = [self._chunk(self._choice(Delta(one.index, ()), "", one.stop)) for one in outcomes]
        if self._request.includes_usage:
            chunks.append(event({**self._head, "choices": [], "usage": usage_record(usage)}))
        return "".join(chunks) + "data: [DONE]\n\n"

    def whole(self, outcomes: Sequence[Outcome], usage: Usage) -> dict[str, Any]:
        choices = [self._choice(one, one.text(Part.ANSWER), one.stop) for one in outcomes]
        return {**self._head, "choices": choices, "usage": usage_record(usage)}

    def failed(self, error: ApiError) -> str:
        return event(error.openai())

    def _chunk(self, choice: dict[str, Any]) -> str:
        return event({**self._head, "choices": [choice]})

    def _choice(self, of: Delta | Outcome, text: str, stop: StopReason | None) -> dict[str, Any]:
        finish = None if stop is None else "length" if stop is StopReason.LENGTH else "stop"
        wants = self._request.logprobs is not None
        logprobs = of.token_logprobs(self._ask.model.tokenizer).columns() if wants else None
        return {"index": of.index, "text": text, "logprobs": logprobs, "finish_reason": finish}
