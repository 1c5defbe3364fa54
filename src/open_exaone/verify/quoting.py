"""Text that wants to please a model that judges, shown to it as quoted material; and its answer's last line.

docs/judging-model.md says what the quoting holds off and what it does not.
"""

import re
from collections.abc import Mapping

MAX_QUESTION_CHARS = 4000  # of a longer question, and of a longer reply to grade, both ends are shown
MAX_TOKENS = 2048  # of the model's reply, its thought included

_THOUGHTS = (("<think>", "</think>"), ("<thought>", "</thought>"))
_TOKEN_START = re.compile(r"[<\[\ufe47\ufe64\uff1c\uff3b](?=[^\s\d=])")  # and what NFKC turns into < and [


def quoted_messages(task: str, parts: Mapping[str, str], request: str) -> list[dict[str, str]]:
    """The task, then the parts with every line of theirs quoted, then the request once more, behind all that is theirs.

    Quoting cannot be closed from inside, and unlike a random border it is the same whenever the same is asked.
    """
    quoted = [f"{name}:\n" + "\n".join(f"> {line}" for line in clean(text).split("\n")) for name, text in parts.items()]
    return [{"role": "system", "content": task}, {"role": "user", "content": "\n\n".join([*quoted, request])}]


def clean(text: str) -> str:
    """Takes out what a tokenizer or a template could read as more than text.

    All that does not print becomes a space, but for line feeds; and what opens a control token in any published chat
    format ("<|im_end|>", "[|endofturn|]", "</think>", "[INST]") has a space put in, which formulas can bear.
    """
    printable = "".join(character if character.isprintable() or character == "\n" else " " for character in text)
    return _TOKEN_START.sub(r"\g<0> ", printable)


def ends(text: str, limit: int) -> str:
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}\n(… cut …)\n{text[-half:]}"


def last_line(reply: str) -> str:
    """The last line of a model's reply, without its thought and without emphasis; empty where the thought is open."""
    for _, closing in _THOUGHTS:
        reply = reply.rpartition(closing)[2]
    if any(opening in reply for opening, _ in _THOUGHTS):
        return ""
    return reply.rstrip().rpartition("\n")[2].strip(" \t*`.")
