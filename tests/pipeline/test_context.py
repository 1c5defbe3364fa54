"""A stage that extends the context, a stage with a suite of its own, and an evaluation in both modes."""

import math
import shutil
import tomllib
from pathlib import Path

import pytest
import torch

from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_json
from open_exaone.checkpoint.folder import load_config, load_model, load_weights
from open_exaone.cli.main import main
from open_exaone.model.config import ModelConfig, RopeScaling
from open_exaone.model.context import ContextConfig, reach
from open_exaone.model.registry import PUBLISHED
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.plan import REPLY_SHARE
from open_exaone.pipeline.prepare import evaluation_tasks
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.pipeline.start import open_run

RECIPE = """
name = "longer"
engine = { kind = "local", num_slots = 4 }

[model]
vocab_size = 400
width = 16
num_layers = 1
num_heads = 2
num_kv_heads = 1
head_width = 8
ffn_width = 16
max_positions = 160
rope_theta = 1e4

[data]
test = { sources = [{ families = ["secret_number"], num_problems = 4 }] }
long = { sources = [{ families = "long", num_problems = 24 }, { families = "drill", num_problems = 8 }] }

[evaluation]
data = "test"
both_modes = "test"
num_samples = 2
max_new_tokens = 4

[[stages]]
kind = "base"
name = "base"
data = "long"
num_epochs = 1
batch_documents = 20
optimizer = { kind = "adamw", learning_rate = 1e-3 }

[[stages]]
kind = "sft"
name = "extend"
data = "long"
context = { max_positions = 1024, rope_theta = 4e4 }
suite = "SUITE"
num_epochs = 1
batch_documents = 20
optimizer = { kind = "adamw", learning_rate = 1e-3 }

[[stages]]
kind = "sft"
name = "sft"
data = "sft"
num_epochs = 1
batch_documents = 20
optimizer = { kind = "adamw", learning_rate = 1e-3 }

[data.sft]
sources = [{ families = "secret_number", num_problems = 20 }]
"""
SUITE = """
name = "short-needle"
what = "Two needles."
protocol = "ours"
tasks = [
    { benchmark = "needle", mode = "non_reasoning", k = 1, source = "200:kinds=single,depths=2,chars_per_token=2" },
]
[defaults]
temperature = 0.0
top_p = 1.0
max_new_tokens = 4
"""
FLOAT32 = Machine(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run; read only."""
    place = tmp_path_factory.mktemp("longer")
    (place / "needle.toml").write_text(SUITE)
    recipe = load_recipe(tomllib.loads(RECIPE.replace("SUITE", str(place / "needle.toml"))), [])
    run_recipe(recipe, place / "run", lambda event: None, FLOAT32)
    return place / "run"


def recipe_with(*overrides):
    return load_recipe(tomllib.loads(RECIPE.replace("SUITE", "needle")), overrides)


def test_the_longer_context_is_every_later_model_s(whole):
    shapes = {name: load_config(whole / name / "model") for name in ("01-base", "02-extend", "03-sft")}
    assert [(shape.max_positions, shape.rope_theta) for shape in shapes.values()] == [(160, 1e4)] + [(1024, 4e4)] * 2
    assert read_json(whole / "report.json")["model"]["max_positions"] == 1024


def test_rows_beyond_the_old_context_are_learned_with_the_longer_one(whole):
    num_examples = read_json(whole / "prepared.json")["num_examples"]
    assert 0 < num_examples["base"] < num_examples["extend"] == 32


def test_an_extension_keeps_the_weights_and_without_a_new_theta_what_they_compute(whole):
    folder = whole / "01-base" / "model"
    ids_BT = torch.arange(3, 63)[None]
    longer = load_model(folder, dtype="float32", context=ContextConfig(max_positions=256))
    assert longer.config.max_positions == 256
    assert torch.equal(longer(ids_BT), load_model(folder, dtype="float32")(ids_BT))
    turned = load_model(folder, dtype="float32", context=ContextConfig(max_positions=256, rope_theta=1e6))
    assert not torch.allclose(turned(ids_BT), longer(ids_BT))
    assert all(torch.equal(turned.state_dict()[name], weight) for name, weight in load_weights(folder).items())


def test_a_stage_s_suite_is_measured_after_that_stage_alone(whole):
    stages = {stage["name"]: stage for stage in read_json(whole / "report.json")["stages"]}
    measured = {name: [task["measured_on"] for task in stage.get("tasks", [stage])] for name, stage in stages.items()}
    assert measured == {
        "base": ["test"],
        "extend": ["test", "needle-non-reasoning"],
        "sft": ["test", "test-non-reasoning"],
    }
    assert stages["extend"]["tasks"][1]["greedy"] is None


def test_both_modes_ask_the_same_problems_once_a_model_reasons(whole):
    sft = next(stage for stage in read_json(whole / "report.json")["stages"] if stage["name"] == "sft")
    thinking, direct = sft["tasks"]
    assert [task["mode"] for task in (thinking, direct)] == ["reasoning", "non_reasoning"]
    assert thinking["num_problems"] == direct["num_problems"] == 4 and direct["greedy"] is not None


def test_the_run_s_own_measurement_is_repeated_without_the_stage_s_suite(whole, tmp_path, capsys):
    command = ["eval", str(whole), "--stage", "extend", "--dtype", "float32", "--out", str(tmp_path / "again")]
    with pytest.raises(SystemExit, match="0"):
        main(command)
    assert "This is the same as the run's own measurement" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["extend.context.max_positions=160"], "extend.context.max_positions = 160: must be above the model's 160"),
        (["extend.context.max_positions=9999999"], "extend.context.max_positions = 9,999,999: RoPE with theta 40000"),
        (["evaluation.max_new_tokens=160"], "evaluation.max_new_tokens = 160: must lie below"),
        (["evaluation.mode='non_reasoning'"], 'both_modes: has no effect with mode = "non_reasoning"'),
        (["evaluation.both_modes='other'"], "both_modes: 'other' must be one of data (test)"),
        (["evaluation={}"], "evaluation"),
    ],
)
def test_what_does_not_fit_is_named(overrides, why):
    with pytest.raises(ConfigError) as caught:
        recipe_with(*overrides)
    assert why in str(caught.value)


def test_a_suite_without_an_evaluation_is_refused():
    values = tomllib.loads(RECIPE.replace("SUITE", "needle"))
    del values["evaluation"]
    with pytest.raises(ConfigError, match=r"extend\.suite = 'needle': no model is measured without \[evaluation\]"):
        load_recipe(values, [])


SHAPE = validate(ModelConfig, tomllib.loads(RECIPE)["model"], "model")


def test_rope_reaches_as_far_as_its_slowest_pair_turns_once():
    """The farthest position at which every pair has turned at most once is the last that differs from a nearer one."""
    slowest = 1e4 ** (-6 / 8)
    assert reach(SHAPE) == pytest.approx(2 * math.pi / slowest)
    fits = ContextConfig(max_positions=int(reach(SHAPE)))
    assert fits.extended(SHAPE).max_positions == fits.max_positions
    with pytest.raises(ValueError, match=r"raise context\.rope_theta"):
        ContextConfig(max_positions=int(reach(SHAPE)) + 1).extended(SHAPE)


def test_llama_3_scaling_reaches_its_factor_times_the_original_context():
    scaled = ContextConfig(max_positions=512, rope_scaling=RopeScaling(factor=4, original_max_positions=128))
    assert scaled.extended(SHAPE).rope_scaling == scaled.rope_scaling
    with pytest.raises(ValueError, match=r"reaches 512 positions .* raise context\.rope_scaling\.factor"):
        scaled.model_copy(update={"max_positions": 513}).extended(SHAPE)


def test_scaling_without_an_original_context_takes_the_model_s():
    longer = validate(ContextConfig, {"max_positions": 640, "rope_scaling": {"factor": 4}}, "context").extended(SHAPE)
    assert longer.rope_scaling == RopeScaling(factor=4, original_max_positions=160)
    again = validate(ContextConfig, {"max_positions": 1280, "rope_scaling": {"factor": 8}}, "context").extended(longer)
    assert again.rope_scaling == RopeScaling(factor=8, original_max_positions=160)
    with pytest.raises(ValueError, match="reaches 640 positions"):
        ContextConfig(max_positions=641, rope_scaling=RopeScaling(factor=4)).extended(SHAPE)
    with pytest.raises(ValueError, match=r"original_max_positions = 161: must be at most the model's 160"):
        ContextConfig(max_positions=512, rope_scaling=RopeScaling(factor=4, original_max_positions=161)).extended(SHAPE)


def test_scaling_without_an_original_context_stays_so_in_the_run_s_recipe():
    recipe = recipe_with("extend.context={max_positions=640, rope_scaling={factor=4.0}}")
    again = load_recipe(tomllib.loads(recipe.to_toml()), [])
    assert again.config_hash == recipe.config_hash
    shapes = [one.shape_after(one.stages[1], SHAPE) for one in (recipe, again)]
    assert [shape.rope_scaling.original_max_positions for shape in shapes] == [160, 160]


def test_every_published_shape_lies_within_its_own_reach():
    assert all(shape.max_positions <= reach(shape) for shape in (one.config for one in PUBLISHED.values()))
    assert reach(PUBLISHED["EXAONE-4.0-32B"].config) == math.inf  # its global layers have no RoPE


def printed(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return ended.value.code, " ".join((out + err).split())


FROM_CHECKPOINT = """
name = "from-checkpoint"
model = "MODEL"

[data.long]
sources = [{ families = "drill", num_problems = 8 }]

[[stages]]
kind = "sft"
name = "extend"
data = "long"
context = { max_positions = 1024, rope_theta = 4e4 }
num_epochs = 1
batch_documents = 20
optimizer = { kind = "adamw", learning_rate = 1e-3 }

[evaluation]
suite = "math_500"

[[stages]]
kind = "filter"
name = "filter"
data = "long"
num_samples = 2
max_new_tokens = 1000
"""


@pytest.fixture
def from_checkpoint(whole, tmp_path):
    (tmp_path / "mine.toml").write_text(FROM_CHECKPOINT.replace("MODEL", str(whole / "01-base" / "model")))
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("flags", [["--dry-run"], ["--dtype", "float32"]])
@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("extend.context.max_positions=160", "extend.context.max_positions = 160: must be above the model's 160"),
        ("extend.context.max_positions=9999999", "extend.context.max_positions = 9,999,999: RoPE with theta 40000"),
        ("chat_format='exaone-4'", "chat_format = 'exaone-4': unknown; did you mean"),
        ("extend.suite='nano-nedle'", "extend.suite = 'nano-nedle': suite 'nano-nedle': unknown; did you mean"),
        ("evaluation.suite='mat_500'", "evaluation.suite = 'mat_500': suite 'mat_500': unknown; did you mean"),
        ("filter.max_new_tokens=1024", "filter.max_new_tokens = 1024: must lie below the model's context"),
    ],
)
def test_a_dry_run_and_a_run_refuse_what_does_not_fit_a_checkpoint(
    from_checkpoint, flags, override, why, tmp_path, capsys
):
    code, text = printed(capsys, "run", from_checkpoint, "--set", override, "--out", tmp_path / "run", *flags)
    assert code == 2 and why in text and "Traceback" not in text


def test_a_dry_run_of_a_checkpoint_has_the_longer_context(from_checkpoint, capsys):
    assert printed(capsys, "run", from_checkpoint, "--dry-run")[0] == 0


@pytest.mark.parametrize(
    ("evaluation", "why"),
    [
        ('suite = "SUITE"', "its needle-non-reasoning is measured by evaluation.suite already: leave it out"),
        (
            'data = "needle-non-reasoning"',
            "needle-non-reasoning is what evaluation.data measures already: call that data something else",
        ),
    ],
)
def test_a_stage_s_suite_that_is_measured_already_is_refused_before_training(evaluation, why, tmp_path):
    (tmp_path / "needle.toml").write_text(SUITE)
    text = RECIPE.replace('data = "test"\nboth_modes = "test"', evaluation)
    text = text.replace("test = {", "needle-non-reasoning = {").replace("SUITE", str(tmp_path / "needle.toml"))
    recipe = load_recipe(tomllib.loads(text), ["evaluation.num_samples=1"])
    with pytest.raises(ConfigError) as caught:
        run_recipe(recipe, tmp_path / "run", lambda event: None, FLOAT32)
    assert str(caught.value) == f"extend.suite = '{tmp_path / 'needle.toml'}': {why}"
    assert not (tmp_path / "run" / "01-base" / "model").exists()


def test_adapters_beside_a_longer_context_are_refused(from_checkpoint, capsys):
    code, text = printed(capsys, "run", from_checkpoint, "--dry-run", "--set", "extend.lora={rank=2}")
    assert code == 2 and "extend.lora: beside context" in text
    assert recipe_with("sft.lora={rank=2}").stages[2].lora is not None


def test_models_of_different_context_are_measured_under_one_reply_limit(tmp_path):
    (tmp_path / "needle.toml").write_text(SUITE)
    text = RECIPE.replace("SUITE", str(tmp_path / "needle.toml")).replace("max_new_tokens = 4\n\n[[", "\n[[")
    recipe = load_recipe(tomllib.loads(text), [])
    assert recipe.evaluation.max_new_tokens is None
    folder = RunFolder(tmp_path / "run")
    folder.make()
    run = open_run(recipe, folder, FLOAT32, lambda event: None)
    tasks = [task for stage in recipe.trained for task in evaluation_tasks(run, stage) if task.benchmark == "test"]
    assert {task.sampling.max_new_tokens for task in tasks} == {80}


def test_a_run_is_measured_again_under_the_same_reply_limit(whole, tmp_path, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace("max_new_tokens = 4\n", "", 1))
    for stage in ("base", "extend"):
        out = tmp_path / stage
        assert printed(capsys, "eval", run, "--stage", stage, "--limit", 1, "--samples", 1, "--out", out)[0] == 0
        assert {task["max_new_tokens"] for task in read_json(out / "report.json")["tasks"]} == {80}


def test_eval_asks_some_of_the_run_s_data_or_a_file_where_the_recipe_asks_in_both_modes(whole, tmp_path, capsys):
    (tmp_path / "own.jsonl").write_text('{"question": "How much is 1 + 1?", "answer": "2"}\n')
    for suite, names in (
        ("long", ["long", "long-greedy"]),
        (str(tmp_path / "own.jsonl"), None),
        ("test", ["test", "test-greedy", "test-non-reasoning", "test-non-reasoning-greedy"]),
    ):
        out = tmp_path / Path(suite).stem
        code, text = printed(capsys, "eval", whole, "--suite", suite, "--limit", 1, "--samples", 1, "--out", out)
        assert code == 0, text
        found = [task["name"] for task in read_json(out / "report.json")["tasks"]]
        assert found == (names or [suite, f"{suite}-greedy"])


class Planned(BaseException):
    pass


def test_the_plan_counts_a_stage_s_suite(tmp_path):
    def costs(text):
        found = {}

        def stop(event):
            if "plan" in event:
                found.update({stage["stage"]: stage["num_steps"] * stage["cost"] for stage in event["plan"]})
                raise Planned

        with pytest.raises(Planned):
            run_recipe(load_recipe(tomllib.loads(text), []), tmp_path / str(len(text)), stop, FLOAT32)
        return found

    (tmp_path / "needle.toml").write_text(SUITE)
    both = costs(RECIPE.replace("SUITE", str(tmp_path / "needle.toml"))), costs(RECIPE.replace('suite = "SUITE"', ""))
    with_suite, without = both
    num_needles = 2  # one of each language
    wanted = {"base": 0, "extend": num_needles * REPLY_SHARE * 4, "sft": 0}
    assert {name: cost - without[name] for name, cost in with_suite.items()} == pytest.approx(wanted)
