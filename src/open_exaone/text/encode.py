"""Text to ids, with markers' names as markers or as plain text, and in pieces."""

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from open_exaone.base.errors import CheckpointError, DataError, OpenExaoneError
from open_exaone.text.chat import Segment

MAX_ID = 10_000_000  # ten times the largest vocabulary there is; tokenizers writes a line for each id up to the last
_MAX_GROWTH = 1000  # characters that a normalizer may make of one
_NUM_TEXTS_AT_ONCE = 1000  # an encoding takes some hundred bytes a token until its ids are read off
_LEAD = "\n"  # a piece inside a text is encoded behind it


@contextlib.contextmanager
def named_failure(what: str, folder: Path = Path()) -> Iterator[None]:
    """Whatever tokenizers fails with becomes an error that says what failed.

    It raises nothing narrower than Exception, and Rust's panics aren't even that. A wrong type is the caller's.

    Raises:
        CheckpointError: tokenizers failed.
    """
    try:
        yield
    except (OpenExaoneError, TypeError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{folder / 'tokenizer.json'}: {what}: {str(error)[:1000]}; fix the file") from error


def with_mask(segments: Sequence[Segment], pieces: Sequence[Sequence[int]]) -> tuple[list[int], list[bool]]:
    """A conversation's ids and its loss mask, from the ids of each segment."""
    ids, mask = list[int](), list[bool]()
    for segment, piece in zip(segments, pieces, strict=True):
        ids += piece
        mask += [segment.is_learned] * len(piece)
    return ids, mask


class PieceEncoder:
    """Encodes the pieces of a text.

    SentencePiece's tokenizers put a space before a text; a piece from within one must have none. It is encoded behind
    a newline, whose ids are then taken off.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend

    def encode(self, pieces: Sequence[tuple[str, bool]]) -> list[list[int]]:
        """The ids of pieces, each with whether it stands inside a text, behind another piece.

        Raises:
            DataError: a piece is no Unicode text.
            CheckpointError: the tokenizer can't say it, as one without an unknown token can't say everything.
        """
        lead_ids = self._lead_ids
        if not lead_ids:
            return self._encode([text for text, _ in pieces])
        encoded = self._encode([_LEAD + text if inside else text for text, inside in pieces])
        for place, (text, inside) in enumerate(pieces):
            if inside and encoded[place][: len(lead_ids)] == lead_ids:
                encoded[place] = encoded[place][len(lead_ids) :]
            elif inside:
                [encoded[place]] = self._encode([text])
        return encoded

    @cached_property
    def _lead_ids(self) -> list[int]:
        """The ids to take off; empty where a text gets no space put before it."""
        [ids] = self._encode(["a"])
        name = self._backend.id_to_token(ids[0]) if ids else None
        return self._encode([_LEAD])[0] if name and name.startswith(("▁", "Ġ")) else []

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            with named_failure("cannot tokenise this text"):
                return [
                    encoding.ids
                    for start in range(0, len(texts), _NUM_TEXTS_AT_ONCE)
                    for encoding in self._backend.encode_batch_fast(
                        list(texts[start : start + _NUM_TEXTS_AT_ONCE]), add_special_tokens=False
                    )
                ]
        except TypeError as error:
            raise DataError("cannot tokenise: not a Unicode text (half of a surrogate pair, perhaps)") from error


def check_growth(normalizer: Any) -> None:
    """Applies a normalizer to one character, step by step.

    Raises:
        CheckpointError: it makes so much of it that a text of some pages would fill the memory.
    """
    text = "a"
    for step in _steps(json.loads(normalizer.__getstate__())):
        one = tokenizers.normalizers.Sequence([])
        one.__setstate__(json.dumps(step).encode())
        text = one.normalize_str(text)
        if len(text) > _MAX_GROWTH:
            raise CheckpointError(f"tokenizer.json: normalizer: makes {len(text):,} characters of one; fix the file")


def _steps(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if state["type"] != "Sequence":
        yield state
    for step in state.get("normalizers", ()):
        yield from _steps(step)


def without_markers(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer, for plain text: of the added tokens only runs of white space are left.

    The backend's own `encode_special_tokens` would spare `<think>` and the tool tags, which aren't "special". Added
    tokens are numbered in order, so those that stand in no vocabulary keep their places, under names nobody knows.

    Raises:
        CheckpointError: the tokens that are left would get other ids, or an id is far too large.
    """
    top = max(backend.get_vocab().values(), default=0)
    if top > MAX_ID:
        raise CheckpointError(f"tokenizer.json: has the id {top}: ids go up to {MAX_ID:,}; fix its vocabulary")
    with named_failure("cannot be read as plain text's tokenizer"):
        return _without_markers(backend)


def _without_markers(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    state: dict[str, Any] = json.loads(backend.to_str())
    vocab = state["model"]["vocab"]
    names = {token["content"] for token in state["added_tokens"] if not token["content"].isspace()}
    known = set(vocab) if isinstance(vocab, dict) else {piece for piece, _ in vocab}
    hidden = f"\U0010fffd{secrets.token_hex(16)}"
    kept = []
    for token in state["added_tokens"]:
        if token["content"] not in names:
            kept.append(token)
        elif token["content"] not in known:
            kept.append({**token, "content": f"{hidden}{token['id']}", "normalized": False})
    state["added_tokens"] = kept
    if isinstance(vocab, list):  # Unigram finds its pieces in any text, markers' names too
        unknown = state["model"].get("unk_id")
        state["model"]["vocab"] = [
            [f"{hidden}{number}" if piece in names and number != unknown else piece, score]
            for number, (piece, score) in enumerate(vocab)
        ]
    elif state["model"]["type"] == "WordLevel" or state["model"].get("ignore_merges"):  # so do these, of whole words
        merges = (text for pair in state["model"].get("merges", ()) for text in (*pair, "".join(pair)))
        found = names & vocab.keys()
        found -= {state["model"].get("unk_token"), *(merges if found else ())}
        state["model"]["vocab"] = {f"{hidden}{i}" if piece in found else piece: i for piece, i in vocab.items()}
    plain = tokenizers.Tokenizer.from_str(json.dumps(state))
    for token in kept:
        if token["content"].isspace() and plain.token_to_id(token["content"]) != token["id"]:
            raise CheckpointError(f"tokenizer.json: added_tokens: {token['content']!r} has no id of its own; fix it")
    return plain
