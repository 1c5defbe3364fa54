"""EXAONE 4.0's chat format, in both modes: messages -> segments of text -> (by the tokenizer) ids and loss mask.

A turn is `[|role|]\\n`, its content, `[|endofturn|]\\n`; there is no default system turn. An assistant turn opens
with a think block. Only the reply itself, an assistant message that ends the conversation, may hold a thought
there; the block of every other one is empty, so the cost of past thoughts is never paid again. The generation
prompt ends inside the block (reasoning mode) or right behind an empty one (non-reasoning mode):

    [|user|]\\nQ[|endofturn|]\\n[|assistant|]\\n<think>\\n        thought \\n</think>\\n\\n answer [|endofturn|]
    [|user|]\\nQ[|endofturn|]\\n[|assistant|]\\n<think>\\n\\n</think>\\n\\n                    answer [|endofturn|]
    `---------------- the prompt -------------------------´ `----------- learned (the loss mask) ---------´

`chat_template.jinja` beside this file says the same for programs that open our models; a test holds them equal.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from open_exaone.base.errors import DataError

Message = Mapping[str, Any]  # "role", "content"; an assistant's may hold "reasoning_content" and "tool_calls"
Tool = Mapping[str, Any]  # a function's description, usually as a JSON schema

ROLES = ("system", "user", "assistant", "tool")
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
RESULT_OPEN, RESULT_CLOSE = "<tool_result>", "</tool_result>"
END = "[|endofturn|]"

EMPTY_BLOCK = f"{THINK_OPEN}\n\n{THINK_CLOSE}\n\n"
OFFER_HEAD = "# Functions\nYou may call these functions. Each line describes one of them in JSON:\n"
OFFER_TAIL = (
    "\nTo call functions, write one line for each call, with the function's name and its arguments in JSON:\n"
    f'{CALL_OPEN}{{"name": "NAME", "arguments": {{"ARGUMENT": "VALUE"}}}}{CALL_CLOSE}'
)


class Segment(NamedTuple):
    """A piece of a rendered conversation; each is tokenised alone, so that a prompt's ids begin the whole's."""

    text: str
    is_format: bool  # True: the format's own text, whose markers are marker tokens; False: content, never a marker
    is_learned: bool = False  # True: what the model must produce after the generation prompt


def render_segments(
    messages: Sequence[Message],
    *,
    thinking: bool = False,
    tools: Sequence[Tool] | None = None,
    generation_prompt: bool = False,
) -> list[Segment]:
    """Renders a conversation.

    A last assistant message, without a generation prompt behind it, is the reply: it alone is learned, and with
    `thinking` it keeps its thought (`reasoning_content`, or what stands before the last `</think>` of its content).
    To learn from each turn of a conversation, render each of its beginnings.

    Raises:
        DataError: a message is malformed; names its index and field.
    """
    check_messages(messages)
    offer = list(_offer(tools)) if tools else []
    segments: list[Segment] = []
    if offer and messages[0]["role"] != "system":
        segments += [_format("[|system|]\n"), *offer, _format(f"{END}\n")]
    for index, message in enumerate(messages):
        is_last = index == len(messages) - 1
        match message["role"]:
            case "assistant":
                is_reply = is_last and not generation_prompt
                segments += _assistant_turn(message, thinking=thinking and is_reply, is_learned=is_reply)
            case "tool":
                opens = index == 0 or messages[index - 1]["role"] != "tool"
                closes = is_last or messages[index + 1]["role"] != "tool"
                segments += _tool_result(message, opens=opens, closes=closes)
            case role:
                segments += [_format(f"[|{role}|]\n"), _content(message["content"])]
                if offer and index == 0 and role == "system":
                    segments += [_format("\n\n"), *offer]
                segments.append(_format(f"{END}\n"))
    if generation_prompt:
        segments.append(_format(_opening(thinking)))
    return segments


def jinja_template() -> str:
    """The format as a chat template, for programs that open our models (`enable_thinking`, off by default)."""
    return resources.files("open_exaone.text").joinpath("chat_template.jinja").read_text(encoding="utf-8")


def check_messages(messages: Sequence[Message]) -> None:
    """Raises a DataError that names the index and field of the first malformed message."""
    if not messages:
        raise DataError("messages: is empty; give at least one message, such as {'role': 'user', 'content': 'Hi'}")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, Mapping):
            raise DataError(f"{where}: must be a mapping with 'role' and 'content', not {type(message).__name__}")
        role = message.get("role")
        if role not in ROLES:
            raise DataError(f"{where}.role = {role!r}: unknown role; use one of {', '.join(ROLES)}")
        if role == "tool":
            if message.get("content") is None:
                raise DataError(f"{where}.content: is missing; give the tool's result, a text or any JSON value")
            _json(message["content"], f"{where}.content")
        elif not (role == "assistant" and message.get("tool_calls") and message.get("content") is None):
            _check_text(message, "content", where)
        if role == "assistant":
            if message.get("reasoning_content") is not None:
                _check_text(message, "reasoning_content", where)
            for number, call in enumerate(message.get("tool_calls") or ()):
                _check_call(call, f"{where}.tool_calls[{number}]")


def _check_text(message: Message, field: str, where: str) -> None:
    value = message.get(field)
    if value is None:
        raise DataError(f"{where}.{field}: is missing; give a text ('' if there is none)")
    if not isinstance(value, str):
        raise DataError(f"{where}.{field}: must be a text, not {type(value).__name__}; join its parts into one string")


def _check_call(call: Any, where: str) -> None:
    function = (call.get("function") or call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or "arguments" not in function:
        raise DataError(f'{where}: must be {{"name": a text, "arguments": {{…}}}}, bare or under "function"')
    arguments = function["arguments"]
    if not isinstance(arguments, str):
        _json(arguments, f"{where}.arguments")
        return
    try:
        json.loads(arguments)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}.arguments: a text here must be JSON: {error}") from error


def _offer(tools: Sequence[Tool]) -> Iterator[Segment]:
    """The words, our own, in which the system turn offers its functions."""
    yield _format(OFFER_HEAD)
    for number, tool in enumerate(tools):
        yield _content(_json(tool, f"tools[{number}]"))
        yield _format("\n")
    yield _format(OFFER_TAIL)


def _opening(thinking: bool) -> str:
    """How an assistant turn begins; the generation prompt is nothing else."""
    return "[|assistant|]\n" + (f"{THINK_OPEN}\n" if thinking else EMPTY_BLOCK)


def _assistant_turn(message: Message, *, thinking: bool, is_learned: bool) -> Iterator[Segment]:
    thought, answer = _parts(message)
    yield _format(_opening(thinking))
    if thinking:
        yield _content(thought, is_learned)
        yield _format(f"\n{THINK_CLOSE}\n\n", is_learned)
    yield _content(answer, is_learned)
    newline = "\n" if answer else ""
    for call in message.get("tool_calls") or ():
        yield _format(newline + CALL_OPEN, is_learned)
        yield _content(_call_json(call), is_learned)
        yield _format(CALL_CLOSE, is_learned)
        newline = "\n"
    yield _format(END, is_learned)
    yield _format("\n")


def _parts(message: Message) -> tuple[str, str]:
    """An assistant message's thought and answer; a thought may also stand inside the content."""
    thought, content = message.get("reasoning_content") or "", message.get("content") or ""
    if THINK_CLOSE not in content:
        return thought, content
    inline, _, answer = content.rpartition(THINK_CLOSE)
    return thought or inline.split(THINK_OPEN, 1)[-1].strip(), answer.strip()


def _call_json(call: Mapping[str, Any]) -> str:
    function = call.get("function") or call
    arguments = function["arguments"]  # a text is JSON already: the OpenAI API's form
    text = arguments if isinstance(arguments, str) else _json(arguments, "arguments")
    return f'{{"name": {_json(function["name"], "name")}, "arguments": {text}}}'


def _tool_result(message: Message, *, opens: bool, closes: bool) -> Iterator[Segment]:
    """One result; neighbours share one tool turn, a line each."""
    yield _format(("[|tool|]\n" if opens else "\n") + RESULT_OPEN)
    yield _content(_json({"result": message["content"]}, "content"))
    yield _format(RESULT_CLOSE)
    if closes:
        yield _format(f"{END}\n")


def _format(text: str, is_learned: bool = False) -> Segment:
    return Segment(text, True, is_learned)


def _content(text: str, is_learned: bool = False) -> Segment:
    return Segment(text, False, is_learned)


def _json(value: object, where: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: cannot be written as JSON: {error}") from error
