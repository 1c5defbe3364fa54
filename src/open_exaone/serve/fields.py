"""The fields of requests that several APIs share, and what they mean to the engine."""

import secrets
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from open_exaone.base.config import Config
from open_exaone.base.records import Sampling
from open_exaone.serve.errors import ApiError
from open_exaone.serve.service import Served, context_exceeded

Stop = Annotated[str, Field(min_length=1, max_length=1000)]
# The share of a reply that its thought may take; None: all of it. OpenRouter's shares.
EFFORTS: Mapping[str, float | None] = {
    "minimal": 0.1,
    "low": 0.2,
    "medium": 0.5,
    "high": 0.8,
    "xhigh": 0.95,
    "max": None,
}
UNSUPPORTED = {
    "best_of": "replies are not ranked: ask for several with n",
    "echo": "the prompt is not given back: leave it out",
    "suffix": "text is not filled in: leave it out",
    "functions": "use tools",
    "function_call": "use tool_choice",
    "audio": "the models read and write text alone",
    "modalities": "the models read and write text alone",
    "chat_template": "a server takes no templates from requests",
}


class StreamOptions(Config):
    """How a stream is written."""

    include_usage: bool | None = None
    """End the stream with a chunk that counts tokens."""
    include_obfuscation: bool | None = None
    """Ignored."""


class SamplingFields(Config):
    """How replies are drawn and where they end."""

    model: str | None = Field(default=None, max_length=1000)
    """The model's name, as /v1/models has it; the first if left out."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The longest reply in tokens, its thought included; what the context leaves, if left out."""
    temperature: float | None = None
    """0 always takes the most likely token; the model's own if left out."""
    top_p: float | None = None
    """Sample from the most likely tokens up to this total probability."""
    top_k: int | None = Field(default=None, ge=-1)
    """Sample from this many most likely tokens; -1 and 0 from all."""
    min_p: float | None = None
    """Sample from tokens that are at least this many times as likely as the most likely one."""
    n: int | None = Field(default=None, ge=1, le=1024)
    """How many replies."""
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    """Equal requests with equal seeds get equal replies; a new one each time, if left out."""
    stop: Stop | tuple[Stop, ...] | None = Field(default=None, max_length=1000)
    """Strings that end a reply, at most 16; they are not part of it."""
    stop_token_ids: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(default=None, max_length=16)
    """Further token ids that end a reply."""
    presence_penalty: float | None = None
    """Subtracted from the logits of every token that the reply already has."""
    frequency_penalty: float | None = None
    """Subtracted from a token's logit once for each time that the reply already has it."""
    repetition_penalty: float | None = None
    """Above 1, makes every token that prompt or reply already has less likely."""
    logit_bias: dict[str, float] | None = Field(default=None, max_length=1024)
    """Added to the logits of these token ids."""
    stream: bool | None = None
    """Send the reply as it comes."""
    stream_options: StreamOptions | None = None
    """How a stream is written."""
    user: Any = None
    """Ignored, as are `metadata`, `store`, `service_tier`, `safety_identifier` and the cache's fields."""
    metadata: Any = None
    """Ignored."""
    store: Any = None
    """Ignored."""
    service_tier: Any = None
    """Ignored."""
    safety_identifier: Any = None
    """Ignored."""
    prompt_cache_key: Any = None
    """Ignored."""
    prompt_cache_retention: Any = None
    """Ignored."""

    @property
    def includes_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def given(self) -> dict[str, Any]:
        """What it says of a `Sampling`, by its names.

        Raises:
            ApiError: an id of logit_bias is no number, or there are too many stop strings.
        """
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        if stop and len(stop) > 16:
            raise ApiError(400, f"stop: has {len(stop)} strings; at most 16", param="stop")
        values: dict[str, Any] = {
            **{name: getattr(self, name) for name in _SAME},
            "top_k": self.top_k if self.top_k and self.top_k > 0 else None,
            "stop": stop,
            "stop_ids": self.stop_token_ids,
            "num_samples": self.n,
            "logit_bias": self.logit_bias and {_token_id(name): bias for name, bias in self.logit_bias.items()},
        }
        return {name: value for name, value in values.items() if value is not None}


_SAME = ("temperature", "top_p", "min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty")


def _token_id(name: str) -> int:
    if not (name.isascii() and name.isdigit() and len(name) < 10):
        raise ApiError(400, f"logit_bias: {name[:40]!r} is no token id", param="logit_bias")
    return int(name)


def to_sampling(
    model: Served,
    given: Mapping[str, Any],
    num_prompt: int,
    max_tokens: int | None,
    *,
    budget: int | None = None,
    effort: str | None = None,
) -> Sampling:
    """How the engine draws.

    Args:
        given: what the request says of a `Sampling`; the model's own holds for the rest.
        num_prompt: tokens of the longest prompt.
        max_tokens: the longest reply; None: what the context leaves.
        budget: the longest thought in tokens, at least 1.
        effort: one of `EFFORTS`; the budget goes before it.

    Raises:
        ApiError: a value is out of its range, or the context has no room.
    """
    room = model.context - num_prompt
    if room < 1 or (max_tokens or 1) > room:
        raise context_exceeded(model, num_prompt, max_tokens or 1)
    limit = max_tokens or room
    if budget is None and effort is not None and (share := EFFORTS[effort]) is not None:
        budget = max(1, int(share * limit))
    values = {"seed": secrets.randbits(62), **model.defaults, **given}
    try:
        return Sampling(
            **{**values, "max_new_tokens": limit, "thinking_budget": budget if budget and budget < limit else None}
        )
    except ValueError as error:
        raise ApiError(400, str(error), param=str(error).split(" ")[0].rstrip(":")) from error
