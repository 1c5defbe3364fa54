"""The chat formats of EXAONE 3.5 and Deep: golden renders, and equality with the published templates."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from open_exaone.base.errors import CheckpointError, DataError
from open_exaone.text.chat import ChatFormat
from open_exaone.text.exaone3 import EXAONE_35, EXAONE_DEEP
from open_exaone.text.tokenizer import Tokenizer
from text.conversations import (
    CALL,
    DEEP_TEMPLATE,
    EXAONE_35_TEMPLATE,
    REPLY,
    THOUGHTFUL,
    TOOL,
    USER,
    Message,
    compiled,
    content,
    flags,
    text_of,
)
from text.conversations import without_tools as conversations

TEMPLATES = {EXAONE_35.name: compiled(EXAONE_35_TEMPLATE), EXAONE_DEEP.name: compiled(DEEP_TEMPLATE)}

SYSTEM = {"role": "system", "content": "S"}
INLINE = {"role": "assistant", "content": "<thought>\nhm\n</thought>\n\nA1"}
HEAD, PROMPT = "[|system|][|endofturn|]\n", "[|assistant|]<thought>\n"

thoughtful = st.builds(
    lambda thought, answer: {"role": "assistant", "content": f"<thought>\n{thought}\n</thought>\n\n{answer}"},
    content,
    content,
)
formats = st.sampled_from([EXAONE_35, EXAONE_DEEP])


@pytest.mark.parametrize(
    ("messages", "options", "text"),
    [
        ([USER], {"generation_prompt": True}, f"{HEAD}[|user|]Q1\n{PROMPT}"),
        ([USER], {"generation_prompt": True, "thinking": True}, f"{HEAD}[|user|]Q1\n{PROMPT}"),
        (
            [USER, INLINE, {"role": "user", "content": "Q2"}],
            {"generation_prompt": True, "thinking": True},
            f"{HEAD}[|user|]Q1\n[|assistant|]A1[|endofturn|]\n[|user|]Q2\n{PROMPT}",
        ),
        ([SYSTEM, USER], {"generation_prompt": True}, f"[|system|]S[|endofturn|]\n[|user|]Q1\n{PROMPT}"),
        # The reply's thought is learned with thinking, and dropped, as the template does it, without.
        ([USER, INLINE], {"thinking": True}, f"{HEAD}[|user|]Q1\n{PROMPT}hm\n</thought>\n\nA1[|endofturn|]"),
        ([USER, THOUGHTFUL], {"thinking": True}, f"{HEAD}[|user|]Q1\n{PROMPT}hm\n</thought>\n\nA1[|endofturn|]"),
        ([USER, REPLY], {"thinking": True}, f"{HEAD}[|user|]Q1\n{PROMPT}\n</thought>\n\nA1[|endofturn|]"),
        ([USER, INLINE], {}, f"{HEAD}[|user|]Q1\n[|assistant|]A1[|endofturn|]"),
        ([INLINE], {"generation_prompt": True}, f"{HEAD}[|assistant|]A1[|endofturn|]\n{PROMPT}"),
        # A user's text is not cut, as the template does it.
        ([{"role": "user", "content": "a</thought>b"}], {}, f"{HEAD}[|user|]a</thought>b"),
    ],
)
def test_golden_renders_of_deep(
    messages: list[Message], options: dict[str, bool], text: str, tokenizer: Tokenizer, saved: Path
) -> None:
    assert text_of(EXAONE_DEEP.segments, messages, **options) == text
    deep = Tokenizer.load(saved, chat_format="exaone-deep")
    assert deep.decode(deep.render(messages, **options)) == text


@pytest.mark.parametrize("thinking", [False, True])
def test_golden_renders_of_35(thinking: bool, saved: Path) -> None:
    messages = [SYSTEM, USER, THOUGHTFUL, {"role": "user", "content": "Q2"}]
    text = "[|system|]S[|endofturn|]\n[|user|]Q1\n[|assistant|]A1[|endofturn|]\n[|user|]Q2\n[|assistant|]"
    assert text_of(EXAONE_35.segments, messages, thinking=thinking, generation_prompt=True) == text
    assert text_of(EXAONE_35.segments, [USER, REPLY]) == f"{HEAD}[|user|]Q1\n[|assistant|]A1[|endofturn|]\n"
    tokenizer = Tokenizer.load(saved, chat_format="exaone-3.5")
    assert tokenizer.decode(tokenizer.render(messages, thinking=thinking, generation_prompt=True)) == text


@given(chat_format=formats, messages=conversations, last=thoughtful | st.none(), thinking=flags, prompt=flags)
def test_the_published_templates_render_the_same(
    chat_format: ChatFormat, messages: list[Message], last: Message | None, thinking: bool, prompt: bool
) -> None:
    messages = [*messages, last] if last else messages
    learns_thought = chat_format is EXAONE_DEEP and thinking and not prompt and messages[-1]["role"] == "assistant"
    theirs = TEMPLATES[chat_format.name](messages=messages, add_generation_prompt=prompt)
    ours = text_of(chat_format.segments, messages, thinking=thinking and not learns_thought, generation_prompt=prompt)
    assert ours == theirs


@given(name=st.sampled_from(["exaone-3.5", "exaone-deep"]), messages=conversations, thinking=flags, prompt=flags)
def test_the_real_tokenizer_makes_the_ids_of_the_whole(
    real: dict[str, Tokenizer], in_transformers: Any, name: str, messages: list[Message], thinking: bool, prompt: bool
) -> None:
    ids = real[name].render(messages, thinking=thinking, generation_prompt=prompt)
    text = text_of(real[name].chat_format.segments, messages, thinking=thinking, generation_prompt=prompt)
    assert ids == in_transformers(text)["input_ids"]


@pytest.fixture(scope="module")
def real(exaone: Path) -> dict[str, Tokenizer]:
    return {name: Tokenizer.load(exaone, chat_format=name) for name in ("exaone-3.5", "exaone-deep")}


@pytest.fixture(scope="module")
def in_transformers(exaone: Path) -> Any:
    return AutoTokenizer.from_pretrained(exaone)


@pytest.fixture(scope="module")
def ours(saved: Path) -> dict[str, Tokenizer]:
    return {name: Tokenizer.load(saved, chat_format=name) for name in ("exaone-3.5", "exaone-deep")}


@given(messages=conversations, thought=content, answer=content, name=st.sampled_from(["exaone-3.5", "exaone-deep"]))
def test_a_prompt_and_the_learned_part_make_the_whole(
    ours: dict[str, Tokenizer], messages: list[Message], thought: str, answer: str, name: str
) -> None:
    tokenizer = ours[name]
    reply = {"role": "assistant", "content": answer, "reasoning_content": thought}
    prompt = tokenizer.render(messages, thinking=True, generation_prompt=True)
    ids, mask = tokenizer.render([*messages, reply], thinking=True, with_mask=True)
    learned = [token for token, is_learned in zip(ids, mask, strict=True) if is_learned]
    end = [] if name == "exaone-deep" else tokenizer.encode("\n")
    assert ids == prompt + learned + end
    assert learned[-1] == tokenizer.end_id
    parts = tokenizer.split(learned, thinking=True)
    assert parts.thought == (thought.strip("\n") if name == "exaone-deep" else "")
    assert (parts.answer, parts.finished) == (answer.strip("\n"), True)


@given(messages=conversations, thinking=flags, prompt=flags, name=st.sampled_from(["exaone-3.5", "exaone-deep"]))
def test_only_a_reply_at_the_end_is_learned(
    ours: dict[str, Tokenizer], messages: list[Message], thinking: bool, prompt: bool, name: str
) -> None:
    ids, mask = ours[name].render(messages, thinking=thinking, generation_prompt=prompt, with_mask=True)
    assert len(ids) == len(mask)
    assert any(mask) == (messages[-1]["role"] == "assistant" and not prompt)


def test_which_prompts_open_a_thought() -> None:
    assert [EXAONE_35.opens_thought(thinking) for thinking in (False, True)] == [False, False]
    assert [EXAONE_DEEP.opens_thought(thinking) for thinking in (False, True)] == [True, True]


def test_a_reply_is_split_by_the_formats_own_tag(ours: dict[str, Tokenizer]) -> None:
    assert ours["exaone-deep"].split("a</think>b</thought>c", thinking=False).thought == "a</think>b"
    splitter = ours["exaone-deep"].splitter(thinking=False)
    assert [piece.part for piece in splitter.feed("a</thought>b")] == ["thought", "answer"]
    assert ours["exaone-3.5"].split("a</thought>b", thinking=True).answer == "b"  # a thought that nobody asked for
    assert ours["exaone-deep"].split("a</think>b", thinking=False).answer == ""


@pytest.mark.parametrize("chat_format", [EXAONE_35, EXAONE_DEEP], ids=lambda chat_format: chat_format.name)
@pytest.mark.parametrize(
    ("messages", "tools", "where"),
    [
        ([USER], [TOOL], "tools"),
        ([USER, {"role": "tool", "content": "3"}], None, r"messages\[1\]\.role = 'tool'"),
        ([{"role": "assistant", "content": None, "tool_calls": [CALL]}], None, r"messages\[0\]\.tool_calls"),
    ],
)
def test_there_are_no_tools(chat_format: ChatFormat, messages: list[Message], tools: Any, where: str) -> None:
    with pytest.raises(DataError, match=f"^{where}: the chat format {chat_format.name} has no tools; leave"):
        chat_format.segments(messages, tools=tools)


def test_malformed_messages_are_named() -> None:
    for chat_format in (EXAONE_35, EXAONE_DEEP):
        with pytest.raises(DataError, match=r"messages\[0\]\.content: is missing"):
            chat_format.segments([{"role": "user"}])


def test_a_tokenizer_without_the_turn_markers_is_refused(tmp_path: Path, saved: Path) -> None:
    text = (saved / "tokenizer.json").read_text(encoding="utf-8").replace("[|system|]", "<|system|>")
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    other = Tokenizer.load(tmp_path, chat_format="exaone-deep")
    with pytest.raises(CheckpointError, match=r"has no token '\[\|system\|\]'; the chat format exaone-deep needs it"):
        other.render([USER])


@given(text=st.lists(st.sampled_from(["<thought>", "</thought>", "[|endofturn|]", "<think>", "\n", "a"])).map("".join))
def test_content_never_makes_a_marker(ours: dict[str, Tokenizer], text: str) -> None:
    for tokenizer in ours.values():
        messages = [{"role": "system", "content": text}, {"role": "user", "content": text}, REPLY]
        harmless = [{"role": "system", "content": "a"}, {"role": "user", "content": "a"}, REPLY]
        assert [token for token in tokenizer.render(messages) if token < 15] == [
            token for token in tokenizer.render(harmless) if token < 15
        ]
