"""Ids to text as they come: never half a character, and in the end exactly what decoding all of them gives.

Byte-level decoders (EXAONE's, Llama 3's, Qwen's) turn a token into bytes, and bytes into text by an incremental
decoder. SentencePiece's with byte fallback read a run of byte tokens as one, and as U+FFFD for each if it isn't valid
UTF-8; so a run is held back until it ends. Of all others, tokenizers' own stream is taken.
"""

import codecs
import functools
import json
import re
from collections.abc import Callable, Iterable, Sequence
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
        self._decoder = _decoder(tokenizer, skip_special)

    def feed(self, ids: Iterable[int]) -> str:
        """Takes the next ids; returns the text that has become certain."""
        return self._decoder.feed(ids)

    def finish(self) -> str:
        """Returns what was held back, at the end of the stream."""
        return self._decoder.finish()


def token_bytes(tokenizer: "Tokenizer", token_id: int) -> bytes:
    """The bytes of a token's text, which may be a part of a character's; none where no token has the id."""
    name = tokenizer.backend.id_to_token(token_id)
    if name is None:
        return b""
    if isinstance(_decoder(tokenizer, False), _ByteLevel):
        return _byte_level(name)
    match = _BYTE_TOKEN.fullmatch(name)
    return bytes([int(match[1], 16)]) if match else tokenizer.decode([token_id]).encode()


def _byte_level(name: str) -> bytes:
    """A token's bytes; where one of its characters stands for none, the token is its own UTF-8."""
    try:
        return bytes([_BYTE_OF[character] for character in name])
    except KeyError:
        return name.encode()


class _Names(dict[int, str | None]):
    """The names of ids, found as they are first asked for; None where a token is left out, or no token has the id."""

    def __init__(self, tokenizer: "Tokenizer", skip_special: bool) -> None:
        self._backend = tokenizer.backend
        added = tokenizer.backend.get_added_tokens_decoder().values() if skip_special else ()
        self._skipped = frozenset(token.content for token in added if token.special)

    def __missing__(self, token_id: int) -> str | None:
        name = self._backend.id_to_token(token_id)
        if name is None:
            return None  # not kept: there is no end of such ids
        self[token_id] = None if name in self._skipped else name
        return self[token_id]


class _Bytes(dict[int, bytes]):
    """The bytes of a byte-level tokenizer's ids; each character of a name stands for a byte."""

    def __init__(self, names: _Names) -> None:
        self._names = names

    def __missing__(self, token_id: int) -> bytes:
        name = self._names[token_id]
        if name is None:
            return b""
        self[token_id] = _byte_level(name)
        return self[token_id]


class _Decoder(Protocol):
    def feed(self, ids: Iterable[int]) -> str: ...
    def finish(self) -> str: ...


class _ByteLevel:
    """Bytes, joined and decoded as far as they end a character."""

    def __init__(self, token_bytes: _Bytes) -> None:
        self._bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, ids: Iterable[int]) -> str:
        return self._utf8.decode(b"".join([self._bytes[token_id] for token_id in ids]))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class _ByteFallback:
    """Replaced texts, runs of byte tokens, and white space stripped off the front of the whole.

    Args:
        replacements: (what, by what) in a token's name.
        strip: the character that is stripped off the front of the whole, and at most how many of it.
    """

    def __init__(self, names: _Names, replacements: Sequence[tuple[str, str]], strip: tuple[str, int]) -> None:
        self._names, self._replacements = names, replacements
        self._stripped, self._num_to_strip = strip
        self._run = bytearray()

    def feed(self, ids: Iterable[int]) -> str:
        return "".join([self._feed(name) for token_id in ids if (name := self._names[token_id]) is not None])

    def _feed(self, name: str) -> str:
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

    def __init__(self, backend: tokenizers.Tokenizer, names: _Names) -> None:
        self._backend, self._names = backend, names
        self._stream: DecodeStream | None = DecodeStream()
        self._ids: list[int] = []
        self._given = 0  # characters

    def feed(self, ids: Iterable[int]) -> str:
        return "".join([self._feed(token_id) for token_id in ids if self._names[token_id] is not None])

    def _feed(self, token_id: int) -> str:
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


def _decoder(tokenizer: "Tokenizer", skip_special: bool) -> _Decoder:
    """A decoder for a tokenizer's own."""
    return _decoder_factory(tokenizer, skip_special)()


@functools.lru_cache(maxsize=32)
def _decoder_factory(tokenizer: "Tokenizer", skip_special: bool) -> Callable[[], _Decoder]:
    """Makes decoders; what they share is found once, as a server asks for one for each reply."""
    backend, names = tokenizer.backend, _Names(tokenizer, skip_special)
    other = functools.partial(_Other, backend, names)
    if backend.decoder is None:
        return other
    state: dict[str, Any] = json.loads(backend.decoder.__getstate__())
    if state["type"] == "ByteLevel":
        return functools.partial(_ByteLevel, _Bytes(names))
    steps: list[dict[str, Any]] = state.get("decoders", [])
    kinds = [step["type"] for step in steps]
    replaces = [step for step in steps if step["type"] == "Replace" and "String" in step["pattern"]]
    rest = kinds[len(replaces) :]
    if "Replace" in rest or rest[:2] != ["ByteFallback", "Fuse"] or rest[2:] not in ([], ["Strip"]):
        return other
    strip = steps[-1] if rest[2:] else {}
    if strip.get("stop"):
        return other
    replacements = [(step["pattern"]["String"], step["content"]) for step in replaces]
    return functools.partial(_ByteFallback, names, replacements, (strip.get("content", " "), strip.get("start", 0)))


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's: printable bytes stand for themselves, the others for the characters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTE_OF = _byte_level_alphabet()
