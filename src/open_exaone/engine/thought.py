"""Where a reply's thought ends, in tokens, and what ends one that its budget cuts. No torch.

A chat format writes a reply with its thought as, say, `thought \\n</think>\\n\\n answer`. What stands between the two
is read off the format itself, so a checkpoint's own template is heeded too.
"""

from bisect import bisect_left
from collections.abc import Sequence

from open_exaone.base.errors import DataError
from open_exaone.base.records import Reply
from open_exaone.text.chat import ChatFormat, Message
from open_exaone.text.encode import PieceEncoder
from open_exaone.text.split import split_reply
from open_exaone.text.tokenizer import Tokenizer

_QUESTION: Message = {"role": "user", "content": "Q"}
_THOUGHT, _ANSWER = "hm-hm", "a-hm"


class Thoughts:
    """The thoughts of one tokenizer's chat format.

    Raises:
        CheckpointError: the folder has no chat format, or a broken one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        chat_format = tokenizer.chat_format
        self._tokenizer = tokenizer
        self._tag = chat_format.thought_tag
        self._close = f"</{self._tag}>"
        self._opening = _opening(chat_format)
        closing = _closing(chat_format)
        lead, _, behind = closing.partition(self._close)
        texts = [closing, self._close + behind, self._close, lead]
        encoded = PieceEncoder(tokenizer.backend).encode([(text, True) for text in texts])
        self._closing_ids, self._bare_closing_ids, self._close_ids, self._lead_ids = encoded

    def is_open(self, prompt_ids: Sequence[int], ids: Sequence[int], num_begun: int = 0) -> bool:
        """Whether a thought that the prompt or the reply has opened is not yet closed.

        A prompt has opened one where it ends as the format's prompt in reasoning mode ends.

        Args:
            num_begun: see `Request`.
        """
        end = len(prompt_ids) - num_begun
        prompt_ids, ids = prompt_ids[:end], [*prompt_ids[end:], *ids]
        tail = self._tokenizer.decode(prompt_ids[-4 * len(self._opening) :]) if self._opening else ""
        is_opened = bool(self._opening) and tail.endswith(self._opening)
        text = self._tokenizer.decode(ids, skip_special=True)
        return not split_reply(text, thinking=is_opened, thought_tags=(self._tag,)).finished

    def closing_ids(self, ids: Sequence[int]) -> list[int]:
        """What closes the thought that a reply has reached: the format's newline, its tag, and the newlines behind.

        Where the reply ends in the beginning of that (in `</thou`, say), the rest of it.
        """
        for closing in (self._closing_ids, self._bare_closing_ids):
            for length in range(min(len(closing), len(ids)), 0, -1):
                if list(ids[-length:]) == closing[:length]:
                    return closing[length:]
        return self._closing_ids

    def num_tokens(self, ids: Sequence[int], reply: Reply) -> int:
        """How many tokens of a reply are its thought, an opening tag of its own included and the closing left out.

        Args:
            reply: `ids`, split. All tokens of one that never closed its thought are thought.
        """
        if not reply.finished:
            return len(ids)
        if not reply.thought:
            return 0
        end = self._closed_at(ids)
        lead = self._lead_ids
        return end - len(lead) if lead and list(ids[end - len(lead) : end]) == lead else end

    def _closed_at(self, ids: Sequence[int]) -> int:
        """How many tokens stand before the one with which the first closing tag begins."""
        text = self._tokenizer.decode(ids, skip_special=True)
        if len(self._close_ids) == 1 and text.count(self._close) == ids.count(self._close_ids[0]):
            return ids.index(self._close_ids[0])  # each tag is the token, and none is made up of others
        place = text.find(self._close)
        reaches = bisect_left(
            range(len(ids)), True, key=lambda num: len(self._tokenizer.decode(ids[:num], skip_special=True)) > place
        )
        return reaches - 1


def _opening(chat_format: ChatFormat) -> str:
    """What a prompt in reasoning mode ends in, from the tag that opens the thought; "" where it opens none."""
    if not chat_format.opens_thought(True):
        return ""
    segments = chat_format.segments([_QUESTION], thinking=True, generation_prompt=True, with_mask=False)
    text = "".join(segment.text for segment in segments)
    return text[text.rfind(f"<{chat_format.thought_tag}>") :]


def _closing(chat_format: ChatFormat) -> str:
    """What the format writes between thought and answer; where it writes no thoughts, what EXAONE's formats write."""
    close = f"</{chat_format.thought_tag}>"
    reply = {"role": "assistant", "reasoning_content": _THOUGHT, "content": _ANSWER}
    try:
        segments = chat_format.segments([_QUESTION, reply], thinking=True, with_mask=False)
    except DataError:  # a template that takes no such conversation
        segments = []
    _, _, behind = "".join(segment.text for segment in segments).rpartition(_THOUGHT)
    between, _, _ = behind.partition(_ANSWER)
    return between if close in between else f"\n{close}\n\n"
