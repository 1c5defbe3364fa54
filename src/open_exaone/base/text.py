"""Small helpers for messages."""

from collections.abc import Sequence


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 example`, `1,234 examples`; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of several names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
