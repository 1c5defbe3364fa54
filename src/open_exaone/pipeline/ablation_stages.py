"""Arms with their own list of stages: their recipes, and how long their stages train to match stages of a run."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from open_exaone.base.config import did_you_mean
from open_exaone.base.errors import ConfigError
from open_exaone.pipeline.ablation_config import ABLATIONS, STAGES, AblationConfig, MatchConfig, matched
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.recipe import RawRecipe, resolve
from open_exaone.train.config import BudgetConfig, RejectionStage, SupervisedStage

if TYPE_CHECKING:
    from open_exaone.pipeline.spent import Spent

Values = dict[str, Any]


def arm_recipe(raw: RawRecipe, name: str, arm: str) -> Recipe:
    """The recipe of an arm of an ablation; the budget of a stage that matches stages of the run is set later.

    Raises:
        ConfigError: a value is wrong, or a stage is not there; names the ablation, the arm and the key.
    """
    config, where = raw.ablations[name], f"{ABLATIONS}.{name}.arms.{arm}"
    changes = dict(config.arms[arm])
    if not config.begins_from_run or not changes:
        return resolve(raw, changes, where)
    values, match = copy.deepcopy(raw.values), config.match.get(arm)
    values["stages"] = _listed(values["stages"], config, changes.pop(STAGES, None), f"{raw.source}: {where}")
    if match is not None:
        names = [stage["name"] for stage in values["stages"]]
        _check_names([match.stage], names, f"{raw.source}: {ABLATIONS}.{name}.match.{arm}.stage")
        place = names.index(match.stage)
        values["stages"][place] = matched(values["stages"][place])
    read = {stage.get(key) for stage in values["stages"] for key in ("data", "validation")}
    read |= {value for key, value in changes.items() if key.endswith((".data", ".validation"))}
    values["data"] |= {key: copy.deepcopy(data) for key, data in config.data.items() if key in read}
    recipe = resolve(RawRecipe(raw.source, values, {}), changes, where)
    if match is not None:
        stage = next(one for one in recipe.stages if one.name == match.stage)
        if not isinstance(stage, SupervisedStage | RejectionStage):
            raise ConfigError(
                f"{raw.source}: {ABLATIONS}.{name}.match.{arm}.stage = {stage.name!r}: is of kind {stage.kind!r}: name "
                "a stage that learns what is written (base, pretrain, sft or rejection)"
            )
    return recipe


def _listed(stages: Sequence[Values], config: AblationConfig, names: Sequence[str] | None, where: str) -> list[Values]:
    """The stages that an arm lists, in its order; the recipe's where it lists none."""
    known = {str(stage.get("name")): stage for stage in [*stages, *copy.deepcopy(config.stages)]}
    names = [stage["name"] for stage in stages] if names is None else names
    _check_names(names, known, f"{where}.{STAGES}")
    return [known[name] for name in names]


def _check_names(names: Sequence[str], known: Sequence[str] | Mapping[str, Any], where: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{where}: {name!r}: no such stage{did_you_mean(name, known)} There are {', '.join(known)}"
            )


def check_matches(recipe: Recipe, config: AblationConfig, where: str) -> None:
    """Finds stages of the run that `match` names and that there are not.

    Raises:
        ConfigError: names the arm and the stage.
    """
    names = [stage.name for stage in recipe.stages]
    for arm, match in config.match.items():
        key = "flops_of" if match.flops_of else "tokens_of"
        _check_names(match.flops_of or match.tokens_of, names, f"{where}.match.{arm}.{key}")


def with_budgets(arms: Mapping[str, Recipe], config: AblationConfig, taken: "Mapping[str, Spent]") -> dict[str, Recipe]:
    """The arms' recipes with the budgets that match what stages of the run took.

    Args:
        taken: what each stage of the run took.

    Raises:
        ConfigError: what a stage of the run took is not known.
    """
    return {
        arm: recipe if (match := config.match.get(arm)) is None else _budgeted(recipe, match, taken)
        for arm, recipe in arms.items()
    }


def _budgeted(recipe: Recipe, match: MatchConfig, taken: "Mapping[str, Spent]") -> Recipe:
    if match.tokens_of:
        budget = BudgetConfig(tokens=sum(taken[name].trained_tokens for name in match.tokens_of))
    else:
        flops = 0.0
        for name in match.flops_of:
            if (one := taken[name].flops) is None:
                raise ConfigError(f"{name}: an older version did not count its samples: train the run anew")
            flops += one
        budget = BudgetConfig(flops=flops)
    stages = [
        stage.model_copy(update={"budget": budget}) if stage.name == match.stage else stage for stage in recipe.stages
    ]
    return recipe.model_copy(update={"stages": tuple(stages)})
