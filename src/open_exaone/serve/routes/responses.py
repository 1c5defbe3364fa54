"""/v1/responses, as OpenAI has it: a reply is a row of items, and a later request may name it to go on."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

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
from open_exaone.serve.guided import JsonSchema, ResponseFormat
from open_exaone.serve.reply import Delta, Outcome, Usage
from open_exaone.serve.routes.chat import TemplateKwargs, finish_reason, token_logprobs
from open_exaone.serve.routes.response_items import Items, turns_of
from open_exaone.serve.service import Ask, Service
from open_exaone.serve.worker import Ticket
from open_exaone.text.split import Part, read_tool_call


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
    """The response that is gone on with; the server remembers the latest."""
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
    """"message.output_text.logprobs" gives each token's log-probability; others are ignored."""
    top_logprobs: Literal[0] | None = None
    """The chosen token's log-probability alone is given."""
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
    safety_identifier: Any = None
    """Ignored."""
    prompt_cache_key: Any = None
    """Ignored."""
    prompt_cache_retention: Any = None
    """Ignored."""
    max_tool_calls: Any = None
    """Ignored: the server calls no tools itself."""


async def ask_response(service: Service, request: ResponsesRequest) -> tuple[Ask, list[dict[str, Any]]]:
    """What a request asks for, and the conversation so far, without its instructions.

    Raises:
        ApiError: it is refused.
    """
    _check_numbers(request)
    turns = service.responses.turns(request.previous_response_id)
    if isinstance(request.input, str):
        turns.append({"role": "user", "content": request.input})
    else:
        turns += turns_of(request.input)
    system = [{"role": "system", "content": request.instructions}] if request.instructions else []
    kwargs = request.chat_template_kwargs or TemplateKwargs()
    conversation = Conversation(
        [*system, *turns],
        thinking=kwargs.enable_thinking if kwargs.enable_thinking is not None else kwargs.thinking,
        keeps_thoughts=bool(kwargs.preserve_thinking),
        effort=request.reasoning.effort if request.reasoning else None,
        tools=[
            FunctionTool(type="function", function=FunctionRecord(**tool.model_dump(exclude={"type"})))
            for tool in request.tools or ()
        ],
        tool_choice=_choice(request.tool_choice),
        is_parallel=request.parallel_tool_calls is not False,
        response_format=_format(request.text.format if request.text else None),
        is_streamed=bool(request.stream),
    )
    given = {name: value for name in ("temperature", "top_p", "seed") if (value := getattr(request, name)) is not None}
    model = service.model(request.model)
    return await prepare(service, model, conversation, given, request.max_output_tokens), turns


def _check_numbers(request: ResponsesRequest) -> None:
    """Refuses numbers that JSON does not have, in what is given back."""
    given = request.model_dump(include={"metadata", "tools", "text"})
    for name, value in given.items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError as error:
            raise ApiError(400, f"{name}: numbers must be finite", param=name, code="invalid_value") from error


def _choice(choice: Literal["none", "auto", "required"] | FlatChoice | None) -> ToolChoice | None:
    return NamedTool(function=NamedFunction(name=choice.name)) if isinstance(choice, FlatChoice) else choice


def _format(form: TextFormat | None) -> ResponseFormat | None:
    if form is None:
        return None
    schema = None if form.schema_ is None else JsonSchema(schema=form.schema_)
    return ResponseFormat(type=form.type, json_schema=schema)


class ResponsesDialect:
    """Writes responses.

    Args:
        turns: the conversation that the reply goes on with; both are remembered.
    """

    def __init__(
        self, service: Service, ask: Ask, ticket: Ticket, request: ResponsesRequest, turns: list[dict[str, Any]]
    ) -> None:
        self._service, self._ask, self._request, self._turns = service, ask, request, turns
        self._id, self._created = ticket.id, int(time.time())
        self._blocks = Blocks()
        self._number = 0  # of the next event
        self._wants_logprobs = "message.output_text.logprobs" in (request.include or ())

    def begin(self) -> str:
        response = self._response("in_progress", [], None)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def take(self, delta: Delta) -> str:
        return "".join(map(self._step, self._blocks.take(delta.pieces)))

    def end(self, outcomes: Sequence[Outcome], usage: Usage) -> str:
        closing = "".join(map(self._step, self._blocks.finish()))
        response = self.whole(outcomes, usage)
        return closing + self._event(f"response.{response['status']}", response=response)

    def whole(self, outcomes: Sequence[Outcome], usage: Usage) -> dict[str, Any]:
        [outcome] = outcomes
        items = [self._item(block, "completed") for block in blocks_of(outcome.pieces)]
        if self._wants_logprobs:
            for item in items:
                if item["type"] == "message":
                    item["content"][0]["logprobs"] = token_logprobs(self._ask, outcome.ids, outcome.logprobs)
        if self._request.store is not False:
            self._service.responses.keep(f"resp_{self._id}", [*self._turns, _turn(outcome)])
        status = "incomplete" if outcome.stop is StopReason.LENGTH else "completed"
        return self._response(status, items, usage)

    def failed(self, error: ApiError) -> str:
        response = self._response("failed", [], None)
        response["error"] = {"code": error.code or "server_error", "message": error.message}
        return self._event("response.failed", response=response)

    def _response(self, status: str, items: Sequence[Mapping[str, Any]], usage: Usage | None) -> dict[str, Any]:
        request = self._request
        return {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "model": self._ask.model.name,
            "output": list(items),
            "usage": None if usage is None else _usage(usage),
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata or {},
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "previous_response_id": request.previous_response_id,
            "reasoning": {"effort": request.reasoning.effort if request.reasoning else None, "summary": None},
            "store": request.store is not False,
            "temperature": self._ask.sampling.temperature,
            "text": {"format": _shown_format(request)},
            "tool_choice": _shown_choice(request),
            "tools": [tool.model_dump() for tool in request.tools or ()],
            "top_p": self._ask.sampling.top_p,
            "truncation": "disabled",
            "background": False,
        }

    def _event(self, kind: str, **values: Any) -> str:
        text = event({"type": kind, "sequence_number": self._number, **values}, kind)
        self._number += 1
        return text

    def _step(self, step: Step) -> str:
        act, block, text = step
        where = {"item_id": self._item_id(block), "output_index": block.index}
        if block.part is Part.TOOL_CALL:
            return self._call_step(act, block, where)
        part = {**where, "content_index": 0}
        kind = _KINDS[block.part]
        if act is Act.OPEN:
            item = self._event("response.output_item.added", output_index=block.index, item=self._empty(block))
            return item + self._event("response.content_part.added", **part, part=_part(block.part, ""))
        if act is Act.MORE:
            more: dict[str, Any] = {"logprobs": []} if block.part is Part.ANSWER else {}
            return self._event(f"response.{kind}.delta", **part, delta=text, **more)
        more = {"logprobs": []} if block.part is Part.ANSWER else {}
        done = self._event(f"response.{kind}.done", **part, text=block.text, **more)
        done += self._event("response.content_part.done", **part, part=_part(block.part, block.text))
        whole = self._item(block, "completed")
        return done + self._event("response.output_item.done", output_index=block.index, item=whole)

    def _call_step(self, act: Act, block: Block, where: Mapping[str, Any]) -> str:
        """A call comes whole, once its name is known."""
        if act is not Act.MORE:
            return ""
        item = self._item(block, "completed")
        arguments = item["arguments"]
        begun = {**item, "arguments": "", "status": "in_progress"}
        kind = "response.function_call_arguments"
        return (
            self._event("response.output_item.added", output_index=block.index, item=begun)
            + self._event(f"{kind}.delta", **where, delta=arguments)
            + self._event(f"{kind}.done", **where, arguments=arguments, name=item["name"])
            + self._event("response.output_item.done", output_index=block.index, item=item)
        )

    def _item_id(self, block: Block) -> str:
        return f"{_PREFIXES[block.part]}_{self._id}_{block.index}"

    def _empty(self, block: Block) -> dict[str, Any]:
        return {**self._item(block, "in_progress"), "content": []}

    def _item(self, block: Block, status: str) -> dict[str, Any]:
        head = {"id": self._item_id(block), "status": status}
        if block.part is Part.THOUGHT:
            return {**head, "type": "reasoning", "summary": [], "content": [_part(block.part, block.text)]}
        if block.part is Part.ANSWER:
            return {**head, "type": "message", "role": "assistant", "content": [_part(block.part, block.text)]}
        call = read_tool_call(block.text)
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        own_id = f"call_{self._id}_{block.index}"
        return {**head, "type": "function_call", "call_id": own_id, "name": call.name, "arguments": arguments}


_KINDS = {Part.THOUGHT: "reasoning_text", Part.ANSWER: "output_text"}
_PREFIXES = {Part.THOUGHT: "rs", Part.ANSWER: "msg", Part.TOOL_CALL: "fc"}


def _part(part: Part, text: str) -> dict[str, Any]:
    if part is Part.THOUGHT:
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _turn(outcome: Outcome) -> dict[str, Any]:
    """The reply as a turn of its conversation."""
    turn: dict[str, Any] = {"role": "assistant", "content": outcome.text(Part.ANSWER)}
    if thought := outcome.text(Part.THOUGHT):
        turn["reasoning_content"] = thought
    if finish_reason(outcome) == "tool_calls" or outcome.calls:
        turn["tool_calls"] = [{"function": {"name": call.name, "arguments": call.arguments}} for call in outcome.calls]
    return turn


def _shown_format(request: ResponsesRequest) -> dict[str, Any]:
    form = request.text.format if request.text else None
    return {"type": "text"} if form is None else form.model_dump(by_alias=True, exclude_none=True)


def _shown_choice(request: ResponsesRequest) -> Any:
    choice = request.tool_choice
    return choice.model_dump() if isinstance(choice, FlatChoice) else choice or "auto"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.num_prompt,
        "input_tokens_details": {"cached_tokens": usage.num_cached},
        "output_tokens": usage.num_reply,
        "output_tokens_details": {"reasoning_tokens": usage.num_thought},
        "total_tokens": usage.num_prompt + usage.num_reply,
    }
