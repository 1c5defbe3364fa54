"""Names as people write them: "MATH-500" is math_500."""

from collections.abc import Iterable

from open_exaone.base.config import plain_name


def spelled(name: str, known: Iterable[str]) -> str:
    """The one known name that differs in case, spaces and punctuation alone; without one, the name as it is."""
    names = list(known)
    alike = [item for item in names if plain_name(item) == plain_name(name)]
    return alike[0] if len(alike) == 1 and name not in names else name
