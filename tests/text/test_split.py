"""Splitting a reply: table cases, and the same result whatever the chunks."""

import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from open_exaone.base.records import Reply
from open_exaone.text.split import Part, Piece, ReplySplitter, split_reply

TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
replies = st.lists(st.sampled_from([*TAGS, "\n", "<", "</", "a", "답", '{"n": 1}']) | st.text(max_size=3)).map("".join)


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
        # Without a thought, all is answer; a tag is then text.
        ("\n42\n", False, Reply("", "42")),
        ("a </think> b <think> c", False, Reply("", "a </think> b <think> c")),
        ("", False, Reply("", "")),
        # The thought ends at the first closing tag.
        ("a</think>b</think>c<think>d", True, Reply("a", "b</think>c<think>d")),
        # Tool calls, of the answer only.
        ("hm\n</think>\n\n<tool_call>{}</tool_call>", True, Reply("hm", "", ("{}",))),
        ("Hi\n<tool_call> {1}\n</tool_call>\n<tool_call>x</tool_call>\n", False, Reply("", "Hi", ("{1}", "x"))),
        ("<tool_call>1</tool_call>\nthen", False, Reply("", "then", ("1",))),
        ("a<tool_call>1</tool_call>b", False, Reply("", "ab", ("1",))),
        ("<tool_call>a</think>", True, Reply("<tool_call>a", "")),
        ("Hi\n<tool_call>{1", False, Reply("", "Hi\n<tool_call>{1")),
        ("</tool_call>", False, Reply("", "</tool_call>")),
    ],
)
def test_table(text: str, thinking: bool, reply: Reply) -> None:
    assert split_reply(text, thinking=thinking) == reply


@given(text=replies, cuts=st.lists(st.integers(0, 80)), thinking=st.booleans())
@example(text="<think>a</think><tool_call>b</tool_call>\nc", cuts=list(range(80)), thinking=False)
def test_chunks_make_no_difference(text: str, cuts: list[int], thinking: bool) -> None:
    splitter = ReplySplitter(thinking=thinking)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [piece for start, end in pairwise(edges) for piece in splitter.feed(text[start:end])]
    pieces += splitter.finish()
    joined = {part: [piece.text for piece in pieces if piece.part is part] for part in Part}
    assert split_reply(text, thinking=thinking) == Reply(
        "".join(joined[Part.THOUGHT]),
        "".join(joined[Part.ANSWER]),
        tuple(joined[Part.TOOL_CALL]),
        splitter.finished,
    )
    assert all(piece.text for piece in pieces if piece.part is not Part.TOOL_CALL)


@given(text=replies, thinking=st.booleans())
def test_nothing_is_dropped_but_tags_and_the_white_space_around(text: str, thinking: bool) -> None:
    def bare(text: str) -> list[str]:
        for tag in TAGS:
            text = text.replace(tag, " ")
        return sorted("".join(text.split()))

    reply = split_reply(text, thinking=thinking)
    assert bare(" ".join([reply.thought, reply.answer, *reply.tool_calls])) == bare(text)


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


@pytest.mark.parametrize("unit", ["a", "\n", "<", "</think", "<tool_call>", "<tool_call></tool_call>", "\n<"])
def test_time_is_linear(unit: str) -> None:
    text = unit * (400_000 // len(unit))
    start = time.perf_counter()
    split_reply(text, thinking=False)
    splitter = ReplySplitter(thinking=True)
    for index in range(0, len(text), 8):
        splitter.feed(text[index : index + 8])
    splitter.finish()
    assert time.perf_counter() - start < 5  # a quadratic way would take minutes
