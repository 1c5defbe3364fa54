"""What a recipe may say of an ablation: runs that differ in one thing, begun from the same model. Loads no torch."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from open_exaone.base.config import Config, validate
from open_exaone.base.errors import ConfigError

ABLATIONS = "ablations"
CONTROLS = "controls"  # the ablation that `exaone run --controls` runs
STAGES = "stages"  # in an arm: its list of stages
NAME = r"^[A-Za-z0-9][A-Za-z0-9_]*$"  # of an arm or an ablation: part of a folder's name, before a dash


def each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds.

    Raises:
        ValueError: one is there twice.
    """
    if doubles := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise ValueError(f"has {doubles[0]} twice: each seed is trained once: leave one out")
    return seeds


class MatchConfig(Config):
    """How long a stage of an arm trains: as much as stages of the run did, by its tokens, never by the clock."""

    stage: str
    """The stage of the arm that trains so long, instead of a number of passes."""
    flops_of: tuple[str, ...] = ()
    """It takes as many floating-point operations, those of its own samples included, as these stages of the run took to
    train and to sample, together."""
    tokens_of: tuple[str, ...] = ()
    """It trains on as many tokens as these stages of the run did, together."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.flops_of) == bool(self.tokens_of):
            raise ValueError('give either flops_of, such as flops_of = ["sft", "rl"], or tokens_of')
        return self


class AblationConfig(Config):
    """Runs ("arms") that share their first stages and differ in what each of them sets: `exaone run --ablate NAME`."""

    what: str = Field(min_length=1)
    """What is compared, in one sentence for the report, such as "SimPER against DPO, from the same SFT model."."""
    stage: str | None = None
    """The first stage that differs; those before it are trained once, and every arm begins from their model. If left
    out, arms may have other lists of stages, and each begins from a finished run of the recipe, behind the stages that
    it has in common with that run."""
    until: str | None = None
    """The last stage that each arm runs; `stage` if left out."""
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, le=2**31)], ...], Field(min_length=1), AfterValidator(each_once)
    ] = (*(0, 1, 2),)
    """Each arm is trained once with every one of these: a seed draws other samples and another order of the data. Arms
    without `stage` have the seed of the run that they begin from."""
    measure: str | None = None
    """The task whose scores are compared first: one of evaluation.data, NAME-non-reasoning of evaluation.both_modes, or
    a task of evaluation.suite or of the last stage's suite; the evaluation's first if left out."""
    arms: dict[Annotated[str, Field(pattern=NAME)], dict[str, Any]] = Field(min_length=2)
    """What each arm sets, by the keys that `--set` takes, such as { "prefer.loss" = { name = "dpo", beta = 0.1 } }; {}
    is the recipe as it is. The first arm is the baseline. Without `stage`, `stages = ["base", "sft"]` is the arm's list
    of stages, and the first arm is the run itself, {}."""
    match: dict[str, MatchConfig] = Field(default={})
    """By arm, how long one of its stages trains, such as { stage = "sft", flops_of = ["sft", "prefer", "rl"] }."""
    stages: tuple[dict[str, Any], ...] = ()
    """Stages besides the recipe's that arms may list, as [[stages]] of a recipe has them."""
    data: dict[str, Any] = Field(default={})
    """Data besides the recipe's that stages of arms may read, as [data.NAME] of a recipe has it; it is drawn last."""

    @property
    def begins_from_run(self) -> bool:
        """Whether arms begin from a finished run of the recipe, each where it departs from it."""
        return self.stage is None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for arm, changes in self.arms.items():
            for key, value in changes.items():
                if "." not in key and isinstance(value, dict):
                    raise ValueError(
                        f'arms.{arm}.{key}: write a dotted key in quotes, such as {{ "{key}.KEY" = VALUE }}'
                    )
        if self.begins_from_run:
            self._check_of_run()
        else:
            self._check_of_stage()
        return self

    def _check_of_run(self) -> None:
        """Holds arms of a finished run to what they may say."""
        for name in ("until", "seeds"):
            if name in self.model_fields_set:
                raise ValueError(f"{name}: needs `stage`: without it, arms run to their end with the run's seed")
        first, *others = self.arms
        if self.arms[first]:
            raise ValueError(f"arms.{first}: must be {{}}: without `stage`, the first arm is the run itself")
        for arm in others:
            listed = self.arms[arm].get(STAGES, [""])
            if not (isinstance(listed, list) and listed and all(isinstance(name, str) for name in listed)):
                raise ValueError(f'arms.{arm}.{STAGES}: must list names of stages, such as ["base", "sft"]')
        for arm in self.match:
            if arm not in others:
                raise ValueError(f"match.{arm}: no such arm besides the first; there are {', '.join(others)}")

    def _check_of_stage(self) -> None:
        """Refuses what only arms of a finished run may say."""
        for name in ("match", "stages", "data"):
            if getattr(self, name):
                raise ValueError(f"{name}: is for arms that begin from a finished run: leave `stage` out")


def ablation_of(name: str, table: Any, source: str) -> AblationConfig:
    """A table `[ablations.NAME]`, its form checked.

    Raises:
        ConfigError: it is no table, or a value is wrong; names the source, the key, the value and what is allowed.
    """
    where = f"{source}: {ABLATIONS}.{name}"
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: must be a table: write [{ABLATIONS}.NAME] with its arms")
    return validate(AblationConfig, table, where)


def matched(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage as it is written, with a budget in place of its passes; how much it is worth is set from the run."""
    return {key: value for key, value in stage.items() if key != "num_epochs"} | {"budget": {"flops": 1.0}}
