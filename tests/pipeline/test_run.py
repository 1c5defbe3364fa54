"""A whole recipe in seconds: what it leaves, that it resumes bit for bit, and that it can be measured again."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import pytest
import tomli_w
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import open_exaone as ox
from open_exaone.base.errors import CheckpointError, ConfigError, DataError, PromptTooLongError, RunFolderError
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.pipeline.evaluate import Choices, evaluate
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import Machine, stage_entry
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.report import choose_showcase, greedy_rows
from open_exaone.pipeline.run import run_recipe
from open_exaone.pipeline.source import resolve_model
from open_exaone.rollout.run import judge_reply

STAGES = ["01-base", "02-sft", "03-prefer", "04-rl"]


def weights_of(run):
    return {stage: load_file(run / stage / "model" / "model.safetensors") for stage in STAGES}


@pytest.fixture
def start_command():
    """Starts the command line in a process of its own; none of them outlives the test."""
    processes = []

    def start(*arguments):
        command = [sys.executable, "-m", "open_exaone", *map(str, arguments)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        processes.append(subprocess.Popen(command, **pipes, text=True, env=environment))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_for_lines(process, file, num_lines):
    """Returns once the file is there with that many lines."""
    while not (file.exists() and file.read_bytes().count(b"\n") >= num_lines):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("begun", "resumed"), [(("cpu", "bfloat16"), ("cpu", "float32")), (("cuda", "float32"), ("cpu", "float32"))]
)
def test_a_run_goes_on_in_the_dtype_and_on_the_kind_of_device_that_it_began_with(begun, resumed, recipe_file, tmp_path):
    recipe, folder = load_recipe(str(recipe_file)), RunFolder(tmp_path / "run")
    folder.claim(recipe)
    for _ in range(2):
        folder.claim_machine(*begun)
    before = sorted(path.name for path in folder.path.iterdir())
    wanted = (
        f"begun in {begun[1]} on {begun[0]}, not in float32 on cpu: give --dtype {begun[1]} --device {begun[0]}, or"
    )
    with pytest.raises(RunFolderError, match=wanted):
        run_recipe(recipe, folder.path, print, Machine(*resumed))
    assert sorted({*before, ".lock"}) == sorted(path.name for path in folder.path.iterdir())


def test_the_judge_model_may_move_to_another_address(recipe_file, tmp_path):
    judge = "judge.endpoint={ base_url = 'http://%s/v1', model = '%s' }"
    recipes = [
        load_recipe(str(recipe_file), [judge % place]) for place in (("one", "m"), ("two:80", "m"), ("one", "other"))
    ]
    folder = RunFolder(tmp_path / "run")
    folder.claim(recipes[0])
    (folder.stage(0, "base") / "checkpoints" / "step-000001").mkdir(parents=True)
    folder.claim(recipes[1])
    with pytest.raises(RunFolderError, match=r"differs in judge\.endpoint\.model"):
        folder.claim(recipes[2])


def test_the_report_tells_every_stage(finished_run):
    run, events = finished_run
    report = read_json(run / "report.json")
    assert [entry["name"] for entry in report["stages"]] == ["base", "sft", "prefer", "rl"]
    assert [entry["mode"] for entry in report["stages"]] == ["non_reasoning"] + ["reasoning"] * 3
    for entry in report["stages"]:
        assert entry["num_problems"] == 12 and entry["k"] == 2 and entry["measured_on"] == "test"
        assert entry["ci95"][0] <= entry["pass_at_1"] <= entry["ci95"][1]
        samples = read_jsonl(run / entry["folder"] / "eval" / "samples.jsonl")
        drawn = [row["verdict"] == "correct" for row in samples if row["task"] == "test"]
        assert sum(drawn) / 24 == pytest.approx(entry["pass_at_1"])
        metrics = read_jsonl(run / entry["folder"] / "metrics.jsonl")
        assert metrics[-1]["tokens"] == entry["train_tokens"] > 0
        assert len(metrics) == entry["train_steps"] == metrics[-1]["num_steps"]
    folder, (first, last) = RunFolder(run), (report["stages"][0], report["stages"][-1])
    verdicts = [{row["problem"]: row for row in greedy_rows(run / e["folder"] / "eval", "test")} for e in (first, last)]
    chosen = choose_showcase(folder.problems("test"), *verdicts)
    assert [told["problem"]["id"] for told in report["showcase"]] == [problem.id for problem in chosen] != []
    assert all([r["stage"] for r in told["replies"]] == ["base", "sft", "prefer", "rl"] for told in report["showcase"])
    told_stages = [event["stage"] for event in events if "measured" in event]
    assert told_stages == ["base", "sft", "prefer", "rl"]


def test_the_last_stage_says_whether_its_thoughts_are_used(finished_run):
    run, _ = finished_run
    stages = read_json(run / "report.json")["stages"]
    assert [stage["name"] for stage in stages if "faithfulness" in stage] == ["rl"]
    [use] = stages[-1]["faithfulness"]
    unchanged = use["conditions"][0]
    assert (use["task"], use["num_problems"], unchanged["condition"]) == ("test-greedy", 6, "unchanged")
    assert unchanged["num_problems"] + sum(use["not_applicable"].values()) == 6
    assert unchanged["same_answer"] in (1.0, None)  # the control
    assert "Is the thought used?" in (run / "report.html").read_text()


def test_train_tokens_are_the_tokens_of_the_documents(finished_run):
    run, _ = finished_run
    tokenizer = ox.load_tokenizer(run)
    lengths = []
    for problem in RunFolder(run).problems("base"):
        turns = [{"role": "user", "content": problem.question}, {"role": "assistant", "content": problem.reply}]
        lengths.append(len(tokenizer.render(turns)))
    assert read_json(run / "report.json")["stages"][0]["train_tokens"] == 4 * sum(lengths)


def test_every_stage_moves_the_weights_and_starts_from_the_one_before(finished_run):
    weights = weights_of(finished_run[0])
    for before, after in itertools.pairwise(STAGES):
        distance = sum(float((weights[after][name] - weights[before][name]).norm()) for name in weights[before])
        assert 0 < distance < sum(float(weight.norm()) for weight in weights[before].values())


def test_rl_never_sees_an_answer_of_sft_and_saves_its_samples_first(finished_run):
    run, _ = finished_run
    asked = {
        name: {problem.question for problem in RunFolder(run).problems(name)}
        for name in ("test", "rl", "preference", "sft", "base")
    }
    names = sorted(asked)
    assert all(not asked[a] & asked[b] for index, a in enumerate(names) for b in names[index + 1 :])
    rows = [row for path in sorted((run / "04-rl" / "rollouts").iterdir()) for row in read_jsonl(path)]
    assert len(rows) == 3 * 4 * 4
    assert {row["question"] for row in rows} <= asked["rl"]
    assert all((row["reward"] == 1.0) == (row["verdict"] == "correct") for row in rows)


def test_a_killed_run_ends_as_one_that_was_not(finished_run, recipe_file, tmp_path, start_command):
    """Killed with SIGKILL in every stage and in a measurement, it ends in the same weights and report."""
    run, _ = finished_run
    for file, num_lines in [
        ("01-base/metrics.jsonl", 7),  # two steps behind a saved state
        ("01-base/model/model.safetensors", 0),
        ("02-sft/metrics.jsonl", 25),  # five steps behind
        ("03-prefer/metrics.jsonl", 1),
        ("04-rl/metrics.jsonl", 2),
    ]:
        process = start_command("run", recipe_file, "--out", tmp_path / "killed")
        wait_for_lines(process, tmp_path / "killed" / file, num_lines)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"ended before {file} was seen"
    process = start_command("run", recipe_file, "--out", tmp_path / "killed")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    wanted, found = weights_of(run), weights_of(tmp_path / "killed")
    assert all(torch.equal(found[stage][name], wanted[stage][name]) for stage in STAGES for name in wanted[stage])
    changing = {"train_seconds", "eval_seconds", "sample_seconds", "peak_rss_bytes", "threads"}
    entries = [
        [{k: v for k, v in entry.items() if k not in changing} for entry in read_json(folder / "report.json")["stages"]]
        for folder in (run, tmp_path / "killed")
    ]
    assert entries[0] == entries[1]
    assert (tmp_path / "killed" / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_has_saved_its_state(number, recipe_file, tmp_path, start_command):
    endless = ["--set", "base.num_epochs=1000", "--set", "base.checkpoint_steps=100000"]
    process = start_command("run", recipe_file, "--out", tmp_path / "run", *endless)
    stage = tmp_path / "run" / "01-base"
    wait_for_lines(process, stage / "metrics.jsonl", 1)
    process.send_signal(number)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 130, output
    assert "Run the same command again to resume" in output
    last_step = read_jsonl(stage / "metrics.jsonl")[-1]["step"]
    assert (stage / "checkpoints" / f"step-{last_step:06d}").is_dir()


def test_measuring_again_gives_the_same(finished_run, tmp_path):
    run, _ = finished_run
    for stage in ("base", None):
        folder, again = evaluate(str(run), Choices(stage=stage), out=tmp_path / str(stage))
        stored = run / ("01-base" if stage else "04-rl") / "eval"
        assert stage_entry(*again.tasks) == read_json(stored / "report.json")
        rows = [
            [{key: value for key, value in row.items() if key != "key"} for row in read_jsonl(place / "samples.jsonl")]
            for place in (folder, stored)
        ]
        assert rows[0] == rows[1]
        assert (folder / "report.html").stat().st_size > 1000
        size, tokens = again.model, [read_json(place)["train_tokens"] for place in sorted(run.glob("*/outcome.json"))]
        assert size["train_tokens"] == sum(tokens[:1] if stage else tokens) and size["num_parameters"] > 10_000
    other = ox.evaluate(run, "rl", num_samples=1, out=tmp_path / "rl")
    assert (other["name"], other["k"], other["num_problems"]) == ("rl", 1, 24)


def test_a_suite_for_small_models_measures_a_run_s_own_problems(finished_run, tmp_path):
    report = ox.evaluate(finished_run[0], "run:test", num_samples=2, limit=4, max_new_tokens=64, out=tmp_path / "out")
    assert (report["benchmark"], report["num_problems"], report["k"]) == ("test", 4, 2)
    budgets = {"budgets": (4, 8), "max_new_tokens": 64, "out": tmp_path / "budgets"}
    curve = ox.evaluate(finished_run[0], "run:test", limit=4, **budgets)
    assert [point["budget"] for point in curve["curve"][0]["points"]] == [4, 8]
    means = [point["mean_thought_tokens"] for point in curve["curve"][0]["points"]]
    assert means[0] <= means[1] <= 16


def test_a_run_that_was_measured_on_a_suite_is_measured_on_it_again(finished_run, tmp_path):
    """With what its recipe sets, but for what is chosen."""
    shutil.copytree(finished_run[0], tmp_path / "run")
    values = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())
    (tmp_path / "own.jsonl").write_text('{"question": "How much is 2 + 3?", "answer": "5"}\n' * 3)
    own = {"suite": str(tmp_path / "own.jsonl"), "limit": 2, "num_samples": 3, "max_new_tokens": 8}
    values["evaluation"] = {**own, "mode": "non_reasoning"}
    (tmp_path / "run" / "recipe.toml").write_text(tomli_w.dumps(values))
    for changes, wanted in (({}, (2, 3)), ({"limit": 1}, (1, 3))):
        report = ox.evaluate(tmp_path / "run", **changes, out=tmp_path / str(changes))
        assert (report["num_problems"], report["k"]) == wanted
        assert report["mode"] == "non_reasoning"


def test_a_run_s_problems_may_not_choose_code(finished_run, tmp_path):
    """But for a run whose recipe has a function as the source of its problems, and then that file's alone."""
    folder = tmp_path / "run"
    (folder / "problems").mkdir(parents=True)
    recipe, problems = folder / "recipe.toml", folder / "problems" / "test.jsonl"
    recipe.write_text((finished_run[0] / "recipe.toml").read_text())
    problems.write_text((finished_run[0] / "problems" / "test.jsonl").read_text().replace('"exact"', '"mine.py:f"'))
    assert "mine.py:f" in problems.read_text()
    with pytest.raises(DataError, match="may not choose.*`code`"):
        RunFolder(folder).problems("test")
    text = recipe.read_text()
    for source, is_allowed in (("other.py:problems", False), ("mine.py:problems", True)):
        values = tomllib.loads(text)
        values["data"]["test"] = {"sources": [{"num_problems": 12, "problems": source}]}
        recipe.write_text(tomli_w.dumps(values))
        if is_allowed:
            assert RunFolder(folder).problems("test")
        else:
            with pytest.raises(DataError, match="may not choose"):
                RunFolder(folder).problems("test")


def test_a_users_own_problems_can_be_measured(finished_run, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "How much is 2 + 3?", "answer": "5"}\n', encoding="utf-8")
    for number, source in enumerate((finished_run[0], resolve_model(finished_run[0]))):
        report = ox.evaluate(source, str(file), num_samples=2, out=tmp_path / str(number))
        assert report["num_problems"] == 1 and (tmp_path / str(number) / "samples.jsonl").is_file()
    for line, wrong in [
        ("[]", "line 2: must be an object"),
        ('{"question": "x"}', "line 2: field 'answer'"),
        ('{"question": "", "answer": "5"}', "line 2: field 'question'"),
        ('{"question": "x", "answer": "5", "points": 3}', "line 2: unknown field 'points'"),
        ('{"question": "x", "answer": "5", "task": null}', "line 2: field 'task' must be a text"),
        ('{"question": "x", "answer": "5", "verifier": "taste"}', "line 2: verifier 'taste': unknown"),
        ('{"question": "x", "answer": "5", "metadata": 5}', "line 2: field 'metadata' must be an object"),
        ("{", "line 2: not valid JSON"),
    ]:
        file.write_text(f'{{"question": "x", "answer": "5"}}\n{line}\n', encoding="utf-8")
        with pytest.raises(DataError, match=wrong):
            ox.evaluate(finished_run[0], str(file), out=tmp_path / "bad")


def test_the_public_api_generates_judges_and_splits(finished_run):
    run, _ = finished_run
    model, tokenizer = ox.load_model(run, dtype="float32"), ox.load_tokenizer(run)
    problem = RunFolder(run).problems("test")[0]
    prompt = tokenizer.render([{"role": "user", "content": problem.question}], thinking=True, generation_prompt=True)
    assert model(torch.tensor([prompt])).shape == (1, len(prompt), 512)
    sampling = ox.Sampling(max_new_tokens=64, num_samples=4, seed=1)
    [completions] = ox.Engine(model, tokenizer).generate([prompt], sampling)
    assert len(completions) == 4
    for completion in completions:
        reply = tokenizer.split(completion.ids, thinking=True)
        judged = ox.judge("exact", tokenizer.decode(completion.ids), problem.answer, thinking=True)
        if reply.finished and completion.stop == "end":
            assert judged.status == judge_reply(problem, reply, completion.stop).status
    assert ox.judge("exact", "<think>\n\\boxed{5}", "5").status == "truncated"
    assert ox.judge("exact", "2+3=5\n</think>\n\nIt is \\boxed{5}.", "5", thinking=True).correct
    assert ox.judge("exact", "\\boxed{5}\n</think>\n\nIt is \\boxed{6}.", "5", thinking=True).status == "wrong"


def test_a_finished_recipe_does_nothing_twice(finished_run, recipe_file):
    run, _ = finished_run
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    events = []
    run_recipe(load_recipe(str(recipe_file)), run, events.append)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")} == before
    assert not any("step" in event for event in events)


def test_folders_that_are_not_ours_are_left_alone(finished_run, recipe_file, tmp_path):
    run, _ = finished_run
    with pytest.raises(RunFolderError, match=r"another recipe.*seed.*--out"):
        run_recipe(load_recipe(str(recipe_file), ["seed=7"]), run, lambda event: None)
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"is not empty and holds no run.*--out"):
        run_recipe(load_recipe(str(recipe_file)), tmp_path, lambda event: None)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="there is a file where a folder is needed"):
        run_recipe(load_recipe(str(recipe_file)), tmp_path / "file" / "run", lambda event: None)


def test_two_processes_do_not_share_a_run(finished_run, recipe_file):
    run, _ = finished_run
    with RunFolder(run).locked(), pytest.raises(RunFolderError, match="another process"):
        run_recipe(load_recipe(str(recipe_file)), run, lambda event: None)


NO_SPACE = {
    "os.fsync": OSError(28, "No space left on device"),
    # the words of safetensors 0.8 on a full tmpfs
    "open_exaone.train.state_tensors.save_file": SafetensorError(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    ),
}


@pytest.mark.parametrize("writer", NO_SPACE)
def test_no_space_left_is_said_and_nothing_is_lost(writer, recipe_file, tmp_path, monkeypatch):
    recipe = load_recipe(str(recipe_file))

    def full(*arguments):
        raise NO_SPACE[writer]

    def stop_at_sft(event):
        if event.get("stage") == "sft":
            monkeypatch.setattr(writer, full)

    with pytest.raises(RunFolderError, match=r"disk is full.*is kept"):
        run_recipe(recipe, tmp_path / "run", stop_at_sft)
    monkeypatch.undo()
    kept = load_file(tmp_path / "run" / "01-base" / "model" / "model.safetensors")
    assert kept and not list((tmp_path / "run").rglob("*.partial"))


def test_a_prompt_longer_than_the_context_is_named(recipe_file, tmp_path):
    """Before anything is trained, and the folder is free for the mended recipe."""
    recipe = load_recipe(str(recipe_file), ["model.max_positions=70"])
    with pytest.raises(PromptTooLongError, match=r"data.test has a prompt of \d+ tokens.*context of 70"):
        run_recipe(recipe, tmp_path / "run", lambda event: None)
    assert not (tmp_path / "run" / "01-base").exists()
    RunFolder(tmp_path / "run").claim(load_recipe(str(recipe_file)))


@pytest.mark.parametrize("damage", ["cut", "missing", "nan", "shape", "extra", "config"])
def test_a_broken_model_is_refused_by_name(damage, finished_run, tmp_path):
    shutil.copytree(finished_run[0] / "04-rl" / "model", tmp_path / "model")
    file, config = tmp_path / "model" / "model.safetensors", tmp_path / "model" / "config.json"
    weights = load_file(file)
    name = "model.layers.1.mlp.up_proj.weight"
    match damage:
        case "cut":
            file.write_bytes(file.read_bytes()[:5000])
        case "missing":
            del weights[name]
        case "nan":
            weights[name][0, 0] = float("nan")
        case "shape":
            weights[name] = weights[name][:-1].clone()
        case "extra":
            weights["evil"] = torch.ones(2)
        case "config":
            config.write_text(json.dumps({**read_json(config), "hidden_size": 65}))
    if damage not in ("cut", "config"):
        save_file(weights, file)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        ox.load_model(tmp_path / "model")
    with pytest.raises(ConfigError, match="neither a model's folder"):
        ox.load_model(tmp_path / "elsewhere")
