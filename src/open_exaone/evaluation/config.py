"""How a recipe measures the model that each of its stages leaves."""

from typing import Literal, Self

from pydantic import Field, model_validator

from open_exaone.rollout.config import SamplingConfig

NUM_SAMPLES = 4  # of each problem of a run's own data


class EvaluationConfig(SamplingConfig):
    """What every stage's model is measured on, and with what sampling (EXAONE Deep: temperature 0.6, top-p 0.95)."""

    data: str | None = None
    """Measure on problems of the recipe: `[data.NAME]`."""
    suite: str | None = None
    """Instead of `data`, a suite or a benchmark, as `exaone eval --suite` takes it."""
    rows: dict[str, str] = Field(default={})
    """For a suite: where a benchmark's rows are, such as { math_500 = "math500.jsonl" }."""
    limit: int | None = Field(default=None, ge=1)
    """Measure only on so many problems, the first ones."""
    num_samples: int | None = Field(default=None, gt=0, le=1024)
    """Samples of each problem; 4 on data of the recipe (and one greedy reply besides), else as the suite has it."""
    temperature: float = Field(default=0.6, gt=0, le=10)
    """The sampling temperature."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Sample from the smallest set of tokens whose probabilities add up to this."""
    max_new_tokens: int | None = Field(default=None, gt=0)
    """The longest reply in tokens, thought included; half the model's context, at most 4,096, if left out."""
    seed: int = Field(default=20250316, ge=0)
    """The seed of the samples: fixed, so that every stage and every seed of training meets the same draws."""
    mode: Literal["reasoning", "non_reasoning"] | None = None
    """The mode in which questions are asked; after a stage of kind "base" or "pretrain" non-reasoning, else reasoning,
    if left out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.data is None) == (self.suite is None):
            raise ValueError('give either data, such as data = "test", or suite, such as suite = "math_500"')
        if self.rows and self.suite is None:
            raise ValueError("rows: says where a suite's benchmarks are: leave it out, or give a suite")
        return self

    def reply_limit(self, context: int) -> int:
        """The longest reply of a model with that context, in tokens."""
        return self.max_new_tokens or min(4096, context // 2)
