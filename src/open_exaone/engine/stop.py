"""Strings that end a reply, found while its tokens come, and the text of a reply that ended so. No torch."""

from collections.abc import Sequence

from open_exaone.base.records import Sampling, StopReason
from open_exaone.text.stream import Detokenizer
from open_exaone.text.tokenizer import Tokenizer


class StopStrings:
    """Looks for any of some strings in one reply's text, thought and answer alike, special tokens left out."""

    def __init__(self, tokenizer: Tokenizer, strings: Sequence[str]) -> None:
        self._detokenizer = Detokenizer(tokenizer, skip_special=True)
        self._strings = strings
        self._num_kept = max(map(len, strings)) - 1
        self._end = ""  # of the text so far: a string may begin in it

    def feed(self, ids: Sequence[int]) -> bool:
        """Takes the next ids; returns whether the text that has become certain completes a string."""
        return self._complete(self._detokenizer.feed(ids))

    def finish(self) -> bool:
        """The same for what was held back, at the end of the reply."""
        return self._complete(self._detokenizer.finish())

    def _complete(self, new: str) -> bool:
        text = self._end + new
        self._end = text[max(0, len(text) - self._num_kept) :]
        return bool(new) and any(string in text for string in self._strings)


def is_stop_id(token: int, sampling: Sampling, end_ids: frozenset[int]) -> bool:
    """Whether a token ends a reply by itself."""
    return token in end_ids or token in sampling.stop_ids


def reply_text(tokenizer: Tokenizer, ids: Sequence[int], stop: StopReason, sampling: Sampling) -> str:
    """A reply's text: what stands before its first stop string, or before the stop id that ended it."""
    if stop in (StopReason.END, StopReason.BUDGET) and ids and ids[-1] in sampling.stop_ids:
        ids = ids[:-1]
    text = tokenizer.decode(ids, skip_special=True)
    if stop is not StopReason.STOP_STRING:
        return text
    return text[: min((place for string in sampling.stop if (place := text.find(string)) >= 0), default=len(text))]
