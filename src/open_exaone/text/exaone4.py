"""EXAONE 4.0's chat format, in both modes, with tool wording of our own.

A turn is `[|role|]\\n`, its content, `[|endofturn|]\\n`; there is no default system turn. An assistant turn opens
with a think block. Only the reply itself, an assistant message that ends the conversation, may hold a thought
there; the block of every other one is empty, so the cost of past thoughts is never paid again. The generation
prompt ends inside the block (reasoning mode) or right behind an empty one (non-reasoning mode):

    [|user|]\\nQ[|endofturn|]\\n[|assistant|]\\n<think>\\n        thought \\n</think>\\n\\n answer [|endofturn|]
    [|user|]\\nQ[|endofturn|]\\n[|assistant|]\\n<think>\\n\\n</think>\\n\\n                    answer [|endofturn|]
    `---------------- the prompt -------------------------´ `----------- learned (the loss mask) ---------´

`chat_template.jinja` beside this file says the same for programs that open our models; a test holds them equal.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from open_exaone.text.chat import (
    CALL_CLOSE,
    CALL_OPEN,
    END,
    RESULT_CLOSE,
    RESULT_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    ChatFormat,
    Dialogue,
    Message,
    Segment,
    Tool,
    check_messages,
    check_tools,
    content_text,
    format_text,
    json_text,
    one_by_one,
    thought_and_answer,
)

# The tags inside a reply aren't "special": they survive `skip_special`, since the reader of a reply needs them.
TAGS = (CALL_CLOSE, CALL_OPEN, RESULT_CLOSE, RESULT_OPEN, THINK_CLOSE, THINK_OPEN)
TURNS = ("[|system|]", "[|tool|]", "[|assistant|]", "[|user|]", END)

EMPTY_BLOCK = f"{THINK_OPEN}\n\n{THINK_CLOSE}\n\n"
OFFER_HEAD = "# Functions\nYou may call these functions. Each line describes one of them in JSON:\n"
OFFER_TAIL = (
    "\nTo call functions, write one line for each call, with the function's name and its arguments in JSON:\n"
    f'{CALL_OPEN}{{"name": "NAME", "arguments": {{"ARGUMENT": "VALUE"}}}}{CALL_CLOSE}'
)


def render(dialogue: Dialogue) -> list[Segment]:
    """Renders a conversation. What is learned costs nothing here.

    Raises:
        DataError: a message is malformed; names its index and field.
    """
    messages, thinking, tools, generation_prompt, learned, keeps_thoughts = dialogue
    check_messages(messages)
    check_tools(tools)
    offer = list(_offer(tools)) if tools else []
    rendered: list[Segment] = []
    if offer and messages[0]["role"] != "system":
        rendered += [format_text("[|system|]\n"), *offer, format_text(f"{END}\n")]
    for index, message in enumerate(messages):
        is_last = index == len(messages) - 1
        match message["role"]:
            case "assistant":
                thinks = thinking and is_last and not generation_prompt
                thinks |= keeps_thoughts and bool(thought_and_answer(message, "think")[0])
                rendered += _assistant_turn(message, thinking=thinks, is_learned=index in learned)
            case "tool":
                opens = index == 0 or messages[index - 1]["role"] != "tool"
                closes = is_last or messages[index + 1]["role"] != "tool"
                rendered += _tool_result(message, opens=opens, closes=closes)
            case role:
                rendered += [format_text(f"[|{role}|]\n"), content_text(message["content"])]
                if offer and index == 0 and role == "system":
                    rendered += [format_text("\n\n"), *offer]
                rendered.append(format_text(f"{END}\n"))
    if generation_prompt:
        rendered.append(format_text(_opening(thinking)))
    return rendered


EXAONE_4 = ChatFormat("exaone-4.0", "think", lambda thinking: thinking, one_by_one(render), (*TAGS, *TURNS))


def jinja_template() -> str:
    """The format as a chat template, for programs that open our models (`enable_thinking`, off by default)."""
    return resources.files("open_exaone.text").joinpath("chat_template.jinja").read_text(encoding="utf-8")


def _offer(tools: Sequence[Tool]) -> Iterator[Segment]:
    """The words, our own, in which the system turn offers its functions."""
    yield format_text(OFFER_HEAD)
    for number, tool in enumerate(tools):
        yield content_text(json_text(tool, f"tools[{number}]"))
        yield format_text("\n")
    yield format_text(OFFER_TAIL)


def _opening(thinking: bool) -> str:
    """How an assistant turn begins; the generation prompt is nothing else."""
    return "[|assistant|]\n" + (f"{THINK_OPEN}\n" if thinking else EMPTY_BLOCK)


def _assistant_turn(message: Message, *, thinking: bool, is_learned: bool) -> Iterator[Segment]:
    thought, answer = thought_and_answer(message, "think")
    if THINK_CLOSE in (message.get("content") or ""):
        answer = answer.strip()
    yield format_text(_opening(thinking))
    if thinking:
        yield content_text(thought, is_learned)
        yield format_text(f"\n{THINK_CLOSE}\n\n", is_learned)
    yield content_text(answer, is_learned)
    newline = "\n" if answer else ""
    for call in message.get("tool_calls") or ():
        yield format_text(newline + CALL_OPEN, is_learned)
        yield content_text(_call_json(call), is_learned)
        yield format_text(CALL_CLOSE, is_learned)
        newline = "\n"
    yield format_text(END, is_learned)
    yield format_text("\n")


def _call_json(call: Mapping[str, Any]) -> str:
    function = call.get("function") or call
    arguments = function["arguments"]  # a text is JSON already: the OpenAI API's form
    text = arguments if isinstance(arguments, str) else json_text(arguments, "arguments")
    return f'{{"name": {json_text(function["name"], "name")}, "arguments": {text}}}'


def _tool_result(message: Message, *, opens: bool, closes: bool) -> Iterator[Segment]:
    """One result; neighbours share one tool turn, a line each."""
    yield format_text(("[|tool|]\n" if opens else "\n") + RESULT_OPEN)
    yield content_text(json_text({"result": message["content"]}, "content"))
    yield format_text(RESULT_CLOSE)
    if closes:
        yield format_text(f"{END}\n")
