"""/v1/chat/completions, as OpenAI has it, with the thought in fields of its own as vLLM, SGLang and llama.cpp do."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

from pydantic import Field

from open_exaone.base.config import Config
from open_exaone.base.records import StopReason, ToolCall
from open_exaone.serve.answer import event
from open_exaone.serve.conversation import Conversation, Effort, FunctionTool, ToolChoice, prepare
from open_exaone.serve.errors import ApiError
from open_exaone.serve.fields import SamplingFields
from open_exaone.serve.guided import ResponseFormat
from open_exaone.serve.logprobs import NumTop
from open_exaone.serve.reply import Delta, Outcome, Usage
from open_exaone.serve.service import Ask, Service
from open_exaone.serve.worker import Ticket
from open_exaone.text.begun import begun_text
from open_exaone.text.chat import ChatFormat
from open_exaone.text.split import Part, read_tool_call


class TextPart(Config):
    """A piece of a message."""

    type: Literal["text", "input_text", "output_text", "refusal"]
    """Only text is read."""
    text: str = ""
    """The text."""
    refusal: str = ""
    """The text of a refusal."""
    annotations: Any = None
    """Ignored."""
    logprobs: Any = None
    """Ignored."""
    cache_control: Any = None
    """Ignored."""


class Function(Config):
    """What a tool call calls."""

    name: str
    """The function's name."""
    arguments: str | dict[str, Any]
    """Its arguments in JSON."""


class CallRecord(Config):
    """A tool call of an earlier reply."""

    id: str | None = None
    """What the tool's result names."""
    type: Literal["function"] = "function"
    """Only functions are called."""
    index: Any = None
    """Ignored."""
    function: Function
    """What was called."""


Content = str | tuple[TextPart, ...]


class ChatMessage(Config):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    """Who speaks."""
    content: Content | None = None
    """The text, or the output of a tool."""
    reasoning: str | None = None
    """The thought of an earlier reply."""
    reasoning_content: str | None = None
    """The same, as other servers name it."""
    tool_calls: tuple[CallRecord, ...] | None = None
    """What an earlier reply called."""
    tool_call_id: str | None = None
    """Which call a tool's result answers; results stand in the order of the calls."""
    name: Any = None
    """Ignored, as is what OpenAI's client writes into a reply's message."""
    refusal: Any = None
    """Ignored."""
    annotations: Any = None
    """Ignored."""
    audio: None = None
    """Ignored where it is null."""
    function_call: None = None
    """Ignored where it is null."""
    notes: Any = None
    """Ignored."""

    def rendered(self) -> dict[str, Any]:
        """As chat formats take it."""
        content = None if self.content is None else text_of(self.content)
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": content}
        thought = self.reasoning_content or self.reasoning
        if self.role == "assistant":
            calls = [{"function": call.function.model_dump()} for call in self.tool_calls or ()]
            if content is None and not calls:
                message["content"] = ""
            message |= {"tool_calls": calls} if calls else {}
            message |= {"reasoning_content": thought} if thought else {}
        return message


def text_of(content: str | Sequence[TextPart]) -> str:
    """A content's text; its parts are joined as they stand."""
    return content if isinstance(content, str) else "".join(part.text or part.refusal for part in content)


class TemplateKwargs(Config):
    """What a chat template is given."""

    enable_thinking: bool | None = None
    """Whether the model thinks before it answers."""
    preserve_thinking: bool | None = None
    """Whether the thoughts of earlier replies stay in the prompt."""
    thinking: bool | None = None
    """The same as enable_thinking, as some templates name it."""
    skip_think: Any = None
    """Ignored: EXAONE 4.0's own template takes it."""


class ChatRequest(SamplingFields):
    """A conversation to go on."""

    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    """The turns so far."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The same as max_tokens, which it goes before."""
    chat_template_kwargs: TemplateKwargs | None = None
    """What the chat template is given."""
    reasoning_effort: Effort | None = None
    """How much of the reply the thought may take; "none" switches it off."""
    thinking_token_budget: int | None = Field(default=None, ge=0)
    """The longest thought in tokens; then it is ended and the answer follows; 0 switches thinking off."""
    tools: tuple[FunctionTool, ...] | None = None
    """The functions that the model may call."""
    tool_choice: ToolChoice | None = None
    """Whether it may call them, must, or which one it must call."""
    parallel_tool_calls: bool | None = None
    """False allows one call at most where the reply is restricted to calls."""
    response_format: ResponseFormat | None = None
    """What the answer must be: any text, any JSON object, or JSON of a schema."""
    continue_final_message: bool | None = None
    """Continue the last message, which is a reply: in its thought if it has a thought alone, else in its answer. Only
    what is new is given."""
    add_generation_prompt: bool | None = None
    """False goes with continue_final_message."""
    logprobs: bool | None = None
    """Give the log-probability of each token, under the model at temperature 1."""
    top_logprobs: NumTop | None = None
    """Give so many of the most likely tokens at each place too; needs logprobs."""
    verbosity: Any = None
    """Ignored."""
    prediction: None = None
    """Ignored where it is null."""


async def ask_chat(service: Service, request: ChatRequest) -> Ask:
    """What a chat request asks for.

    Raises:
        ApiError: it is refused.
    """
    if request.top_logprobs and not request.logprobs:
        raise ApiError(400, "top_logprobs: needs logprobs = true", param="top_logprobs")
    kwargs = request.chat_template_kwargs or TemplateKwargs()
    thinking = kwargs.enable_thinking if kwargs.enable_thinking is not None else kwargs.thinking
    messages = [message.rendered() for message in request.messages]
    reply = messages.pop() if request.continue_final_message else None
    if reply is None and request.add_generation_prompt is False:
        raise ApiError(
            400, "add_generation_prompt: false goes with continue_final_message", param="add_generation_prompt"
        )
    conversation = Conversation(
        messages=messages,
        thinking=thinking,
        keeps_thoughts=bool(kwargs.preserve_thinking),
        effort=request.reasoning_effort,
        budget=request.thinking_token_budget,
        tools=request.tools or (),
        tool_choice=request.tool_choice,
        is_parallel=request.parallel_tool_calls is not False,
        response_format=request.response_format,
        is_streamed=bool(request.stream),
    )
    max_tokens, model = request.max_completion_tokens or request.max_tokens, service.model(request.model)
    if reply is not None:
        chat_format, thinks = model.tokenizer.chat_format, conversation.thinks(service.config.thinking)
        conversation = replace(conversation, begun=begun_of(reply, chat_format, thinking=thinks))
    ask = await prepare(service, model, conversation, request.given(), max_tokens)
    return replace(ask, num_top_logprobs=request.top_logprobs or 0)


def begun_of(message: Mapping[str, Any], chat_format: ChatFormat, *, thinking: bool) -> str:
    """The beginning of a reply that is continued: within its thought where it has no answer, else in its answer.

    Raises:
        ApiError: the message is no reply, or calls tools.
    """
    if message["role"] != "assistant" or message.get("tool_calls"):
        raise ApiError(400, "messages: the last must be a reply without tool calls, to be continued", param="messages")
    thought, answer = message.get("reasoning_content"), message["content"] or ""
    return begun_text(chat_format, thought, answer or None, thinking=thinking) if thought else answer


class ChatDialect:
    """Writes chat completions."""

    def __init__(self, ask: Ask, ticket: Ticket, request: ChatRequest) -> None:
        self._ask, self._request = ask, request
        self._id, self._created = f"chatcmpl-{ticket.id}", int(time.time())
        self._num_calls = [0] * len(ticket.jobs)
        self._id_of_ticket = ticket.id
        opening = json.dumps({**self._envelope("chat.completion.chunk"), "choices": []})
        self._opening = f"data: {opening[:-3]}["  # a chunk is written many times a second

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._ask.model.name}

    def begin(self) -> str:
        return "".join(
            self._chunk(index, {"role": "assistant", "content": ""}) for index in range(len(self._num_calls))
        )

    def take(self, delta: Delta) -> str:
        """A chunk for each part: many clients read either the thought or the answer of a chunk."""
        deltas = [
            self._delta(delta.index, part, [text for _, text in pieces])
            for part, pieces in groupby(delta.pieces, key=itemgetter(0))
        ]
        logprobs = self._logprobs(delta) if self._request.logprobs else None
        if not deltas:
            return self._chunk(delta.index, {}, logprobs) if logprobs and delta.ids else ""
        *before, last = deltas
        return "".join(self._chunk(delta.index, one) for one in before) + self._chunk(delta.index, last, logprobs)

    def _delta(self, index: int, part: Part, texts: Sequence[str]) -> dict[str, Any]:
        if part is not Part.TOOL_CALL:
            return dict.fromkeys(_FIELDS[part], "".join(texts))
        numbers = range(self._num_calls[index], self._num_calls[index] + len(texts))
        calls = [self._call(index, read_tool_call(text)) for text in texts]
        return {"tool_calls": [{"index": number, **call} for number, call in zip(numbers, calls, strict=True)]}

    def end(self, outcomes: Sequence[Outcome], usage: Usage) -> str:
        chunks = [
            self._chunk(outcome.index, {"notes": outcome.notes} if outcome.notes else {}, None, finish_reason(outcome))
            for outcome in outcomes
        ]
        if self._request.includes_usage:
            counted = {**self._envelope("chat.completion.chunk"), "choices": [], "usage": usage_record(usage)}
            chunks.append(event(counted))
        return "".join(chunks) + "data: [DONE]\n\n"

    def whole(self, outcomes: Sequence[Outcome], usage: Usage) -> dict[str, Any]:
        return {
            **self._envelope("chat.completion"),
            "choices": [self._choice(outcome) for outcome in outcomes],
            "usage": usage_record(usage),
        }

    def failed(self, error: ApiError) -> str:
        return event(error.openai())

    def _choice(self, outcome: Outcome) -> dict[str, Any]:
        thought, answer, calls = outcome.text(Part.THOUGHT), outcome.text(Part.ANSWER), outcome.calls
        message: dict[str, Any] = {"role": "assistant", "content": answer if answer or not calls else None}
        message |= {"reasoning": thought, "reasoning_content": thought} if thought else {}
        if calls:
            message["tool_calls"] = [self._call(outcome.index, call) for call in calls]
        message |= {"notes": outcome.notes} if outcome.notes else {}
        wants = self._request.logprobs
        return {
            "index": outcome.index,
            "message": message,
            "logprobs": self._logprobs(outcome) if wants else None,
            "finish_reason": finish_reason(outcome),
        }

    def _call(self, index: int, call: ToolCall) -> dict[str, Any]:
        number = self._num_calls[index]
        self._num_calls[index] += 1
        function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
        return {"id": f"call_{self._id_of_ticket}_{index}_{number}", "type": "function", "function": function}

    def _logprobs(self, of: Delta | Outcome) -> dict[str, Any]:
        return {"content": of.token_logprobs(self._ask.model.tokenizer).records(), "refusal": None}

    def _chunk(self, index: int, delta: Mapping[str, Any], logprobs: object = None, finish: str | None = None) -> str:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        tail = '], "usage": null}' if self._request.includes_usage else "]}"
        return f"{self._opening}{json.dumps(choice)}{tail}\n\n"


_FIELDS = {Part.THOUGHT: ("reasoning", "reasoning_content"), Part.ANSWER: ("content",)}


def finish_reason(outcome: Outcome) -> str:
    """Why a reply ended, in OpenAI's words."""
    if outcome.stop is StopReason.LENGTH:
        return "length"
    return "tool_calls" if any(part is Part.TOOL_CALL for part, _ in outcome.pieces) else "stop"


def usage_record(usage: Usage) -> dict[str, Any]:
    """The tokens, in OpenAI's words."""
    return {
        "prompt_tokens": usage.num_prompt,
        "completion_tokens": usage.num_reply,
        "total_tokens": usage.num_prompt + usage.num_reply,
        "prompt_tokens_details": {"cached_tokens": usage.num_cached},
        "completion_tokens_details": {"reasoning_tokens": usage.num_thought},
    }
