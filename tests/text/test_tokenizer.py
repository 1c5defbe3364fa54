"""The tokenizer: nothing is lost, no text makes a marker, sizes are exact, and transformers opens it."""

from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from open_exaone.base.errors import CheckpointError, ConfigError, DataError
from open_exaone.text.tokenizer import Tokenizer

MARKERS = (
    *("[PAD]", "[BOS]", "[EOS]", "[UNK]"),
    *("</tool_call>", "<tool_call>", "</tool_result>", "<tool_result>", "</think>", "<think>"),
    *("[|system|]", "[|tool|]", "[|assistant|]", "[|user|]", "[|endofturn|]"),
)
TEXTS = ["What is 12 + 30?", "열둘 더하기 서른은 42\n", "\n\n  42  \n"] * 20

any_text = st.lists(st.sampled_from(MARKERS) | st.text(st.characters(exclude_categories=["Cs"]))).map("".join)


@given(text=any_text)
def test_text_survives_and_never_makes_a_marker(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert min(ids, default=len(MARKERS)) >= len(MARKERS)


@given(parts=st.lists(any_text, max_size=4), separator=st.sampled_from(["\n", *"0123456789٣½"]))
def test_text_may_be_cut_at_newlines_and_digits(tokenizer: Tokenizer, parts: list[str], separator: str) -> None:
    pieces = tokenizer.encode_batch([parts[0], *(separator + part for part in parts[1:])]) if parts else []
    assert list(chain.from_iterable(pieces)) == tokenizer.encode(separator.join(parts))


def test_a_batch_is_its_texts_one_by_one(tokenizer: Tokenizer) -> None:
    texts = [f"{number}. 안녕" * (number % 7) for number in range(2500)]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_markers_have_their_ids(tokenizer: Tokenizer) -> None:
    assert [tokenizer.decode([marker]) for marker in range(len(MARKERS))] == list(MARKERS)
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.end_id) == (0, 1, 14)
    assert (tokenizer.think_close_id, tokenizer.think_open_id) == (8, 9)


def test_skipping_special_tokens_leaves_the_tags_of_a_reply(tokenizer: Tokenizer) -> None:
    ids = range(len(MARKERS))
    assert tokenizer.decode(ids, skip_special=True) == "".join(name for name in MARKERS if name[0] == "<")


@pytest.mark.parametrize("vocab_size", [271, 272, 300, 5000])
def test_the_vocabulary_has_exactly_the_size_asked_for(vocab_size: int) -> None:
    tokenizer = Tokenizer.train(TEXTS, vocab_size)
    assert tokenizer.vocab_size == vocab_size
    assert "" not in [tokenizer.decode([token]) for token in range(vocab_size)]  # each id stands for something
    assert tokenizer.decode(tokenizer.encode("42 고양이")) == "42 고양이"


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match="vocab_size = 270: must be at least 271"):
        Tokenizer.train(TEXTS, 270)


def test_training_is_deterministic(tmp_path: Path) -> None:
    texts = [f"{number} 곱하기 {number} is {number * number}, so say {number:b}.\n" for number in range(500)]
    for name in ("one", "two"):
        Tokenizer.train(texts, 600).save(tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_digits_and_newlines_are_never_merged() -> None:
    tokenizer = Tokenizer.train(["in 2026\n\n2026\n\n2026"] * 50, 300)
    pieces = [tokenizer.decode([token]) for token in tokenizer.encode("in 2026\n\n")]
    assert pieces == ["in", " ", "2", "0", "2", "6", "\n", "\n"]


def test_training_merges_what_is_common(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode(" think")) == 1
    assert len(tokenizer.encode("입니다")) == 1


def test_a_saved_tokenizer_opens_again(tokenizer: Tokenizer, saved: Path) -> None:
    again = Tokenizer.load(saved)
    text = "12 더하기 30은 42\n<think>"
    assert again.vocab_size == tokenizer.vocab_size
    assert again.encode(text) == tokenizer.encode(text)
    messages = [{"role": "user", "content": text}]
    assert again.render(messages, generation_prompt=True) == tokenizer.render(messages, generation_prompt=True)


def test_transformers_opens_it_with_the_right_tokens(tokenizer: Tokenizer, saved: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(saved)
    assert (theirs.pad_token_id, theirs.bos_token_id) == (tokenizer.pad_id, tokenizer.bos_id)
    assert (theirs.eos_token, theirs.eos_token_id) == ("[|endofturn|]", tokenizer.end_id)
    assert len(theirs) == tokenizer.vocab_size
    for text in TEXTS:
        assert theirs(text)["input_ids"] == tokenizer.encode(text)
    assert theirs.decode(range(len(MARKERS)), skip_special_tokens=True) == tokenizer.decode(
        range(len(MARKERS)), skip_special=True
    )


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"model": 3}', "\0"])
def test_a_missing_or_broken_file_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: "):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_of_another_family_is_not_rendered_with(tmp_path: Path, saved: Path) -> None:
    text = (saved / "tokenizer.json").read_text(encoding="utf-8").replace("<think>", "<thought>")
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    other = Tokenizer.load(tmp_path, chat_format="exaone-4.0")
    assert other.encode("42")
    with pytest.raises(CheckpointError, match="has no token '<think>'"):
        other.render([{"role": "user", "content": "Q"}], generation_prompt=True)


def test_half_a_surrogate_pair_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="not a Unicode text"):
        tokenizer.encode("\ud83d")


def test_the_real_tokenizer_opens(exaone: Path) -> None:
    tokenizer = Tokenizer.load(exaone)
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.bos_id, tokenizer.end_id) == (102_400, 0, 1, 361)
    assert (tokenizer.think_close_id, tokenizer.think_open_id) == (355, 356)
    code = "def f():\n        return 12  # 열둘\n"
    assert tokenizer.encode(code) == AutoTokenizer.from_pretrained(exaone)(code)["input_ids"]
    assert tokenizer.decode(tokenizer.encode("[|endofturn|]<think>")) == "[|endofturn|]<think>"
    assert not {361, 356} & set(tokenizer.encode("[|endofturn|]<think>"))
