"""/v1/messages, as Anthropic has it: thoughts, texts and tool calls are blocks of a message."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from open_exaone.base.config import Config
from open_exaone.base.records import StopReason
from open_exaone.serve.answer import event
from open_exaone.serve.blocks import Act, Block, Blocks, Step, blocks_of
from open_exaone.serve.conversation import (
    Conversation,
    Effort,
    FunctionRecord,
    FunctionTool,
    NamedFunction,
    NamedTool,
    ToolChoice,
    prepare,
)
from open_exaone.serve.errors import ApiError
from open_exaone.serve.fields import Stop
from open_exaone.serve.guided import JsonSchema, ResponseFormat
from open_exaone.serve.reply import Delta, Outcome, Usage
from open_exaone.serve.service import Ask, Service
from open_exaone.serve.worker import Ticket
from open_exaone.text.split import Part, read_tool_call


class _Block(Config):
    cache_control: Any = None
    """Ignored: what was read before is remembered anyway."""


class TextBlock(_Block):
    """A text."""

    type: Literal["text"]
    """The kind of the block."""
    text: str
    """The text."""
    citations: Any = None
    """Ignored."""


class ThinkingBlock(_Block):
    """A thought of an earlier reply."""

    type: Literal["thinking"]
    """The kind of the block."""
    thinking: str
    """The thought."""
    signature: Any = None
    """Ignored."""


class RedactedBlock(_Block):
    """A thought that cannot be read; it is left out."""

    type: Literal["redacted_thinking"]
    """The kind of the block."""
    data: Any = None
    """Ignored."""


class ToolUseBlock(_Block):
    """A tool call of an earlier reply."""

    type: Literal["tool_use"]
    """The kind of the block."""
    id: str
    """What the result names."""
    name: str
    """The tool's name."""
    input: dict[str, Any]
    """Its arguments."""
    caller: Any = None
    """Ignored."""


class ToolResultBlock(_Block):
    """What a tool gave."""

    type: Literal["tool_result"]
    """The kind of the block."""
    tool_use_id: str
    """Which call it answers; results stand in the order of the calls."""
    content: str | tuple[TextBlock, ...] = ""
    """The result."""
    is_error: bool | None = None
    """Whether the tool failed, which the result itself should say."""


AnyBlock = Annotated[
    TextBlock | ThinkingBlock | RedactedBlock | ToolUseBlock | ToolResultBlock, Field(discriminator="type")
]


class MessageTurn(Config):
    """A turn of a conversation."""

    role: Literal["user", "assistant"]
    """Who speaks."""
    content: str | tuple[AnyBlock, ...]
    """The text."""

    def rendered(self) -> list[dict[str, Any]]:
        """As chat formats take it: results of tools are turns of their own."""
        if isinstance(self.content, str):
            return [{"role": self.role, "content": self.content}]
        text = "".join(block.text for block in self.content if isinstance(block, TextBlock))
        if self.role == "user":
            results = [
                {"role": "tool", "content": _text(block.content)}
                for block in self.content
                if isinstance(block, ToolResultBlock)
            ]
            return [*results, *([{"role": "user", "content": text}] if text or not results else [])]
        calls = [
            {"function": {"name": block.name, "arguments": block.input}}
            for block in self.content
            if isinstance(block, ToolUseBlock)
        ]
        thought = "".join(block.thinking for block in self.content if isinstance(block, ThinkingBlock))
        message: dict[str, Any] = {"role": "assistant", "content": text}
        return [
            message | ({"tool_calls": calls} if calls else {}) | ({"reasoning_content": thought} if thought else {})
        ]


def _text(content: str | Sequence[TextBlock]) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)


class Tool(_Block):
    """A tool that may be called."""

    name: str = Field(min_length=1, max_length=256)
    """Its name."""
    description: str | None = None
    """What it does."""
    input_schema: dict[str, Any]
    """Its arguments, as a JSON schema."""
    type: Literal["custom"] | None = None
    """Only tools of the client's are called."""
    strict: bool | None = None
    """Ignored: arguments follow the schema where tool_choice is "any" or "tool"."""


class Choice(Config):
    """Whether tools may be called, must, or which one must."""

    type: Literal["auto", "any", "tool", "none"]
    """Which of these."""
    name: str | None = None
    """The tool that must be called."""
    disable_parallel_tool_use: bool | None = None
    """Allow one call at most, where calls are demanded."""


class Thinking(Config):
    """Whether the model thinks."""

    type: Literal["enabled", "disabled", "adaptive"]
    """"disabled" switches it off."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """The longest thought in tokens."""
    display: Any = None
    """Ignored: thoughts are shown."""


class OutputFormat(Config):
    """What the answer must be."""

    type: Literal["json_schema"]
    """JSON of a schema."""
    schema_: dict[str, Any] = Field(alias="schema")
    """The schema."""


class OutputConfig(Config):
    """How the answer is written."""

    effort: Effort | None = None
    """How much of the reply the thought may take."""
    format: OutputFormat | None = None
    """What the answer must be."""


class CountRequest(Config):
    """A conversation to go on with, or to count."""

    model: str = Field(max_length=1000)
    """The model's name, as /v1/models has it."""
    messages: tuple[MessageTurn, ...] = Field(min_length=1)
    """The turns so far; a reply at the end is continued."""
    system: str | tuple[TextBlock, ...] | None = None
    """The system prompt."""
    tools: tuple[Tool, ...] | None = None
    """The tools that the model may call."""
    tool_choice: Choice | None = None
    """Whether it may call them, must, or which one it must call."""
    thinking: Thinking | None = None
    """Whether it thinks before it answers; as the server does by default, if left out."""
    output_config: OutputConfig | None = None
    """How the answer is written."""
    cache_control: Any = None
    """Ignored."""


class MessagesRequest(CountRequest):
    """A conversation to go on with."""

    max_tokens: int = Field(ge=1)
    """The longest reply in tokens; less where the context leaves less."""
    temperature: float | None = None
    """0 always takes the most likely token; the model's own if left out."""
    top_p: float | None = None
    """Sample from the most likely tokens up to this total probability."""
    top_k: int | None = Field(default=None, ge=1)
    """Sample from this many most likely tokens."""
    stop_sequences: tuple[Stop, ...] | None = Field(default=None, max_length=16)
    """Strings that end a reply."""
    stream: bool | None = None
    """Send the reply as it comes."""
    metadata: Any = None
    """Ignored."""
    service_tier: Any = None
    """Ignored."""
    thread: Any = None
    """Refused as clients expect it, who then send the whole conversation: the server keeps none here."""


def conversation_of(request: CountRequest, is_streamed: bool = False) -> Conversation:
    """The conversation of a request. A reply at its end is continued; then there is no thought, unless asked for."""
    turns = [message for turn in request.messages for message in turn.rendered()]
    begun = turns.pop()["content"] if request.messages[-1].role == "assistant" else ""
    system = [{"role": "system", "content": _text(request.system)}] if request.system else []
    thinking, output, choice = request.thinking, request.output_config, request.tool_choice
    tools = [
        FunctionTool(
            type="function",
            function=FunctionRecord(name=tool.name, description=tool.description, parameters=tool.input_schema),
        )
        for tool in request.tools or ()
    ]
    form = output.format if output else None
    return Conversation(
        [*system, *turns],
        thinking=(False if begun else None) if thinking is None else thinking.type != "disabled",
        begun=begun,
        effort=output.effort if output else None,
        budget=thinking.budget_tokens if thinking else None,
        tools=tools,
        tool_choice=_choice(choice),
        is_parallel=not (choice and choice.disable_parallel_tool_use),
        response_format=(
            None if form is None else ResponseFormat(type="json_schema", json_schema=JsonSchema(schema=form.schema_))
        ),
        is_streamed=is_streamed,
    )


def _choice(choice: Choice | None) -> ToolChoice | None:
    if choice is None:
        return None
    if choice.type == "tool":
        return NamedTool(function=NamedFunction(name=choice.name or ""))
    return {"auto": "auto", "any": "required", "none": "none"}[choice.type]  # type: ignore[return-value]


async def ask_messages(service: Service, request: MessagesRequest) -> Ask:
    """What a request asks for.

    Raises:
        ApiError: it is refused.
    """
    if request.thread is not None:
        details = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
        raise ApiError(400, "thread: send the whole conversation instead", param="thread", details=details)
    given = {name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(request, name)) is not None}
    given["stop"] = request.stop_sequences or ()
    conversation = conversation_of(request, bool(request.stream))
    model = service.model(request.model)
    return await prepare(service, model, conversation, given, request.max_tokens, is_clamped=True)


class MessagesDialect:
    """Writes Anthropic's messages."""

    def __init__(self, ask: Ask, ticket: Ticket, request: MessagesRequest) -> None:
        self._ask, self._ticket = ask, ticket
        self._blocks = Blocks()

    def begin(self) -> str:
        usage = _usage(Usage(len(self._ask.prompts[0]), 0, 0, 0))
        message = {**self._message(), "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return _event("message_start", message=message)

    def take(self, delta: Delta) -> str:
        return "".join(map(self._step, self._blocks.take(delta.pieces)))

    def end(self, outcomes: Sequence[Outcome], usage: Usage) -> str:
        closing = "".join(map(self._step, self._blocks.finish()))
        stop = _event("message_delta", delta=self._stop(outcomes[0]), usage=_usage(usage))
        return closing + stop + _event("message_stop")

    def whole(self, outcomes: Sequence[Outcome], usage: Usage) -> dict[str, Any]:
        content = [self._block(block) for block in blocks_of(outcomes[0].pieces)]
        return {**self._message(), "content": content, **self._stop(outcomes[0]), "usage": _usage(usage)}

    def failed(self, error: ApiError) -> str:
        return event(error.anthropic(), "error")

    def _message(self) -> dict[str, Any]:
        return {"id": f"msg_{self._ticket.id}", "type": "message", "role": "assistant", "model": self._ask.model.name}

    def _step(self, step: Step) -> str:
        act, block, text = step
        if act is Act.CLOSE:
            return _event("content_block_stop", index=block.index)
        if act is Act.OPEN:
            if block.part is Part.TOOL_CALL:
                return ""  # its name is known with its text
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            shown = empty if block.part is Part.THOUGHT else {"type": "text", "text": ""}
            return _event("content_block_start", index=block.index, content_block=shown)
        if block.part is Part.TOOL_CALL:
            whole = self._block(block)
            arguments = json.dumps(whole["input"], ensure_ascii=False)
            start = _event("content_block_start", index=block.index, content_block={**whole, "input": {}})
            return start + _delta(block, {"type": "input_json_delta", "partial_json": arguments})
        if block.part is Part.THOUGHT:
            return _delta(block, {"type": "thinking_delta", "thinking": text})
        return _delta(block, {"type": "text_delta", "text": text})

    def _block(self, block: Block) -> dict[str, Any]:
        if block.part is Part.THOUGHT:
            return {"type": "thinking", "thinking": block.text, "signature": ""}
        if block.part is Part.ANSWER:
            return {"type": "text", "text": block.text}
        call = read_tool_call(block.text)
        return {
            "type": "tool_use",
            "id": f"toolu_{self._ticket.id}_{block.index}",
            "name": call.name,
            "input": call.arguments,
        }

    def _stop(self, outcome: Outcome) -> dict[str, Any]:
        if outcome.stop is StopReason.STOP_STRING:
            text = self._ask.model.tokenizer.decode(outcome.ids, skip_special=True)
            places = {text.find(string): string for string in self._ask.sampling.stop if string in text}
            return {"stop_reason": "stop_sequence", "stop_sequence": places[min(places)] if places else None}
        has_calls = any(part is Part.TOOL_CALL for part, _ in outcome.pieces)
        reason = "max_tokens" if outcome.stop is StopReason.LENGTH else "tool_use" if has_calls else "end_turn"
        return {"stop_reason": reason, "stop_sequence": None}


def _event(kind: str, **values: Any) -> str:
    return event({"type": kind, **values}, kind)


def _delta(block: Block, delta: dict[str, Any]) -> str:
    return _event("content_block_delta", index=block.index, delta=delta)


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.num_prompt - usage.num_cached,
        "cache_read_input_tokens": usage.num_cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.num_reply,
    }
