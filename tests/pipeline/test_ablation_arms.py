"""Ablations as a recipe writes them: arms resolve to recipes that share their first stages, or are refused by name."""

import pytest

from open_exaone.base.errors import ConfigError
from open_exaone.evaluation.suite import load_suite
from open_exaone.pipeline.ablation_arms import ablation_names, load_ablation, shared_values
from open_exaone.pipeline.recipe import load_recipe
from tiny_recipe import RECIPE

TABLE = """
[ablations.loss]
what = "SimPER against DPO."
stage = "prefer"
arms.simper = {}
"""
DPO = 'arms.dpo = { "prefer.loss" = { name = "dpo", beta = 0.2 } }'


def loaded(tmp_path, lines=DPO, name="loss", table=TABLE, **options):
    path = tmp_path / "recipe.toml"
    path.write_text(f"{RECIPE}{table}{lines}\n", encoding="utf-8")
    return load_ablation(name, path, **options)


def test_arms_differ_in_what_they_set_and_share_what_comes_before(tmp_path):
    ablation = loaded(tmp_path)
    assert (ablation.baseline, ablation.until("dpo").name, ablation.measure) == ("simper", "prefer", "test")
    assert [stage.name for stage in ablation.shared] == ["base", "sft"]
    assert [stage.name for stage in ablation.own("dpo")] == ["prefer"]
    assert ablation.arms["simper"] == ablation.recipe == load_recipe(tmp_path / "recipe.toml")
    dpo = ablation.arms["dpo"].stages[2]
    assert (dpo.loss.name, dpo.loss.beta) == ("dpo", 0.2)
    assert ablation.config.seeds == (0, 1, 2)


def test_a_seed_is_that_of_the_stages_that_differ_alone(tmp_path):
    ablation = loaded(tmp_path)
    recipe = ablation.recipe_of("dpo", 7)
    assert [stage.seed for stage in recipe.stages] == [None, None, 7, 7]
    assert recipe.seed == ablation.recipe.seed
    assert shared_values(recipe, ablation.shared) == shared_values(ablation.recipe, ablation.shared)


def test_an_arm_comes_after_quick_and_set(tmp_path):
    overrides = ["prefer.loss={ name = 'ipo' }", "prefer.batch_pairs=3", "ablations.loss.seeds=[5]"]
    ablation = loaded(tmp_path, quick=True, overrides=overrides)
    assert ablation.recipe.data["test"].sources[0].num_problems == 6
    assert [recipe.stages[2].loss.name for recipe in ablation.arms.values()] == ["ipo", "dpo"]
    assert {recipe.stages[2].batch_pairs for recipe in ablation.arms.values()} == {3}
    assert ablation.config.seeds == (5,)


def test_a_recipe_of_a_run_has_no_ablations(tmp_path):
    loaded(tmp_path)
    recipe = load_recipe(tmp_path / "recipe.toml")
    assert "ablations" not in recipe.to_toml()
    assert recipe.config_hash == load_recipe(_written(tmp_path, RECIPE)).config_hash


def _written(tmp_path, text):
    path = tmp_path / "plain.toml"
    path.write_text(text, encoding="utf-8")
    return path


NEW_DATA = '"data.more" = { sources = [{ families = ["bus_ride"], num_problems = 9 }] }, "prefer.data" = "more"'


@pytest.mark.parametrize(
    "arm",
    [
        f"arms.new = {{ {NEW_DATA} }}",
        'arms.long = { "prefer.num_epochs" = 2.0 }',
        'arms.early = { "prefer.start" = "base" }',
        'arms.rest = { "data.base.reuses" = "sft" }\nstage = "base"\nuntil = "prefer"',
        'arms.wide = { "model.width" = 64, "model.head_width" = 32 }\nstage = "base"\nuntil = "sft"',
    ],
)
def test_what_an_arm_may_change(arm, tmp_path):
    table = TABLE.replace('stage = "prefer"\n', "") if "stage" in arm else TABLE
    assert len(loaded(tmp_path, arm, table=table).arms) == 2


@pytest.mark.parametrize("measure", ["test", "test-non-reasoning", "needle-non-reasoning"])
def test_any_task_of_the_last_stage_may_be_compared_first(measure, tmp_path):
    overrides = ["evaluation.both_modes='test'", "prefer.suite='nano-needle'"]
    assert loaded(tmp_path, f'{DPO}\nmeasure = "{measure}"', overrides=overrides).measure == measure
    with pytest.raises(ConfigError, match=r"There are test, test-non-reasoning, needle-non-reasoning"):
        loaded(tmp_path, f'{DPO}\nmeasure = "nothing"', overrides=overrides)
    if measure != "test":
        with pytest.raises(ConfigError, match=r"is not measured.* There are test$"):
            loaded(tmp_path, f'{DPO}\nmeasure = "{measure}"')


def test_a_task_of_the_evaluations_suite_may_be_compared_first(tmp_path):
    overrides = ["evaluation={ suite = 'exaone-deep' }"]
    suite = load_suite("exaone-deep")
    assert loaded(tmp_path, f'{DPO}\nmeasure = "{suite.tasks[1].label}"', overrides=overrides).measure
    with pytest.raises(ConfigError, match="measure = 'aime': is not measured"):
        loaded(tmp_path, f'{DPO}\nmeasure = "aime"', overrides=overrides)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("arms.dpo = {}", r"arms\.dpo: trains the same as 'simper' \(prefer\)"),
        ('arms.dpo = { "rl.num_steps" = 9 }', r"arms\.dpo: trains the same as 'simper'"),
        ('arms.dpo = { "prefer.checkpoint_steps" = 9 }', r"arms\.dpo: trains the same as 'simper'"),
        (
            'arms.dpo = { "prefer.seed" = 9 }',
            r"arms\.dpo: prefer\.seed: every arm is trained with the ablation's seeds",
        ),
        (
            'arms.dpo = { "sft.num_epochs" = 2.0 }',
            r"arms\.dpo: sft\.num_epochs: the stages that all arms share \(base, sft",
        ),
        ('arms.dpo = { "seed" = 2 }', r"arms\.dpo: seed: the stages that all arms share"),
        ('arms.dpo = { "data.sft.reasoning_ratio" = 0.5 }', r"arms\.dpo: data\.sft\.reasoning_ratio: the stages"),
        (
            'arms.dpo = { "data.rl.sources.0.num_problems" = 9 }',
            r"data\.rl\.sources\.0\.num_problems: .* drawn after it",
        ),
        ('arms.dpo = { "evaluation.num_samples" = 3 }', r"evaluation\.num_samples: all arms must be measured alike"),
        ('arms.dpo = { "prefer.losss" = 3 }', r"ablations\.loss\.arms\.dpo: prefer\.losss: unknown key; did you mean"),
        ('arms.dpo = { "prefer" = 3 }', r"'prefer' is a stage: name one of its keys"),
        ("arms.dpo = { prefer.num_epochs = 3.0 }", r"arms\.dpo\.prefer: write a dotted key in quotes"),
        ("", r"arms = .*should have at least 2 items"),
        (f"{DPO}\nseeds = [3, 1, 3]", r"seeds = .*has 3 twice"),
        (f"{DPO}\nseeds = []", r"seeds = .*at least 1 item"),
        (f'{DPO}\nmeasure = "tes"', r"loss\.measure = 'tes': is not measured; did you mean \"test\""),
        (f'{DPO}\nuntil = "sft"', r"loss\.until = 'sft': comes before stage = 'prefer'"),
        (f'{DPO}\nuntil = "rll"', r"loss\.until = 'rll': no such stage; did you mean \"rl\""),
        (f'{DPO}\n"arms"."../x" = {{}}', r"should match pattern"),
        (f"{DPO}\nseed = 3", r"ablations\.loss: seed: unknown key; did you mean \"seeds\""),
    ],
)
def test_a_wrong_table_names_the_arm_and_the_key(lines, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, lines)


def test_an_unknown_ablation_names_those_that_there_are(tmp_path):
    with pytest.raises(ConfigError, match=r'--ablate los: no such ablation; did you mean "loss"\? There are loss'):
        loaded(tmp_path, name="los")
    with pytest.raises(ConfigError, match=r"--ablate los: no such ablation: the recipe has none"):
        load_ablation("los", _written(tmp_path, RECIPE))
    assert ablation_names(tmp_path / "plain.toml") == [] and ablation_names(tmp_path / "recipe.toml") == ["loss"]


def test_a_broken_table_stops_every_run_of_the_recipe(tmp_path):
    with pytest.raises(ConfigError, match=r"ablations\.loss: what: is missing"):
        load_recipe(_written(tmp_path, f'{RECIPE}\n[ablations.loss]\nstage = "sft"\narms.a = {{}}\narms.b = {{}}\n'))
