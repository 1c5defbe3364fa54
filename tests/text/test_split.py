"""Splitting a reply: table cases, and the same result whatever the chunks."""

import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from open_exaone.base.records import Reply, ToolCall
from open_exaone.text.split import Part, Piece, ReplySplitter, join_pieces, read_tool_call, split_reply

TAGS = ("<think>", "</think>", "<thought>", "</thought>", "<tool_call>", "</tool_call>")
replies = st.lists(st.sampled_from([*TAGS, "\n", "<", "</", "a", "답", '{"n": 1}']) | st.text(max_size=3)).map("".join)


def reply_with(thought: str, answer: str, *calls: str) -> Reply:
    return Reply(thought, answer, tuple(map(read_tool_call, calls)))


@pytest.mark.parametrize(
    ("text", "thinking", "reply"),
    [
        # The prompt opened the thought.
        ("hm\n</think>\n\n42", True, Reply("hm", "42")),
        ("\n\n</think>\n\n42\n", True, Reply("", "42")),
        ("a\n\nb\n</think>\n\nc\n\nd\n", True, Reply("a\n\nb", "c\n\nd")),
        ("  a </think>b ", True, Reply("  a ", "b ")),
        ("hm", True, Reply("hm", "", finished=False)),
        ("hm\n</thin", True, Reply("hm\n</thin", "", finished=False)),
        ("", True, Reply("", "", finished=False)),
        ("hm</think>", True, Reply("hm", "")),
        # The reply opens it itself, whatever the prompt did.
        ("<think>\nhm\n</think>\n\n42", True, Reply("hm", "42")),
        ("<think>\nhm\n</think>\n\n42", False, Reply("hm", "42")),
        ("\n<think>hm", False, Reply("hm", "", finished=False)),
        ("<thin", False, Reply("", "<thin")),
        # Either tag opens it, and then only its own closes it.
        ("<thought>\nhm\n</thought>\n\n42", False, Reply("hm", "42")),
        ("<thought>a</think>b</thought>c", False, Reply("a</think>b", "c")),
        ("<think>a</thought>b</think>c", True, Reply("a</thought>b", "c")),
        ("<thought>a</think>", True, Reply("a</think>", "", finished=False)),
        # One that the prompt opened ends at the first closing tag of any.
        ("a</thought>b</think>c", True, Reply("a", "b</think>c")),
        ("a</think>b</thought>c", True, Reply("a", "b</thought>c")),
        ("hm\n</tho", True, Reply("hm\n</tho", "", finished=False)),
        # Without a thought, all is answer; a tag is then text.
        ("\n42\n", False, Reply("", "42")),
        ("a </think> b <think> c", False, Reply("", "a </think> b <think> c")),
        ("", False, Reply("", "")),
        # The thought ends at the first closing tag.
        ("a</think>b</think>c<think>d", True, Reply("a", "b</think>c<think>d")),
        # Tool calls, of the answer only.
        ("hm\n</think>\n\n<tool_call>{}</tool_call>", True, reply_with("hm", "", "{}")),
        ("Hi\n<tool_call> {1}\n</tool_call>\n<tool_call>x</tool_call>\n", False, reply_with("", "Hi", "{1}", "x")),
        ("<tool_call>1</tool_call>\nthen", False, reply_with("", "then", "1")),
        ("a<tool_call>1</tool_call>b", False, reply_with("", "ab", "1")),
        ("<tool_call></tool_call>", False, reply_with("", "", "")),
        ("<tool_call>a</think>", True, Reply("<tool_call>a", "")),
        ("Hi\n<tool_call>{1", False, Reply("", "Hi\n<tool_call>{1")),
        ("</tool_call>", False, Reply("", "</tool_call>")),
    ],
)
def test_table(text: str, thinking: bool, reply: Reply) -> None:
    assert split_reply(text, thinking=thinking) == reply


@given(
    text=replies,
    cuts=st.lists(st.integers(0, 80)),
    thinking=st.booleans(),
    tags=st.sampled_from([("think",), ("thought",), ("think", "thought")]),
)
@example(text="<think>a</think><tool_call>b</tool_call>\nc", cuts=list(range(80)), thinking=False, tags=("think",))
@example(text="<thought>a</thought>c", cuts=list(range(80)), thinking=True, tags=("think", "thought"))
@example(text="a</thought>c", cuts=list(range(80)), thinking=True, tags=("think", "thought"))
def test_chunks_make_no_difference(text: str, cuts: list[int], thinking: bool, tags: tuple[str, ...]) -> None:
    splitter = ReplySplitter(thinking=thinking, thought_tags=tags)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [piece for start, end in pairwise(edges) for piece in splitter.feed(text[start:end])]
    pieces += splitter.finish()
    whole = split_reply(text, thinking=thinking, thought_tags=tags)
    assert whole == join_pieces(pieces, finished=splitter.finished)
    assert all(piece.text for piece in pieces if piece.part is not Part.TOOL_CALL)


@given(st.text(alphabet="a\n \\{}1>"))
def test_the_short_way_for_a_reply_without_tags_is_the_splitters(text: str) -> None:
    splitter = ReplySplitter(thinking=False)
    pieces = splitter.feed(text) + splitter.finish()
    assert split_reply(text, thinking=False) == join_pieces(pieces, finished=splitter.finished)


def test_a_tag_that_is_not_the_formats_is_text() -> None:
    text = "<thought>a</think>b</thought>c"
    assert split_reply(text, thinking=False, thought_tags=("think",)) == Reply("", text)
    assert split_reply(text, thinking=True, thought_tags=("think",)) == Reply("<thought>a", "b</thought>c")


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ('{"name": "f", "arguments": {"n": [1, "답"]}}', ToolCall("", "f", {"n": [1, "답"]})),
        ('{"name": "f"}', ToolCall("", "f", {})),
        ('{"name": "f", "arguments": {}, "id": 3}', ToolCall("", "f", {})),
        ("", ToolCall("", error="This is not valid JSON: Expecting value")),
        ('{"name": "f", "arguments": {"n": 1}', ToolCall("", error="This is not valid JSON: Expecting ',' delimiter")),
        ("[1]", ToolCall("", error="The JSON must be an object with 'name' and 'arguments', not a list.")),
        ("null", ToolCall("", error="The JSON must be an object with 'name' and 'arguments', not null.")),
        ("{}", ToolCall("", error="The function's 'name' is missing.")),
        ('{"name": 3, "arguments": {}}', ToolCall("", error="The function's 'name' must be a text, not a number.")),
        ('{"name": "f", "arguments": "{}"}', ToolCall("", error="The 'arguments' must be an object, not a text.")),
        ('{"name": "f", "arguments": null}', ToolCall("", error="The 'arguments' must be an object, not null.")),
        ('{"name": "f", "arguments": {"n": NaN}}', ToolCall("", error="The JSON holds NaN, an infinite number")),
        ('{"name": "f", "arguments": {"n": 1e999}}', ToolCall("", error="The JSON holds NaN, an infinite number")),
        ('{"n": ' + "9" * 5000 + "}", ToolCall("", error="The JSON holds NaN, an infinite number")),
        ("[" * 100_000, ToolCall("", error="The JSON is nested too deeply.")),
    ],
)
def test_a_call_is_read_or_says_what_is_wrong(text: str, call: ToolCall) -> None:
    [read] = split_reply(f"<tool_call>{text}</tool_call>", thinking=False).tool_calls
    assert (read.text, read.name, read.arguments) == (text, call.name, call.arguments)
    assert (read.error is None) == (call.error is None)
    assert (read.error or "").startswith(call.error or "")


@given(text=replies, thinking=st.booleans())
def test_nothing_is_dropped_but_tags_and_the_white_space_around(text: str, thinking: bool) -> None:
    def bare(text: str) -> list[str]:
        for tag in TAGS:
            text = text.replace(tag, " ")
        return sorted("".join(text.split()))

    reply = split_reply(text, thinking=thinking)
    assert bare(" ".join([reply.thought, reply.answer, *(call.text for call in reply.tool_calls)])) == bare(text)


def test_text_is_given_as_soon_as_it_is_certain() -> None:
    splitter = ReplySplitter(thinking=True)
    assert splitter.feed("hm") == [Piece(Part.THOUGHT, "hm")]
    assert splitter.feed(" 2 < 3") == [Piece(Part.THOUGHT, " 2 < 3")]
    assert splitter.feed(" so<") == [Piece(Part.THOUGHT, " so")]
    assert splitter.feed("/th") == []
    assert splitter.feed("ink>\n\n4") == [Piece(Part.ANSWER, "4")]
    assert splitter.feed("2\n") == [Piece(Part.ANSWER, "2")]
    assert splitter.feed("<tool_call>{") == []
    assert splitter.feed("}</tool_call>") == [Piece(Part.TOOL_CALL, "{}")]
    assert splitter.finish() == []


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "\n",
        "<",
        "</think",
        "</thought",
        "<tool_call>",
        "<tool_call></tool_call>",
        "<tool_call>[</tool_call>",
        "\n<",
    ],
)
def test_time_is_linear(unit: str) -> None:
    text = unit * (400_000 // len(unit))
    start = time.process_time()
    split_reply(text, thinking=False)
    splitter = ReplySplitter(thinking=True)
    for index in range(0, len(text), 8):
        splitter.feed(text[index : index + 8])
    splitter.finish()
    assert time.process_time() - start < 20  # a quadratic way would take minutes
