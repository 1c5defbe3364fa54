"""Streaming ids to text: exactly the whole decode, whatever the ids and the chunks, and never half a character."""

import time
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models

from open_exaone.text.stream import Detokenizer
from open_exaone.text.tokenizer import Tokenizer

SKIP = st.booleans()
CUTS = st.lists(st.integers(0, 60))
KOREAN = "답은 42입니다 🙂👨‍👩‍👧 ﬁn\n"


def with_byte_fallback(*, strip: int) -> Tokenizer:
    """SentencePiece's way: words with ▁, and bytes for what is in no word."""
    words = ["<unk>", "▁", "▁a", "b", "▁▁", "답", "<0x+5>", " ", "\n", "<s>"]
    vocab = {token: number for number, token in enumerate([*words, *(f"<0x{byte:02X}>" for byte in range(256))])}
    backend = tokenizers.Tokenizer(models.BPE(vocab, [], byte_fallback=True, unk_token="<unk>"))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", strip, 0)] if strip else steps)
    backend.add_special_tokens([AddedToken("<s>", special=True), "<|end|>"])
    return Tokenizer(backend)


def with_decoder(decoder: object) -> Tokenizer:
    words = ["[UNK]", "▁a", "▁b", "c", "답", "##c", "▁"]
    vocab = {token: number for number, token in enumerate(words)}
    backend = tokenizers.Tokenizer(models.WordLevel(vocab, "[UNK]"))
    if decoder:
        backend.decoder = decoder
    return Tokenizer(backend)


def with_odd_tokens() -> Tokenizer:
    """Byte-level, with added tokens whose characters stand for no byte, or for another."""
    tokenizer = Tokenizer.train(["a"], 300)
    tokenizer.backend.add_tokens(["  ", "답", "é", "Ġ"])
    return tokenizer


OTHERS = {
    "byte-level": with_odd_tokens(),
    "fallback": with_byte_fallback(strip=0),
    "fallback and strip": with_byte_fallback(strip=1),
    "fallback and strip 3": with_byte_fallback(strip=3),
    "metaspace": with_decoder(decoders.Metaspace()),
    "word piece": with_decoder(decoders.WordPiece()),
    "none": with_decoder(None),
}


def streamed(tokenizer: Tokenizer, ids: list[int], cuts: list[int], skip_special: bool) -> str:
    stream = Detokenizer(tokenizer, skip_special=skip_special)
    edges = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    texts = [stream.feed(ids[start:end]) for start, end in pairwise(edges)]
    return "".join([*texts, stream.finish()])


@given(ids=st.lists(st.integers(0, 321)), cuts=CUTS, skip=SKIP)
def test_any_ids_give_their_whole_decode(tokenizer: Tokenizer, ids: list[int], cuts: list[int], skip: bool) -> None:
    assert streamed(tokenizer, ids, cuts, skip) == tokenizer.decode(ids, skip_special=skip)


@given(text=st.text(st.characters(exclude_categories=["Cs"])), cuts=CUTS)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str, cuts: list[int]) -> None:
    assert streamed(tokenizer, tokenizer.encode(text), cuts, False) == text


@pytest.mark.parametrize("name", OTHERS)
@given(data=st.data(), cuts=CUTS, skip=SKIP)
def test_other_decoders_give_their_whole_decode(name: str, data: st.DataObject, cuts: list[int], skip: bool) -> None:
    tokenizer = OTHERS[name]
    korean = [tokenizer.backend.token_to_id(f"<0x{byte:02X}>") for byte in "답🙂".encode()]
    some = st.integers(0, 9) | st.integers(0, tokenizer.vocab_size + 1)
    part = some.map(lambda token: [token]) | (
        st.just(korean) if "fallback" in name else st.integers(299, 303).map(lambda token: [token])
    )
    ids = [token for tokens in data.draw(st.lists(part)) for token in tokens]
    assert streamed(tokenizer, ids, cuts, skip) == tokenizer.decode(ids, skip_special=skip)


@pytest.fixture(scope="module")
def real(exaone: Path) -> Tokenizer:
    return Tokenizer.load(exaone)


@given(ids=st.lists(st.integers(0, 102_400) | st.integers(340, 620)), cuts=CUTS, skip=SKIP)
def test_the_real_tokenizer_streams(real: Tokenizer, ids: list[int], cuts: list[int], skip: bool) -> None:
    assert streamed(real, ids, cuts, skip) == real.decode(ids, skip_special=skip)


def test_half_a_character_is_held_back(tokenizer: Tokenizer) -> None:
    stream, shown = Detokenizer(tokenizer), ""
    ids = tokenizer.encode(KOREAN)
    assert len(ids) > len(KOREAN)  # some characters are cut
    for token in ids:
        shown += stream.feed([token])
        assert KOREAN.startswith(shown)
    assert shown == KOREAN
    assert stream.feed(tokenizer.encode("🙂")[:2]) == ""
    assert stream.finish() == "\ufffd"


def test_a_run_of_byte_tokens_is_shown_when_it_ends() -> None:
    tokenizer = OTHERS["fallback and strip"]
    stream = Detokenizer(tokenizer)
    run = [tokenizer.backend.token_to_id(f"<0x{byte:02X}>") for byte in "답".encode()]
    assert stream.feed([1, *run]) == ""
    assert stream.feed([3]) == "답b"
    assert (stream.feed(run[:2]), stream.finish()) == ("", "\ufffd\ufffd")


def test_skipping_leaves_out_markers(tokenizer: Tokenizer) -> None:
    assert Detokenizer(tokenizer, skip_special=True).feed([tokenizer.end_id, tokenizer.think_open_id]) == "<think>"
    assert Detokenizer(tokenizer).feed([tokenizer.end_id]) == "[|endofturn|]"


@pytest.mark.parametrize("token", [200, 15, 14])
def test_time_is_linear(tokenizer: Tokenizer, token: int) -> None:
    start = time.process_time()
    for decoding in (tokenizer, OTHERS["fallback"], OTHERS["metaspace"]):
        stream = Detokenizer(decoding)
        for _ in range(200_000):
            stream.feed([token])
        stream.finish()
    assert time.process_time() - start < 60  # a quadratic way would take minutes
