"""What every chat format shares: messages, the segments they are rendered to, and the words between formats.

A chat format turns messages into segments of text, the tokenizer turns those into ids and a loss mask. `exaone4`,
`exaone3` and `template` are the formats; `formats` says which one a folder's model speaks.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from open_exaone.base.errors import DataError
from open_exaone.base.streams import parse_json

Message = Mapping[str, Any]  # "role", "content"; an assistant's may hold "reasoning_content" and "tool_calls"
Tool = Mapping[str, Any]  # a function's description, usually as a JSON schema

ROLES = ("system", "user", "assistant", "tool")
THOUGHT_TAGS = ("think", "thought")  # the names between "<" and ">"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
RESULT_OPEN, RESULT_CLOSE = "<tool_result>", "</tool_result>"
END = "[|endofturn|]"


class Segment(NamedTuple):
    """A piece of a rendered conversation; each is tokenised alone, so that a prompt's ids begin the whole's."""

    text: str
    is_format: bool  # True: the format's own text, whose markers are marker tokens; False: content, never a marker
    is_learned: bool = False  # True: what the model must produce after the generation prompt


class Dialogue(NamedTuple):
    """A conversation to be rendered.

    With `thinking` a reply at its end keeps its thought (`reasoning_content`, or what stands before the last closing
    tag of its content).
    """

    messages: Sequence[Message]
    thinking: bool = False
    tools: Sequence[Tool] | None = None
    generation_prompt: bool = False
    learned: tuple[int, ...] = ()  # the places of the replies that are learned
    keeps_thoughts: bool = False  # earlier replies keep theirs too, where the format can say it

    @property
    def learns_the_end_alone(self) -> bool:
        return self.learned in ((), (len(self.messages) - 1,))


# What a format makes of a dialogue: its text; why it has none; or None where of several replies to be learned one is
# written otherwise when the conversation goes on, so that each beginning has to be rendered by itself.
Rendering = list[Segment] | DataError | None
RenderAll = Callable[[Sequence[Dialogue]], list[Rendering]]  # raises CheckpointError: the template is broken


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How a family of models speaks."""

    name: str  # one of `formats.NAMES`, or "none"
    thought_tag: str  # what a thought stands in: one of `THOUGHT_TAGS`
    opens_thought: Callable[[bool], bool]  # (thinking) -> does the generation prompt leave a thought open?
    render_all: RenderAll
    markers: tuple[str, ...] = ()  # must be tokens where the format's own text holds them

    def segments(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Sequence[Tool] | None = None,
        generation_prompt: bool = False,
        with_mask: bool = True,
        keeps_thoughts: bool = False,
    ) -> list[Segment]:
        """Renders one conversation, of which a reply at the end is learned.

        Args:
            with_mask: False: nobody asks what is learned; a format that must search for it leaves that out.
            keeps_thoughts: whether earlier replies keep theirs.

        Raises:
            DataError: a message is malformed (names its index and field), the format can't say it, or what is learned
                can't be found.
            CheckpointError: the checkpoint's own template is broken.
        """
        learned = last_reply(messages, generation_prompt) if with_mask else ()
        [rendered] = self.render_all([Dialogue(messages, thinking, tools, generation_prompt, learned, keeps_thoughts)])
        if isinstance(rendered, DataError):
            raise rendered
        assert rendered is not None  # it has one reply to learn at most, at its end
        return rendered


def last_reply(messages: Sequence[Message], generation_prompt: bool = False) -> tuple[int, ...]:
    """The place of the reply that a conversation ends in, if it does."""
    is_reply = bool(messages) and isinstance(messages[-1], Mapping) and messages[-1].get("role") == "assistant"
    return (len(messages) - 1,) if is_reply and not generation_prompt else ()


def one_by_one(render: Callable[[Dialogue], list[Segment]]) -> RenderAll:
    """For formats that write a reply otherwise in the midst of a conversation only where it has a thought to learn."""

    def caught(dialogue: Dialogue) -> Rendering:
        try:
            return render(dialogue) if dialogue.learns_the_end_alone or not dialogue.thinking else None
        except DataError as error:
            return error

    return lambda dialogues: [caught(dialogue) for dialogue in dialogues]


def check_messages(messages: Sequence[Message]) -> None:
    """Looks at every message before any is rendered.

    Raises:
        DataError: a message is malformed; names the index and field of the first.
    """
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
            json_text(message["content"], f"{where}.content")
        elif not (role == "assistant" and message.get("tool_calls") and message.get("content") is None):
            _check_text(message, "content", where)
        if role == "assistant":
            _check_reply(message, where)


def check_tools(tools: Any) -> None:
    """Looks at the tools on offer.

    Raises:
        DataError: they are no list, or one is no mapping; names its index.
    """
    if tools is not None and (not isinstance(tools, Sequence) or isinstance(tools, str)):
        raise DataError(f"tools: must be a list of mappings, one for each function, not {type(tools).__name__}")
    for index, tool in enumerate(tools or ()):
        if not isinstance(tool, Mapping):
            raise DataError(f"tools[{index}]: must be a mapping that describes a function, not {type(tool).__name__}")


def refuse_tools(messages: Sequence[Message], tools: Sequence[Tool] | None, name: str) -> None:
    """For formats that have no words for tools.

    Raises:
        DataError: tools are offered, called or answered.
    """
    why = f"the chat format {name} has no tools; leave it out, or take a model whose format has them"
    if tools:
        raise DataError(f"tools: {why}")
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            raise DataError(f"messages[{index}].role = 'tool': {why}")
        if message["role"] == "assistant" and message.get("tool_calls"):
            raise DataError(f"messages[{index}].tool_calls: {why}")


def thought_and_answer(message: Message, tag: str) -> tuple[str, str]:
    """An assistant message's thought and answer; a thought may also stand inside the content, in `tag`."""
    thought, content = message.get("reasoning_content") or "", message.get("content") or ""
    inline, close, answer = content.rpartition(f"</{tag}>")
    if not close:
        return thought, content
    return thought or inline.split(f"<{tag}>", 1)[-1].strip(), answer


def json_text(value: object, where: str) -> str:
    """JSON as every format writes it.

    Raises:
        DataError: it cannot be written; names `where` it stands.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError as error:
        raise DataError(f"{where}: cannot be written as JSON: it is nested too deeply; make it flatter") from error
    except (TypeError, ValueError) as error:
        fix = "; numbers must be finite" if "float" in str(error) else ""
        raise DataError(f"{where}: cannot be written as JSON: {error}{fix}") from error


def format_text(text: str, is_learned: bool = False) -> Segment:
    return Segment(text, True, is_learned)


def content_text(text: str, is_learned: bool = False) -> Segment:
    return Segment(text, False, is_learned)


def _check_text(message: Message, field: str, where: str) -> None:
    value = message.get(field)
    if value is None:
        raise DataError(f"{where}.{field}: is missing; give a text ('' if there is none)")
    if not isinstance(value, str):
        raise DataError(f"{where}.{field}: must be a text, not {type(value).__name__}; join its parts into one string")


def _check_reply(message: Message, where: str) -> None:
    if message.get("reasoning_content") is not None:
        _check_text(message, "reasoning_content", where)
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise DataError(f"{where}.tool_calls: must be a list of calls, not {type(calls).__name__}")
    for number, call in enumerate(calls):
        _check_call(call, f"{where}.tool_calls[{number}]")


def _check_call(call: Any, where: str) -> None:
    function = (call.get("function") or call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or "arguments" not in function:
        raise DataError(f'{where}: must be {{"name": a text, "arguments": {{…}}}}, bare or under "function"')
    arguments = function["arguments"]
    if not isinstance(arguments, str):
        json_text(arguments, f"{where}.arguments")
        return
    try:
        values = parse_json(arguments, unique_keys=True)
    except ValueError as error:
        fix = '; write "{}" for none' if not arguments.strip() else ""
        raise DataError(f"{where}.arguments: a text here must be JSON: {error}{fix}") from error
    json_text(values, f"{where}.arguments")  # 1e400 is read as infinite, which no JSON can hold
