"""A recipe over several seeds: which runs are trained, and how stages are compared over them."""

import re
import shutil

import pytest

from open_exaone.base.errors import ConfigError, RunFolderError
from open_exaone.base.files import read_json
from open_exaone.pipeline import seeds as module
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.seeds import run_seeds
from open_exaone.present.seeds import gains_table, sentences, stages_table


@pytest.fixture(scope="module")
def recipe(recipe_file):
    return load_recipe(str(recipe_file))


@pytest.fixture(scope="module")
def done(recipe, finished_run, tmp_path_factory):
    """Two seeds: the finished run, and one whose files are a copy of it."""
    out = tmp_path_factory.mktemp("seeds") / "out"
    begun = []

    def copied(jobs, num_at_once, on_event):
        for job in jobs:
            begun.append(job.label)
            own = job.folder / "recipe.toml"
            text = own.read_text(encoding="utf-8")
            shutil.copytree(finished_run[0], job.folder, dirs_exist_ok=True)
            own.write_text(text, encoding="utf-8")
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run_jobs", copied)
        found = run_seeds(recipe, (0, 5), out, lambda event: None, begun_from=finished_run[0])
    return found, out, begun


def test_each_seed_is_a_run_of_its_own_and_a_finished_one_is_taken(done, recipe, finished_run):
    found, out, begun = done
    assert begun == ["seed-5"] and found["folders"] == {"0": str(finished_run[0]), "5": str(out / "seed-5")}
    assert RunFolder(out / "seed-5").recipe() == recipe.model_copy(update={"seed": 5})
    assert not (out / "seed-0").exists()


def test_stages_are_compared_by_sampling_and_greedily(done, finished_run):
    found, _, _ = done
    report = {stage["name"]: stage for stage in read_json(finished_run[0] / "report.json")["stages"]}
    for way, key in (("samples", "pass_at_1"), ("greedy", "greedy")):
        stages = found["ways"][way]["stages"]
        assert [stage["name"] for stage in stages] == ["base", "sft", "prefer", "rl"]
        for stage in stages:
            expected = pytest.approx(report[stage["name"]][key])
            assert stage["by_seed"] == {"0": expected, "5": expected} and stage["mean"] == expected
            assert stage["sd"] == 0
        for change in found["ways"][way]["changes"]:
            gain = report[change["stage"]][key] - report[change["start"]][key]
            assert change["by_seed"]["5"]["value"] == pytest.approx(gain)
            assert change["pooled"]["value"] == pytest.approx(gain) and change["pooled"]["num_questions"] == 12
            assert change["pooled"]["by_seed"] == pytest.approx([gain, gain])


def test_the_tables_and_the_page_have_every_seed(done):
    found, out, _ = done
    titles, rows = stages_table(found)
    assert titles[:5] == ["stage", "replies", "seed 0", "seed 5", "mean"] and len(rows) == 8
    assert len(gains_table(found)[1]) == 6 and len(gains_table(found, by_seed=True)[1]) == 12
    assert all(len(row) == len(gains_table(found, by_seed=True)[0]) for row in gains_table(found, by_seed=True)[1])
    assert any(
        re.match(r"From prefer to rl the score changes by .* points.*; it rises with \d of 2 seeds", s)
        for s in sentences(found)
    )
    page = (out / "seeds.html").read_text(encoding="utf-8")
    assert "base → sft" in page and "<script" not in page and "://" not in page


def test_a_seed_that_fails_is_named_and_left_out(done, recipe, finished_run, monkeypatch):
    _, out, _ = done
    monkeypatch.setattr(module, "run_jobs", lambda *arguments: {("seed", 5): "the disk is full"})
    found = run_seeds(recipe, (0, 5), out, lambda event: None, begun_from=finished_run[0])
    assert found["errors"] == {"5": "the disk is full"}
    assert found["ways"]["samples"]["stages"][0]["by_seed"].keys() == {"0"}
    assert any("seed 5 failed and is left out: the disk is full" in line for line in sentences(found))
    monkeypatch.setattr(module, "run_jobs", lambda *arguments: {("seed", 4): "gone"})
    found = run_seeds(recipe, (4,), out, lambda event: None)
    assert found["ways"] == {} and sentences(found) and (out / "seeds.html").is_file()


def test_bad_input_is_named_before_anything_is_trained(recipe, finished_run, tmp_path):
    run, out = finished_run[0], tmp_path / "out"
    with pytest.raises(ConfigError, match=r"--from .*: has the seed 0, which is not among --seeds"):
        run_seeds(recipe, (1, 2), out, print, begun_from=run)
    other = load_recipe(RunFolder(run).recipe().model_dump(mode="json", exclude_none=True), ["rl.num_steps=9"])
    with pytest.raises(ConfigError, match=r"that run has other settings \(rl\.num_steps\)"):
        run_seeds(other, (0, 1), out, print, begun_from=run)
    with pytest.raises(ConfigError, match="is no run's folder"):
        run_seeds(recipe, (0,), out, print, begun_from=tmp_path)
    with pytest.raises(ConfigError, match="has no \\[evaluation\\]"):
        run_seeds(recipe.model_copy(update={"evaluation": None}), (0,), out, print)
    with pytest.raises(ConfigError, match="--jobs 0"):
        run_seeds(recipe, (0,), out, print, jobs=0)
    assert not out.exists()
    with pytest.raises(RunFolderError, match="is a run's folder"):
        run_seeds(recipe, (1,), run, print)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="holds no seeds"):
        run_seeds(recipe, (1,), tmp_path, print)
