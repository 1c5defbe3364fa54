"""`exaone run`: a recipe and its overrides are checked before anything is written; what it prints at the end."""

import re
import shutil

import pytest

from tiny_recipe import RECIPE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "recipe 'nope': unknown. The recipes are exaone-4.0-1.2b, exaone-4.0-32b, exaone-deep-2.4b"),
        (["nope.toml"], "nope.toml: no such file"),
        (["--set", "rl.group_size"], "write it as stage.key=value"),
        (["--set", "rl.group_sise=4"], "group_sise: unknown key; did you mean"),
        (["--set", "rl.group_size=1"], "group_size = 1: should be greater than or equal to 2"),
        (["--set", "rl.group_size=many"], "group_size = 'many': should be a valid integer"),
        (["--set", "rll.group_size=4"], "'rll' is neither a stage (base, sft, prefer, rl) nor one of"),
        (["--set", "data.test.sources.0.num_problems=0"], "should be greater than or equal to 1"),
        (["--set", "evaluation.data=exam"], "evaluation.data = 'exam': no such data. There are test"),
        (["--set", "model.num_kv_heads=3"], "num_kv_heads = 3 must divide num_heads = 4"),
        (["--set", 'data.test.sources.0.families=["sudoku"]'], "sudoku"),
        (
            ["--set", "rl.max_new_tokens=400"],
            "rl.max_new_tokens = 400: must lie below the model's context, max_positions = 384",
        ),
        (["--set", "stages=5", "--set", "rl.num_steps=3"], "'rl' is neither a stage"),
    ],
)
def test_a_wrong_recipe_or_value_exits_2_and_names_the_fix(arguments, message, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = cli("run", *arguments)
    assert code == 2
    assert message in text
    assert not list(tmp_path.iterdir())


def test_a_broken_toml_file_is_named_with_its_line(cli, tmp_path):
    (tmp_path / "recipe.toml").write_text('name = "x"\nseed = = 3\n')
    code, text = cli("run", tmp_path / "recipe.toml")
    assert code == 2
    assert "recipe.toml: not valid TOML" in text and "line 2" in text


def test_the_example_in_the_help_sets_values_of_the_default_recipe(cli):
    from open_exaone.pipeline.recipe import load_recipe

    _, text = cli("run", "--help")
    [example] = re.findall(r"exaone run (--set .*?) --out runs/", text)
    recipe = load_recipe(overrides=example.removeprefix("--set ").split(" --set "))
    assert recipe != load_recipe()


def test_the_last_lines_name_the_report_and_the_next_commands(cli, finished_run, recipe_file, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run[0], folder)
    code, text = cli("run", recipe_file, "--out", folder)
    assert code == 0
    assert f"Report: {folder}/report.html" in text and (folder / "report.html").is_file()
    assert f"Talk to the model: exaone chat {folder} Measure it: exaone eval {folder}" in text


def test_a_dry_run_prints_the_costs_and_the_missing_files_and_writes_nothing(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    code, text = cli("run", "exaone-deep-32b", "--dry-run", "--set", "sft.num_epochs=1.0")
    assert code == 0 and not list(tmp_path.iterdir())
    assert "32,003,200,000 parameters, bfloat16, from LGAI-EXAONE/EXAONE-3.5-32B-Instruct" in text
    assert "12.0G" in text and "2.3e21" in text  # tokens of one pass, and 6 N D
    assert "what several hold: exaone plan RECIPE --gpus N" in text
    assert "Missing: data.rl: data/rl.jsonl: no such file. rl reads problems" in text


ARMS = """
[ablations.loss]
what = "SimPER against DPO."
stage = "prefer"
arms.simper = {}
arms.dpo = { "prefer.loss" = { name = "dpo" } }
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ablate", "los"], '--ablate los: no such ablation; did you mean "loss"? There are loss'),
        (["--ablate", "loss", "--until", "prefer"], "--until prefer: an ablation's own `until` says where"),
        (["--jobs", "2"], "--jobs 2: goes with --ablate, --controls or --seeds alone"),
        (["--from", "runs/x"], "--from runs/x: goes with --ablate, --controls or --seeds alone"),
        (["--ablate", "loss", "--jobs", "0"], "--jobs 0: must be at least 1"),
        (["--ablate", "loss", "--jobs", "2", "--dry-run"], "--jobs 2: a dry run trains nothing"),
        (["--ablate", "loss", "--set", "ablations.loss.seeds=[1, 1]"], "has 1 twice"),
        (["--seeds", "0,1,0"], "--seeds 0,1,0: has 0 twice: each seed is trained once"),
        (["--seeds", "0,x"], "--seeds 0,x: 'x' is no seed: write whole numbers from 0 to 2,147,483,648"),
        (["--seeds", "0,"], "'' is no seed"),
        (["--seeds", "2147483649"], "'2147483649' is no seed"),
        (["--seeds", "0,1", "--until", "sft"], "--until sft: --seeds compares whole runs"),
        (["--seeds", "0,1", "--controls"], "--controls and --seeds: are run one by one"),
        (["--controls"], "--controls: tiny.toml: has no [ablations.controls]"),
        (["--until", "prefr"], '--until prefr: no such stage; did you mean "prefer"? There are base, sft, prefer, rl'),
        (["--until", "prefr", "--dry-run"], '--until prefr: no such stage; did you mean "prefer"?'),
    ],
)
def test_a_wrong_ablation_exits_2_and_writes_nothing(arguments, message, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(RECIPE + ARMS, encoding="utf-8")
    code, text = cli("run", "tiny.toml", *arguments)
    assert code == 2
    assert message in text
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_a_dry_run_lists_ablations_and_arms(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(RECIPE + ARMS, encoding="utf-8")
    assert "Ablations (--ablate NAME): loss" in cli("run", "tiny.toml", "--dry-run")[1]
    text = cli("run", "tiny.toml", "--until", "sft", "--dry-run")[1]
    assert "sft" in text and "prefer" not in text
    code, text = cli("run", "tiny.toml", "--ablate", "loss", "--dry-run")
    assert code == 0
    assert "Shared: base, sft. Each arm and seed: prefer. Compared on test." in text
    assert "2 arms, with the seeds 0, 1, 2: 6 runs; nothing was trained." in text
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


@pytest.mark.parametrize("errors", [[], ["the disk is full"]])
def test_an_ablation_prints_its_table_and_fails_where_a_run_did(errors, cli, tmp_path, monkeypatch):
    run = {"seed": 0, "folder": "out/a-0", "score": 0.5, "ci95": [0.4, 0.6]}
    runs = [run, *({"seed": 1, "folder": "out/a-1", "error": error} for error in errors)]
    arm = {"name": "a", "changes": {}, "runs": runs, "mean": 0.5, "sd": None, "difference": None}
    found = {
        **{"what": "It.", "baseline": "a", "arms": [arm], "seeds": [0, 1], "stages": ["prefer"], "stage": "prefer"},
        **{"shared": None, "measured": {"name": "test", "num_problems": 12, "k": 2}},
    }
    monkeypatch.setattr("open_exaone.pipeline.ablation.run_ablation", lambda *a, **b: found)
    (tmp_path / "tiny.toml").write_text(RECIPE + ARMS, encoding="utf-8")
    code, text = cli("run", tmp_path / "tiny.toml", "--ablate", "loss", "--out", "out")
    assert code == len(errors)
    assert "50.0%" in text and "out/ablation.html" in text
