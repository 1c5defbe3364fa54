"""An ablation from the shared stages to ablation.json; the arms run in this process, their own processes apart."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError, RunFolderError
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.base.interrupt import Interrupted
from open_exaone.evaluation.paired import paired_difference
from open_exaone.pipeline import ablation as ablations
from open_exaone.pipeline import ablation_jobs
from open_exaone.pipeline.ablation import run_ablation
from open_exaone.pipeline.ablation_arms import load_ablation
from open_exaone.pipeline.ablation_jobs import LOG, Job, run_jobs
from open_exaone.pipeline.ablation_report import Gathered, Measured, mean_difference
from open_exaone.pipeline.evaluate import Choices, evaluate
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.pipeline.source import resolve_model
from open_exaone.present.ablation import others_table, sentences
from tiny_recipe import RECIPE

TABLE = """
[ablations.loss]
what = "SimPER against <b>DPO</b>."
stage = "prefer"
seeds = [0, 1]
arms.simper = {}
arms.dpo = { "prefer.loss" = { name = "dpo", beta = 0.2 } }
"""


def in_this_process(jobs, num_at_once, on_event):
    """What the processes would do."""
    for job in jobs:
        command, recipe, out, folder, until, stage, *_ = job.arguments
        assert (command, out, until) == ("run", "--out", "--until")
        assert folder == str(job.folder)
        run_recipe(load_recipe(recipe), job.folder, on_event, until=stage)
    return {}


def never(jobs, num_at_once, on_event):
    assert not jobs
    return {}


@pytest.fixture(scope="module")
def loss_ablation(tmp_path_factory):
    path = tmp_path_factory.mktemp("ablation") / "tiny.toml"
    path.write_text(RECIPE + TABLE, encoding="utf-8")
    return load_ablation("loss", path)


@pytest.fixture(scope="module")
def done(loss_ablation, finished_run, tmp_path_factory):
    """A finished ablation that began from a run; what it found, and its folder."""
    out = tmp_path_factory.mktemp("done") / "loss"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "run_jobs", in_this_process)
        found = run_ablation(loss_ablation, out, lambda event: None, begun_from=finished_run[0])
    return found, out


def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


def test_the_arm_that_changes_nothing_ends_in_the_weights_of_the_ordinary_run(done, finished_run):
    _, out = done
    assert weights(out / "simper-0" / "03-prefer") == weights(finished_run[0] / "03-prefer")
    assert len({weights(out / name / "03-prefer") for name in ("simper-0", "simper-1", "dpo-0", "dpo-1")}) == 4
    assert weights(out / "dpo-1" / "02-sft") == weights(finished_run[0] / "02-sft")


def test_an_arms_folder_is_a_run_that_stands_alone(done, finished_run, tmp_path, loss_ablation):
    _, out = done
    shared = finished_run[0] / "02-sft" / "model" / "model.safetensors"
    assert (out / "dpo-0" / "02-sft" / "model" / "model.safetensors").stat().st_ino == shared.stat().st_ino
    assert not (out / "dpo-0" / "02-sft" / "checkpoints").exists()
    report = read_json(out / "dpo-0" / "report.json")
    assert [stage["name"] for stage in report["stages"]] == ["base", "sft", "prefer"]
    assert resolve_model(out / "dpo-0") == out / "dpo-0" / "03-prefer" / "model"
    _, measured = evaluate(str(out / "dpo-0"), Choices(), out=tmp_path / "eval")
    assert measured.tasks[0].pass_at_1 == report["stages"][-1]["pass_at_1"]
    recipe = load_recipe(out / "dpo-0" / "recipe.toml")
    assert [stage.seed for stage in recipe.stages] == [None, None, 0, 0]
    assert run_recipe(recipe, out / "dpo-0", lambda event: None, until="prefer")["stages"] == report["stages"]


def test_differences_are_paired_by_problem_and_averaged_over_seeds(done):
    found, out = done

    def scores(name):
        rows = read_jsonl(out / name / "03-prefer" / "eval" / "samples.jsonl")
        verdicts = {}
        for row in rows:
            if row["task"] == "test":
                verdicts.setdefault(row["problem"], []).append(row["verdict"] == "correct")
        return {problem: fmean(some) for problem, some in verdicts.items()}

    by_seed = [fmean(scores(f"dpo-{s}").values()) - fmean(scores(f"simper-{s}").values()) for s in (0, 1)]
    simper, dpo = found["arms"]
    assert dpo["difference"]["by_seed"] == pytest.approx(by_seed)
    assert dpo["difference"]["value"] == pytest.approx(fmean(by_seed))
    assert dpo["difference"]["num_questions"] == 12
    assert dpo["difference"]["low"] <= fmean(by_seed) <= dpo["difference"]["high"]
    assert dpo["difference"]["sd"] == pytest.approx(abs(by_seed[0] - by_seed[1]) / 2**0.5)
    assert simper["difference"] is None and simper["runs"][0]["difference"] is None
    assert simper["mean"] == pytest.approx(fmean(fmean(scores(f"simper-{s}").values()) for s in (0, 1)))
    before = read_json(out.parent / "loss" / "simper-0" / "02-sft" / "eval" / "report.json")["pass_at_1"]
    assert found["shared"]["score"] == pytest.approx(before) and found["shared"]["begins_from"] == "sft"
    assert dpo["gain"]["value"] == pytest.approx(dpo["mean"] - before)


def test_a_problem_counts_once_however_many_seeds_there_are():
    """Student's interval: -0.3 -+ 4.302653 sd / sqrt(3)."""
    base = dict.fromkeys("abcd", 0.5)
    seeds = [
        {"a": 0.5, "b": 0.5, "c": 0.0, "d": 0.0},
        dict.fromkeys("abcd", 0.25),
        {**dict.fromkeys("abc", 0.0), "d": 0.4},
    ]
    found = mean_difference([(Measured(None, one), Measured(None, base)) for one in seeds])
    assert found["by_seed"] == pytest.approx([-0.25, -0.25, -0.4])
    assert found["value"] == pytest.approx(-0.3) and found["num_questions"] == 4
    assert found["sd"] == pytest.approx(0.0866025, abs=1e-6)
    assert found["seeds_ci95"] == pytest.approx([-0.5151328, -0.0848672], abs=1e-6)
    mean = {problem: fmean(one[problem] for one in seeds) for problem in "abcd"}
    alone = paired_difference(mean, base)
    assert (found["low"], found["high"]) == (alone.low, alone.high)


def test_each_task_has_its_own_difference():
    def model(score):
        return Measured(SimpleNamespace(pass_at_1=score), dict.fromkeys("abcd", score))

    measured = {
        ("base", 0): {"test": model(0.5), "other": model(0.25)},
        ("arm", 0): {"test": model(0.75), "other": model(0.0)},
    }
    ablation = SimpleNamespace(baseline="base", seeds=(0,))
    gathered = Gathered(ablation, {}, measured, {}, {"other": model(0.125)}, "test")
    differences = [gathered._compared("arm", task)["difference"]["value"] for task in ("test", "other")]
    assert differences == pytest.approx([0.25, -0.25])
    gains = [gathered._compared("arm", task)["gain"] for task in ("test", "other")]
    assert gains[0] is None and gains[1]["value"] == pytest.approx(-0.125)


def test_what_training_took_is_that_of_the_arms_own_stages(done):
    found, out = done
    run = found["arms"][1]["runs"][0]
    outcome, sampling = (read_json(out / "dpo-0" / "03-prefer" / name) for name in ("outcome.json", "sampling.json"))
    assert run["train_tokens"] == outcome["train_tokens"]
    assert run["train_seconds"] == pytest.approx(outcome["train_seconds"] + sampling["sample_seconds"])
    assert run["mean_reply_tokens"] > 0 and 0 <= run["commonest_answer_share"] <= 1 and "language_mismatch" in run


def test_the_page_says_what_was_changed_shared_and_found_and_runs_nothing(done):
    found, out = done
    page = (out / "ablation.html").read_text(encoding="utf-8")
    assert "SimPER against &lt;b&gt;DPO&lt;/b&gt;." in page and "<script" not in page and "://" not in page
    for text in (
        "2 arms. simper (the baseline): the recipe as it is; dpo: prefer.loss = {",
        "base and sft were trained once, in ",
        "Every arm ran prefer with seeds 0 and 1",
        "Scores are pass@1 on 12 problems of test, 2 samples each.",
    ):
        assert text in page.replace("&#34;", '"')
    assert read_json(out / "ablation.json") == json.loads(json.dumps(found))


def test_the_same_command_runs_only_what_is_missing(done, loss_ablation, finished_run, monkeypatch):
    found, out = done
    monkeypatch.setattr(ablations, "run_jobs", never)
    again = run_ablation(loss_ablation, out, lambda event: None, begun_from=finished_run[0])
    assert again["arms"] == found["arms"]


def test_a_run_that_fails_is_named_and_left_out(done, loss_ablation, finished_run, monkeypatch):
    _, out = done
    monkeypatch.setattr(ablations, "run_jobs", lambda *arguments: {("dpo", 1): "the disk is full"})
    found = run_ablation(loss_ablation, out, lambda event: None, begun_from=finished_run[0])
    dpo = found["arms"][1]
    assert dpo["runs"][1]["error"] == "the disk is full"
    assert dpo["difference"]["by_seed"] == [dpo["runs"][0]["difference"]["value"]] and dpo["difference"]["sd"] is None
    assert any("1 run failed and is left out" in line for line in sentences(found))
    assert "dpo-1</b> failed: the disk is full" in (out / "ablation.html").read_text(encoding="utf-8")
    monkeypatch.setattr(ablations, "run_jobs", lambda *arguments: dict.fromkeys([("simper", 0), ("simper", 1)], "gone"))
    found = run_ablation(loss_ablation, out, lambda event: None, begun_from=finished_run[0])
    assert "mean" not in found["arms"][0] and found["arms"][1]["difference"] is None
    assert sentences(found)


def test_problems_that_are_not_the_shared_ones_are_an_error_of_the_run(done, loss_ablation, finished_run, monkeypatch):
    _, out = done
    file = out / "simper-1" / "problems" / "sft.jsonl"
    text = file.read_text(encoding="utf-8")
    monkeypatch.setattr(ablations, "run_jobs", never)
    file.write_text(text.replace("1", "2"), encoding="utf-8")
    try:
        found = run_ablation(loss_ablation, out, lambda event: None, begun_from=finished_run[0])
    finally:
        file.write_text(text, encoding="utf-8")
    assert "differs from" in found["arms"][0]["runs"][1]["error"]


def test_the_shared_stages_are_an_ordinary_run_that_ends_before_the_stage(tmp_path, monkeypatch):
    path = tmp_path / "tiny.toml"
    table = '[ablations.epochs]\nwhat = "Passes."\nstage = "sft"\nseeds = [4]\narms.one = {}\n'
    path.write_text(f'{RECIPE}\n{table}arms.two = {{ "sft.num_epochs" = 2.0 }}\n', encoding="utf-8")
    overrides = ["sft.num_epochs=1", "base.num_epochs=1", "evaluation.limit=4"]
    monkeypatch.setattr(ablations, "run_jobs", in_this_process)
    found = run_ablation(load_ablation("epochs", path, overrides), tmp_path / "out", lambda event: None)
    report = read_json(tmp_path / "out" / "shared" / "report.json")
    assert [stage["name"] for stage in report["stages"]] == ["base"]
    assert load_recipe(tmp_path / "out" / "shared" / "recipe.toml") == load_recipe(path, overrides)
    one, two = (arm["runs"][0]["train_tokens"] for arm in found["arms"])
    assert two == pytest.approx(2 * one, rel=0.1)


def test_a_moved_ablation_continues_and_an_arm_needs_no_shared_folder(tmp_path, monkeypatch):
    """Other data of the arm's own would train another tokenizer."""
    path = tmp_path / "tiny.toml"
    more = '"data.more" = { sources = [{ families = ["bus_ride"], num_problems = 30 }] }, "sft.data" = "more"'
    table = '[ablations.rows]\nwhat = "Rows."\nstage = "sft"\nseeds = [4]\narms.one = {}\n'
    path.write_text(f"{RECIPE}\n{table}arms.more = {{ {more} }}\n", encoding="utf-8")
    overrides = ["sft.num_epochs=1", "base.num_epochs=1", "evaluation.limit=4"]
    ablation, first, moved = load_ablation("rows", path, overrides), tmp_path / "first", tmp_path / "moved"
    monkeypatch.setattr(ablations, "run_jobs", in_this_process)
    found = run_ablation(ablation, first, lambda event: None)
    files = [folder / "tokenizer" / "tokenizer.json" for folder in (first / "shared", first / "more-4")]
    assert files[0].read_bytes() == files[1].read_bytes() and files[0].stat().st_ino == files[1].stat().st_ino
    first.rename(moved)
    monkeypatch.setattr(ablations, "run_jobs", never)
    again = run_ablation(ablation, moved, lambda event: None)
    assert [arm["mean"] for arm in again["arms"]] == [arm["mean"] for arm in found["arms"]]
    arm = moved / "more-4"
    before = weights(arm / "02-sft")
    shutil.rmtree(moved / "shared")
    shutil.rmtree(arm / "02-sft")
    (arm / "prepared.json").unlink()
    run_recipe(load_recipe(arm / "recipe.toml"), arm, lambda event: None, until="sft")
    assert weights(arm / "02-sft") == before


def test_the_task_in_the_other_mode_is_compared_though_the_shared_model_lacks_it(tmp_path, monkeypatch):
    path = tmp_path / "tiny.toml"
    table = '[ablations.epochs]\nwhat = "Passes."\nstage = "sft"\nmeasure = "test-non-reasoning"\nseeds = [4, 5]\n'
    arms = 'arms.one = {}\narms.two = { "sft.num_epochs" = 2.0 }\n'
    path.write_text(f"{RECIPE}\n{table}{arms}", encoding="utf-8")
    overrides = ["sft.num_epochs=1", "base.num_epochs=1", "evaluation.limit=4", "evaluation.both_modes='test'"]
    monkeypatch.setattr(ablations, "run_jobs", in_this_process)
    out = tmp_path / "out"
    found = run_ablation(load_ablation("epochs", path, overrides), out, lambda event: None)
    assert found["measured"]["name"] == "test-non-reasoning" and found["measured"]["mode"] == "non_reasoning"
    assert "score" not in found["shared"] and "gain" in found["arms"][0] and found["arms"][0]["gain"] is None
    (other,) = found["others"]
    assert (other["name"], other["mode"]) == ("test", "reasoning")
    for arm in other["arms"]:
        tasks = [read_json(out / f"{arm['name']}-{seed}" / "02-sft" / "eval" / "report.json") for seed in (4, 5)]
        scores = [next(row for row in one["tasks"] if row["measured_on"] == "test")["pass_at_1"] for one in tasks]
        assert arm["by_seed"] == pytest.approx(scores) and arm["mean"] == pytest.approx(fmean(scores))
    one, two = other["arms"]
    assert one["difference"] is None
    assert two["difference"]["value"] == pytest.approx(two["mean"] - one["mean"])
    assert two["gain"]["value"] == pytest.approx(
        two["mean"] - read_json(out / "shared/01-base/eval/report.json")["pass_at_1"]
    )
    assert [row[:2] for row in others_table(found)[1]] == [["test", "one"], ["test", "two"]]
    assert "What else was measured" in (out / "ablation.html").read_text(encoding="utf-8")
    assert sentences(found)


def test_from_a_run_of_other_settings_names_the_setting(finished_run, tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE + TABLE, encoding="utf-8")
    for change, named in (
        ("seed=3", "seed"),
        ("sft.num_epochs=3", "sft.num_epochs"),
        ("data.rl.sources.0.num_problems=9", "data.rl"),
    ):
        ablation = load_ablation("loss", path, [change])
        with pytest.raises(ConfigError, match=rf"--from .*: that run has other settings \({re.escape(named)}.*--set"):
            run_ablation(ablation, tmp_path / "out", print, begun_from=finished_run[0])
    with pytest.raises(ConfigError, match="is no run's folder"):
        run_ablation(load_ablation("loss", path), tmp_path / "out", print, begun_from=tmp_path)
    first = path.read_text(encoding="utf-8").replace('stage = "prefer"', 'stage = "base"\nuntil = "prefer"')
    path.write_text(first, encoding="utf-8")
    with pytest.raises(ConfigError, match="the arms share no stage"):
        run_ablation(load_ablation("loss", path), tmp_path / "out", print, begun_from=finished_run[0])
    assert not (tmp_path / "out").exists()


def test_later_stages_of_the_run_may_differ(loss_ablation, finished_run, tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE + TABLE, encoding="utf-8")
    ablation = load_ablation("loss", path, ["rl.num_steps=9"])
    ablations._check_from(ablations.AblationRun(ablation, tmp_path / "out", finished_run[0]))


def test_a_folder_that_holds_something_else_is_left_alone(loss_ablation, finished_run, tmp_path):
    with pytest.raises(RunFolderError, match="is a run's folder"):
        run_ablation(loss_ablation, finished_run[0], print)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="holds no ablation"):
        run_ablation(loss_ablation, tmp_path, print)
    with pytest.raises(ConfigError, match="--jobs 0: must be at least 1"):
        run_ablation(loss_ablation, tmp_path / "new", print, jobs=0)


def scripted(monkeypatch, scripts):
    """Processes that run a script of Python instead of `exaone`."""

    def begun(job, log, environment):
        assert environment["OMP_NUM_THREADS"] == "1"
        command = [sys.executable, "-c", scripts[job.place]]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    monkeypatch.setattr(ablation_jobs, "_begun", begun)


def jobs_in(tmp_path, *places):
    for arm, seed in places:
        (tmp_path / f"{arm}-{seed}").mkdir()
    return [Job(place, tmp_path / f"{place[0]}-{place[1]}", ()) for place in places]


def test_one_process_that_fails_leaves_the_others_alone(tmp_path, monkeypatch):
    places = [("a", 0), ("b", 0), ("c", 0)]
    error = "print('exaone: the disk is full:\\nfree some space'); raise SystemExit(1)"
    scripted(monkeypatch, {("a", 0): "print('fine')", ("b", 0): error, ("c", 0): "print('fine')"})
    events = list[str]()
    failures = run_jobs(jobs_in(tmp_path, *places), 1, lambda event: events.append(event["message"]))
    assert failures.keys() == {("b", 0)}
    assert failures["b", 0].startswith("the disk is full: free some space (exit code 1; ")
    assert (tmp_path / "c-0" / LOG).read_text(encoding="utf-8") == "fine\n"
    assert [text for text in events if "ended" in text] == ["a-0: ended (1 of 3)", "c-0: ended (3 of 3)"]


def test_an_interruption_reaches_each_process_once_and_waits_for_it(tmp_path, monkeypatch):
    script = (
        "import signal, time\n"
        "got = []\n"
        "signal.signal(signal.SIGTERM, lambda number, frame: (got.append(number), print('asked', flush=True)))\n"
        "print('ready', flush=True)\n"
        "while not got: time.sleep(0.02)\n"
        "time.sleep(0.5)\n"
        "print('saved', flush=True)\n"
        "raise SystemExit(130)"
    )
    places = [("a", 0), ("a", 1), ("a", 2)]
    scripted(monkeypatch, dict.fromkeys(places, script))
    begun, events = jobs_in(tmp_path, *places), list[str]()

    def interrupt_once_ready():
        while not all((job.folder / LOG).is_file() and (job.folder / LOG).stat().st_size for job in begun[:2]):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    with interrupt.deferred_interrupts():
        threading.Thread(target=interrupt_once_ready).start()
        with pytest.raises(Interrupted):
            run_jobs(begun, 2, lambda event: events.append(event["message"]))
    assert sorted(events[2:]) == ["a-0: stopped; its state is saved", "a-1: stopped; its state is saved"]
    assert [(job.folder / LOG).read_text(encoding="utf-8") for job in begun[:2]] == ["ready\nasked\nsaved\n"] * 2
    assert not (begun[2].folder / LOG).exists()


def test_a_process_is_asked_to_stop_once_where_a_message_cannot_be_shown(tmp_path, monkeypatch):
    script = (
        "import signal, time\n"
        "def asked(number, frame):\n"
        "    print('asked', flush=True)\n"
        "    raise SystemExit(130)\n"
        "signal.signal(signal.SIGTERM, asked)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    scripted(monkeypatch, {("a", 0): script, ("b", 0): ""})
    begun = jobs_in(tmp_path, ("a", 0), ("b", 0))

    def fails(event):
        if "begun" not in event["message"]:
            while not (begun[0].folder / LOG).stat().st_size:
                time.sleep(0.02)
            raise OSError("no terminal")

    with pytest.raises(OSError, match="no terminal"):
        run_jobs(begun, 2, fails)
    assert (begun[0].folder / LOG).read_text(encoding="utf-8") == "ready\nasked\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux signals the death of a parent")
def test_a_process_stops_with_its_parent(tmp_path):
    child = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(60)"
    )
    parent = (
        "import os, signal, subprocess, sys\n"
        "from open_exaone.pipeline.ablation_jobs import _stop_with_parent\n"
        f"child = [sys.executable, '-c', {child!r}]\n"
        "process = subprocess.Popen(child, stdout=subprocess.PIPE, preexec_fn=_stop_with_parent())\n"
        "print(int(process.stdout.readline()), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    found = subprocess.run([sys.executable, "-c", parent], stdout=subprocess.PIPE, check=False)
    assert found.returncode == -signal.SIGKILL
    status = Path(f"/proc/{int(found.stdout)}/stat")
    for _ in range(1000):
        try:
            if status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
                break
        except OSError:  # it is gone
            break
        time.sleep(0.02)
    else:
        pytest.fail("it still runs")
