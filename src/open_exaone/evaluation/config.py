"""How a recipe measures the model that each of its stages leaves."""

from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from open_exaone.base.config import Config

# On data of a recipe (EXAONE Deep: temperature 0.6, top-p 0.95). The seed is fixed, so that every stage and every seed
# of training meets the same draws.
OWN_SAMPLING = {"num_samples": 4, "temperature": 0.6, "top_p": 0.95, "seed": 20250316}


@dataclass(frozen=True, kw_only=True)
class SamplingChanges:
    """How samples are drawn instead of as a suite has it; None is the suite's own."""

    num_samples: int | None = None  # k
    budgets: tuple[int, ...] | None = (
        None  # thinking budgets in tokens; each makes a task of its own, "aime_2025@16384"
    )
    seed: int | None = None
    max_new_tokens: int | None = None  # of a reply, its thought included
    temperature: float | None = None  # 0 is greedy
    top_p: float | None = None

    def given(self) -> dict[str, Any]:
        """Those that are not None, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(SamplingChanges)}
        return {name: value for name, value in values.items() if value is not None}


class EvaluationConfig(Config):
    """What every stage's model is measured on, and how samples are drawn."""

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
    """Samples of a problem; if left out, 4 on data of the recipe (and one greedy reply besides), else the suite's."""
    temperature: float | None = Field(default=None, gt=0, le=10)
    """The sampling temperature; if left out, 0.6 on data of the recipe, else the suite's."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from the smallest set of tokens whose probabilities add up to this; if left out, 0.95 on data of the
    recipe, else the suite's."""
    max_new_tokens: int | None = Field(default=None, gt=0)
    """The longest reply in tokens, thought included; if left out, half the model's context, at most 4,096, on data of
    the recipe, else the suite's."""
    seed: int | None = Field(default=None, ge=0)
    """The seed of the samples; if left out, 20250316 on data of the recipe, else the suite's."""
    mode: Literal["reasoning", "non_reasoning"] | None = None
    """The mode in which questions are asked; of a suite, only its tasks in this mode. If left out: of a suite, all
    tasks; on data of the recipe as the stage teaches: non-reasoning after kind "base" or "pretrain" or rows of which
    most have no thought, else reasoning."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.data is None) == (self.suite is None):
            raise ValueError('give either data, such as data = "test", or suite, such as suite = "math_500"')
        if self.rows and self.suite is None:
            raise ValueError("rows: says where a suite's benchmarks are: leave it out, or give a suite")
        return self

    @property
    def sampling(self) -> SamplingChanges:
        """What is given of how samples are drawn."""
        names = (field.name for field in fields(SamplingChanges))
        return SamplingChanges(**{name: getattr(self, name) for name in names if hasattr(self, name)})

    def reply_limit(self, context: int) -> int:
        """The longest reply of a model with that context, in tokens."""
        return self.max_new_tokens or min(4096, context // 2)
