"""The grammar by which other programs split a reply: `response_template` in tokenizer_config.json.

transformers (`tokenizer.parse_response`), vLLM (`--reasoning-parser hf`) and SGLang read it. It says what
`split.ReplySplitter` does, with these differences, which their grammar forces:

- A tool call that is not `{"name": a text, "arguments": an object}` stays text with its tags, where ours is a
  `ToolCall` with an error: their parsers would raise, or drop it.
- Of text before and text behind tool calls, transformers' `parse_response` keeps the last; vLLM and SGLang keep both.

An opening tag opens a thought only where the reply begins, behind a block that the prompt has closed, or in the prompt.
A thought that is never closed is all of the reply, so nothing of it is given as an answer.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from open_exaone.base.streams import parse_json
from open_exaone.text.chat import CALL_CLOSE, CALL_OPEN, END
from open_exaone.text.exaone4 import EMPTY_BLOCK

KEY = "response_template"
MAX_DEPTH = 20  # of a call's JSON: parsers that recurse fail at some depth

# JSON without what makes Python's parser raise: numbers that are infinite or have thousands of digits.
_STRING = r'"(?:[^"\\<\x00-\x1f]|<(?!/tool_call>)|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
_NUMBER = r"-?(?:0|[1-9][0-9]{0,200})(?:\.[0-9]{1,200})?(?:[eE][+-]?[0-9]{1,2})?"
_BLANK = r"[ \t\n\r]*+"
# Fast, since each token of a stream tries again: what begins as no call is text at once, and one that does waits here.
_BEGINS = r'(?=\s*\{\s*"(?:name|arguments)"\s*:)'
_CLOSES = rf"(?=[^<]*+(?:<(?!/tool_call>)[^<]*+)*+{CALL_CLOSE})"


def response_template(format_name: str) -> dict[str, Any] | None:
    """The grammar of a chat format, version 1 of transformers' `response_template`; None for formats without thoughts.

    Field names are those that vLLM and SGLang serve: "thinking", "content", "tool_calls".
    """
    if format_name not in _FORMATS:
        return None
    anchor, tag, block = _FORMATS[format_name]
    opening, closing = f"<{tag}>", f"</{tag}>"
    again = (
        rf"|(?<=^{re.escape(block)}\n*){opening}" if block else ""
    )  # the reply's own, where the prompt has closed one
    return {
        "version": 1,
        "defaults": {"role": "assistant"},
        "start_anchor": anchor,
        "fields": {
            "thinking": {"open_pattern": rf"^\n*{opening}{again}", "close": closing},
            "tool_calls": {
                "open_pattern": rf"{_definitions()}\s*{CALL_OPEN}{_BEGINS}{_CLOSES}(?={_call()}{CALL_CLOSE})",
                "close": CALL_CLOSE,
                "repeats": True,
                "content": "json",
                "transform": {"type": "function", "function": "{content}"},
            },
            "content": {"close_pattern": rf"\s*{re.escape(END)}.*|\s+\Z"},
        },
    }


# What a reply begins behind, the tag of its thought, and what prompts in non-reasoning mode end in.
_FORMATS: Mapping[str, tuple[str, str, str]] = {
    "exaone-4.0": ("[|assistant|]\n", "think", EMPTY_BLOCK),
    "exaone-deep": ("[|assistant|]", "thought", ""),
}


def add_response_template(settings: bytes, format_name: str) -> bytes:
    """A tokenizer_config.json, which has no grammar yet, with the format's; as it is where the format has none."""
    template = response_template(format_name)
    if template is None:
        return settings
    values = parse_json(settings)
    return (json.dumps(values | {KEY: template}, ensure_ascii=False, indent=2) + "\n").encode()


def _definitions() -> str:
    """The groups that the pattern of a call refers to: a value nested at most so deep is one of `vN`."""
    levels = [rf"(?P<s>{_STRING})", rf"(?P<v0>(?&s)|{_NUMBER}|true|false|null)"]
    for depth in range(1, MAX_DEPTH + 1):
        item = rf"{_BLANK}(?&v{depth - 1}){_BLANK}"
        pair = rf"{_BLANK}(?&s){_BLANK}:{item}"
        inside = [rf"{one}(?:,{one})*+|{_BLANK}" for one in (pair, item)]
        levels.append(rf"(?P<o{depth}>\{{(?:{inside[0]})\}})(?P<v{depth}>(?&o{depth})|\[(?:{inside[1]})\]|(?&v0))")
    return f"(?(DEFINE){''.join(levels)})"


def _call() -> str:
    """A call's JSON: its two members in either order."""
    name, arguments = rf'"name"{_BLANK}:{_BLANK}(?&s)', rf'"arguments"{_BLANK}:{_BLANK}(?&o{MAX_DEPTH})'
    orders = [rf"{one}{_BLANK},{_BLANK}{other}" for one, other in ((name, arguments), (arguments, name))]
    return rf"{_BLANK}\{{{_BLANK}(?:{orders[0]}|{orders[1]}){_BLANK}\}}{_BLANK}"
