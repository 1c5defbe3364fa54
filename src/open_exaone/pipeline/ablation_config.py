"""What a recipe may say of an ablation: runs that differ in one thing, begun from the same model. Loads no torch."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from open_exaone.base.config import Config, validate
from open_exaone.base.errors import ConfigError

ABLATIONS = "ablations"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_]*$"  # of an arm or an ablation: part of a folder's name, before a dash


def _once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if doubles := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise ValueError(f"has {doubles[0]} twice: each seed is trained once: leave one out")
    return seeds


class AblationConfig(Config):
    """Runs ("arms") that share their first stages and differ in what each of them sets: `exaone run --ablate NAME`."""

    what: str = Field(min_length=1)
    """What is compared, in one sentence for the report, such as "SimPER against DPO, from the same SFT model."."""
    stage: str
    """The first stage that differs; those before it are trained once, and every arm begins from their model."""
    until: str | None = None
    """The last stage that each arm runs; `stage` if left out."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=2**31)], ...], Field(min_length=1), AfterValidator(_once)] = (
        *(0, 1, 2),
    )
    """Each arm is trained once with every one of these: a seed draws other samples and another order of the data."""
    measure: str | None = None
    """The task whose scores are compared first: one of evaluation.data, NAME-non-reasoning of evaluation.both_modes, or
    a task of evaluation.suite or of the last stage's suite; the evaluation's first if left out."""
    arms: dict[Annotated[str, Field(pattern=NAME)], dict[str, Any]] = Field(min_length=2)
    """What each arm sets, by the keys that `--set` takes, such as { "prefer.loss" = { name = "dpo", beta = 0.1 } }; {}
    is the recipe as it is. The first arm is the baseline."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for arm, changes in self.arms.items():
            for key, value in changes.items():
                if "." not in key and isinstance(value, dict):
                    raise ValueError(
                        f'arms.{arm}.{key}: write a dotted key in quotes, such as {{ "{key}.KEY" = VALUE }}'
                    )
        return self


def ablation_of(name: str, table: Any, source: str) -> AblationConfig:
    """A table `[ablations.NAME]`, its form checked.

    Raises:
        ConfigError: it is no table, or a value is wrong; names the source, the key, the value and what is allowed.
    """
    where = f"{source}: {ABLATIONS}.{name}"
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: must be a table: write [{ABLATIONS}.NAME] with its arms")
    return validate(AblationConfig, table, where)
