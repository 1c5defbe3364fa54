"""Ids to text as they come: never half a character, and in the end exactly what decoding all of them gives.

Byte-level decoders (EXAONE's, Llama 3's, Qwen's) turn a token into bytes, and bytes into text by an incremental
decoder. SentencePiece's with byte fallback read a run of byte tokens as one, and as U+FFFD for each if it isn't valid
UTF-8; so a run is held back until it ends. Of all others, tokenizers' own stream is taken.
"""

import codecs
import functools
import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import tokenizers
from tokenizers.decoders import DecodeStream

from open_exaone.base.errors import CheckpointError
from open_exaone.text.encode import named_failure

if TYPE_CHECKING:
    from open_exaone.text.tokenizer import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x(\+[0-9A-Fa-f]|[0-9A-Fa-f]{2})>")


class Detokenizer:
    """Turns one stream of ids into text; an id that no token has gives none.

    Args:
        skip_special: leave out turn markers and padding, as in `Tokenizer.decode`.
    """

    def __init__(self, tokenizer: "Tokenizer", *, skip_special: bool = False) -> None:
        self._backend = tokenizer.backend
        self._skipped = _special_names(tokenizer) if skip_special else frozenset[str]()
        self._decoder = _decoder(self._backend)

    def feed(self, ids: Iterable[int]) -> str:
        """Takes the next ids; returns the text that has become certain."""
        texts = []
        for token_id in ids:
            name = self._backend.id_to_token(token_id)
            if name is not None and name not in self._skipped:
                texts.append(self._decoder.feed(token_id, name))
        return "".join(texts)

    def finish(self) -> str:
        """Returns what was held back, at the end of the stream."""
        return self._decoder.finish()


def token_bytes(tokenizer: "Tokenizer", token_id: int) -> bytes:
    """The bytes of a token's text, which may be a part of a character's; none where no token has the id."""
    name = tokenizer.backend.id_to_token(token_id)
    if name is None:
        return b""
    if isinstance(_decoder(tokenizer.backend), _ByteLevel):
        return _byte_level(name)
    match = _BYTE_TOKEN.fullmatch(name)
    return bytes([int(match[1], 16)]) if match else tokenizer.decode([token_id]).encode()


def _byte_level(name: str) -> bytes:
    """A token's bytes; where one of its characters stands for none, the token is its own UTF-8."""
    try:
        return bytes([_BYTE_OF[character] for character in name])
    except KeyError:
        return name.encode()


@functools.lru_cache(maxsize=16)
def _special_names(tokenizer: "Tokenizer") -> frozenset[str]:
    """The names of the tokens that are left out; there may be thousands, and a server asks for each reply."""
    added = tokenizer.backend.get_added_tokens_decoder().values()
    return frozenset(token.content for token in added if token.special)


class _Decoder(Protocol):
    def feed(self, token_id: int, name: str) -> str: ...
    def finish(self) -> str: ...


class _ByteLevel:
    """Each character of a token stands for a byte; see `_byte_level`."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int, name: str) -> str:
        return self._utf8.decode(_byte_level(name))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class _ByteFallback:
    """Replaced texts, runs of byte tokens, and white space stripped off the front of the whole.

    Args:
        replacements: (what, by what) in a token's name.
        strip: the character that is stripped off the front of the whole, and at most how many of it.
    """

    def __init__(self, replacements: Sequence[tuple[str, str]], strip: tuple[str, int]) -> None:
        self._replacements = replacements
        self._stripped, self._num_to_strip = strip
        self._run = bytearray()

    def feed(self, token_id: int, name: str) -> str:
        for what, by_what in self._replacements:
            name = name.replace(what, by_what)
        if match := _BYTE_TOKEN.fullmatch(name):
            self._run.append(int(match[1], 16))
            return ""
        return self._end_run() + self._strip(name)

    def finish(self) -> str:
        return self._end_run()

    def _end_run(self) -> str:
        try:
            text = self._run.decode()
        except UnicodeDecodeError:
            text = "\ufffd" * len(self._run)
        self._run.clear()
        return self._strip(text)

    def _strip(self, text: str) -> str:
        while self._num_to_strip and text:
            if not text.startswith(self._stripped):
                self._num_to_strip = 0
                break
            text = text[1:]
            self._num_to_strip -= 1
        return text


class _Other:
    """tokenizers' own stream, and at the end the rest of the whole."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self._stream: DecodeStream | None = DecodeStream()
        self._ids: list[int] = []
        self._given = 0  # characters

    def feed(self, token_id: int, name: str) -> str:
        self._ids.append(token_id)
        if self._stream is None:
            return ""
        try:
            with named_failure("cannot decode this id"):
                text = self._stream.step(self._backend, token_id) or ""
        except CheckpointError:  # it can't go on: the rest is given at the end
            self._stream, text = None, ""
        self._given += len(text)
        return text

    def finish(self) -> str:
        with named_failure("cannot decode these ids"):
            text = self._backend.decode(self._ids, skip_special_tokens=False)[self._given :]
        self._given += len(text)
        return text


def _decoder(backend: tokenizers.Tokenizer) -> _Decoder:
    """The decoder for a tokenizer's own."""
    if backend.decoder is None:
        return _Other(backend)
    state: dict[str, Any] = json.loads(backend.decoder.__getstate__())
    if state["type"] == "ByteLevel":
        return _ByteLevel()
    steps: list[dict[str, Any]] = state.get("decoders", [])
    kinds = [step["type"] for step in steps]
    replaces = [step for step in steps if step["type"] == "Replace" and "String" in step["pattern"]]
    rest = kinds[len(replaces) :]
    if "Replace" in rest or rest[:2] != ["ByteFallback", "Fuse"] or rest[2:] not in ([], ["Strip"]):
        return _Other(backend)
    strip = steps[-1] if rest[2:] else {}
    if strip.get("stop"):
        return _Other(backend)
    replacements = [(step["pattern"]["String"], step["content"]) for step in replaces]
    return _ByteFallback(replacements, (strip.get("content", " "), strip.get("start", 0)))


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's: printable bytes stand for themselves, the others for the characters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTE_OF = _byte_level_alphabet()
