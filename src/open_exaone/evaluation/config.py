"""How a recipe measures the model that each of its stages leaves."""

from typing import Literal, Self

from pydantic import Field, model_validator

from open_exaone.base.config import Config

NUM_SAMPLES = 4  # of each problem of a run's own data


class EvaluationConfig(Config):
    """What every stage's model is measured on, and how samples are drawn (EXAONE Deep: temperature 0.6, top-p 0.95).

    Where a suite is measured, what is left out is the suite's own, for each benchmark; nothing is replied to greedily
    besides.
    """

    data: str | None = None
    """Measure on problems of the recipe: `[data.NAME]`."""
    suite: str | None = None
    """Instead of `data`: a suite or a benchmark, several joined by commas, or a .toml or .jsonl file, as
    `exaone eval --suite` takes it; the report has each benchmark's score."""
    rows: dict[str, str] = Field(default={})
    """For a suite: where a benchmark's rows are, such as { math_500 = "math500.jsonl" }."""
    limit: int | None = Field(default=None, ge=1)
    """Measure only on so many problems, the first ones; of a suite, of each benchmark."""
    num_samples: int | None = Field(default=None, gt=0, le=1024)
    """Samples of each problem; 4 on data of the recipe (and one greedy reply besides), else as the suite has it."""
    temperature: float = Field(default=0.6, gt=0, le=10)
    """The sampling temperature; of a suite, its own if left out."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Sample from the smallest set of tokens whose probabilities add up to this; of a suite, its own if left out."""
    max_new_tokens: int | None = Field(default=None, gt=0)
    """The longest reply in tokens, thought included. If left out: the suite's own; on data of the recipe, half the
    model's context, at most 4,096."""
    seed: int = Field(default=20250316, ge=0)
    """The seed of the samples: fixed, so that every stage and every seed of training meets the same draws; of a suite,
    its own if left out."""
    mode: Literal["reasoning", "non_reasoning"] | None = None
    """The mode in which questions are asked; of a suite, only its tasks in this mode. If left out: of a suite, all
    tasks; on data of the recipe, non-reasoning after a stage of kind "base" or "pretrain", else reasoning."""

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
