"""How a model is measured."""

from pydantic import Field

from open_exaone.base.config import Config


class EvaluationConfig(Config):
    """The reports' sampling, and how many samples of which problems."""

    split: str = "test"
    """Which set of problems."""
    num_samples: int = Field(default=4, gt=0, le=1024)
    """k, samples of each problem; beside them one greedy reply is drawn."""
    temperature: float = Field(default=0.6, gt=0, le=10)
    """Of the samples (EXAONE Deep: 0.6)."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Of the samples (EXAONE Deep: 0.95)."""
    max_new_tokens: int = Field(gt=0)
    """The longest reply, thought included."""
    seed: int = Field(default=20250316, ge=0)
    """Of the samples; fixed, so that every stage and every seed of training meets the same draws."""
