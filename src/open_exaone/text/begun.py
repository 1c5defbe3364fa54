"""What a reply begins with that is to be continued: as a text, and as segments of its prompt."""

import re

from open_exaone.text.chat import ChatFormat, Segment


def begun_text(chat_format: ChatFormat, thought: str, answer: str | None, *, thinking: bool) -> str:
    """What a reply begins with, in a prompt of this mode.

    Args:
        answer: its beginning, which may be ""; None: the thought is still open.
    """
    tag = chat_format.thought_tag
    opening = "" if chat_format.opens_thought(thinking) else f"<{tag}>\n"
    if answer is None:
        return opening + thought
    return opening + thought.rstrip("\n") + f"\n</{tag}>\n\n{answer}"


def begun_segments(text: str, tag: str) -> list[Segment]:
    """The segments of what a reply begins with: its thought's tags are markers, with the newlines of the format."""
    parts = re.split(rf"(<{tag}>\n?|\n?</{tag}>(?:\n\n)?)", text)  # texts and tags by turns
    return [Segment(part, place % 2 == 1) for place, part in enumerate(parts) if part]
