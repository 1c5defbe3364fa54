"""Reads a recipe: one TOML file, overridden, validated, resolved. Loads no torch."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from open_exaone.base.config import did_you_mean, parse_override, read_toml, validate
from open_exaone.base.errors import ConfigError
from open_exaone.pipeline.ablation_config import ABLATIONS, AblationConfig, ablation_of
from open_exaone.pipeline.config import Recipe

DEFAULT_RECIPE = "nano/exaone-deep"
OLD_KEYS = ("stage", "shape", "problems", "validation", "lora")  # of the two languages before this one


def load_recipe(
    source: str | Path | Mapping[str, Any] = DEFAULT_RECIPE, overrides: Sequence[str] = (), *, quick: bool = False
) -> Recipe:
    """Reads a recipe.

    Args:
        source: a shipped recipe's name, such as "nano/exaone-deep", a TOML file, or what one would hold.
        overrides: texts such as "rl.group_size=16"; the first key is a stage's name or one of the recipe's own.
        quick: apply the recipe's own `[quick]` table first: the same stages, in two minutes.

    Raises:
        ConfigError: no such recipe, or a value is wrong; names the file, key, value and what is allowed.
    """
    return resolve(read_recipe(source, overrides, quick=quick))


@dataclass(frozen=True)
class RawRecipe:
    """A recipe as it was written, its overrides applied, not yet checked."""

    source: str  # what errors call it
    values: dict[str, Any]
    ablations: dict[str, AblationConfig]


def read_recipe(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, quick: bool) -> RawRecipe:
    """As `load_recipe`, before the values are checked; of the ablations, the form is."""
    if isinstance(source, Mapping):
        name, values = "recipe", copy.deepcopy(dict(source))
    else:
        path = _find(str(source))
        name, values = str(path), read_toml(path)
    shortcuts = values.pop("quick", {})
    if old := _old_keys(values):
        raise ConfigError(
            f"{name}: {old[0]}: is a key of an older version: docs/training.md, “From older files”, has the new one"
        )
    if quick:
        if not shortcuts or not isinstance(shortcuts, dict):
            raise ConfigError(f"{name}: has no [quick] table: run it without --quick")
        for key, value in shortcuts.items():
            _override(values, key.split("."), value, f"{name}: [quick]")
    for text in overrides:
        keys, value = parse_override(text)
        _override(values, keys, value, f"--set {text}")
    tables = values.pop(ABLATIONS, {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{name}: {ABLATIONS}: must be a table: write each ablation as [ablations.NAME]")
    return RawRecipe(name, values, {key: ablation_of(key, table, name) for key, table in tables.items()})


def resolve(raw: RawRecipe, changes: Mapping[str, Any] | None = None, where: str = "") -> Recipe:
    """The checked recipe.

    Args:
        changes: further values by dotted key, as `--set` takes them.
        where: what errors call these.

    Raises:
        ConfigError: a value is wrong; names the source, the key, the value and what is allowed.
    """
    values = copy.deepcopy(raw.values) if changes else raw.values
    source = f"{raw.source}: {where}" if where else raw.source
    for key, value in (changes or {}).items():
        _override(values, key.split("."), copy.deepcopy(value), source)
    try:
        return validate(Recipe, values, source)
    except ConfigError as error:
        raise ConfigError(
            re.sub(r"\bstages\.(\d+)", lambda place: _name_of(values, int(place[1])), str(error))
        ) from error


def _old_keys(values: dict[str, Any]) -> list[str]:
    """The keys that only older files have."""
    data, stages = values.get("data"), values.get("stages")
    rows = [stage for stage in stages if isinstance(stage, dict)] if isinstance(stages, list) else []
    old = [key for key in OLD_KEYS if key in values]
    old += ["data.sources"] if isinstance(data, dict) and isinstance(data.get("sources"), list) else []
    return old + [f"{stage.get('name', 'a stage')}.split" for stage in rows if "split" in stage]


def _name_of(values: dict[str, Any], index: int) -> str:
    """What an error calls a stage: its name, or its place in the list where it has none."""
    stage = values["stages"][index]
    return str(stage["name"]) if isinstance(stage, dict) and stage.get("name") else f"stages.{index}"


def check_one_stage(recipe: Recipe) -> None:
    """Holds a recipe of `exaone train` to one stage.

    Raises:
        ConfigError: it has several.
    """
    if len(recipe.stages) > 1:
        names = ", ".join(stage.name for stage in recipe.stages)
        raise ConfigError(f"{recipe.name}: has {len(recipe.stages)} stages ({names}): run it with `exaone run`")


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
    tables = sorted((*(name for name in Recipe.model_fields if name != "stages"), ABLATIONS))
    if not path and keys[0] in stages:
        raise ConfigError(f'{source}: {keys[0]!r} is a stage: name one of its keys, such as "{keys[0]}.data"')
    if keys[0] not in stages and keys[0] not in (*tables, "stages"):
        raise ConfigError(
            f"{source}: {keys[0]!r} is neither a stage ({', '.join(stages)}) nor one of {', '.join(tables)}"
            f"{did_you_mean(keys[0], [*stages, *tables])}"
        )
    _set(owner, path, value, source)


def _set(owner: Any, path: list[str], value: Any, source: str) -> None:
    """Sets `owner[path[0]][path[1]]…`; missing tables are made, and a number chooses from a list.

    Raises:
        ConfigError: a key on the way holds a value, or a list has no such place; names `source`.
    """
    *parents, last = path
    for key in parents:
        owner = owner[_place(owner, key, source)] if isinstance(owner, list) else owner.setdefault(key, {})
        if not isinstance(owner, dict | list):
            raise ConfigError(f"{source}: {key!r} is a value, not a table")
    owner[_place(owner, last, source) if isinstance(owner, list) else last] = value


def _place(owner: list[Any], key: str, source: str) -> int:
    if not key.isdecimal() or int(key) >= len(owner):
        raise ConfigError(f"{source}: {key!r} is no place in a list of {len(owner)}: they count from 0")
    return int(key)


def part_of(recipe: Recipe, until: str | None) -> Recipe:
    """The recipe as far as a stage.

    Raises:
        ConfigError: there is no such stage.
    """
    names = [stage.name for stage in recipe.stages]
    if until is not None and until not in names:
        raise ConfigError(f"--until {until}: no such stage{did_you_mean(until, names)} There are {', '.join(names)}")
    return recipe if until is None else recipe.model_copy(update={"stages": recipe.stages[: names.index(until) + 1]})
