"""/v1/responses, as OpenAI has it: a reply is a row of items, and a later request may name it to go on."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from open_exaone.base.records import StopReason
from open_exaone.serve.answer import event
from open_exaone.serve.blocks import Act, Block, Blocks, Step, blocks_of
from open_exaone.serve.conversation import (
    Conversation,
    FunctionRecord,
    FunctionTool,
    NamedFunction,
    NamedTool,
    ToolChoice,
    prepare,
)
from open_exaone.serve.errors import ApiError
from open_exaone.serve.guided import JsonSchema, ResponseFormat
from open_exaone.serve.logprobs import places_of
from open_exaone.serve.reply import Delta, Outcome, Usage
from open_exaone.serve.routes.chat import TemplateKwargs, finish_reason
from open_exaone.serve.routes.response_items import turns_of
from open_exaone.serve.routes.response_request import LOGPROBS, FlatChoice, ResponsesRequest, TextFormat
from open_exaone.serve.service import Ask, Service
from open_exaone.serve.worker import Ticket
from open_exaone.text.chat import CALL_CLOSE
from open_exaone.text.split import Part, read_tool_call

_SAME = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")  # as in a `Sampling`


async def ask_response(service: Service, request: ResponsesRequest) -> tuple[Ask, list[dict[str, Any]]]:
    """What a request asks for, and the turns that it adds to a conversation.

    Raises:
        ApiError: it is refused.
    """
    _check_numbers(request)
    if request.top_logprobs and not request.wants_logprobs:
        raise ApiError(400, f"top_logprobs: needs include = [{LOGPROBS!r}]", param="top_logprobs")
    earlier = service.responses.turns(request.previous_response_id)
    asked = request.input
    turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else turns_of(asked)
    system = [{"role": "system", "content": request.instructions}] if request.instructions else []
    kwargs = request.chat_template_kwargs or TemplateKwargs()
    conversation = Conversation(
        [*system, *earlier, *turns],
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
    given = {name: value for name in _SAME if (value := getattr(request, name)) is not None}
    model = service.model(request.model)
    ask = await prepare(service, model, conversation, given, request.max_output_tokens)
    return replace(ask, num_top_logprobs=request.top_logprobs or 0), turns


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
        turns: what the request adds to its conversation; the reply is remembered with them.
    """

    def __init__(
        self, service: Service, ask: Ask, ticket: Ticket, request: ResponsesRequest, turns: list[dict[str, Any]]
    ) -> None:
        self._service, self._ask, self._request, self._turns = service, ask, request, turns
        self._id, self._created = ticket.id, int(time.time())
        self._blocks = Blocks()
        self._number = 0  # of the next event
        self._so_far = Outcome()

    def begin(self) -> str:
        response = self._response("in_progress", [], None)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def take(self, delta: Delta) -> str:
        self._so_far.take(delta)
        return "".join(map(self._step, self._blocks.take(delta.pieces)))

    def end(self, outcomes: Sequence[Outcome], usage: Usage) -> str:
        closing = "".join(map(self._step, self._blocks.finish()))
        response = self.whole(outcomes, usage)
        return closing + self._event(f"response.{response['status']}", response=response)

    def whole(self, outcomes: Sequence[Outcome], usage: Usage) -> dict[str, Any]:
        [outcome] = outcomes
        blocks = blocks_of(outcome.pieces)
        items = [self._item(block, "completed", self._logprobs(block, blocks, outcome)) for block in blocks]
        if self._request.store is not False:
            turns = [*self._turns, _turn(outcome)]
            self._service.responses.keep(f"resp_{self._id}", self._request.previous_response_id, turns)
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
            "completed_at": int(time.time()) if status == "completed" else None,
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
            "presence_penalty": self._ask.sampling.presence_penalty,
            "frequency_penalty": self._ask.sampling.frequency_penalty,
            "top_logprobs": request.top_logprobs or 0,
            "max_tool_calls": request.max_tool_calls,
            "safety_identifier": request.safety_identifier,
            "prompt_cache_key": request.prompt_cache_key,
            "service_tier": "default",
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
        logprobs = self._logprobs(block, self._blocks.all, self._so_far)
        more = {"logprobs": logprobs} if block.part is Part.ANSWER else {}
        done = self._event(f"response.{kind}.done", **part, text=block.text, **more)
        done += self._event("response.content_part.done", **part, part=_part(block.part, block.text, logprobs))
        whole = self._item(block, "completed", logprobs)
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

    def _logprobs(self, block: Block, blocks: Sequence[Block], outcome: Outcome) -> Sequence[dict[str, Any]]:
        """How likely the tokens of a text were, where that is asked for."""
        if not self._request.wants_logprobs or block.part is not Part.ANSWER:
            return []
        tokenizer = self._ask.model.tokenizer
        closing = {Part.THOUGHT: f"</{tokenizer.chat_format.thought_tag}>", Part.TOOL_CALL: CALL_CLOSE, Part.ANSWER: ""}
        tags = ["", *(closing[one.part] for one in blocks[: block.index])]
        places = places_of(tokenizer, outcome.ids, [one.text for one in blocks[: block.index + 1]], tags)
        return outcome.token_logprobs(tokenizer)[places[-1]].records()

    def _item(self, block: Block, status: str, logprobs: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        head = {"id": self._item_id(block), "status": status}
        if block.part is Part.THOUGHT:
            return {**head, "type": "reasoning", "summary": [], "content": [_part(block.part, block.text)]}
        if block.part is Part.ANSWER:
            return {
                **head,
                "type": "message",
                "role": "assistant",
                "content": [_part(block.part, block.text, logprobs)],
            }
        call = read_tool_call(block.text)
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        own_id = f"call_{self._id}_{block.index}"
        return {**head, "type": "function_call", "call_id": own_id, "name": call.name, "arguments": arguments}


_KINDS = {Part.THOUGHT: "reasoning_text", Part.ANSWER: "output_text"}
_PREFIXES = {Part.THOUGHT: "rs", Part.ANSWER: "msg", Part.TOOL_CALL: "fc"}


def _part(part: Part, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    if part is Part.THOUGHT:
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


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
