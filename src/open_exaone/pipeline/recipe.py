"""A recipe: one TOML file, overridden, validated, resolved. Loads no torch."""

import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import Field, model_validator

from open_exaone.base.config import Config, did_you_mean, parse_override, read_toml, validate
from open_exaone.base.errors import ConfigError
from open_exaone.evaluation.config import EvaluationConfig
from open_exaone.model.config import ModelConfig
from open_exaone.rewards.rubric import weights_of
from open_exaone.tasks.splits import ProblemsConfig
from open_exaone.train.config import AnyStage, SupervisedStage
from open_exaone.verify.settings import JudgeSettings

DEFAULT_RECIPE = "nano/exaone-deep"


class Recipe(Config):
    """A whole run: the model, its problems, its stages, how it is measured."""

    name: str
    """What the report calls it."""
    seed: int = Field(default=0, ge=0, le=2**31)
    """Of the weights, the data order and the samples; the problems have a seed of their own."""
    model: ModelConfig
    """The shape of the model, trained from random weights."""
    problems: ProblemsConfig
    """The sets of problems, disjoint."""
    evaluation: EvaluationConfig
    """How each stage's model is measured."""
    judge: JudgeSettings = JudgeSettings()
    """What judging may cost."""
    num_slots: int = Field(default=128, gt=0, le=4096)
    """Samples that decode together."""
    stages: tuple[AnyStage, ...] = Field(min_length=1)
    """What is done to the model, in this order."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages have the names {names}: give each its own")
        if self.stages[0].kind != "base":
            raise ValueError(f"the first stage has kind {self.stages[0].kind!r}: random weights need a 'base' stage")
        if self.judge.unsafe_code_execution:
            raise ValueError(
                "judge.unsafe_code_execution: no recipe may say this: give --unsafe-code-execution yourself"
            )
        if self.judge.endpoint is None and any(
            "preference" in weights_of(s.reward) for s in self.stages if s.kind == "rl"
        ):
            raise ValueError("reward 'preference' needs a model: give [judge.endpoint] its base_url and model")
        splits = self.problems.splits
        for reader, split in [("evaluation", self.evaluation.split)] + [(s.name, s.split) for s in self.stages]:
            if split not in splits:
                raise ValueError(f"{reader}.split = {split!r}: must be one of {', '.join(splits)}")
        for reader, limit in [("evaluation", self.evaluation.max_new_tokens)] + [
            (stage.name, stage.max_new_tokens) for stage in self.stages if stage.kind in ("preference", "rl")
        ]:
            if limit >= self.model.max_positions:
                context = self.model.max_positions
                raise ValueError(f"{reader}.max_new_tokens = {limit}: must lie below model.max_positions = {context}")
        for stage in self.stages:
            if isinstance(stage, SupervisedStage) and (stage.kind == "pretrain" or stage.batch_tokens is not None):
                raise ValueError(f"{stage.name}: kind 'pretrain' and batch_tokens are for `exaone train`, not recipes")
            if stage.kind == "sft" and not splits[stage.split].with_thoughts_only:
                raise ValueError(
                    f"{stage.name} learns worked thoughts: set with_thoughts_only in split {stage.split!r}"
                )
        return self

    @property
    def config_hash(self) -> str:
        """Sixteen hex digits that change with any resolved value."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """The resolved recipe; what is off is left out, as TOML has no null."""
        return tomli_w.dumps(without_none(self.model_dump(mode="json")))


def load_recipe(source: str = DEFAULT_RECIPE, overrides: Sequence[str] = (), *, quick: bool = False) -> Recipe:
    """Reads a recipe.

    Args:
        source: a shipped recipe's name, such as "nano/exaone-deep", or a TOML file.
        overrides: texts such as "rl.group_size=16"; the first key is a stage's name or one of the recipe's tables.
        quick: apply the recipe's own `[quick]` table first: the same stages, in two minutes.

    Raises:
        ConfigError: no such recipe, or a value is wrong; names the file, key, value and what is allowed.
    """
    path = _find(source)
    values = read_toml(path)
    shortcuts = values.pop("quick", {})
    if quick:
        if not shortcuts or not isinstance(shortcuts, dict):
            raise ConfigError(f"{path}: has no [quick] table: run it without --quick")
        for key, value in shortcuts.items():
            _override(values, key.split("."), value, f"{path}: [quick]")
    for text in overrides:
        keys, value = parse_override(text)
        _override(values, keys, value, f"--set {text}")
    return validate(Recipe, values, str(path))


def shipped_recipes() -> list[str]:
    """The names of the recipes inside the package."""
    root = Path(str(resources.files("open_exaone"))) / "recipes"
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.toml"))


def _find(source: str) -> Path:
    shipped = shipped_recipes()
    if source in shipped:
        return Path(str(resources.files("open_exaone"))) / "recipes" / f"{source}.toml"
    if source.endswith(".toml") or Path(source).exists():
        return Path(source)
    raise ConfigError(f"recipe {source!r}: unknown{did_you_mean(source, shipped)} The recipes are {', '.join(shipped)}")


def _override(values: dict[str, Any], keys: list[str], value: Any, source: str) -> None:
    """Sets one value in the raw recipe."""
    rows = values.get("stages")
    stages = {str(row.get("name")): row for row in (rows if isinstance(rows, list) else []) if isinstance(row, dict)}
    owner: Any = stages.get(keys[0], values)
    path = keys[1:] if keys[0] in stages else keys
    if not path or (keys[0] not in stages and keys[0] not in Recipe.model_fields):
        tables = sorted(name for name in Recipe.model_fields if name != "stages")
        raise ConfigError(
            f"{source}: {keys[0]!r} is neither a stage ({', '.join(stages)}) nor one of {', '.join(tables)}"
        )
    set_value(owner, path, value, source)


def set_value(owner: dict[str, Any], path: list[str], value: Any, source: str) -> None:
    """Sets `owner[path[0]][path[1]]…`; tables that are missing are made.

    Raises:
        ConfigError: a key on the way holds a value; `source` is named.
    """
    for key in path[:-1]:
        owner = owner.setdefault(key, {})
        if not isinstance(owner, dict):
            raise ConfigError(f"{source}: {key!r} is a value, not a table")
    owner[path[-1]] = value


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list) else value
