"""Conversations to prompt ids. Replies that this server gave are not tokenised anew: their own ids are kept.

A model may write a text in other tokens than the tokenizer would. Where a conversation goes on behind a reply, exactly
as the prompt stood then, the ids that the model wrote go in place of the text's, so that the keys and values which the
engine remembers fit.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from open_exaone.text.begun import begun_segments
from open_exaone.text.chat import Message, Segment, Tool
from open_exaone.text.tokenizer import Tokenizer

MOST_KEPT = 1 << 20  # tokens of replies


class Prompts:
    """Renders one model's prompts; one thread at a time.

    Args:
        most_kept: tokens of replies that are kept, the latest.
    """

    def __init__(self, tokenizer: Tokenizer, most_kept: int = MOST_KEPT) -> None:
        self._tokenizer = tokenizer
        self._kept: OrderedDict[bytes, tuple[str, tuple[int, ...]]] = OrderedDict()  # by a digest of what stands before
        self._num_kept, self._most_kept = 0, most_kept

    def render(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool,
        tools: Sequence[Tool] | None = None,
        keeps_thoughts: bool = False,
        begun: str = "",
    ) -> tuple[int, ...]:
        """The ids of a prompt.

        Args:
            keeps_thoughts: whether those of earlier replies stay in it.
            begun: what the reply begins with; the tags of its thought are markers there.

        Raises:
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
        text = self._tokenizer.decode(reply_ids)
        if not text or len(reply_ids) > self._most_kept:
            return
        key = hashlib.blake2b(_bytes(prompt_ids), digest_size=16).digest()
        self._num_kept += len(reply_ids) - len(self._kept.pop(key, ("", ()))[1])
        self._kept[key] = text, tuple(reply_ids)
        while self._num_kept > self._most_kept:
            self._num_kept -= len(self._kept.popitem(last=False)[1][1])

    def _kept_from(self, segments: Sequence[Segment], place: int, key: bytes) -> tuple[int, Sequence[int]] | None:
        """Where segments from a place on say a kept reply: behind which it ends, and its ids."""
        if key not in self._kept:
            return None
        text, ids = self._kept[key]
        for end in range(place, len(segments)):
            said = segments[end].text
            if not text.startswith(said):
                return None
            text = text[len(said) :]
            if not text:
                self._kept.move_to_end(key)
                return end + 1, ids
        return None


def _bytes(ids: Sequence[int]) -> bytes:
    return array("q", ids).tobytes()
