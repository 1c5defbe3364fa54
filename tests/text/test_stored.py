"""Splitting whole replies that are to be judged."""

from typing import SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.records import Reply
from open_exaone.text.split import split_reply
from open_exaone.text.stored import STORED_TAGS, split_stored

PAIRS = st.sampled_from(sorted(STORED_TAGS.items()))
WORDS = st.text(alphabet="ab 1.답\n", min_size=1).filter(str.strip)
CALL = "a</think>b<tool_call>{1}</tool_call>"
BEFORE = ["", " ", "\n \t", "\ufeff", "\u200b\n", "[|assistant|]", "[|assistant|]\n", "<|im_start|>assistant\n"]
BEFORE += [
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<start_of_turn>model\n",
    "assistant\n",
    "<s> ",
    "<bos><start_of_turn>model\n",
]


@given(PAIRS, st.sampled_from(BEFORE), WORDS, WORDS, st.booleans(), st.booleans())
def test_no_part_of_a_thought_is_answer(
    pair: tuple[str, str], before: str, thought: str, answer: str, thinking: bool, is_large: bool
) -> None:
    opening, closing = (tag.upper() if is_large else tag for tag in pair)
    reply = Reply(thought.strip("\n"), answer.strip("\n"))
    assert split_stored(f"{before}{opening}{thought}{closing}{answer}", thinking=thinking) == reply
    if not before:
        assert split_stored(f"{thought}{closing}{answer}", thinking=thinking) == reply
    assert not split_stored(f"{before}{opening}{thought}", thinking=thinking).finished


@given(PAIRS, WORDS, WORDS, WORDS, WORDS)
def test_several_thoughts_and_a_sentence_before_them(
    pair: tuple[str, str], said: str, first: str, second: str, answer: str
) -> None:
    opening, closing = pair
    parts = split_stored(f"{said}\n{opening}{first}{closing}{opening}{second}{closing}{answer}", thinking=False)
    assert parts.answer == f"{said}\n{answer}".strip("\n")
    assert parts.thought == "\n\n".join(part.strip("\n") for part in (first, second))
    cut = split_stored(f"{said}\n{opening}{first}{closing}\n{opening}{second}", thinking=False)
    assert (cut.thought, cut.answer, cut.finished) == (parts.thought, said.strip("\n"), False)


@pytest.mark.parametrize(
    ("text", "thinking", "reply"),
    [
        ("The tag `</think>` ends it.", False, Reply("", "The tag `</think>` ends it.")),
        ("x = '</think>'", False, Reply("", "x = '</think>'")),
        ("a <think> b </think> c", False, Reply("", "a <think> b </think> c")),
        ("It is:\n```\n<think>\nhm\n</think>\n```", False, Reply("", "It is:\n```\n<think>\nhm\n</think>\n```")),
        ("It opens with\n<think>\nand", False, Reply("", "It opens with\n<think>\nand")),
        ("<think>a</think>b\n<think>c", False, Reply("a", "b\n<think>c")),
        ("<think>a</think>\n<think>b", False, Reply("a\n\nb", "", finished=False)),
        ("<think>a</think>b <think> <think>c", False, Reply("a", "b <think> <think>c")),
        ("<think>a</thinking>b</think>c", False, Reply("a</thinking>b", "c")),
        ("hm", True, Reply("hm", "", finished=False)),
        (CALL, True, split_reply(CALL, thinking=True)),
        ("", False, Reply("", "")),
    ],
)  # fmt: skip
def test_table(text: str, thinking: bool, reply: Reply) -> None:
    assert split_stored(text, thinking=thinking) == reply


@given(st.text(alphabet="ab\n <>/"), st.booleans())
def test_without_a_tag_it_is_the_splitter_of_streams(text: str, thinking: bool) -> None:
    assert split_stored(text, thinking=thinking) == split_reply(text, thinking=thinking)


class Counted(str):
    """A text that counts the characters taken out of it."""

    num_read = 0

    def __getitem__(self, place: SupportsIndex | slice) -> str:
        part = super().__getitem__(place)
        self.num_read += len(part)
        return part


@pytest.mark.parametrize(
    "unit",
    [
        "<think>",
        "</think>",
        "a <think>",
        "\n<think>",
        "<think></think>",
        " ",
        "[|assistant|]",
        "```",
        "\n</think",
        "</think>```",
    ],
)
def test_every_character_is_read_a_few_times(unit: str) -> None:
    for thinking in (False, True):
        for head in ("", "</think>x"):  # behind a thought every tag looks back
            text = Counted(head + unit * (20_000 // len(unit)))
            split_stored(text, thinking=thinking)
            assert text.num_read < 5 * len(text)
