"""A conversation to go on, whatever the API: its mode of thinking, its tools, and what its answer must be."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field

from open_exaone.base.config import Config
from open_exaone.serve.errors import ApiError
from open_exaone.serve.fields import to_sampling
from open_exaone.serve.guided import ResponseFormat, Rule, rule_for, tool_rule
from open_exaone.serve.service import Ask, Served, Service

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class FunctionRecord(Config):
    """A function that may be called."""

    name: str = Field(min_length=1, max_length=256)
    """Its name."""
    description: str | None = None
    """What it does."""
    parameters: dict[str, Any] | None = None
    """Its arguments, as a JSON schema."""
    strict: bool | None = None
    """Ignored: arguments follow the schema where tool_choice is required or named."""


class FunctionTool(Config):
    """A tool that may be called."""

    type: Literal["function"]
    """Only functions can be called."""
    function: FunctionRecord
    """The function."""


class NamedFunction(Config):
    """A function by its name."""

    name: str
    """Its name."""


class NamedTool(Config):
    """The tool that must be called."""

    type: Literal["function"] = "function"
    """Only functions can be called."""
    function: NamedFunction
    """The function."""


ToolChoice = Literal["none", "auto", "required"] | NamedTool


@dataclass(frozen=True, slots=True)
class Conversation:
    """The conversation that is to be continued."""

    messages: Sequence[Mapping[str, Any]]  # as chat formats take them
    thinking: bool | None = None  # None: as the server thinks by default
    keeps_thoughts: bool = False  # those of earlier replies stay in the prompt
    effort: Effort | None = None
    budget: int | None = None  # tokens of the thought
    tools: Sequence[FunctionTool] = ()
    tool_choice: ToolChoice | None = None
    is_parallel: bool = True
    response_format: ResponseFormat | None = None
    is_streamed: bool = False
    begun: str = ""  # what the reply begins with, behind the messages

    @property
    def offered(self) -> Sequence[FunctionTool]:
        """The tools that the prompt offers."""
        return () if self.tool_choice == "none" else self.tools

    @property
    def is_restricted(self) -> bool:
        """Whether the reply must follow a schema."""
        form = self.response_format
        return self.tool_choice not in (None, "none", "auto") or (form is not None and form.type != "text")

    def thinks(self, default: bool) -> bool:
        """Whether the model is to think; a budget of 0 and the effort "none" say no."""
        if self.budget == 0 or self.effort == "none":
            return False
        return default if self.thinking is None else self.thinking


async def prepare(
    service: Service,
    model: Served,
    conversation: Conversation,
    given: Mapping[str, Any],
    max_tokens: int | None,
    *,
    is_clamped: bool = False,
) -> Ask:
    """Renders a conversation, and says how its replies are drawn.

    Args:
        given: what the request says of a `Sampling`.
        max_tokens: the longest reply; None: what the context leaves.
        is_clamped: whether a longer one than the context leaves is cut rather than refused.

    Raises:
        ApiError: it is refused.
    """
    thinking = conversation.thinks(service.config.thinking)
    rule = await service.compile(_rule, service, model, conversation) if conversation.is_restricted else None
    prompt = await rendered(service, model, conversation)
    num_begun = 0
    if conversation.begun:
        num_begun = len(prompt) - len(await rendered(service, model, replace(conversation, begun="")))
    if is_clamped and max_tokens is not None:
        max_tokens = max(1, min(max_tokens, model.context - len(prompt)))
    effort = None if conversation.effort == "none" or not thinking else conversation.effort
    budget = conversation.budget if thinking else None
    sampling = to_sampling(model, given, len(prompt), max_tokens, budget=budget, effort=effort)
    return Ask(
        model,
        [prompt],
        sampling,
        thinking,
        conversation.is_streamed,
        reads_calls=bool(conversation.offered),
        begun=conversation.begun,
        num_begun=num_begun,
        constraint=None if rule is None else lambda: rule.constraint(thinking, conversation.begun),
    )


async def rendered(service: Service, model: Served, conversation: Conversation) -> tuple[int, ...]:
    """A conversation's prompt.

    Raises:
        ApiError: it is refused.
    """
    if len(conversation.messages) > service.config.max_messages:
        raise ApiError(
            400, f"messages: has {len(conversation.messages)}; at most {service.config.max_messages}", param="messages"
        )
    tools = [tool.model_dump(exclude_none=True) for tool in conversation.offered]
    if (size := len(json.dumps(tools))) > service.config.max_schema_bytes:
        raise ApiError(400, f"tools: have {size} bytes; at most {service.config.max_schema_bytes}", param="tools")
    return await service.render(
        model,
        conversation.messages,
        thinking=conversation.thinks(service.config.thinking),
        tools=tools or None,
        keeps_thoughts=conversation.keeps_thoughts,
        begun=conversation.begun,
    )


def _rule(service: Service, model: Served, conversation: Conversation) -> Rule | None:
    """What the reply must be; None where it may be anything."""
    choice = conversation.tool_choice
    most = service.config.max_schema_bytes
    if choice in ("required",) or isinstance(choice, NamedTool):
        functions = [tool.function for tool in conversation.tools]
        if isinstance(choice, NamedTool):
            functions = [function for function in functions if function.name == choice.function.name]
        if not functions:
            raise ApiError(400, "tool_choice: names no function of tools", param="tool_choice")
        schemas = {function.name: function.parameters for function in functions}
        return tool_rule(model, schemas, is_parallel=conversation.is_parallel, max_bytes=most)
    return rule_for(model, conversation.response_format, max_bytes=most)
