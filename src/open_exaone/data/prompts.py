"""What a row asks and what it replies: the columns around a prompt, brought to turns."""

from collections.abc import Mapping
from typing import Any

from open_exaone.data.columns import Columns, check_one_prompt, is_empty, some_text
from open_exaone.data.rows import BadRow, Turn
from open_exaone.data.tools import as_chat_takes_them, read_tools
from open_exaone.data.turns import check_order, read_history, read_turns, reply_turn
from open_exaone.text.chat import check_messages


def read_prompt(columns: Columns) -> tuple[Turn, ...]:
    """What stands before the reply: the system turn, the history, and the prompt; a text is the user's turn."""
    check_one_prompt(columns)
    field, value = "prompt", columns.get("prompt")
    if value is None:
        field = next((other for other in ("question", "messages") if columns.get(other) is not None), "prompt")
        value = columns.get(field)
    name = columns.column_name(field)
    turns: tuple[Turn, ...]
    if isinstance(value, str) or value is None:
        turns = ({"role": "user", "content": _with_input(columns.text(field), columns)},)
    else:
        turns = read_turns(value, name)
        if not is_empty(columns.get("input")):
            why = f"is not read where {name} is a list of turns"
            raise BadRow(columns.column_name("input"), "not read", why, "put it into the turns")
    if "history" in columns.layout.names and not is_empty(history := columns.get("history")):
        turns = (*read_history(history, columns.column_name("history")), *turns)
    turns = behind_system(turns, columns)
    check_order(turns, name, ends_in_reply=False)
    return turns


def _with_input(text: str, columns: Columns) -> str:
    """A prompt with what Alpaca calls its input behind it, or Dolly its context."""
    more = columns.get("input") if "input" in columns.layout.names else None
    if not more or is_empty(more):
        return text
    return f"{text}\n\n{some_text(more, columns.column_name('input'))}"


def behind_system(turns: tuple[Turn, ...], columns: Columns) -> tuple[Turn, ...]:
    """Turns, behind the system turn that a column of its own holds."""
    if "system" not in columns.layout.names or is_empty(system := columns.get("system")):
        return turns
    turn = {"role": "system", "content": some_text(system, columns.column_name("system"))}
    if turns[0]["role"] != "system":
        return (turn, *turns)
    if turns[0]["content"].strip() != turn["content"].strip():
        why = "differs from the system turn that the conversation begins with"
        raise BadRow(columns.column_name("system"), "two systems", why, "leave one out, or list it in `ignore`")
    return turns


def read_reply(value: Any, columns: Columns, field: str) -> tuple[Turn, ...]:
    name = columns.column_name(field)
    thought = columns.get("thought") if field == "completion" else None
    if isinstance(value, str):
        return (reply_turn(some_text(value, name), name, thought),)
    if not is_empty(thought):
        why = f"is not read where {name} is a list of turns"
        raise BadRow(columns.column_name("thought"), "not read", why, "put it into the turn's reasoning_content")
    return read_turns([value] if isinstance(value, Mapping) else value, name)


def read_question(columns: Columns) -> str:
    """A text, or the one turn of the user's that some sets for online RL hold instead."""
    field = "question" if columns.get("question") is not None else "prompt"
    value, name = columns.get(field), columns.column_name(field)
    check_one_prompt(columns)
    has_input = field == "prompt" or "input" in columns.layout.fields
    if not has_input and not is_empty(columns.get("input")):
        beside = columns.column_name("input")
        fix = f'put it behind the question with fields: {{input = "{beside}"}}, or list it in the source\'s `ignore`'
        raise BadRow(beside, "not read", "is not read beside a question", fix)
    if not isinstance(value, list):
        return _with_input(columns.text(field), columns) if has_input else columns.text(field)
    turns = read_turns(value, name)
    if [turn["role"] for turn in turns] != ["user"]:
        raise BadRow(
            name, "wrong role", "must be a text, or a single turn of the user's", "write the other turns into it"
        )
    return str(turns[0]["content"])


def tools_of(columns: Columns) -> tuple[Mapping[str, Any], ...] | None:
    value = columns.get("tools") if "tools" in columns.layout.names else None
    return read_tools(value, columns.column_name("tools")) if value else None


def checked(turns: tuple[Turn, ...], name: str) -> tuple[Turn, ...]:
    """Turns as every chat format takes them; `text.chat` looks at calls and results."""
    for turn in turns:
        if len(turn) > 2 or turn["role"] == "tool":
            break
    else:
        return turns
    as_chat_takes_them(check_messages, turns, "messages", name, "malformed turn")
    return turns
