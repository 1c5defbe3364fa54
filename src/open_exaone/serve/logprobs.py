"""The log-probabilities of a reply's tokens, as the APIs write them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field

from open_exaone.base.records import TopLogprobs
from open_exaone.text.stream import Detokenizer, token_bytes
from open_exaone.text.tokenizer import Tokenizer

MOST_TOP = 20
NumTop = Annotated[int, Field(ge=0, le=MOST_TOP)]
_LEAST = -9999.0  # JSON has no infinity


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Some tokens of a reply, with how likely each was under the model at temperature 1."""

    tokenizer: Tokenizer
    ids: Sequence[int]
    logprobs: Sequence[float]
    top: Sequence[TopLogprobs]  # one a token, or none at all

    def records(self) -> list[dict[str, Any]]:
        """As chat completions and responses have them."""
        tops: Sequence[TopLogprobs | tuple[()]] = self.top or [()] * len(self.ids)
        return [
            {
                **self._record(token, logprob),
                "top_logprobs": [self._record(*one) for one in zip(*top, strict=True)],
            }
            for token, logprob, top in zip(self.ids, self.logprobs, tops, strict=True)
        ]

    def columns(self) -> dict[str, Any]:
        """As completions have them; the chosen token is always among the most likely."""
        shown = [max(logprob, _LEAST) for logprob in self.logprobs]
        return {
            "tokens": list(map(self._name, self.ids)),
            "token_logprobs": shown,
            "top_logprobs": list(self._by_text(shown)) if self.top else None,
            "text_offset": None,
        }

    def __getitem__(self, places: slice) -> "TokenLogprobs":
        return TokenLogprobs(self.tokenizer, self.ids[places], self.logprobs[places], self.top[places])

    def _by_text(self, shown: Sequence[float]) -> Iterator[dict[str, float]]:
        for token, logprob, top in zip(self.ids, shown, self.top, strict=True):
            likely: dict[str, float] = {}
            for other, its in zip(*top, strict=True):
                likely.setdefault(self._name(other), max(its, _LEAST))  # of equal names the most likely
            likely.setdefault(self._name(token), logprob)
            yield likely

    def _record(self, token: int, logprob: float) -> dict[str, Any]:
        text, its_bytes = _spelled(self.tokenizer, token)
        return {"token": text, "logprob": max(logprob, _LEAST), "bytes": list(its_bytes)}

    def _name(self, token: int) -> str:
        """Its text; a part of a character is named by its bytes, as OpenAI does, for all such have one text."""
        text, its_bytes = _spelled(self.tokenizer, token)
        return text if its_bytes == text.encode() else "bytes:" + "".join(f"\\x{byte:02x}" for byte in its_bytes)


@lru_cache(maxsize=1 << 16)
def _spelled(tokenizer: Tokenizer, token: int) -> tuple[str, bytes]:
    """A token's text and bytes; many replies are made of few tokens."""
    return tokenizer.decode([token]), token_bytes(tokenizer, token)


def places_of(tokenizer: Tokenizer, ids: Sequence[int], texts: Sequence[str], tags: Sequence[str]) -> list[slice]:
    """Which tokens write each of some texts, which stand in a reply one behind the other.

    Args:
        tags: for each text, what stands before it in the reply, wherever; "" where nothing does.
    """
    detokenizer = Detokenizer(tokenizer, skip_special=True)
    parts = [detokenizer.feed([token]) for token in ids]
    whole, ends, place = "".join(parts) + detokenizer.finish(), [], 0
    for part in parts:
        place += len(part)
        ends.append(place)
    found, start = list[slice](), 0
    for text, tag in zip(texts, tags, strict=True):
        start = max(start, whole.find(tag, start) + len(tag))
        start = max(start, whole.find(text, start))
        first = sum(end <= start for end in ends)
        last = sum(end < start + len(text) for end in ends)
        found.append(slice(first, min(len(ids), last + 1)) if text else slice(0, 0))
        start += len(text)
    return found
