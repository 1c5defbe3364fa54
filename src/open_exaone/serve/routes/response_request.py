"""The fields of a request to /v1/responses."""

from typing import Any, Literal

from pydantic import Field

from open_exaone.base.config import Config
from open_exaone.serve.conversation import Effort
from open_exaone.serve.logprobs import NumTop
from open_exaone.serve.routes.chat import TemplateKwargs
from open_exaone.serve.routes.response_items import Items

LOGPROBS = "message.output_text.logprobs"  # in `include`


class FlatTool(Config):
    """A function that may be called."""

    type: Literal["function"]
    """Only functions can be called."""
    name: str = Field(min_length=1, max_length=256)
    """Its name."""
    description: str | None = None
    """What it does."""
    parameters: dict[str, Any] | None = None
    """Its arguments, as a JSON schema."""
    strict: bool | None = None
    """Ignored: arguments follow the schema where tool_choice is required or named."""


class FlatChoice(Config):
    """The function that must be called."""

    type: Literal["function"]
    """Only functions can be called."""
    name: str
    """Its name."""


class Reasoning(Config):
    """How much the model thinks."""

    effort: Effort | None = None
    """How much of the reply the thought may take; "none" switches it off."""
    summary: Any = None
    """Ignored: the thought itself is given."""
    generate_summary: Any = None
    """Ignored."""


class TextFormat(Config):
    """What the answer must be."""

    type: Literal["text", "json_object", "json_schema"]
    """Any text, any JSON object, or JSON of a schema."""
    name: str | None = None
    """Ignored."""
    description: str | None = None
    """Ignored."""
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    """The schema."""
    strict: bool | None = None
    """Ignored: the answer always follows the schema."""


class TextOptions(Config):
    """How the answer is written."""

    format: TextFormat | None = None
    """What it must be."""
    verbosity: Any = None
    """Ignored."""


class ResponsesRequest(Config):
    """A conversation to go on with."""

    model: str | None = Field(default=None, max_length=1000)
    """The model's name, as /v1/models has it; the first if left out."""
    input: str | Items
    """What the user says, or the items so far."""
    instructions: str | None = None
    """The system prompt of this reply alone; a later reply does not inherit it."""
    previous_response_id: str | None = None
    """The response that is continued; the server remembers the latest."""
    store: bool | None = None
    """False: the response is not remembered."""
    stream: bool | None = None
    """Send the reply as it comes."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    """The longest reply in tokens, its thought included; what the context leaves, if left out."""
    temperature: float | None = None
    """0 always takes the most likely token; the model's own if left out."""
    top_p: float | None = None
    """Sample from the most likely tokens up to this total probability."""
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    """Equal requests with equal seeds get equal replies."""
    reasoning: Reasoning | None = None
    """How much the model thinks."""
    chat_template_kwargs: TemplateKwargs | None = None
    """What the chat template is given."""
    tools: tuple[FlatTool, ...] | None = None
    """The functions that the model may call."""
    tool_choice: Literal["none", "auto", "required"] | FlatChoice | None = None
    """Whether it may call them, must, or which one it must call."""
    parallel_tool_calls: bool | None = None
    """False allows one call at most where calls are demanded."""
    text: TextOptions | None = None
    """How the answer is written."""
    include: tuple[str, ...] | None = None
    """"message.output_text.logprobs" gives the log-probability of each token of the answer; others are ignored."""
    top_logprobs: NumTop | None = None
    """Give so many of the most likely tokens at each place too; needs that in include."""
    truncation: Literal["disabled"] | None = None
    """A conversation that is too long is refused."""
    background: Literal[False] | None = None
    """A request is answered at once."""
    stream_options: Any = None
    """Ignored."""
    metadata: dict[str, Any] | None = None
    """Given back."""
    user: Any = None
    """Ignored."""
    service_tier: Any = None
    """Ignored."""
    safety_identifier: str | None = None
    """Given back, and otherwise ignored."""
    prompt_cache_key: str | None = None
    """Given back, and otherwise ignored."""
    prompt_cache_retention: Any = None
    """Ignored."""
    max_tool_calls: int | None = None
    """Given back, and otherwise ignored: the server calls no tools itself."""
    presence_penalty: float | None = None
    """Subtracted from the logits of every token that the reply already has."""
    frequency_penalty: float | None = None
    """Subtracted from a token's logit once for each time that the reply already has it."""

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())
