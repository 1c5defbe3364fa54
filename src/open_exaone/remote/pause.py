"""How long a server asks its clients to wait."""

import email.utils
import re
import time
from dataclasses import dataclass

_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)


@dataclass(slots=True)
class Pause:
    """Until when a server wants no further requests, by the monotonic clock."""

    until: float = 0.0


def retry_after_s(value: str | None) -> float:
    """The pause that a Retry-After asks for, as a number or as a date; 0 where it says neither."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text[:40]).timestamp()
    except (ValueError, OverflowError, TypeError):
        return 0.0
    return max(0.0, moment - time.time())
