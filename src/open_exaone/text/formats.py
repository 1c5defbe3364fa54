"""Which chat format a folder's model speaks: the one asked for, or what its template and config.json show."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from open_exaone.base.config import did_you_mean
from open_exaone.base.errors import CheckpointError, ConfigError, DataError
from open_exaone.text.added_thoughts import with_thoughts
from open_exaone.text.chat import ChatFormat, Dialogue, Message, Rendering, check_messages, thought_and_answer
from open_exaone.text.exaone3 import EXAONE_35, EXAONE_DEEP
from open_exaone.text.exaone4 import EXAONE_4, jinja_template
from open_exaone.text.template import Template
from open_exaone.text.tokenizer_files import ChatTemplates, Source

NATIVE = {chat_format.name: chat_format for chat_format in (EXAONE_35, EXAONE_DEEP, EXAONE_4)}
WITH_THOUGHTS = "template-with-thoughts"  # the folder's own template, and thoughts that it lacks: `added_thoughts`
NAMES = (*NATIVE, "template", WITH_THOUGHTS)

_SYSTEM = {"role": "system", "content": " 너는 친절하다.\n"}
_USER = {"role": "user", "content": " Q1\n\n"}
_FOLLOW_UP = {"role": "user", "content": "Q2 "}
_REPLY = {"role": "assistant", "content": "\nA1 "}


def check_name(name: str | None) -> None:
    """Refuses a name that no format has.

    Raises:
        ConfigError: names those that there are.
    """
    if name is not None and name not in NAMES:
        raise ConfigError(
            f"chat_format = {name!r}: unknown{did_you_mean(name, NAMES)} The formats are {', '.join(NAMES)}"
        )


def source_for(name: str | None, source: Source) -> Source:
    """A folder's files as a format needs them: its own template must be there, and may get thoughts.

    Raises:
        CheckpointError: there is no template, or thoughts cannot be added to it.
    """
    if name == WITH_THOUGHTS:
        return with_thoughts(source)
    if name == "template" and source.chat_templates() is None:
        raise CheckpointError(f"{source.folder}: has no chat template; leave chat_format='template' out, or add one")
    return source


def choose_format(source: Source, name: str | None, make_template: Callable[[ChatTemplates], Template]) -> ChatFormat:
    """The format of a folder's model.

    Args:
        name: the format asked for; None leaves it to the folder.
        make_template: makes a format of the folder's templates, other than our own.

    Raises:
        CheckpointError: a template is broken.
    """
    if name in NATIVE:
        return NATIVE[name]
    templates = source.chat_templates()
    if templates is None:
        return _by_config(source)
    if name is None and templates.sources == {"default": jinja_template()}:
        return EXAONE_4
    template = make_template(templates)
    if name is None:
        for native in NATIVE.values():
            if says_the_same(native, template):
                return _with_own_tools(native, template)
    return template.chat_format


def says_the_same(native: ChatFormat, template: Template) -> bool:
    """Whether a native format renders some test conversations as the template does.

    Raises:
        CheckpointError: the template is broken.
    """
    inline = f"<{native.thought_tag}>\nhm\n</{native.thought_tag}>\n\nA1"
    for messages, thinking, generation_prompt in _probes(inline):
        rendered = native.segments(messages, thinking=thinking, generation_prompt=generation_prompt)
        try:
            theirs = template.text(messages, thinking=thinking, generation_prompt=generation_prompt)
        except DataError:  # it refuses what the native format takes
            return False
        if "".join(segment.text for segment in rendered) != theirs:
            return False
    return True


def _probes(inline: str) -> list[tuple[list[Message], bool, bool]]:
    """Conversations, each with its mode and whether a generation prompt ends it.

    A reply is asked for without thinking alone: there the published template of EXAONE Deep, which drops the thought
    to be learned, differs from ours on purpose.
    """
    thought = {"role": "assistant", "content": "A1", "reasoning_content": "hm"}
    return [
        ([_USER], False, True),
        ([_USER], True, True),
        ([_SYSTEM, _USER], True, True),
        ([_USER, thought, _FOLLOW_UP], True, True),
        ([_SYSTEM, _USER, _REPLY, _FOLLOW_UP], False, True),
        ([_USER, {"role": "assistant", "content": inline}, _FOLLOW_UP], False, True),
        ([_USER, _REPLY], False, False),
        ([_USER, thought], False, False),
    ]


def _with_own_tools(native: ChatFormat, template: Template) -> ChatFormat:
    """The native format, but tools in the words of the checkpoint, which its model has learned."""

    if native is not EXAONE_4:
        return native

    def render_all(dialogues: Sequence[Dialogue]) -> list[Rendering]:
        with_tools = [dialogue for dialogue in dialogues if dialogue.tools]
        theirs = iter(template.render_all([_in_its_words(dialogue, native.thought_tag) for dialogue in with_tools]))
        ours = iter(native.render_all([dialogue for dialogue in dialogues if not dialogue.tools]))
        return [next(theirs if dialogue.tools else ours) for dialogue in dialogues]

    return replace(native, render_all=render_all)


def _in_its_words(dialogue: Dialogue, tag: str) -> Dialogue:
    """A dialogue as EXAONE's template takes it; one that is malformed as it is, for the template's own refusal."""
    try:
        check_messages(dialogue.messages)
    except DataError:
        return dialogue
    messages = list(dialogue.messages)
    for place in dialogue.learned if dialogue.thinking else ():
        messages[place] = _with_thought_apart(messages[place], tag)
    return dialogue._replace(messages=messages)


def _with_thought_apart(message: Message, tag: str) -> Message:
    """A reply's thought in a field of its own: EXAONE's template cuts letters off one that stands in the content."""
    if message["role"] != "assistant" or f"</{tag}>" not in (message.get("content") or ""):
        return message
    thought, answer = thought_and_answer(message, tag)
    return {**message, "reasoning_content": thought, "content": answer.lstrip("\n")}


def _by_config(source: Source) -> ChatFormat:
    """Without a template, EXAONE's own models are known by their config.json."""
    kind = source.value("config.json", "model_type")
    if kind == "exaone4":
        return EXAONE_4
    if kind == "exaone":
        folder = source.folder.absolute()
        named = folder.parents[1] if folder.parent.name == "snapshots" else folder  # so the hub's cache lays it out
        names = f"{named.name} {source.value('config.json', '_name_or_path')}"
        return EXAONE_DEEP if re.search(r"(?<![a-z])deep(?![a-z])", names.lower()) else EXAONE_35
    return _no_format(source)


def _no_format(source: Source) -> ChatFormat:
    """Stands where a folder says nothing of conversations: all but rendering works."""

    def render_all(dialogues: Sequence[Dialogue]) -> list[Rendering]:
        raise CheckpointError(
            f"{source.folder}: has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); "
            f"add one, or say how to render with chat_format=..., one of {', '.join(NATIVE)}"
        )

    return ChatFormat("none", "think", lambda thinking: thinking, render_all)
