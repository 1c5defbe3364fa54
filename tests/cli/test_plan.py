"""`exaone plan`: its sections, its files, and what it refuses."""

import json
import re

import pytest

from open_exaone.cli.main import main

STAGES = ("sft", "sft_again", "rl", "prefer_short", "prefer_aligned")
LORA = [part for stage in STAGES for part in ("--set", f"{stage}.lora.rank=16")]


def test_a_plan_has_all_sections_and_downloads_nothing(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = cli("plan", "exaone-deep-32b", "--gpus", "64", "--gpu", "h100", "--price", "2")
    assert code == 0 and not list(tmp_path.iterdir())
    assert "EXAONE-3.5-32B-reasoning on 64 x NVIDIA H100 SXM 32,003,200,000 parameters" in text
    assert "pretraining 6.5T 1.25e24 1.25e24 -0.2%" in text
    assert "fine-tuning, 3 passes 36.0G 6.91e21 7.04e21 -1.8%" in text
    assert "fine-tuning, inferred 36.7G 7.04e21 7.04e21" in text and "is inferred, and so are the 36.7G tokens" in text
    for title in ("Meshes of 64 GPUs: ", "Memory of each GPU on mesh", "Time, energy and cost", "A round of samples"):
        assert title in text
    assert "KV cache of one sequence" in text and "32,768 8.6 GB 8.6 GB 100.0%" in text


def test_a_plan_and_a_dry_run_are_one_computation(cli):
    _, dry = cli("run", "exaone-deep-2.4b", "--dry-run")
    _, text = cli("plan", "exaone-deep-2.4b", "--gpu", "h200", "--json")
    stages = json.loads(text)["stages"]
    for stage in stages:
        [numbers] = re.findall(rf"{stage['stage']} ([\d,]+) .*? ([\d.]+e\d+)", dry)
        assert numbers[0] == f"{stage['steps']:,}" and float(numbers[1]) == pytest.approx(stage["flops"], rel=0.01)
        total = stage["bytes"]["total"] - max(0, stage["bytes"].get("cache", 0) - stage["bytes"]["activations"])
        assert f"{total / 1e9:.1f} GB" in dry


def test_a_plan_of_a_hybrid_model_on_two_kinds_of_gpus(cli, tmp_path):
    given = ["plan", "exaone-4.0-32b", "--gpus", "64", "--gpu", "h200", "--sampler-gpus", "16", "--out", tmp_path]
    code, text = cli(*given)
    assert code == 0 and "16 of the GPUs only sample." in text and "Memory of each GPU that only samples" in text
    assert "131,072 9.4 GB 34.4 GB 27.3%" in text  # 48 local layers keep 4,096 tokens
    record = json.loads((tmp_path / "plan.json").read_text())
    assert record["fits"] and {stage["stage"]: stage["kind"] for stage in record["stages"]}["rl"] == "rl"
    assert record["meshes"][0]["data"] * record["meshes"][0]["shard"] > 1
    page = (tmp_path / "plan.html").read_text()
    assert page.count("<svg") == 2 and "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "Memory of the fullest GPU" in page and "aria-label" in page


def test_the_chosen_mesh_is_the_one_that_is_planned(cli):
    given = ["plan", "exaone-deep-2.4b", "--gpus", "8", "--parallel", "data=2,shard=4", "--json"]
    code, text = cli(*given)
    [mesh] = json.loads(text)["meshes"]
    assert code == 0 and [mesh[axis] for axis in ("data", "shard", "tensor", "context")] == [2, 4, 1, 1]


def test_the_recipes_own_mesh_is_planned_where_none_is_chosen(cli):
    given = ["plan", "exaone-deep-2.4b", "--gpus", "16", "--set", "parallel.shard=8"]
    code, text = cli(*given)
    assert code == 0 and "Meshes of 16 GPUs: the only one" in text and "2 x 8 x 1 x 1" in text
    assert "The mesh is that of the recipe's [parallel]; --parallel plans another one." in text
    code, text = cli(*given, "--parallel", "data=1,shard=16")
    assert code == 0 and "1 x 16 x 1 x 1" in text and "[parallel]" not in text
    code, text = cli(*given, "--sampler-gpus", "8")  # of the GPUs that train
    assert code == 0 and "1 x 8 x 1 x 1" in text


def test_every_gpu_is_named_in_the_help(cli):
    _, text = cli("plan", "--help")
    assert "Which GPU: a100-80, b200, h100, h100-pcie, h200, l40s, mi300x, rtx-4090." in text.replace("│ │ ", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--gpus", "8", "--set", "parallel.shard=3"], 2, "parallel: data x shard = 3 does not give 8 GPUs that train"),
        (
            ["--gpus", "1", "--set", "parallel.shard=2"],
            2,
            "does not give 1 GPUs that train: change --gpus or the recipe",
        ),
        (
            ["--gpus", "8", "--set", "parallel.data=4", "--set", "parallel.shard=4"],
            *(2, "parallel: data = 4 x shard = 4 does not give 8 GPUs that train"),
        ),
        (["--gpus", "16", "--sampler-gpus", "4", "--set", "parallel.data=16"], 2, "data = 16 does not give 12 GPUs"),
        (["--gpus", "8", "--sampler-gpus", "9"], 2, "--sampler-gpus 9: must lie in 0 to 7"),
        (["--gpus", "8", "--sampler-gpus", "-1"], 2, "--sampler-gpus -1: must lie in 0 to 7"),
        (["--gpus", "-8"], 2, "--gpus -8: must be at least 1"),
        (["--gpus", "8", "--mfu", "-0.4"], 2, "--mfu -0.4: must be above 0 and at most 1"),
        (["--gpus", "8", "--mfu", "inf"], 2, "--mfu inf: must be above 0 and at most 1"),
        (["--gpus", "8", "--bandwidth-share", "0"], 2, "--bandwidth-share 0: must be above 0"),
        (["--gpus", "8", "--network", "nan"], 2, "--network nan: must be above 0"),
        (["--gpus", "8", "--power", "-5"], 2, "--power -5: must be above 0"),
        (["--gpus", "8", "--parallel", "pipeline=8"], 2, "'pipeline=8': write it as data=2,shard=4"),
        (["--gpus", "8", "--gpu", ""], 2, "--gpu : is not known"),
        (["--gpus", "0"], 2, "--gpus 0: must be at least 1"),
        (["--gpus", "many"], 2, "many"),
        (["--gpus", "8", "--gpu", "h10"], 2, '--gpu h10: is not known; did you mean "h100"'),
        (["--gpus", "8", "--parallel", "tensor=3"], 2, "--parallel tensor=3: 3 = 3 GPUs, and 8 train"),
        (["--gpus", "3", "--parallel", "tensor=3"], 2, "tensor = 3: must divide the model's num_heads = 40"),
        (["--gpus", "8", "--sampler-gpus", "8"], 2, "at least one trains"),
        (["--gpus", "8", "--mfu", "0"], 2, "--mfu 0: must be above 0 and at most 1"),
        (["--gpus", "8", "--mfu", "nan"], 2, "--mfu nan: must be above 0"),
        (["--gpus", "8", "--memory-share", "1.5"], 2, "--memory-share 1.5"),
        (["--gpus", "8", "--node-gpus", "0"], 2, "--node-gpus 0: must be above 0"),
        (["--gpus", "8", "--price", "-1"], 2, "--price -1: must be at least 0"),
        (["--gpus", "8", "--set", "model=owner/unknown"], 2, "its shape is not known without it"),
        (["--gpus", "1", "--gpu", "rtx-4090"], 1, "the largest part is moments, 256.0 GB. What would help: --set"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_the_fix(arguments, code, message, cli):
    found, text = cli("plan", "exaone-deep-32b", *arguments)
    assert found == code and message in text


@pytest.mark.parametrize(
    ("recipe", "flags", "part", "fix"),
    [
        ("exaone-deep-2.4b", ["--set", "sft.micro_batch_tokens=4000000"], "activations", "a smaller sft.micro_batch_"),
        ("exaone-deep-32b", ["--gpu", "a100-80"], "moments", "--set prefer.lora.rank=16; more GPUs"),
        (
            "exaone-4.0-32b",
            ["--gpu", "l40s", *LORA],
            "activations",
            "or prefer_short.max_tokens; more GPUs, or a --gpu",
        ),
    ],
)
def test_where_nothing_fits_the_largest_part_says_what_would_help(recipe, flags, part, fix, cli):
    code, text = cli("plan", recipe, "--gpus", "1", *flags)
    assert code == 1 and "no mesh fits" in text and f"the largest part is {part}" in text and fix in text


@pytest.mark.parametrize("recipe", ["exaone-deep-32b", "exaone-4.0-32b", "nano/exaone-4.0", "smollm2-gsm8k"])
def test_no_line_is_wider_than_80_columns(recipe, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["plan", recipe, "--gpus", "64", "--gpu", "h200", "--sampler-gpus", "16", "--price", "2"])
    text = capsys.readouterr().out
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
