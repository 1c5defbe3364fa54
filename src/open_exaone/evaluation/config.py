"""How a recipe measures the model that each of its stages leaves."""

from typing import Literal, Self

from pydantic import Field, model_validator

from open_exaone.base.config import Config

NUM_SAMPLES, SEED = 4, 20250316  # on a run's own data: samples of each problem, the same draws after every stage
SAMPLING = {"temperature": 0.6, "top_p": 0.95}  # EXAONE Deep's; also what a model trained here recommends


class EvaluationConfig(Config):
    """What every stage's model is measured on, and with what sampling."""

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
    temperature: float | None = Field(default=None, gt=0, le=10)
    """The sampling temperature; 0.6 on data of the recipe, else as the suite has it."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from the smallest set of tokens whose probabilities add up to this; 0.95 on data of the recipe, else as
    the suite has it."""
    max_new_tokens: int | None = Field(default=None, gt=0)
    """The longest reply in tokens, thought included; half the model's context, at most 4,096, if left out."""
    seed: int | None = Field(default=None, ge=0)
    """The seed of the samples, the same after every stage; 20250316 on data of the recipe, else as the suite has it."""
    mode: Literal["reasoning", "non_reasoning"] | None = None
    """The mode in which questions are asked. If left out, as the stage teaches: non-reasoning after kind "base" or
    "pretrain" or rows of which most have no thought, else reasoning."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.data is None) == (self.suite is None):
            raise ValueError('give either data, such as data = "test", or suite, such as suite = "math_500"')
        if self.rows and self.suite is None:
            raise ValueError("rows: says where a suite's benchmarks are: leave it out, or give a suite")
        return self

    @property
    def sampling(self) -> dict[str, float]:
        """The temperature and top_p on data of the recipe."""
        return {
            name: default if (given := getattr(self, name)) is None else given for name, default in SAMPLING.items()
        }

    def reply_limit(self, context: int) -> int:
        """The longest reply of a model with that context, in tokens."""
        return self.max_new_tokens or min(4096, context // 2)
