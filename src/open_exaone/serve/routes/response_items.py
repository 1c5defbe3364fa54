"""The items of /v1/responses: what a conversation is made of there, and how it becomes turns."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from open_exaone.base.config import Config
from open_exaone.serve.routes.chat import TextPart, text_of


class _Item(Config):
    id: Any = None
    """Ignored."""
    status: Any = None
    """Ignored."""
    phase: Any = None
    """Ignored."""


class MessageItem(_Item):
    """What somebody says."""

    type: Literal["message"] = "message"
    """The kind of the item."""
    role: Literal["system", "developer", "user", "assistant"]
    """Who speaks."""
    content: str | tuple[TextPart, ...]
    """The text."""


class CallItem(_Item):
    """A call of an earlier reply."""

    type: Literal["function_call"]
    """The kind of the item."""
    call_id: str
    """What the result names."""
    name: str
    """The function's name."""
    arguments: str
    """Its arguments in JSON."""
    namespace: Any = None
    """Ignored."""
    caller: Any = None
    """Ignored."""


class ResultItem(_Item):
    """What a function gave."""

    type: Literal["function_call_output"]
    """The kind of the item."""
    call_id: str
    """Which call it answers; results stand in the order of the calls."""
    output: str | tuple[TextPart, ...]
    """The result."""
    caller: Any = None
    """Ignored."""


class ThoughtPart(Config):
    """A piece of a thought."""

    type: Literal["reasoning_text", "summary_text"]
    """The kind of the piece."""
    text: str
    """The thought."""


class ThoughtItem(_Item):
    """The thought of an earlier reply."""

    type: Literal["reasoning"]
    """The kind of the item."""
    content: tuple[ThoughtPart, ...] | None = None
    """The thought."""
    summary: tuple[ThoughtPart, ...] | None = None
    """Ignored."""
    encrypted_content: Any = None
    """Ignored."""


def _kind(value: Any) -> str | None:
    """Which record an item is: a message need not say so."""
    return value.get("type", "message") if isinstance(value, dict) else getattr(value, "type", None)


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[ResultItem, Tag("function_call_output")]
    | Annotated[ThoughtItem, Tag("reasoning")],
    Discriminator(_kind),
]
Items = Annotated[tuple[Item, ...], Field(min_length=1)]


def turns_of(items: Sequence[Item]) -> list[dict[str, Any]]:
    """A conversation as chat formats take it: a reply's thought, text and calls are one turn."""
    turns: list[dict[str, Any]] = []
    reply: dict[str, Any] | None = None
    for item in items:
        is_reply = isinstance(item, CallItem | ThoughtItem) or (
            isinstance(item, MessageItem) and item.role == "assistant"
        )
        if not is_reply:
            reply = None
            turns.append(_turn(item))
            continue
        if reply is None or (isinstance(item, ThoughtItem) and (reply["content"] or "tool_calls" in reply)):
            reply = {"role": "assistant", "content": ""}
            turns.append(reply)
        if isinstance(item, ThoughtItem):
            reply["reasoning_content"] = "".join(part.text for part in item.content or ())
        elif isinstance(item, CallItem):
            reply.setdefault("tool_calls", []).append({"function": {"name": item.name, "arguments": item.arguments}})
        elif isinstance(item, MessageItem):
            reply["content"] += text_of(item.content)
    return turns


def _turn(item: Item) -> dict[str, Any]:
    if isinstance(item, ResultItem):
        return {"role": "tool", "content": text_of(item.output)}
    assert isinstance(item, MessageItem)
    return {"role": "system" if item.role == "developer" else item.role, "content": text_of(item.content)}
