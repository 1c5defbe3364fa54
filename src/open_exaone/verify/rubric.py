"""From a verdict to a reward: the policy is a table in the recipe."""

from pydantic import Field

from open_exaone.base.config import Config
from open_exaone.base.records import Verdict


class Rubric(Config):
    """The reward of each verdict; a verifier that fails says nothing about the reply, so it earns nothing."""

    correct: float = Field(default=1.0, ge=-10, le=10)
    """The answer is right."""
    wrong: float = Field(default=0.0, ge=-10, le=10)
    """The answer is wrong."""
    unparsed: float = Field(default=0.0, ge=-10, le=10)
    """No answer was found."""
    truncated: float = Field(default=0.0, ge=-10, le=10)
    """The reply was cut at the token limit, or its thought never closed."""
    timeout: float = Field(default=0.0, ge=-10, le=10)
    """The verifier took too long."""
    error: float = Field(default=0.0, ge=-10, le=10)
    """The verifier failed."""

    def reward(self, verdict: Verdict) -> float:
        """The number for a verdict."""
        return float(getattr(self, verdict.status.value))
