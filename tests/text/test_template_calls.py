"""Arguments of calls reach a template in the form that it was written for, whichever form a row holds."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from open_exaone.text.tokenizer import Tokenizer
from text.conversations import REPLY, TOOL, USER, json_value
from text.families import write_qwen

TURN = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content }}
    {%- for tool_call in message.tool_calls or [] %}
        {%- set call = tool_call.function or tool_call %}
        {{- '<tool_call>' }}CALL{{ '</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}"""
NAMED = '{"name": "{{ call.name }}", "arguments": ARGUMENTS}'
STYLES = {  # how templates print a call, and what is between the tags where a row has n = 6
    "Hermes": (NAMED.replace("ARGUMENTS", "{{ call.arguments | tojson }}"), '{"name": "roll", "arguments": {"n": 6}}'),
    "Qwen": (
        NAMED.replace("ARGUMENTS", "{{ call.arguments if call.arguments is string else (call.arguments | tojson) }}"),
        '{"name": "roll", "arguments": {"n": 6}}',
    ),
    "Mistral": ("{{ tool_call.function | tojson }}", '{"name": "roll", "arguments": {"n": 6}}'),
    "Qwen3-Coder": (
        "{{ call.name }}{% for key, value in call.arguments | items %}<{{ key }}>{{ value }}{% endfor %}",
        "roll<n>6",
    ),
    "a text or items": (
        "{% if call.arguments is string %}{{ call.arguments }}{% else %}{{ call.name }}"
        "{% for key, value in call.arguments.items() %}<{{ key }}>{{ value }}{% endfor %}{% endif %}",
        "roll<n>6",
    ),
    "DeepSeek": ("{{ call.name + '\\n```json\\n' + call.arguments + '\\n```' }}", 'roll\n```json\n{"n": 6}\n```'),
    "any value": ("{{ call.name ~ ' ' ~ call.arguments }}", 'roll {"n": 6}'),
    "texts alone": ("{{ call.name }}{% if call.arguments is string %}{{ call.arguments }}{% endif %}", 'roll{"n": 6}'),
    "tojson, or no call": (
        "{% if call.name != 'roll' %}{{ raise_exception('unknown') }}{% endif %}{{ call.arguments | tojson }}",
        '{"n": 6}',
    ),
}


@pytest.fixture(scope="module", params=STYLES)
def style(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, str, Path]:
    printed, wanted = STYLES[request.param]
    folder = write_qwen(tmp_path_factory.mktemp("style"), TURN.replace("CALL", printed))
    return Tokenizer.load(folder, chat_format="template"), wanted, folder


def _calling(arguments: Any) -> dict[str, Any]:
    call = {"id": "abcdefgh1", "type": "function", "function": {"name": "roll", "arguments": arguments}}
    return {**REPLY, "content": "", "tool_calls": [call]}


@pytest.mark.parametrize("tools", [None, [TOOL]])
@pytest.mark.parametrize("arguments", [{"n": 6}, '{"n": 6}'])
def test_a_call_is_printed_once_as_json(style: tuple[Tokenizer, str, Path], arguments: Any, tools: Any) -> None:
    tokenizer, wanted, _ = style
    text = tokenizer.decode(tokenizer.render([USER, _calling(arguments)], tools=tools))
    assert text.partition("<tool_call>")[2].partition("</tool_call>")[0] == wanted


def test_it_is_learned_so_too(style: tuple[Tokenizer, str, Path]) -> None:
    tokenizer, wanted, _ = style
    if "roll" not in wanted:  # what is not printed is not learned
        return
    ids, mask = tokenizer.render([USER, _calling('{"n": 6}')], with_mask=True)
    learned = tokenizer.decode([token for token, is_learned in zip(ids, mask, strict=True) if is_learned])
    assert wanted in learned


@given(arguments=st.dictionaries(st.text(max_size=5), json_value, max_size=2))
def test_text_and_values_make_the_ids_that_transformers_makes_of_values(hermes: Any, arguments: Any) -> None:
    ours, theirs = hermes
    wanted = theirs.apply_chat_template([USER, _calling(arguments)])["input_ids"]
    for given_arguments in (arguments, json.dumps(arguments), json.dumps(arguments, indent=1)):
        assert ours.render([USER, _calling(given_arguments)]) == wanted


@pytest.fixture(scope="module")
def hermes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    folder = write_qwen(tmp_path_factory.mktemp("hermes"), TURN.replace("CALL", STYLES["Hermes"][0]))
    return Tokenizer.load(folder, chat_format="template"), AutoTokenizer.from_pretrained(folder)


def test_text_stays_as_it_was_written_where_the_template_prints_both(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write_qwen(tmp_path, TURN.replace("CALL", STYLES["Qwen"][0])), chat_format="template")
    text = tokenizer.decode(tokenizer.render([USER, _calling('{"n":6.50}')]))
    assert '"arguments": {"n":6.50}' in text
