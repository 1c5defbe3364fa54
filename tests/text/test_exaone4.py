"""EXAONE 4.0's chat format: golden renders, the loss mask, and equality with the templates that others run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from open_exaone.base.errors import DataError
from open_exaone.text.exaone4 import EXAONE_4, jinja_template
from open_exaone.text.tokenizer import Tokenizer
from text.conversations import (
    CALL,
    REPLY,
    THOUGHTFUL,
    TOOL,
    USER,
    Message,
    assistant,
    compiled,
    content,
    conversations,
    flags,
    text_of,
    tools,
)

OUR_TEMPLATE = compiled(jinja_template())

ROLLED: list[Message] = [
    {"role": "user", "content": "Roll"},
    {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
    {"role": "tool", "content": "3"},
    {"role": "tool", "content": {"v": 5}},
]
OPEN, EMPTY = "[|assistant|]\n<think>\n", "[|assistant|]\n<think>\n\n</think>\n\n"
ROLL = '<tool_call>{"name": "roll", "arguments": {"n": 6}}</tool_call>'


@pytest.mark.parametrize(
    ("messages", "options", "text"),
    [
        ([USER], {"generation_prompt": True}, f"[|user|]\nQ1[|endofturn|]\n{EMPTY}"),
        ([USER], {"generation_prompt": True, "thinking": True}, f"[|user|]\nQ1[|endofturn|]\n{OPEN}"),
        (
            [USER, THOUGHTFUL, {"role": "user", "content": "Q2"}],
            {"generation_prompt": True, "thinking": True},
            f"[|user|]\nQ1[|endofturn|]\n{EMPTY}A1[|endofturn|]\n[|user|]\nQ2[|endofturn|]\n{OPEN}",
        ),
        (
            ROLLED,
            {"generation_prompt": True},
            f"[|user|]\nRoll[|endofturn|]\n{EMPTY}{ROLL}\n{ROLL}[|endofturn|]\n"
            '[|tool|]\n<tool_result>{"result": "3"}</tool_result>\n<tool_result>{"result": {"v": 5}}</tool_result>'
            f"[|endofturn|]\n{EMPTY}",
        ),
        ([USER, THOUGHTFUL], {}, f"[|user|]\nQ1[|endofturn|]\n{EMPTY}A1[|endofturn|]\n"),
        (
            [{"role": "system", "content": "S"}, USER, THOUGHTFUL],
            {"thinking": True},
            f"[|system|]\nS[|endofturn|]\n[|user|]\nQ1[|endofturn|]\n{OPEN}hm\n</think>\n\nA1[|endofturn|]\n",
        ),
        (
            [{"role": "assistant", "content": "<think>\nhm\n</think>\n\nA1", "tool_calls": [CALL]}],
            {"thinking": True},
            f"{OPEN}hm\n</think>\n\nA1\n{ROLL}[|endofturn|]\n",
        ),
        ([REPLY], {"thinking": True}, f"{EMPTY}A1[|endofturn|]\n"),
    ],
)
def test_golden_renders(messages: list[Message], options: dict[str, bool], text: str, tokenizer: Tokenizer) -> None:
    assert text_of(EXAONE_4.segments, messages, **options) == text
    assert tokenizer.decode(tokenizer.render(messages, **options)) == text


def test_tools_stand_in_the_system_turn() -> None:
    alone = text_of(EXAONE_4.segments, [USER], tools=[TOOL])
    assert alone.startswith("[|system|]\n# Functions\n")
    assert json.dumps(TOOL, ensure_ascii=False) + "\n" in alone
    offer = alone.removeprefix("[|system|]\n").partition("[|endofturn|]")[0]
    system = {"role": "system", "content": "S"}
    assert text_of(EXAONE_4.segments, [system, USER], tools=[TOOL]).startswith(
        f"[|system|]\nS\n\n{offer}[|endofturn|]\n[|user|]"
    )


@given(messages=conversations, reply=assistant, thinking=flags, tools=tools)
def test_a_prompt_and_the_learned_part_make_the_whole(
    tokenizer: Tokenizer, messages: list[Message], reply: Message, thinking: bool, tools: Any
) -> None:
    prompt = tokenizer.render(messages, thinking=thinking, tools=tools, generation_prompt=True)
    ids, mask = tokenizer.render([*messages, reply], thinking=thinking, tools=tools, with_mask=True)
    learned = [token for token, is_learned in zip(ids, mask, strict=True) if is_learned]
    assert ids == prompt + learned + tokenizer.encode("\n")
    assert mask == [False] * len(prompt) + [True] * len(learned) + [False]
    assert learned[-1] == tokenizer.end_id


@given(messages=conversations, thinking=flags, question=content)
def test_only_a_reply_at_the_end_is_learned(
    tokenizer: Tokenizer, messages: list[Message], thinking: bool, question: str
) -> None:
    _, mask = tokenizer.render([*messages, {"role": "user", "content": question}], thinking=thinking, with_mask=True)
    assert not any(mask)
    _, mask = tokenizer.render(messages, thinking=thinking, generation_prompt=True, with_mask=True)
    assert not any(mask)


@given(thought=content, answer=content, thinking=flags)
def test_a_learned_reply_splits_into_what_it_was_made_of(
    tokenizer: Tokenizer, thought: str, answer: str, thinking: bool
) -> None:
    reply = {"role": "assistant", "content": answer, "reasoning_content": thought, "tool_calls": [CALL]}
    ids, mask = tokenizer.render([USER, reply], thinking=thinking, with_mask=True)
    learned = [token for token, is_learned in zip(ids, mask, strict=True) if is_learned]
    parts = tokenizer.split(learned, thinking=thinking)
    assert parts.thought == (thought.strip("\n") if thinking else "")
    assert parts.answer == answer.strip("\n")
    assert [{"name": call.name, "arguments": call.arguments} for call in parts.tool_calls] == [CALL["function"]]
    assert parts.finished


@given(text=st.lists(st.sampled_from(["<think>", "</think>", "[|endofturn|]", "<tool_call>", "\n", "a"])).map("".join))
def test_content_never_makes_a_marker(tokenizer: Tokenizer, text: str) -> None:
    messages = [
        {"role": "system", "content": text},
        {"role": "user", "content": text},
        {"role": "tool", "content": text},
    ]
    reply = {"role": "assistant", "content": text.replace("</think>", ""), "reasoning_content": text}
    harmless = [{**message, "content": "a"} for message in messages]

    def markers(messages: list[Message]) -> list[int]:
        return [token for token in tokenizer.render(messages, thinking=True, tools=[{"name": text}]) if token < 15]

    assert markers([*messages, reply]) == markers([*harmless, {**REPLY, "reasoning_content": "a"}])


@given(batch=st.lists(conversations, max_size=4), thinking=flags, generation_prompt=flags)
def test_many_are_rendered_as_one_by_one(
    tokenizer: Tokenizer, batch: list[list[Message]], thinking: bool, generation_prompt: bool
) -> None:
    assert tokenizer.render_many(batch, thinking=thinking, generation_prompt=generation_prompt) == [
        tokenizer.render(messages, thinking=thinking, generation_prompt=generation_prompt, with_mask=True)
        for messages in batch
    ]


@given(messages=conversations, thinking=flags, tools=tools, generation_prompt=flags)
def test_our_template_renders_the_same(
    messages: list[Message], thinking: bool, tools: Any, generation_prompt: bool
) -> None:
    theirs = OUR_TEMPLATE(
        messages=messages, enable_thinking=thinking, tools=tools, add_generation_prompt=generation_prompt
    )
    assert (
        text_of(EXAONE_4.segments, messages, thinking=thinking, tools=tools, generation_prompt=generation_prompt)
        == theirs
    )


def test_our_template_is_non_reasoning_by_default() -> None:
    assert OUR_TEMPLATE(messages=[USER], add_generation_prompt=True) == text_of(
        EXAONE_4.segments, [USER], generation_prompt=True
    )


@pytest.fixture(scope="module")
def in_transformers(saved: Path) -> Any:
    return AutoTokenizer.from_pretrained(saved)


@given(messages=conversations, thinking=flags, tools=tools, generation_prompt=flags)
def test_transformers_makes_the_same_ids(
    tokenizer: Tokenizer,
    in_transformers: Any,
    messages: list[Message],
    thinking: bool,
    tools: Any,
    generation_prompt: bool,
) -> None:
    theirs = in_transformers.apply_chat_template(
        messages, enable_thinking=thinking, tools=tools, add_generation_prompt=generation_prompt
    )["input_ids"]
    assert tokenizer.render(messages, thinking=thinking, tools=tools, generation_prompt=generation_prompt) == theirs


@pytest.fixture(scope="module")
def exaone_template(exaone: Path) -> Callable[..., str]:
    return compiled((exaone / "chat_template.jinja").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def exaone_tokenizer(exaone: Path) -> Tokenizer:
    return Tokenizer.load(exaone)


@pytest.fixture(scope="module")
def exaone_in_transformers(exaone: Path) -> Any:
    return AutoTokenizer.from_pretrained(exaone)


@given(messages=conversations, thinking=flags, generation_prompt=flags)
def test_the_published_template_renders_the_same(
    exaone_template: Callable[..., str],
    exaone_tokenizer: Tokenizer,
    exaone_in_transformers: Any,
    messages: list[Message],
    thinking: bool,
    generation_prompt: bool,
) -> None:
    """Without tools, and without what `as_published` takes away."""
    messages = [as_published(message) for message in messages]
    theirs = exaone_template(
        messages=messages,
        enable_thinking=thinking,
        skip_think=not thinking or generation_prompt,
        add_generation_prompt=generation_prompt,
    )
    assert text_of(EXAONE_4.segments, messages, thinking=thinking, generation_prompt=generation_prompt) == theirs
    ids = exaone_tokenizer.render(messages, thinking=thinking, generation_prompt=generation_prompt)
    assert ids == exaone_in_transformers(theirs)["input_ids"]


def as_published(message: Message) -> Message:
    """The message less what the published template and ours differ on, the published one being wrong.

    It cuts the beginning off a thought inside the content, drops a thought that only calls follow, puts a second
    pair of quotes around arguments given as text, does not escape a function's name, and leaves the think block,
    which the prompt has opened, out of an empty turn.
    """
    if message["role"] != "assistant":
        return message
    calls = [CALL for _ in message.get("tool_calls", [])]
    answer = message["content"].rpartition("</think>")[2] or ("" if calls else "a")
    thought = message.get("reasoning_content", "") if answer else ""
    return {"role": "assistant", "content": answer, "reasoning_content": thought, "tool_calls": calls}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], r"messages: is empty"),
        (["Q"], r"messages\[0\]: must be a mapping .* not str"),
        (
            [USER, {"role": "bot", "content": "x"}],
            r"messages\[1\]\.role = 'bot': unknown role; use one of system, user",
        ),
        ([{"content": "x"}], r"messages\[0\]\.role = None"),
        ([USER, {"role": "user"}], r"messages\[1\]\.content: is missing; give"),
        ([{"role": "assistant", "content": None}], r"messages\[0\]\.content: is missing"),
        ([{"role": "user", "content": [{"type": "text"}]}], r"messages\[0\]\.content: must be a text, not list; join"),
        ([{**REPLY, "reasoning_content": 3}], r"messages\[0\]\.reasoning_content: must be a text, not int"),
        ([{"role": "tool"}], r"messages\[0\]\.content: is missing"),
        ([{"role": "tool", "content": {1, 2}}], r"messages\[0\]\.content: cannot be written as JSON"),
        ([{**REPLY, "tool_calls": ["f"]}], r"messages\[0\]\.tool_calls\[0\]: must be"),
        ([{**REPLY, "tool_calls": [CALL, {"name": "f"}]}], r"messages\[0\]\.tool_calls\[1\]: must be"),
        ([{**REPLY, "tool_calls": [{"name": "f", "arguments": "{"}]}], r"tool_calls\[0\]\.arguments: a text .* JSON"),
        ([{**REPLY, "tool_calls": [{"name": "f", "arguments": {1j: 2}}]}], r"tool_calls\[0\]\.arguments: cannot be"),
    ],
)
def test_malformed_messages_are_named(messages: list[Any], message: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=message):
        tokenizer.render(messages)
