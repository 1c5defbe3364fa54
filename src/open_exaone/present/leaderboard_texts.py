"""The texts of the leaderboard in one language; they stand in texts/leaderboard.toml."""

from open_exaone.present.localized import Texts

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


class LeaderboardTexts(Texts):
    """One language's texts."""

    def __init__(self, language: str) -> None:
        super().__init__("leaderboard", language)

    def value(self, text: str) -> str:
        """A word of the data, such as a mode; names stay as they are."""
        return self(_VALUES[text]) if text in _VALUES else text
