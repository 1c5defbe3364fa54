"""How a recipe measures the model that each of its stages leaves."""

from dataclasses import fields
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from open_exaone.base.config import word_or_list
from open_exaone.base.records import Sampling
from open_exaone.rollout.config import SamplingConfig

Names = Annotated[
    Annotated[str, Tag("<word>")] | Annotated[tuple[str, ...], Tag("<list>"), Field(min_length=1)],
    Discriminator(word_or_list),
]
NON_REASONING = "-non-reasoning"  # behind the name of data: its task in the other mode
GREEDY = "-greedy"  # behind the name of data: its task of one greedy reply to each problem
# On data of a recipe (EXAONE Deep: temperature 0.6, top-p 0.95). The seed is fixed, so that every stage and every seed
# of training meets the same draws.
OWN_SAMPLING: dict[str, Any] = {"num_samples": 4, "temperature": 0.6, "top_p": 0.95, "seed": 20250316}


class EvaluationConfig(SamplingConfig):
    """What every stage's model is measured on, and how samples are drawn.

    Of a suite, what is left out or at its default is as the suite has it.
    """

    data: Names | None = None
    """Measure on problems of the recipe, `[data.NAME]`: one name, or several, such as ["test", "harder"], of which the
    first one's score is the run's."""
    shown: str | None = None
    """Which of `data` the report takes its example problems from; the first if left out."""
    both_modes: Names | None = None
    """Of `data`, what is measured in both modes once a stage teaches to reason: also in non-reasoning mode, as
    NAME-non-reasoning."""
    suite: str | None = None
    """Instead of `data`: a suite or a benchmark, several joined by commas, or a .toml or .jsonl file, as
    `exaone eval --suite` takes it; the report has each benchmark's score."""
    rows: dict[str, str] = Field(default={})
    """For a suite: where a benchmark's rows are, such as { math_500 = "math500.jsonl" }."""
    limit: int | None = Field(default=None, ge=1)
    """Measure only on so many problems, the first ones; of a suite, of each benchmark."""
    num_samples: int | None = Field(default=None, gt=0, le=1024)
    """Samples of a problem; if left out, 4 on data of the recipe (and one greedy reply besides), else the suite's."""
    temperature: float | None = Field(default=None, ge=0, le=10)
    """The sampling temperature; if left out, 0.6 on data of the recipe, else the suite's. 0, greedy decoding, is for
    suites: data of the recipe are measured greedily in any case."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from the smallest set of tokens whose probabilities add up to this; if left out, 0.95 on data of the
    recipe, else the suite's."""
    max_new_tokens: int | None = Field(default=None, gt=0)
    """The longest reply in tokens, thought included; if left out, half the shortest context of the run's models, at
    most 4,096, on data of the recipe, else the suite's."""
    seed: int | None = Field(default=None, ge=0)
    """The seed of the samples; if left out, 20250316 on data of the recipe, else the suite's."""
    mode: Literal["reasoning", "non_reasoning"] | None = None
    """The mode in which questions are asked; of a suite, only its tasks in this mode. If left out: of a suite, all
    tasks; on data of the recipe as the stage teaches: non-reasoning after kind "base" or "pretrain", rows of which most
    have no thought, or problems of which most are asked in it, else reasoning."""

    faithfulness: int | None = Field(default=None, ge=1)
    """After the last stage, also measure whether answers depend on their thoughts, on so many problems of the first of
    `data` (of a suite, of each benchmark): the model answers after its own thoughts, cut, with a wrong result, or
    swapped."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.data is None) == (self.suite is None):
            raise ValueError('give either data, such as data = "test", or suite, such as suite = "math_500"')
        if self.temperature == 0 and self.data is not None:
            greedy = ", ".join(name + GREEDY for name in self.names)
            raise ValueError(f"temperature = 0: greedy replies are measured in any case, as {greedy}: leave it out")
        if self.in_both_modes and self.mode == "non_reasoning":
            raise ValueError('both_modes: has no effect with mode = "non_reasoning": leave one of the two out')
        if self.faithfulness and self.mode == "non_reasoning":
            raise ValueError('faithfulness: has no effect with mode = "non_reasoning": leave one of the two out')
        for name in self.in_both_modes:
            if name not in self.names:
                names = ", ".join(self.names) or "there is none"
                raise ValueError(f"both_modes: {name!r} must be one of data ({names})")
        if doubles := [name for name in self.names if self.names.count(name) > 1]:
            raise ValueError(f"data: names {doubles[0]!r} twice: leave one out")
        tasks = [*(name + GREEDY for name in self.names), *(name + NON_REASONING for name in self.in_both_modes)]
        if taken := sorted(set(tasks) & set(self.names)):
            name = taken[0].removesuffix(GREEDY).removesuffix(NON_REASONING)
            raise ValueError(f"data: {taken[0]} is what a measurement of {name} is called: rename one of the two")
        if self.rows and self.suite is None:
            raise ValueError("rows: says where a suite's benchmarks are: leave it out, or give a suite")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the data that are measured on; none for a suite."""
        return (self.data,) if isinstance(self.data, str) else self.data or ()

    @property
    def in_both_modes(self) -> tuple[str, ...]:
        """The names of the data that are measured in both modes."""
        return (self.both_modes,) if isinstance(self.both_modes, str) else self.both_modes or ()

    @property
    def sampling(self) -> dict[str, Any]:
        """The fields of `Sampling` that are given and not at their default, by name."""
        names = [field.name for field in fields(Sampling) if field.name in type(self).model_fields]
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value != type(self).model_fields[name].default}

    def reply_limit(self, context: int) -> int:
        """The longest reply of a model with that context, in tokens."""
        return self.max_new_tokens or min(4096, context // 2)
