"""The arms of an ablation as recipes, each checked: they share their first stages, and differ in what follows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_exaone.base.config import did_you_mean, differences
from open_exaone.base.errors import ConfigError
from open_exaone.evaluation.config import NON_REASONING, EvaluationConfig
from open_exaone.evaluation.suite import Suite, load_suite
from open_exaone.pipeline.ablation_config import ABLATIONS, AblationConfig
from open_exaone.pipeline.ablation_stages import arm_recipe, check_matches
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import decisive
from open_exaone.pipeline.recipe import DEFAULT_RECIPE, read_recipe, resolve
from open_exaone.tasks.generated import GeneratedSource
from open_exaone.train.config import AnyStage, FilterStage, SupervisedStage, TrainedStage


@dataclass(frozen=True)
class Ablation:
    """An ablation of a recipe, its arms resolved."""

    name: str
    config: AblationConfig
    recipe: Recipe  # as it is without an arm's changes
    arms: Mapping[str, Recipe]  # with the recipe's own seed

    @property
    def baseline(self) -> str:
        return next(iter(self.arms))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that each arm is trained with; the run's own, where arms begin from a run."""
        return (self.recipe.seed,) if self.config.begins_from_run else self.config.seeds

    @property
    def shared(self) -> tuple[AnyStage, ...]:
        """The stages that all arms have in common, trained once; none where the first stage differs."""
        return self.recipe.stages[: min(len(self.taken(arm)) for arm in self.arms)]

    def taken(self, arm: str) -> tuple[AnyStage, ...]:
        """The stages that an arm does not train: the shared ones, or all that it has in common with the run."""
        if self.config.stage is not None:
            return self.recipe.stages[: _index(self.recipe, self.config.stage)]
        own, taken = self.arms[arm], 0
        for number in range(1, min(len(self.recipe.stages), len(own.stages)) + 1):
            first = self.recipe.stages[:number]
            if shared_values(self.recipe, first) != shared_values(own, first):
                break
            taken = number
        return own.stages[:taken]

    def stages_of(self, arm: str) -> tuple[AnyStage, ...]:
        """All stages of an arm, the shared ones too, up to the last that it runs."""
        stages, until = self.arms[arm].stages, self.config.until or self.config.stage
        return stages if until is None else stages[: _index(self.recipe, until) + 1]

    def own(self, arm: str) -> tuple[AnyStage, ...]:
        """The stages of an arm behind those that all arms share."""
        return self.stages_of(arm)[len(self.shared) :]

    def until(self, arm: str) -> TrainedStage:
        """The last stage that an arm runs, whose model is measured."""
        last = self.stages_of(arm)[-1]
        assert not isinstance(last, FilterStage)  # it was checked
        return last

    @property
    def measure(self) -> str | None:
        """The data or the benchmark whose scores are compared; None for the first one of a suite."""
        names = self.recipe.evaluation.names if self.recipe.evaluation else ()
        return self.config.measure or next(iter(names), None)

    def recipe_of(self, arm: str, seed: int) -> Recipe:
        """An arm's recipe with a seed for its own stages."""
        recipe, num_shared = self.arms[arm], len(self.shared)
        if self.config.begins_from_run:
            return recipe
        stages = [stage.model_copy(update={"seed": seed}) for stage in recipe.stages[num_shared:]]
        return recipe.model_copy(update={"stages": (*recipe.stages[:num_shared], *stages)})


def load_ablation(
    name: str,
    source: str | Path | Mapping[str, Any] = DEFAULT_RECIPE,
    overrides: Sequence[str] = (),
    *,
    quick: bool = False,
) -> Ablation:
    """Reads an ablation of a recipe and resolves its arms: the recipe's values, `[quick]`, `--set`, then the arm's own.

    Args:
        source, overrides, quick: see `load_recipe`.

    Raises:
        ConfigError: there is no such ablation, an arm's value is wrong, an arm changes what the shared stages read, or
            it changes nothing; names the ablation, the arm and the key.
    """
    raw = read_recipe(source, overrides, quick=quick)
    if name not in raw.ablations:
        known = ", ".join(raw.ablations)
        there_are = f"{did_you_mean(name, raw.ablations)} There are {known}" if known else ": the recipe has none"
        raise ConfigError(f"{raw.source}: --ablate {name}: no such ablation{there_are}")
    config, where = raw.ablations[name], f"{raw.source}: {ABLATIONS}.{name}"
    recipe = resolve(raw)
    _check_places(recipe, config, where)
    check_matches(recipe, config, where)
    found = Ablation(name, config, recipe, {arm: arm_recipe(raw, name, arm) for arm in config.arms})
    _check_shared(found, where)
    for arm in found.arms:
        _check_end(found, arm, where)
    _check_different(found, where)
    return found


def ablation_names(source: str | Path | Mapping[str, Any] = DEFAULT_RECIPE) -> list[str]:
    """The ablations that a recipe has."""
    return list(read_recipe(source, quick=False).ablations)


def shared_values(recipe: Recipe, shared: Sequence[AnyStage]) -> dict[str, Any]:
    """All that decides the outcome of a recipe's first stages, by name: where it is equal, they may be shared.

    Generated problems are drawn in the order in which their data is listed, and what was drawn before is not drawn
    again; so of data listed before the last that these stages read or are measured on, the sources count too.
    """
    stages = recipe.stages[: len(shared)]
    values = decisive(recipe.model_copy(update={"stages": stages}))
    values = values if stages else {"data": values["data"]}
    read, data = _read(recipe, stages), values.pop("data")
    drawn = _drawn(recipe)
    drawn = drawn[: max((drawn.index(name) + 1 for name in read if name in drawn), default=0)]
    held_out = {stage.validation for stage in recipe.stages if isinstance(stage, SupervisedStage)}
    return {
        **values,
        "data": {name: data[name] if name in read else {"sources": data[name]["sources"]} for name in {*read, *drawn}},
        "order of data": drawn,
        "validation data": sorted(name for name in held_out if name in drawn),
    }


def drawn_for_all(recipe: Recipe, shared: Sequence[AnyStage]) -> list[str]:
    """The generated data that a recipe's first stages read or are measured on."""
    read = _read(recipe, recipe.stages[: len(shared)])
    return [name for name in _drawn(recipe) if name in read]


def _read(recipe: Recipe, stages: Sequence[AnyStage]) -> set[str]:
    """The data that stages read or are measured on."""
    validation = {stage.validation for stage in stages if isinstance(stage, SupervisedStage) and stage.validation}
    measured = recipe.evaluation.names if recipe.evaluation else ()
    return {*(recipe.data_of(stage) for stage in stages), *validation, *measured}


def _drawn(recipe: Recipe) -> list[str]:
    """The data with generated problems, in order."""
    return [name for name, data in recipe.data.items() if any(isinstance(one, GeneratedSource) for one in data.sources)]


def _check_places(recipe: Recipe, config: AblationConfig, where: str) -> None:
    """Holds `stage`, `until` and `measure` to what the recipe has."""
    names = [stage.name for stage in recipe.stages]
    if recipe.evaluation is None:
        raise ConfigError(f"{where}: the recipe has no [evaluation], so that no score can be compared: give it one")
    for key, name in (("stage", config.stage), ("until", config.until)):
        if name is not None and name not in names:
            raise ConfigError(
                f"{where}.{key} = {name!r}: no such stage{did_you_mean(name, names)} There are {', '.join(names)}"
            )
    if config.stage is None or config.until is None:
        return
    if names.index(config.until) < names.index(config.stage):
        raise ConfigError(
            f"{where}.until = {config.until!r}: comes before stage = {config.stage!r}: name that or a later one"
        )


def _check_end(ablation: Ablation, arm: str, where: str) -> None:
    """Holds the last stage that an arm runs to leaving a model, and `measure` to what that is measured on."""
    config, until, evaluation = ablation.config, ablation.stages_of(arm)[-1], ablation.recipe.evaluation
    if isinstance(until, FilterStage):
        key = f"arms.{arm}.stages" if config.begins_from_run else "stage" if config.until is None else "until"
        raise ConfigError(
            f"{where}.{key} = {until.name!r}: is a filter, which leaves no model to measure: let "
            f"{'a stage stand' if config.begins_from_run else 'until name a stage'} after it"
        )
    assert evaluation is not None  # the caller has looked
    measured = [] if config.measure is None else _tasks(evaluation, until)
    if config.measure is not None and config.measure not in measured:
        raise ConfigError(
            f"{where}.measure = {config.measure!r}: is not measured{did_you_mean(config.measure, measured)} "
            f"There are {', '.join(measured)}"
        )


def _tasks(evaluation: EvaluationConfig, stage: TrainedStage) -> list[str]:
    """What a stage's model is measured on, by name: the evaluation's data or suite, and the stage's own suite.

    Raises:
        ConfigError: there is no such suite.
    """
    names = [*evaluation.names, *(name + NON_REASONING for name in evaluation.in_both_modes)]
    if evaluation.suite is not None:
        suite = load_suite(evaluation.suite)
        names += _labels(suite if evaluation.mode is None else suite.of_modes([evaluation.mode]))
    return names if stage.suite is None else [*names, *_labels(load_suite(stage.suite))]


def _labels(suite: Suite) -> list[str]:
    """The names of a suite's tasks; each thinking budget makes one."""
    return [
        label for task in suite.tasks for label in [f"{task.label}@{budget}" for budget in task.budgets] or [task.label]
    ]


def _check_shared(ablation: Ablation, where: str) -> None:
    """Refuses arms that change what is shared, or how scores are taken.

    Raises:
        ConfigError: names the arm and the key.
    """
    recipe, shared = ablation.recipe, ablation.shared
    for arm, changed in ablation.arms.items():
        listed = [stage.name for stage in changed.stages]
        if listed != [stage.name for stage in recipe.stages] and not ablation.config.begins_from_run:
            raise ConfigError(f"{where}.arms.{arm}: changes the list of stages: an arm changes keys of stages alone")
        if keys := sorted(differences(_measured(recipe), _measured(changed))):
            raise ConfigError(f"{where}.arms.{arm}: {keys[0]}: all arms must be measured alike: leave it out")
        if keys := sorted(differences(shared_values(recipe, shared), shared_values(changed, shared))):
            raise ConfigError(f"{where}.arms.{arm}: {_why_shared(keys[0], ablation)}")


def _check_different(ablation: Ablation, where: str) -> None:
    """Refuses arms that nothing tells apart.

    Raises:
        ConfigError: names the arm.
    """
    seen = dict[str, str]()
    for arm, recipe in ablation.arms.items():
        own = [stage.name for stage in ablation.own(arm)]
        if arm != ablation.baseline and len(ablation.taken(arm)) == len(ablation.stages_of(arm)):
            raise ConfigError(
                f"{where}.arms.{arm}: trains nothing: its stages are the run's own, which the run's report compares "
                "already: change one of them, or leave the arm out"
            )
        for key in ablation.config.arms[arm]:
            if key in {f"{name}.seed" for name in own}:
                raise ConfigError(
                    f"{where}.arms.{arm}: {key}: every arm is trained with the ablation's seeds: set those"
                )
        values = decisive(recipe.model_copy(update={"stages": ablation.stages_of(arm)}))
        text = json.dumps(values, sort_keys=True)
        if text in seen:
            raise ConfigError(
                f"{where}.arms.{arm}: trains the same as {seen[text]!r} ({', '.join(own)}): change a value in it, or "
                "leave it out"
            )
        seen[text] = arm


def _measured(recipe: Recipe) -> dict[str, Any]:
    """What decides how scores are taken, by name."""
    values = recipe.model_dump(mode="json", include={"evaluation", "judge"})
    names = recipe.evaluation.names if recipe.evaluation else ()
    return {**values, "data": {name: recipe.data[name].model_dump(mode="json") for name in names}}


def _why_shared(key: str, ablation: Ablation) -> str:
    """Why an arm may not change a key."""
    names = ", ".join(stage.name for stage in ablation.shared)
    if not names:
        return f"{key}: changes which problems are drawn for the evaluation: list it after the evaluation's data"
    if key.startswith(("data.", "order of data", "validation data")):
        return (
            f"{key}: the stages that all arms share ({names}), or the evaluation, read it or data that is drawn after "
            "it: add data of another name and let the arm's stage read that, or let `stage` name an earlier stage"
        )
    return f"{key}: the stages that all arms share ({names}) depend on it: let `stage` name the first that differs"


def _index(recipe: Recipe, name: str) -> int:
    return [stage.name for stage in recipe.stages].index(name)
