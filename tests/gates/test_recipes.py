"""Every recipe that is shipped is valid, in full and in its quick form; its costs are planned."""

import math
import re
from pathlib import Path

import pytest

from import_graph import SOURCE
from open_exaone.base.errors import ConfigError
from open_exaone.model.cost import dense_flops
from open_exaone.pipeline.ablation_arms import ablation_names, load_ablation
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.plan import plan_recipe, shape_of
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
    if quick and path.parent == RECIPES:
        pytest.skip("a real model has no quick form")
    recipe = load_recipe(name_of(path), quick=quick)
    names = [stage.name for stage in recipe.stages]
    assert names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_recipe_is_found_by_its_path_too(path: Path) -> None:
    assert load_recipe(str(path)) == load_recipe(name_of(path))


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_every_arm_of_every_ablation_is_a_valid_recipe(path: Path, quick: bool) -> None:
    if quick and path.parent == RECIPES:
        pytest.skip("a real model has no quick form")
    for name in ablation_names(name_of(path)):
        ablation = load_ablation(name, name_of(path), quick=quick)
        assert ablation.measure is not None
        for arm in ablation.arms:
            for seed in ablation.seeds:
                recipe = ablation.recipe_of(arm, seed)
                assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert name_of(path) != "nano/exaone-deep" or ablation_names(name_of(path)) == [
        *("preference_loss", "rl_loss", "controls")
    ]


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


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_recipe_whose_stages_follow_one_another_refuses_prompts_that_they_share(path: Path) -> None:
    recipe = load_recipe(name_of(path))
    assert recipe.disjoint or len(recipe.trained) == 1


REAL = [path for path in PATHS if path.parent == RECIPES and path.stem.startswith("exaone-")]
NOT_PUBLISHED = (  # for any stage: docs/provenance.md
    *("num_epochs", "batch_tokens", "batch_documents", "batch_pairs", "batch_prompts", "group_size", "num_steps"),
    *("max_new_tokens", "max_tokens", "num_samples", "optimizer"),
)


def test_the_reports_models_have_recipes() -> None:
    names = {f"exaone-deep-{size}" for size in ("2.4b", "7.8b", "32b")} | {"exaone-4.0-1.2b", "exaone-4.0-32b"}
    assert names == {name_of(path) for path in REAL}


@pytest.mark.parametrize("path", REAL, ids=name_of)
def test_a_real_recipe_keeps_to_the_licence_and_to_disjoint_prompts(path: Path) -> None:
    recipe, head = load_recipe(path), path.read_text(encoding="utf-8").partition("name =")[0]
    assert recipe.disjoint and recipe.name.startswith("EXAONE")
    assert "No data is shipped" in head and re.search(r"for research alone|not for commercial use", head)
    for one in recipe.stages:
        for other in recipe.stages:
            assert (
                one.kind != "rl" or one.kind == other.kind or other.kind == "filter" or not recipe.may_share(one, other)
            )


def unmarked(text: str) -> list[str]:
    """The lines of stages that set what LG published nothing about, without whose value it is."""
    lines = text.partition("[[stages]]")[2].splitlines()
    return [
        line
        for above, line in zip(["", *lines], lines, strict=False)
        if line.partition(" =")[0] in NOT_PUBLISHED
        and not re.search("# .*(ours|published|authors)", line)
        and not re.match("# .*(ours|authors)", above)
    ]


@pytest.mark.parametrize("path", REAL, ids=name_of)
def test_every_value_that_lg_did_not_publish_is_marked(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert unmarked(text) == []
    assert unmarked(text.replace(" # ours", ""))  # the gate can fail


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_every_recipe_has_a_plan(path: Path) -> None:
    recipe = load_recipe(path)
    shape = shape_of(recipe)
    costs = plan_recipe(recipe, shape)
    assert [cost.stage for cost in costs] == [stage.name for stage in recipe.stages]
    for cost in costs:
        assert cost.flops is not None and cost.train_tokens is not None and cost.sampled_tokens is not None
        assert math.isfinite(cost.flops) and cost.flops > 0 and cost.train_tokens + cost.sampled_tokens > 0
        weights = cost.memory.weights / shape.num_parameters
        assert weights == 2 and cost.memory.total > cost.memory.weights
        if cost.kind != "filter":
            assert cost.dense_flops == 6 * shape.num_parameters * cost.train_tokens
            assert 10 <= cost.memory.optimizer / shape.num_parameters <= 18
            # at least what is trained; at most that and attention, recomputed, and what is sampled
            tokens = cost.train_tokens + cost.sampled_tokens
            assert 0.9 * cost.dense_flops <= cost.flops <= 3 * dense_flops(shape, tokens)


@pytest.mark.parametrize(
    ("name", "published"), [("exaone-deep-32b", 7.04e21), ("exaone-deep-7.8b", 1.71e21), ("exaone-deep-2.4b", 5.27e20)]
)
def test_a_whole_recipe_of_exaone_deep_costs_what_the_report_says(name: str, published: float) -> None:
    recipe = load_recipe(name)
    [sft, prefer, rl] = plan_recipe(recipe, shape_of(recipe))
    assert sft.dense_flops == pytest.approx(published, rel=0.02)
    assert recipe.data["sft"].expected.num_rows == 1_600_000  # type: ignore[union-attr]
    assert recipe.data["preference"].expected.num_rows == 20_000  # type: ignore[union-attr]
    assert recipe.data["rl"].expected.num_rows == 10_000  # type: ignore[union-attr]
    assert sft.flops > 10 * (prefer.flops + rl.flops)  # type: ignore[operator]
