"""Conversations to prompt ids. Replies that this server gave are not tokenised anew: their own ids are kept.

A model may write a text in other tokens than the tokenizer would. Where a conversation goes on behind a reply, exactly
as the prompt stood then, the ids that the model wrote go in place of the text's, so that the keys and values which the
engine remembers fit.
"""

import hashlib
import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from open_exaone.serve.errors import prompt_too_long
from open_exaone.text.begun import begun_segments
from open_exaone.text.chat import Message, Segment, Tool
from open_exaone.text.tokenizer import Tokenizer

MOST_BYTES = 8 << 20  # of replies that are kept
_ENTRY_BYTES = 400  # what a reply takes besides its text and ids
# A text of more characters a token than most texts have, for the context, is probably too long for it. Its beginning
# then says so, with a margin, because the cut may change the tokens beside it.
_CHARS_PER_TOKEN, _MARGIN = 8, 1.25


class Prompts:
    """Renders one model's prompts. Safe to use from several threads.

    Args:
        most_bytes: memory for replies that are kept, the latest.
    """

    def __init__(self, tokenizer: Tokenizer, most_bytes: int = MOST_BYTES) -> None:
        self._tokenizer = tokenizer
        self._kept: OrderedDict[bytes, tuple[str, array[int]]] = OrderedDict()  # by a digest of what stands before
        self._num_bytes, self._most_bytes = 0, most_bytes
        self._lock = threading.Lock()  # of what is kept

    def render(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool,
        tools: Sequence[Tool] | None = None,
        keeps_thoughts: bool = False,
        begun: str = "",
        most_tokens: int | None = None,
    ) -> tuple[int, ...]:
        """The ids of a prompt.

        Args:
            keeps_thoughts: whether those of earlier replies stay in it.
            begun: what the reply begins with; the tags of its thought are markers there.
            most_tokens: refuse one that is far too long for such a context by its beginning; None: never.

        Raises:
            ApiError: the conversation is far too long for the context.
            DataError: a message is malformed (names its index and field), or the format can't say it.
            CheckpointError: the model has no chat format, or a broken one.
        """
        segments = self._tokenizer.chat_format.segments(
            messages,
            thinking=thinking,
            tools=tools,
            generation_prompt=True,
            with_mask=False,
            keeps_thoughts=keeps_thoughts,
        )
        segments += begun_segments(begun, self._tokenizer.chat_format.thought_tag)
        if most_tokens is not None:
            texts = [segment.text for segment in segments if not segment.is_format]
            check_length(self._tokenizer, texts, most_tokens)
        [pieces] = self._tokenizer.encode_segments([segments])
        ids, place, digest = list[int](), 0, hashlib.blake2b(digest_size=16)
        while place < len(segments):
            end, piece = self._kept_from(segments, place, digest.digest()) or (place + 1, pieces[place])
            ids += piece
            digest.update(_bytes(piece))
            place = end
        return tuple(ids)

    def keep(self, prompt_ids: Sequence[int], reply_ids: Sequence[int]) -> None:
        """Remembers the ids of a reply, its end left out, for when its conversation goes on."""
        kept = self._tokenizer.decode(reply_ids), array("i", reply_ids)  # a ninth of a tuple's memory
        if not kept[0] or _size(*kept) > self._most_bytes:
            return
        key = hashlib.blake2b(_bytes(prompt_ids), digest_size=16).digest()
        with self._lock:
            if key in self._kept:
                self._num_bytes -= _size(*self._kept.pop(key))
            self._kept[key] = kept
            self._num_bytes += _size(*kept)
            while self._num_bytes > self._most_bytes:
                self._num_bytes -= _size(*self._kept.popitem(last=False)[1])

    def _kept_from(self, segments: Sequence[Segment], place: int, key: bytes) -> tuple[int, Sequence[int]] | None:
        """Where segments from a place on say a kept reply: behind which it ends, and its ids."""
        with self._lock:
            if key not in self._kept:
                return None
            text, ids = self._kept[key]
        for end in range(place, len(segments)):
            said = segments[end].text
            if not text.startswith(said):
                return None
            text = text[len(said) :]
            if not text:
                with self._lock:
                    if key in self._kept:  # another thread may have dropped it
                        self._kept.move_to_end(key)
                return end + 1, ids
        return None


def check_length(tokenizer: Tokenizer, texts: Sequence[str], most_tokens: int) -> None:
    """Refuses texts that are far too long for a context by their beginning, before all of them is tokenised.

    Raises:
        ApiError: they are.
    """
    most_chars = _CHARS_PER_TOKEN * most_tokens
    if sum(map(len, texts)) <= most_chars:
        return
    num = len(tokenizer.encode("".join(texts)[:most_chars]))
    if num > _MARGIN * most_tokens:
        raise prompt_too_long(most_tokens, num)


def _size(text: str, ids: "array[int]") -> int:
    """The memory that a kept reply takes."""
    return sys.getsizeof(text) + ids.itemsize * len(ids) + _ENTRY_BYTES


def _bytes(ids: Sequence[int]) -> bytes:
    return array("q", ids).tobytes()
