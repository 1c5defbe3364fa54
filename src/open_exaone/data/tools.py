"""Functions that a model may call, and its calls of them, as files write them: as objects or as JSON text.

Arrow gives every object of a column all the keys that any of them has, null where it has none: nulls are left out.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from open_exaone.base.config import short
from open_exaone.base.errors import DataError
from open_exaone.base.streams import parse_json
from open_exaone.data.rows import BadRow
from open_exaone.text.chat import check_tools

_NAMED = {"name", "function", "type"}  # of which a tool has one
MAX_DEPTH = 100  # of values within values: what copies or writes a row calls itself that often
_NESTED = (dict, list, tuple)


def read_tools(value: Any, name: str) -> tuple[Mapping[str, Any], ...] | None:
    """The functions on offer; None where there are none.

    Raises:
        BadRow: they are no list of objects, nor JSON text of one.
    """
    value = _objects(value, name)
    if not value:
        return None
    as_chat_takes_them(check_tools, value, "tools", name, "wrong type")
    for index, tool in enumerate(value):
        if not tool.keys() & _NAMED:
            fix = 'write {"name": …, "parameters": …}, bare or under "function"'
            raise BadRow(f"{name}[{index}]", "wrong type", f"names no function: {short(tool)}", fix)
    return tuple(_with_schema(tool, f"{name}[{index}]") for index, tool in enumerate(value)) or None


def as_chat_takes_them(check: Callable[[Any], None], value: Any, its_name: str, name: str, reason: str) -> None:
    """Runs a check of `text.chat`, which calls the value `its_name`, on what a column holds.

    Raises:
        BadRow: the value does not pass; names the column.
    """
    try:
        check(value)
    except DataError as error:
        where, _, why = str(error).partition(": ")
        raise BadRow(where.replace(its_name, name, 1), reason, why) from error


def read_calls(value: Any, where: str) -> list[Any]:
    """A message's calls; `text.chat` looks at each.

    Raises:
        BadRow: they are text that is no JSON.
    """
    calls = _objects(value, where)
    if calls and not isinstance(calls, list):
        raise BadRow(where, "wrong type", f"must be a list of calls, not {short(value)}")
    return calls or []


def check_depth(value: Any, where: str = "") -> None:
    """Refuses values within values where they would break copying or writing.

    Raises:
        BadRow: they are.
    """
    items = value.values() if isinstance(value, dict) else value if isinstance(value, _NESTED) else ()
    level = [item for item in items if isinstance(item, _NESTED)]
    if not level:
        return
    for _ in range(MAX_DEPTH - 1):
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, _NESTED))
        level = [item for items in inner for item in items if isinstance(item, _NESTED)]
        if not level:
            return
    raise BadRow(where, "too deep", f"holds values within values more than {MAX_DEPTH} deep", "leave that column out")


def as_json(value: Any) -> str:
    """A value as it is written into a prompt, or nearly so; a text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _objects(value: Any, where: str) -> Any:
    """A list of objects, also where it, or each of them, is JSON text; nulls of such text were written by somebody."""
    parsed = _parsed(value, where)
    parsed = [parsed] if isinstance(parsed, Mapping) else parsed
    check_depth(parsed, where)
    if isinstance(value, str) or not isinstance(parsed, list):
        return parsed
    return [
        _parsed(item, f"{where}[{index}]") if isinstance(item, str) else _without_nulls(item)
        for index, item in enumerate(parsed)
    ]


def _parsed(value: Any, where: str) -> Any:
    """What a JSON text says; any other value as it is."""
    if not isinstance(value, str) or not value.strip():
        return value or None
    try:
        return parse_json(value, unique_keys=True)
    except ValueError as error:
        raise BadRow(where, "not JSON", f"is text that is no valid JSON: {error}", "write it as JSON") from error


def _with_schema(tool: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A function whose parameters are JSON text, as a column of Parquet holds them where each has its own."""
    described = tool.get("function")
    if isinstance(described, Mapping):
        inner = _with_schema(described, f"{where}.function")
        return tool if inner is described else {**tool, "function": inner}
    if not isinstance(tool.get("parameters"), str):
        return tool
    schema = _parsed(tool["parameters"], f"{where}.parameters")
    if not isinstance(schema, Mapping | None):
        raise BadRow(f"{where}.parameters", "wrong type", f"must be a JSON schema, an object, not {short(schema)}")
    return {**tool, "parameters": schema}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
