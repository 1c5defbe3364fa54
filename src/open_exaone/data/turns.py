"""Turns of a conversation as files write them, brought to the form that `text.chat` renders; their roles looked at."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from open_exaone.base.config import short
from open_exaone.data.columns import is_empty
from open_exaone.data.rows import BadRow, Turn
from open_exaone.data.tools import check_depth, read_calls
from open_exaone.text.chat import ROLES, THOUGHT_TAGS

# ShareGPT's words for roles, and others that are in use.
ROLE_NAMES = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "observation": "tool",
    "function": "tool",
    "tool_response": "tool",
    "developer": "system",
    "function_call": "assistant",  # its text is the call, in JSON
    "tool_call": "assistant",
}
_CALL_ROLES = ("function_call", "tool_call")
_WEIGHTS = ("weight", "train", "training", "loss", "loss_scale")  # whether a turn is learned
_UNREAD = ("images", "image", "videos", "video", "audios", "audio", "train_detail", "training_detail", "prefix")
THOUGHT_FIELDS = ("reasoning_content", "thinking", "reasoning", "thought")
_READ = frozenset(("role", "content", "from", "value", "tool_calls", "function_call", "tool_call_id", "name")).union(
    _WEIGHTS, _UNREAD, THOUGHT_FIELDS
)
_OPEN = re.compile(rf"\s*<({'|'.join(THOUGHT_TAGS)})>")
_CLOSING_LINE = re.compile(rf"^[ \t]*</({'|'.join(THOUGHT_TAGS)})>[ \t\r]*$", re.MULTILINE)


def read_turns(value: Any, name: str) -> tuple[Turn, ...]:
    """The turns of a column; `{"from", "value"}` is ShareGPT's form. A turn that is not learned has `"train": False`.

    Raises:
        BadRow: it is no list of turns, or one has no known role or no text.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise BadRow(name, "wrong type", f"must be a list of turns, not {short(value)}")
    if not value:
        raise BadRow(name, "empty", "holds no turn")
    if _plain_roles(value) is not None:
        return tuple(value)
    turns: list[Turn] = []
    for index, turn in enumerate(value):
        where = f"{name}[{index}]"
        read = _turn(turn, where)
        if _is_call(turn) and turns and turns[-1]["role"] == "assistant":
            read = _with_calls(turns.pop(), read, where)
        turns.append(read)
    return tuple(turns)


def plain_turns(value: Any) -> tuple[Turn, ...] | None:
    """The turns of a column that need nothing but to be taken, in a good order that ends in a reply, as most do; None
    where `read_turns` and `check_order` have to look at them."""
    if type(value) is not list or not value or (roles := _plain_roles(value)) is None:
        return None
    return tuple(value) if _order_fault(roles, True) is None else None


def _plain_roles(turns: Sequence[Any]) -> tuple[str, ...] | None:
    """The roles of turns of which each is a role and a text as `text.chat` takes them; None where one is not."""
    roles = []
    for turn in turns:
        if type(turn) is not dict or len(turn) != 2:
            return None
        role, content = turn.get("role"), turn.get("content")
        if type(content) is not str or not content or content.isspace():
            return None
        if role == "assistant":
            if "<" in content and _may_hold_tags(content):
                return None
        elif role != "user" and role != "system":
            return None
        roles.append(role)
    return tuple(roles)


def unread_keys(value: Any) -> list[str]:
    """The keys of a column's turns that nothing reads, and that say something."""
    turns = [turn for turn in (value if isinstance(value, list) else (value,)) if isinstance(turn, dict)]
    return sorted({str(key) for turn in turns for key in turn.keys() - _READ if not is_empty(turn[key])})


def read_history(value: Any, name: str) -> tuple[Turn, ...]:
    """The turns before the prompt: a list of [question, reply], as LLaMA-Factory and ms-swift write them, or of turns.

    Raises:
        BadRow: it is neither.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise BadRow(name, "wrong type", f"must be a list of [question, reply], not {short(value)}")
    if any(isinstance(item, dict) for item in value):
        return read_turns(value, name)
    turns: list[Turn] = []
    for index, item in enumerate(value):
        where = f"{name}[{index}]"
        is_pair = isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2
        if not is_pair or not all(isinstance(text, str) and text.strip() for text in item):
            raise BadRow(where, "wrong type", f"must be [question, reply], two texts, not {short(item)}")
        turns += ({"role": "user", "content": item[0]}, reply_turn(item[1], where))
    return tuple(turns)


def reply_turn(text: str, name: str, thought: Any = None) -> Turn:
    """The assistant's turn that says `text`; a thought that stands in front of it in tags is split off.

    Raises:
        BadRow: as `split_thought`; or a thought stands there twice, or nothing follows it.
    """
    inside, answer = split_thought(text, name)
    if thought is None and inside is None and answer and not answer.isspace():
        return {"role": "assistant", "content": answer}
    if thought is not None and not isinstance(thought, str):
        raise BadRow(name, "wrong type", f"its thought must be a text, not {short(thought)}")
    if thought and inside is not None:
        raise BadRow(name, "two thoughts", "holds a thought, and the row holds another one", "leave one out")
    if not answer.strip():
        raise BadRow(name, "empty", "holds a thought and no answer" if inside is not None else "is empty")
    kept = thought or inside
    return {"role": "assistant", "content": answer, **({"reasoning_content": kept} if kept else {})}


def split_thought(text: str, name: str) -> tuple[str | None, str]:
    """A reply's thought (None: it has none) and its answer.

    A thought is opened at the head of the reply; or its prompt opened it, as DeepSeek-R1's, and the reply only closes
    it, on a line of its own. Tags anywhere else are text like any other.

    Raises:
        BadRow: a thought is opened and never closed, or which tag closes it cannot be known.
    """
    if not _may_hold_tags(text):
        return None, text
    opened = _OPEN.match(text)
    closing = None if opened else _CLOSING_LINE.search(text)
    if opened is None and closing is None:
        return None, text
    tag = str((opened or closing)[1])  # type: ignore[index]  # one of them is there
    close = f"</{tag}>"
    first_opening = text.find(f"<{tag}>")
    if closing is not None and 0 <= first_opening < closing.start():  # the reply shows tags; it has no thought
        return None, text
    before, closed, answer = text.partition(close)
    if not closed:
        raise BadRow(name, "unclosed thought", f"opens <{tag}> and never closes it")
    if close in answer or (closing is not None and first_opening >= 0):
        fix = "put the thought into reasoning_content"
        raise BadRow(name, "ambiguous thought", f"where its thought ends cannot be known: {close} is not alone", fix)
    return before[opened.end() if opened else 0 :].strip(), answer.strip()


def check_order(turns: Sequence[Turn], name: str, *, ends_in_reply: bool) -> None:
    """Looks at the order of roles.

    Raises:
        BadRow: a system turn is not the first, a turn follows one of its own role, a tool's result has no call
            before it, or there is no reply at the end.
    """
    if fault := _order_fault(tuple([turn["role"] for turn in turns]), ends_in_reply):
        field, reason, why = fault
        raise BadRow(name + field, reason, why)


@lru_cache(maxsize=1024)
def _order_fault(roles: tuple[str, ...], ends_in_reply: bool) -> tuple[str, str, str] | None:
    """What is wrong with an order of roles: the field behind the column, the reason, and why."""
    if ends_in_reply and "assistant" not in roles:
        return "", "no assistant turn", "has no assistant turn: nothing can be learned from it"
    before: str | None = None
    for index, role in enumerate(roles):
        why = ""
        if role == "system" and index > 0:
            why = "is system; only the first turn may be"
        elif role == "assistant" and before in (None, "system"):
            why = "is assistant, before any turn of the user"
        elif role == "tool" and before not in ("assistant", "tool"):
            why = "is tool, and no assistant turn stands before it"
        elif role == "user" and before == "tool":
            why = "is user, where the assistant must take up a tool's result"
        elif role == before and role != "tool":
            why = f"is {role} a second time in a row; join the two turns"
        if why:
            return f"[{index}].role", "wrong role", why
        before = role
    last = f"[{len(roles) - 1}].role"
    if ends_in_reply and before != "assistant":
        return last, "wrong role", f"is {before}; the last turn must be the assistant's"
    if not ends_in_reply and before == "assistant":
        return last, "wrong role", "is assistant; a prompt ends in the user's turn"
    return None


def _may_hold_tags(text: str) -> bool:
    """Whether a text may hold a tag of a thought; quickly, as most hold none."""
    return "<" in text and ("think>" in text or "thought>" in text)


def _is_call(turn: Mapping[str, Any]) -> bool:
    return turn.get("role", turn.get("from")) in _CALL_ROLES


def _with_calls(before: Turn, call: Turn, where: str) -> Turn:
    """An assistant's turn, and the calls that follow it in turns of their own."""
    if before.get("train") != call.get("train"):
        raise BadRow(where, "wrong role", "is a call of the turn before it, and only one of the two is learned")
    return {**before, "tool_calls": [*before.get("tool_calls", ()), *call["tool_calls"]]}


def _turn(turn: Any, where: str) -> Turn:
    if not isinstance(turn, dict):
        raise BadRow(where, "wrong type", f"must be an object with role and content, not {short(turn)}")
    is_sharegpt = "from" in turn and turn.get("role") is None
    role_field, content_field = ("from", "value") if is_sharegpt else ("role", "content")
    written = turn.get(role_field)
    role = ROLE_NAMES.get(written, written) if isinstance(written, str) else written
    if role not in ROLES:
        known = ", ".join((*ROLES, *ROLE_NAMES) if is_sharegpt else ROLES)
        why = "is missing" if written is None else f"is {short(written)}, an unknown role"
        raise BadRow(f"{where}.{role_field}", "wrong role", why, f"use one of {known}")
    for field in _UNREAD:
        if turn.get(field):
            why = "is not read: a turn is text, all of it learned, with its end, or none"
            raise BadRow(f"{where}.{field}", "not read", why)
    is_learned = _is_learned(turn, role, where)
    if written in _CALL_ROLES:
        read: dict[str, Any] = {"role": role, "content": "", "tool_calls": _written_call(turn, content_field, where)}
    elif role == "assistant":
        read = _assistant(turn, content_field, where)
    else:
        read = _other(turn, role, content_field, where)
    if name := turn.get("name"):
        if not isinstance(name, str):
            raise BadRow(f"{where}.name", "wrong type", f"must be a text, not {short(name)}")
        read["name"] = name
    return read if is_learned else {**read, "train": False}


def _other(turn: Mapping[str, Any], role: str, content_field: str, where: str) -> dict[str, Any]:
    """A turn of any role but the assistant's."""
    for field in ("tool_calls", "function_call", *THOUGHT_FIELDS):
        if turn.get(field):
            raise BadRow(f"{where}.{field}", "not read", f"is not read in a turn of the {role}'s; only the assistant's")
    value = turn.get(content_field)
    if role == "tool":  # its result may be any value
        check_depth(value, f"{where}.{content_field}")
        is_parts = isinstance(value, list) and value and all(map(_is_part, value))
        read = {"role": role, "content": _content(value, f"{where}.{content_field}") if is_parts else value}
        return read if turn.get("tool_call_id") is None else {**read, "tool_call_id": turn["tool_call_id"]}
    content = _content(value, f"{where}.{content_field}")
    if content is None or not content.strip():
        raise BadRow(f"{where}.{content_field}", "empty", "is missing" if content is None else "is empty")
    return {"role": role, "content": content}


def _assistant(turn: Mapping[str, Any], content_field: str, where: str) -> dict[str, Any]:
    content = _content(turn.get(content_field), f"{where}.{content_field}")
    calls = read_calls(turn.get("tool_calls"), f"{where}.tool_calls")
    if not calls and turn.get("function_call"):  # the OpenAI API's older form: a single call
        calls = read_calls(turn["function_call"], f"{where}.function_call")
    thought = _thought(turn, where)
    if calls and not (content or "").strip():
        read: dict[str, Any] = {"role": "assistant", "content": ""}
        if thought:
            read["reasoning_content"] = thought
    elif content is None:
        raise BadRow(f"{where}.{content_field}", "empty", "is missing")
    else:
        read = dict(reply_turn(content, f"{where}.{content_field}", thought))
    return {**read, "tool_calls": calls} if calls else read


def _written_call(turn: Mapping[str, Any], content_field: str, where: str) -> list[Any]:
    """The calls of a turn whose text they are, as LLaMA-Factory's function_call and ms-swift's tool_call."""
    calls = read_calls(turn.get(content_field), f"{where}.{content_field}")
    if not calls:
        raise BadRow(f"{where}.{content_field}", "empty", "holds no call")
    if other := next((field for field in ("tool_calls", *THOUGHT_FIELDS) if turn.get(field)), None):
        raise BadRow(f"{where}.{other}", "not read", "is not read in a turn whose text is a call")
    return calls


def _is_learned(turn: Mapping[str, Any], role: str, where: str) -> bool:
    """Whether a turn's weight, or its `train`, leaves it in the loss."""
    is_learned = True
    for field in _WEIGHTS:
        value = turn.get(field)
        if value is None:
            continue
        if value not in (0, 1):
            raise BadRow(f"{where}.{field}", "wrong type", f"must be 0 or 1, or true or false, not {short(value)}")
        if value and role != "assistant" and field != "weight":
            raise BadRow(
                f"{where}.{field}", "not read", f"would learn a turn of the {role}'s; replies alone are learned"
            )
        is_learned &= bool(value)
    return is_learned or role != "assistant"


def _thought(turn: Mapping[str, Any], where: str) -> Any:
    given = [field for field in THOUGHT_FIELDS if turn.get(field)]
    if other := next((field for field in given if not isinstance(turn[field], str)), None):
        raise BadRow(f"{where}.{other}", "wrong type", f"must be a text, not {short(turn[other])}")
    if any(turn[field] != turn[given[0]] for field in given):
        raise BadRow(where, "two thoughts", f"has different thoughts, {' and '.join(given)}", "leave one out")
    return turn[given[0]] if given else None


def _is_part(value: Any) -> bool:
    """Whether a value is one of the OpenAI API's parts, and no object of a tool's own that has a type too."""
    return isinstance(value, dict) and str(value.get("type")).endswith(("text", "image", "image_url", "audio", "file"))


def _content(value: Any, where: str) -> str | None:
    """A text; a list of the OpenAI API's parts is joined."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, Sequence) and value and all(isinstance(part, dict) and "type" in part for part in value):
        other = next((part for part in value if part["type"] != "text" or not isinstance(part.get("text"), str)), None)
        if other is not None:
            why = f"holds a part that is no text: {short(other)}"
            fix = "write its text" if other["type"] == "text" else "take the row out, since only text is learned"
            raise BadRow(where, "wrong type", why, fix)
        return "".join(part["text"] for part in value)
    raise BadRow(where, "wrong type", f"must be a text, not {short(value)}")
