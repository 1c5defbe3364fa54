"""Conversations that tests of the chat formats share: strategies, a few fixed ones, and jinja as others run it."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from open_exaone.text.chat import Segment

Message = dict[str, Any]
TOOL = {"type": "function", "function": {"name": "roll", "description": "주사위를 던진다", "parameters": {}}}
CALL = {"type": "function", "function": {"name": "roll", "arguments": {"n": 6}}}
USER = {"role": "user", "content": "Q1"}
REPLY = {"role": "assistant", "content": "A1"}
THOUGHTFUL = {"role": "assistant", "content": "A1", "reasoning_content": "hm"}

# As published in the README of EXAONE Deep.
EXAONE_35_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '[|system|][|endofturn|]\\n' }}{% endif %}{{ '[|' + message['role'] + '|]' + message['content'] }}"
    "{% if message['role'] == 'user' %}{{ '\\n' }}{% else %}{{ '[|endofturn|]\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"
)
DEEP_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '[|system|][|endofturn|]\\n' }}{% endif %}{% set content = message['content'] %}"
    "{% if '</thought>' in content %}{% set content = content.split('</thought>')[-1].lstrip('\\n') %}{% endif %}"
    "{{ '[|' + message['role'] + '|]' + content }}{% if not message['role'] == 'user' %}{{ '[|endofturn|]' }}"
    "{% endif %}{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n[|assistant|]<thought>\\n' }}{% endif %}"
)

# White space, digits, Korean and broken tags, but no marker: a template can't tell a user's from its own.
content = st.lists(
    st.sampled_from([" ", "\n", "\t", "\r", "4", "a", "it's", "답", "<", "think", "</", "[|", "{", '"', "\\", "🙂"])
).map("".join)
json_value = st.none() | st.booleans() | st.integers() | content
function = st.fixed_dictionaries(
    {"name": content, "arguments": st.dictionaries(content, json_value, max_size=2) | st.just('{"n": 6}')}
)
calls = st.lists(function | st.fixed_dictionaries({"function": function}), max_size=2)
inline_thought = st.builds(lambda thought, answer: f"<think>\n{thought}\n</think>\n\n{answer}", content, content)
plain_assistant = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": content}, optional={"reasoning_content": content}
)
assistant = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": content | inline_thought},
    optional={"reasoning_content": content, "tool_calls": calls},
)
results = json_value.filter(lambda value: value is not None) | st.lists(json_value, max_size=2)
tool = st.fixed_dictionaries({"role": st.just("tool"), "content": results})
other = st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": content})
conversations = st.lists(other | assistant | tool, min_size=1, max_size=5)
tools = st.none() | st.lists(st.just(TOOL) | st.dictionaries(content, json_value, max_size=2), max_size=2)
without_tools = st.lists(other | plain_assistant, min_size=1, max_size=5)
flags = st.booleans()


def text_of(render: Callable[..., list[Segment]], messages: list[Message], **options: Any) -> str:
    return "".join(segment.text for segment in render(messages, **options))


def compiled(template: str) -> Callable[..., str]:
    """A chat template as transformers and vLLM run it."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, ensure_ascii=False: json.dumps(value, ensure_ascii=ensure_ascii)
    return environment.from_string(template).render
