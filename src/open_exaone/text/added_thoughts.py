"""Thoughts for a model whose own chat template has none, such as most instruct models'.

    [system, user … as the template writes them] the reply's opening   <think>\\n
    the thought \\n</think>\\n\\n the answer, and the end of the turn as the template writes it

The template gets lines before it and one behind it, so that programs that open the trained model (transformers, vLLM)
render thoughts as we do (`enable_thinking`, off by default). The tags are plain text where the model has no such
tokens. Only a reply that ends the conversation shows its thought.
"""

from dataclasses import replace

from open_exaone.base.errors import CheckpointError
from open_exaone.text.chat import THOUGHT_TAGS
from open_exaone.text.tokenizer_files import TEMPLATE_FILE, TOOL_TEMPLATE_FILE, Source

_BEFORE = """\
{#- Open-EXAONE put these lines before the model's own template, and one behind it: thoughts in <think> tags. #}
{%- set thoughtful = namespace(turns=[]) %}
{%- for turn in messages %}
{%- if loop.last and enable_thinking and turn.role == 'assistant' and turn.reasoning_content %}
{%- set written = '<think>\\n' ~ turn.reasoning_content ~ '\\n</think>\\n\\n' ~ (turn.content or '') %}
{%- set thoughtful.turns = thoughtful.turns + [dict(turn, content=written)] %}
{%- else %}
{%- set thoughtful.turns = thoughtful.turns + [turn] %}
{%- endif %}
{%- endfor %}
{%- set messages = thoughtful.turns -%}
"""
_BEHIND = "{%- if add_generation_prompt and enable_thinking %}{{ '<think>\\n' }}{% endif -%}"
_FILES = {"default": TEMPLATE_FILE, "tool_use": TOOL_TEMPLATE_FILE}


def with_thoughts(source: Source) -> Source:
    """The same files, with templates that write thoughts; those of an earlier call stay as they are.

    Raises:
        CheckpointError: there is no template, or it writes thoughts in a way of its own.
    """
    templates = source.chat_templates()
    if templates is None:
        raise CheckpointError(
            f"{source.folder}: has no chat template that thoughts could be added to; add one, or choose another "
            "chat_format"
        )
    files = dict(source.files)
    for name in _FILES.keys() & templates.sources.keys():
        text = templates.sources[name]
        if text.startswith(_BEFORE):
            continue
        if "enable_thinking" in text or any(f"{tag}>" in text for tag in THOUGHT_TAGS):
            raise CheckpointError(
                f"{templates.paths[name]}: this chat template knows thoughts already: leave "
                'chat_format = "template-with-thoughts" out'
            )
        files[_FILES[name]] = f"{_BEFORE}{text}{_BEHIND}".encode()
    return replace(source, files=files)
