"""Reads chat completions, whose makers agree on little: where the thought stands, what was counted, why it ended."""

import json
from dataclasses import dataclass, replace
from typing import Any

from open_exaone.base.records import Generation, Reply, StopReason
from open_exaone.remote.http import UnreadableError
from open_exaone.text.split import split_reply
from open_exaone.text.stored import STORED_TAGS, split_stored

_STOPS = {
    "length": StopReason.LENGTH,
    "max_tokens": StopReason.LENGTH,
    "model_length": StopReason.LENGTH,
    "content_filter": StopReason.ERROR,
}
_STOP_STRING = ("stop_reason", "matched_stop")  # where vLLM and SGLang name the string that ended a reply
_GIVEN_UP = ("abort", "error")  # the server's own failure: the same request may do better
_BYTES_PER_TOKEN = 4  # English; Korean has three bytes a character
_MAX_TOKENS = 10**9  # whoever counts more counts wrong


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One chat completion."""

    content: str
    thought: str  # where the server has split it off; else it stands in the content, or nowhere
    stop: StopReason
    num_prompt_tokens: int | None  # None: not stated
    num_tokens: int | None
    num_thought_tokens: int | None


def read_completion(body: bytes) -> ChatReply:
    """Reads a response's body.

    Raises:
        UnreadableError: it is no chat completion, or one that the server gave up.
    """
    try:
        value = json.loads(body)
        choice = value["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        content = _text(message.get("content"))
        thought = _text(message.get("reasoning_content")) or _text(message.get("reasoning"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"its response is not a chat completion ({type(error).__name__})") from None
    if reason in _GIVEN_UP:
        raise UnreadableError(f"the reply ended by {reason}")
    stop = _STOPS.get(reason, StopReason.END) if isinstance(reason, str) else StopReason.END
    if reason == "stop" and any(isinstance(choice.get(name), str) for name in _STOP_STRING):
        stop = StopReason.STOP_STRING
    usage = value.get("usage")
    return ChatReply(
        content,
        thought,
        stop,
        count_of(usage, "prompt_tokens"),
        count_of(usage, "completion_tokens"),
        count_of(_field(usage, "completion_tokens_details"), "reasoning_tokens") or count_of(usage, "reasoning_tokens"),
    )


def split(chat: ChatReply) -> Reply:
    """Thought, answer and tool calls. A closing tag without an opening one ends a thought that the prompt opened."""
    if not chat.thought.strip():
        return split_stored(chat.content, thinking=False)
    parts = split_reply(chat.content, thinking=False)
    finished = chat.stop is not StopReason.LENGTH or bool(chat.content.strip())
    return Reply(chat.thought.strip("\n"), parts.answer, parts.tool_calls, finished)


def cut_at_budget(chat: ChatReply) -> tuple[str, str, bool]:
    """A reply in reasoning mode that was cut: its thought, its answer so far, and whether the thought was open."""
    parts = split(chat)
    is_closed = any(tag in chat.content for tag in STORED_TAGS.values()) or bool(parts.thought and parts.finished)
    if is_closed:
        return parts.thought, parts.answer, False
    return parts.thought or chat.content.strip("\n"), "", True  # no tag, and none split off: the prompt opened it


def is_counted(chat: ChatReply) -> bool:
    """Whether the server counts the tokens of prompt and reply."""
    return chat.num_prompt_tokens is not None and chat.num_tokens is not None


def num_reply_tokens(chat: ChatReply) -> int:
    """As the server counts them, or else estimated."""
    return _estimate(chat.thought + chat.content) if chat.num_tokens is None else chat.num_tokens


def to_generation(chat: ChatReply, prompt: str, *, thinking: bool) -> Generation:
    """The generation; what the server has not counted is estimated from the texts' lengths.

    Args:
        thinking: asked in reasoning mode; then a reply that was cut before any tag is a thought that the prompt opened.
    """
    reply = split(chat)
    if thinking and chat.stop is StopReason.LENGTH:
        thought, answer, is_open = cut_at_budget(chat)
        reply = replace(reply, thought=thought, answer=answer, finished=not is_open)
    num_tokens = num_reply_tokens(chat)
    num_prompt_tokens = _estimate(prompt) if chat.num_prompt_tokens is None else chat.num_prompt_tokens
    num_thought_tokens = chat.num_thought_tokens or _share(num_tokens, reply)
    return Generation(reply, chat.stop, num_prompt_tokens, num_tokens, min(num_thought_tokens, num_tokens))


def _share(num_tokens: int, reply: Reply) -> int:
    """The thought's share of a reply's tokens, by characters."""
    num_chars = len(reply.thought) + len(reply.answer) + sum(len(call.text) for call in reply.tool_calls)
    return round(num_tokens * len(reply.thought) / num_chars) if num_chars else 0


def _estimate(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)


def _text(value: Any) -> str:
    """A text, given whole or in parts; nothing, where there is none."""
    if isinstance(value, list):
        value = "".join(part["text"] for part in value if part.get("type") == "text")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # JSON can say half a character, which no file can
    if value is None:
        return ""
    raise TypeError("neither a text nor its parts")


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def count_of(value: Any, name: str) -> int | None:
    """A field of a JSON object, where it is a number of tokens."""
    count = _field(value, name)
    is_count = isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= _MAX_TOKENS
    return count if is_count else None
