"""Foreign text made safe to print: whatever reaches a terminal, a log or a page goes through `printable`.

`base/terminal.py` and `base/output.py` do so for all that the command line prints, `base/log.py` for all that is
logged.
"""

import re

# Control characters but for tabs and line ends (a lone carriage return overwrites its line), both kinds of control
# sequence introducers among them; bidirectional overrides, embeddings and isolates; halves of surrogate pairs.
_STEERING = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)")


def printable(text: object) -> str:
    """A text without what could steer a terminal, reorder a line or not be written as UTF-8.

    A file's name, a model's reply or an endpoint's error can hold anything: colours, cursor movements, a text for the
    clipboard (OSC 52), links (OSC 8), right-to-left overrides, half of a surrogate pair. Each such character is drawn
    as U+FFFD. All other text, line ends and tabs stay as they are, so that JSON stays the same JSON.
    """
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", str(text))


def as_written(text: str, encoding: str | None) -> str:
    """A text as a stream of this encoding takes it: what it has no character for is written as an escape."""
    encoding = encoding or "utf-8"
    try:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except (UnicodeError, LookupError):  # an encoding that this Python does not know, or half of one
        return text.encode("ascii", "backslashreplace").decode()
