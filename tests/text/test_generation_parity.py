"""Ids and loss masks of 500 conversations are transformers' own, for templates with generation blocks."""

import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from open_exaone.text.chat import Dialogue
from open_exaone.text.tokenizer import Tokenizer
from text.families import LLAMA_MARKERS, make_backend, write_family, write_qwen

# In the manner of training templates: every assistant turn stands in a block, with its end and its thought.
QWEN_TRAINING = """{%- if messages[0].role == 'system' or tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
    {%- if tools %}
        {{- '<tools>' }}
        {%- for tool in tools %}{{ '\\n' ~ (tool | tojson) }}{% endfor %}
        {{- '\\n</tools>' }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
        {{- '<think>\\n' + (message.reasoning_content or '') + '\\n</think>\\n\\n' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {%- set call = call.function or call %}
            {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' ~ (call.arguments | tojson) + '}\\n' }}
            {{- '</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' ~ message.content ~ '\\n</tool_response><|im_end|>\\n' }}
    {%- elif message.role == 'user' %}
        {{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
LLAMA_TRAINING = """{{- bos_token }}
{%- if tools %}
    {{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
    {%- for tool in tools %}{{ (tool | tojson(indent=4)) ~ '\\n\\n' }}{% endfor %}
    {{- '<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
    {%- set role = 'ipython' if message.role == 'tool' else message.role %}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' }}
    {%- if role == 'assistant' %}
        {%- generation %}
        {{- message.content or '' }}
        {%- for call in message.tool_calls or [] %}
            {%- set call = call.function or call %}
            {{- '{"name": "' + call.name + '", "parameters": ' ~ (call.arguments | tojson) + '}' }}
        {%- endfor %}
        {{- '<|eot_id|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message.content | string + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""
TOOL = {"type": "function", "function": {"name": "roll", "description": "주사위", "parameters": {"n": "int"}}}
WORDS = [
    "a",
    "b",
    "12",
    "345",
    "답은",
    "it's",
    "x=",
    "{}",
    " ",
    "\n",
    "\n\n",
    " \n ",
    "🙂",
    "<",
    "}",
    '"',
    "think. 123",
]


def conversation(draw: random.Random, with_thoughts: bool) -> tuple[list[dict[str, Any]], list[Any] | None]:
    def text() -> str:
        return "w" + "".join(draw.choices(WORDS, k=draw.randrange(12)))

    messages: list[dict[str, Any]] = [{"role": "system", "content": text()}] * draw.randrange(2)
    for _ in range(draw.randrange(1, 6)):
        messages.append({"role": "user", "content": text()})
        if draw.random() < 0.3:
            call = {"name": "roll", "arguments": {"n": draw.randrange(100), "why": text()}}
            messages.append({"role": "assistant", "content": text(), "tool_calls": [{"function": call}]})
            messages.append({"role": "tool", "name": "roll", "content": text()})
        reply: dict[str, Any] = {"role": "assistant", "content": text()}
        messages.append(reply | ({"reasoning_content": text()} if with_thoughts else {}))
    if with_thoughts:
        messages = [m | ({"reasoning_content": text()} if "tool_calls" in m else {}) for m in messages]
    return messages, [TOOL] if draw.random() < 0.3 else None


@pytest.mark.parametrize("family", ["qwen", "llama"])
def test_500_conversations_are_rendered_and_masked_as_in_transformers(tmp_path: Path, family: str) -> None:
    if family == "qwen":
        folder = write_qwen(tmp_path, QWEN_TRAINING)
    else:
        tokens = {"bos_token": LLAMA_MARKERS[0], "eos_token": LLAMA_MARKERS[4]}
        folder = write_family(tmp_path, LLAMA_TRAINING, make_backend(LLAMA_MARKERS), **tokens)
    theirs, tokenizer = AutoTokenizer.from_pretrained(folder), Tokenizer.load(folder, chat_format="template")
    draw, dialogues, expected = random.Random(0), [], []
    for number in range(500):
        messages, tools = conversation(draw, with_thoughts=family == "qwen" and number % 2 == 0)
        made = theirs.apply_chat_template(
            messages,
            tools=tools,
            enable_thinking=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        expected.append((made["input_ids"], [bool(at) for at in made["assistant_masks"]]))
        places = tuple(place for place, message in enumerate(messages) if message["role"] == "assistant")
        dialogues.append(Dialogue(messages, True, tools, learned=places))
    for number, (found, (ids, mask)) in enumerate(zip(tokenizer.render_dialogues(dialogues), expected, strict=True)):
        assert isinstance(found, tuple), number
        assert tokenizer.decode(found[0]) == tokenizer.decode(ids) and found == (ids, mask), number
