"""In which form a checkpoint's template takes the arguments of calls: as JSON text, or as the values of that text.

Rows hold either. A template that writes `arguments | tojson` quotes a text once more, one that walks through
`arguments | items` fails on it, and one that joins texts fails on a mapping or prints it as Python does. Transformers
asks for mappings, and vLLM reads every text (`_postprocess_messages`); here, what the template does with both decides.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from open_exaone.base.errors import DataError
from open_exaone.text.chat import Message, Tool, json_text

Form = Literal["either", "text", "values"]

_VALUES = {"probed": 6}
_TEXT = json_text(_VALUES, "arguments")
PROBED_TOOL: Tool = {"type": "function", "function": {"name": "probe", "description": "", "parameters": {}}}


def arguments_form(render: Callable[[Sequence[Message]], str]) -> Form:
    """The form that a template takes, by what it makes of one call in both.

    Args:
        render: may raise DataError, which counts as nothing printed.
    """
    from_text, from_values = _printed(render, _TEXT), _printed(render, _VALUES)
    if from_text is not None and from_text == from_values:
        return "either"
    reads_text = from_text is not None and _TEXT in from_text
    reads_values = from_values is not None and "probed" in from_values and str(_VALUES) not in from_values
    return "text" if reads_text and not reads_values else "values"


def in_form(message: Message, form: Form) -> Message:
    """A message whose calls' arguments have the form that the template takes; they have passed `check_messages`."""
    calls = message.get("tool_calls") if message["role"] == "assistant" and form != "either" else None
    return {**message, "tool_calls": [_call_in_form(call, form) for call in calls]} if calls else message


def _call_in_form(call: Mapping[str, Any], form: Form) -> dict[str, Any]:
    inner = call.get("function") or call
    given = inner["arguments"]
    if form == "values":
        given = json.loads(given) if isinstance(given, str) else given
    elif not isinstance(given, str):
        given = json_text(given, "arguments")
    made = {**inner, "arguments": given}
    return {**call, "function": made} if call.get("function") else made


def _printed(render: Callable[[Sequence[Message]], str], arguments: Any) -> str | None:
    called = {"name": "probe", "arguments": arguments}
    call = {"id": "probe0001", "type": "function", "function": called, **called}  # templates look in either place
    try:
        return render([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "", "tool_calls": [call]}])
    except DataError:
        return None
