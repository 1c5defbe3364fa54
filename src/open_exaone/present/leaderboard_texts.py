"""The texts of the leaderboard in one language; they stand in texts/leaderboard.toml."""

from functools import cache
from pathlib import Path

from open_exaone.base.config import read_toml

LANGUAGES = ("en", "ko")
_FILE = Path(__file__).parent / "texts" / "leaderboard.toml"
_VALUES = {  # of the data, by the key of their text
    "reasoning": "reasoning",
    "non_reasoning": "non_reasoning",
    "not stated": "not_stated",
    "dense": "dense",
    "mixture of experts": "mixture",
    "not published": "not_published",
    "open weights": "open_weights",
    "closed": "closed",
    "Own runs": "own_runs",
}


class Texts:
    """One language's texts."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.other = next(one for one in LANGUAGES if one != language)

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key, filled in; what is filled in is never read as a pattern."""
        return _texts()[key][self.language].format(**values)

    def value(self, text: str) -> str:
        """A word of the data, such as a mode; names stay as they are."""
        return self(_VALUES[text]) if text in _VALUES else text


@cache
def _texts() -> dict[str, dict[str, str]]:
    return read_toml(_FILE)
