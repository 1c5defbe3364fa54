"""Controls: arms with stages of their own that begin from a finished run and take as much compute as its stages did."""

import json
import shutil

import pytest

from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.pipeline import ablation as ablations
from open_exaone.pipeline.ablation import run_ablation
from open_exaone.pipeline.ablation_arms import load_ablation
from open_exaone.pipeline.controls import base_run, check_controls
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.problems import draw_all
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.pipeline.spent import stage_spent, stages_spent
from open_exaone.present.ablation import arms_table, families_table, sentences
from tiny_recipe import RECIPE

ARMS = """
[ablations.controls]
what = "The recipe against simpler training."
arms.recipe = {}
arms.sft_only = { stages = ["base", "sft"], "sft.data" = "more" }
arms.rejection_sft = { stages = ["base", "sft", "rejection"] }
arms.direct = { stages = ["base", "direct"] }
"""
MATCHES = """
match.sft_only = { stage = "sft", flops_of = ["sft", "prefer", "rl"] }
match.rejection_sft = { stage = "rejection", flops_of = ["prefer", "rl"] }
match.direct = { stage = "direct", tokens_of = ["sft", "prefer", "rl"] }
"""
REST = """
[ablations.controls.data]
more = { sources = [{ families = ["height_order"], num_problems = 90 }] }

[[ablations.controls.stages]]
kind = "rejection"
name = "rejection"
data = "preference"
num_samples = 6
temperature = 0.7
replies_per_problem = 2
max_new_tokens = 64
batch_documents = 1 # documents of one batch that share a prompt would count it once
optimizer = { learning_rate = 1e-3 }

[[ablations.controls.stages]]
kind = "base"
name = "direct"
data = "base"
batch_documents = 16
optimizer = { learning_rate = 5e-3 }
"""
TABLE = ARMS + MATCHES + REST


def loaded(tmp_path, table=TABLE, **options):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE + table, encoding="utf-8")
    return load_ablation("controls", path, **options)


def in_this_process(jobs, num_at_once, on_event):
    """What the processes would do."""
    for job in jobs:
        _, recipe, _, folder, _, stage, *_ = job.arguments
        assert folder == str(job.folder)
        run_recipe(load_recipe(recipe), job.folder, on_event, until=stage)
    return {}


def never(jobs, num_at_once, on_event):
    assert not jobs
    return {}


@pytest.fixture(scope="module")
def done(finished_run, tmp_path_factory):
    """Finished controls: what they found, their folder, and the ablation."""
    ablation, out = loaded(tmp_path_factory.mktemp("recipe")), tmp_path_factory.mktemp("done") / "controls"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "run_jobs", in_this_process)
        found = run_ablation(ablation, out, lambda event: None, begun_from=finished_run[0])
    return found, out, ablation


def test_each_arm_begins_where_it_departs_from_the_run(tmp_path):
    ablation = loaded(tmp_path)
    taken = {arm: [stage.name for stage in ablation.taken(arm)] for arm in ablation.arms}
    assert taken == {
        "recipe": ["base", "sft", "prefer", "rl"],
        "sft_only": ["base"],
        "rejection_sft": ["base", "sft"],
        "direct": ["base"],
    }
    assert [stage.name for stage in ablation.shared] == ["base"]
    assert [stage.name for stage in ablation.own("direct")] == ["direct"]
    assert ablation.arms["recipe"] == load_recipe(tmp_path / "tiny.toml") and "more" in ablation.arms["sft_only"].data


def test_an_arm_takes_as_much_as_the_stages_that_it_is_matched_to(done, finished_run):
    found, out, ablation = done
    arms = {arm["name"]: arm for arm in found["arms"]}
    of_run = stages_spent(RunFolder(finished_run[0]).recipe(), RunFolder(finished_run[0]))
    flops = sum(of_run[name].flops for name in ("sft", "prefer", "rl"))
    tokens = sum(of_run[name].trained_tokens for name in ("sft", "prefer", "rl"))
    assert arms["recipe"]["flops"] == pytest.approx(flops) and arms["recipe"]["train_tokens"] == tokens
    assert arms["sft_only"]["flops"] == pytest.approx(flops, rel=0.05)
    assert arms["rejection_sft"]["flops"] == pytest.approx(flops, rel=0.05)
    assert arms["direct"]["train_tokens"] == pytest.approx(tokens, rel=0.05)
    recipe = ablation.arms["rejection_sft"]
    own = stage_spent(recipe, recipe.stages[-1], RunFolder(out / "rejection_sft-0"))
    assert own.flops == pytest.approx(of_run["prefer"].flops + of_run["rl"].flops, rel=0.05)
    assert own.sampled_tokens > 0 and own.trained_tokens > 0
    assert of_run["rl"].sampled_tokens > 0 and of_run["prefer"].sampled_tokens > 0 and of_run["sft"].passes == 16


def test_the_run_itself_is_the_baseline_and_is_not_copied(done, finished_run):
    found, out, _ = done
    assert not list(out.glob("recipe-*"))
    recipe = found["arms"][0]
    assert recipe["runs"][0]["folder"] == str(finished_run[0]) and recipe["difference"] is None
    report = read_json(finished_run[0] / "report.json")["stages"][-1]
    assert recipe["mean"] == pytest.approx(report["pass_at_1"])
    for arm in found["arms"][1:]:
        assert arm["difference"]["value"] == pytest.approx(arm["mean"] - recipe["mean"])
    shared = finished_run[0] / "02-sft" / "model" / "model.safetensors"
    assert (out / "rejection_sft-0" / "02-sft" / "model" / "model.safetensors").stat().st_ino == shared.stat().st_ino


def test_rejection_learns_correct_replies_that_differ(done):
    _, out, _ = done
    path = out / "rejection_sft-0" / "03-rejection"
    rows = read_jsonl(path / "replies.jsonl")
    sampling = read_json(path / "sampling.json")
    assert sampling["num_replies"] == len(rows) and sampling["num_sampled"] == 24 * 6
    replies = {}
    for row in rows:
        replies.setdefault(row["problem"], []).append(tuple(row["reply_ids"]))
    assert all(len(some) <= 2 and len(set(some)) == len(some) for some in replies.values())
    assert sampling["left_out"].get("replies: wrong", 0) > 0
    assert len(rows) + sum(sampling["left_out"].values()) == sampling["num_sampled"]
    assert {row["mode"] for row in rows} == {"reasoning"}


def test_the_tables_name_the_constant_answer_and_every_family(done):
    found, out, _ = done
    titles, rows = arms_table(found)
    assert [row[0] for row in rows] == ["recipe", "sft_only", "rejection_sft", "direct", "constant answer"]
    assert {"FLOPs", "train time", "minus recipe"} <= set(titles)
    parts = read_json(out / "sft_only-0" / "02-sft" / "eval" / "report.json")["per_task"]
    expected = sum(part["constant_baseline"] * part["num_problems"] for part in parts.values()) / 12
    assert found["constant_answer"] == pytest.approx(expected)
    assert len(families_table(found)[1]) == 2
    lines = sentences(found)
    assert any(
        line.startswith('sft_only: sft, from the run\'s model of base, with sft.data = "more", for as many FLOPs')
        for line in lines
    )
    assert not any("equally many tokens" in line for line in lines)
    page = (out / "ablation.html").read_text(encoding="utf-8")
    assert "By family" in page and "<script" not in page


def test_the_same_command_runs_only_what_is_missing(done, finished_run, monkeypatch):
    found, out, ablation = done
    monkeypatch.setattr(ablations, "run_jobs", never)
    again = run_ablation(ablation, out, lambda event: None, begun_from=finished_run[0])
    assert again["arms"] == json.loads(json.dumps(found["arms"]))


def test_a_stage_that_is_trained_again_on_its_kept_samples_ends_in_the_same_weights(done):
    _, out, _ = done
    folder = out / "rejection_sft-0"
    model = folder / "03-rejection" / "model" / "model.safetensors"
    before = model.read_bytes()
    for name in ("model", "checkpoints", "eval"):
        shutil.rmtree(folder / "03-rejection" / name)
    run_recipe(load_recipe(folder / "recipe.toml"), folder, lambda event: None, until="rejection")
    assert model.read_bytes() == before


def test_there_are_as_many_new_problems_as_the_controls_of_the_nano_recipe_want(tmp_path):
    recipe = load_ablation("controls", "nano/exaone-deep").arms["direct"]
    draw_all(recipe, tmp_path, recipe.judge)
    assert len(read_jsonl(tmp_path / "direct-1.jsonl") + read_jsonl(tmp_path / "direct-2.jsonl")) == 18_000


def test_controls_without_their_run_name_the_command_that_makes_it(tmp_path, finished_run):
    ablation = loaded(tmp_path)
    with pytest.raises(ConfigError, match=r"--from: is missing: .* exaone run tiny"):
        run_ablation(ablation, tmp_path / "out", print)
    with pytest.raises(ConfigError, match=r"no finished run of tiny in .*: train it first \(exaone run tiny\)"):
        base_run(ablation.recipe, tmp_path / "runs", "exaone run tiny")
    assert base_run(ablation.recipe, finished_run[0], "exaone run tiny") == finished_run[0]
    other = loaded(tmp_path, overrides=["rl.num_steps=9"])
    with pytest.raises(ConfigError, match=r"other settings \(rl\.num_steps\).*--quick\), or name another run"):
        run_ablation(other, tmp_path / "out", print, begun_from=finished_run[0])
    assert not (tmp_path / "out").exists()


def test_a_recipe_without_sft_or_rl_or_controls_is_refused(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--controls: .*has no \[ablations\.controls\]"):
        check_controls(path, quick=False)
    for kind, name in (("sft", "SFT"), ("rl", "RL")):
        values = load_recipe(path).model_dump(mode="json", exclude_none=True)
        values["stages"] = [stage for stage in values["stages"] if stage["kind"] != kind]
        with pytest.raises(ConfigError, match=rf"has no stage of kind '{kind}': .* there is no {name} here"):
            check_controls(values, quick=False)
    path.write_text(RECIPE + TABLE, encoding="utf-8")
    check_controls(path, quick=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("arms.recipe = {}", 'arms.recipe = { "rl.num_steps" = 2 }', r"arms\.recipe: must be \{\}"),
        ('["base", "direct"]', '["base", "dirct"]', r"arms\.direct\.stages: 'dirct': no such stage; did you mean"),
        ('["base", "direct"]', "[]", r"arms\.direct\.stages: must list names of stages"),
        ('["base", "direct"]', '["base", "base", "direct"]', r"two are named 'base'"),
        ('stage = "direct"', 'stage = "sft"', r"match\.direct\.stage: 'sft': no such stage.* There are base, direct"),
        ('flops_of = ["prefer", "rl"]', 'flops_of = ["rll"]', r"match\.rejection_sft\.flops_of: 'rll': no such"),
        ('tokens_of = ["sft", "prefer", "rl"]', "tokens_of = []", r"match\.direct.*give either flops_of"),
        ("match.direct", "match.drect", r"match\.drect: no such arm besides the first; there are sft_only"),
        ("arms.recipe", "seeds = [1]\narms.recipe", r"seeds: needs `stage`"),
        ("arms.recipe", 'stage = "sft"\narms.recipe', r"match: is for arms that begin from a finished run"),
        (
            '["base", "sft", "rejection"]',
            '["base", "sft", "prefer", "rl"]',
            r"match\.rejection_sft\.stage: 'rejection'",
        ),
        ("arms.direct", 'arms.short = { stages = ["base", "sft"] }\narms.direct', r"arms\.short: trains nothing"),
        ("arms.direct = {", 'arms.direct = { "evaluation.num_samples" = 3,', r"evaluation\.num_samples: all arms must"),
    ],
)
def test_a_wrong_table_names_the_arm_and_the_key(old, new, message, tmp_path):
    assert old in TABLE
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, TABLE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_epochs": 1.0, "budget": {"flops": 1e9}}, "num_epochs: has no effect beside budget"),
        ({"num_epochs": None}, "num_epochs: is missing: give the passes over the data, or a budget"),
        ({"num_epochs": None, "budget": {"flops": 1e9, "tokens": 5.0}}, "give either flops"),
        ({"num_epochs": None, "budget": {}}, "give either flops"),
    ],
)
def test_a_stage_has_passes_or_a_budget(change, message, tmp_path):
    values = load_recipe(_written(tmp_path)).model_dump(mode="json", exclude_none=True)
    values["stages"][1] = {k: v for k, v in {**values["stages"][1], **change}.items() if v is not None}
    with pytest.raises(ConfigError, match=message):
        load_recipe(values)


def _written(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path
