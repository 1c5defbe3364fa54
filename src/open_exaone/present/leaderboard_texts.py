"""The texts of the leaderboard in one language; they stand in texts/leaderboard.toml."""

import re

from open_exaone.present.localized import Texts

_TAGGED = re.compile(r"(.*?)( \[\w+\])?", re.DOTALL)

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
    "unknown": "unknown",
    "not recorded": "not_recorded",
}


class LeaderboardTexts(Texts):
    """One language's texts."""

    def __init__(self, language: str) -> None:
        super().__init__("leaderboard", language)

    def value(self, text: str) -> str:
        """A word of the data, such as a mode; names stay as they are."""
        return self(_VALUES[text]) if text in _VALUES else text

    def setting(self, text: str) -> str:
        """What sets a score apart, such as "budget 1,024, part"."""
        return ", ".join(map(self.said, text.split(", ")))

    def tagged(self, text: str) -> str:
        """Where a size was found, with a tag such as [P] behind it."""
        said, tag = _TAGGED.fullmatch(text).groups("")  # type: ignore[union-attr]  # it fits any text
        return self.said(said) + tag
