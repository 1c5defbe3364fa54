"""Every recipe that is shipped is valid, in full and in its quick form."""

from pathlib import Path

import pytest

from import_graph import SOURCE
from open_exaone.base.errors import ConfigError
from open_exaone.pipeline.recipe import check_one_stage, load_recipe

RECIPES = SOURCE / "recipes"
TRAININGS = SOURCE.parents[1] / "examples" / "finetune"
PATHS = sorted(RECIPES.rglob("*.toml"))


def name_of(path: Path) -> str:
    """What a user types: "nano/exaone-deep"."""
    return path.relative_to(RECIPES).with_suffix("").as_posix()


def test_the_default_recipe_is_shipped() -> None:
    assert "nano/exaone-deep" in map(name_of, PATHS)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_every_recipe_parses(path: Path, quick: bool) -> None:
    recipe = load_recipe(name_of(path), quick=quick)
    names = [stage.name for stage in recipe.stages]
    assert names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_recipe_is_found_by_its_path_too(path: Path) -> None:
    assert load_recipe(str(path)) == load_recipe(name_of(path))


@pytest.mark.parametrize("path", sorted(TRAININGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_of_a_training_parses(path: Path) -> None:
    recipe = load_recipe(path)
    check_one_stage(recipe)
    assert recipe.shape or recipe.name.startswith("EXAONE")  # as LG's licence asks of a derived model


def test_the_gate_can_fail(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("no_such_key = 1\n" + PATHS[0].read_text(encoding="utf-8"))
    with pytest.raises(ConfigError, match="no_such_key"):
        load_recipe(str(broken))
