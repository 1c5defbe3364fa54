"""`verify-real` on tiny random checkpoints: what must pass passes, what is broken fails, what is cut goes on."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from doubles import TINY, make_model, make_tokenizer
from open_exaone.audit import logits, part, reference, rl
from open_exaone.audit.math import find_published
from open_exaone.audit.part import Found, plain_name, shareable
from open_exaone.audit.plan import Plan, needed_bytes
from open_exaone.audit.verify_real import verify_real
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.checkpoint import folder as checkpoint_folder
from open_exaone.checkpoint.folder import save_model
from open_exaone.engine import memory
from open_exaone.model.config import RopeScaling
from open_exaone.model.registry import PUBLISHED
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import Machine

SHAPES = {
    "exaone4": {"num_layers": 4, "pattern": "LLLG", "window": 16},
    "exaone": {"width": 64, "tied_embeddings": False, "rope_scaling": RopeScaling(factor=8, original_max_positions=64)},
    "llama": {"tied_embeddings": False},
    "qwen2": {},
    "qwen3": {},
}
NUM_GREEDY = 12
MACHINE = Machine(device="cpu", dtype="float32")
# Random weights are never correct, but sometimes short: so they have something to learn.
PLAN = Plan(
    batch_prompts=2,
    group_size=8,
    max_new_tokens=60,
    learning_rate=1e-3,
    checkpoint_steps=2,
    num_held_out=6,
    num_samples=2,
    reward="overlong",
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(rl, "PLAN", PLAN)
    monkeypatch.setattr(logits, "PLAIN_LONG", 120)
    monkeypatch.setattr(logits, "PAST", 80)
    for module in (logits, reference):
        monkeypatch.setattr(module, "NUM_GREEDY", NUM_GREEDY)
    for module in (part, reference, rl):
        monkeypatch.setattr(module, "free_memory", lambda: None)  # half a second for each tiny model


def save(folder, family="exaone4", **changes):
    config = TINY.model_copy(update={"family": family, "max_positions": 2048, **SHAPES[family], **changes})
    model = make_model(config)
    save_model(folder, config, dict(model.named_parameters()), make_tokenizer(), {"temperature": 0.6, "top_p": 0.95})
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return {family: save(tmp_path_factory.mktemp(family) / f"tiny-{family}", family) for family in SHAPES}


class Suite:
    """An evaluation's double: a report by the contract, and what it was asked."""

    def __init__(self, value=0.9, num_problems=500, **changes):
        ci95 = [max(0.0, value - 0.02), min(1.0, value + 0.02)]
        rates = {name: {"value": 0.0, "low": 0.0, "high": 0.01} for name in ("error", "truncated", "no_answer")}
        self.task = {
            **{"name": "math_500", "benchmark": "math_500", "mode": "reasoning", "num_problems": num_problems, "k": 8},
            **{"pass_at_1": value, "ci95": ci95, "correlation": 0.6, "rates": rates, "temperature": 0.6},
            **{"source": "/home/someone/rows.jsonl", "sha256": "0" * 64, **changes},
        }
        self.calls = []

    def __call__(self, source, **given):
        self.calls.append((source, given))
        return {"schema_version": 1, "tasks": [self.task]}


def check(source, out, suite=None, **changes):
    arguments = {"machine": MACHINE, "num_rl_steps": 0, "measure_suite": suite or Suite(), **changes}
    return verify_real(source, out, **arguments)


def verdicts(found):
    return {item["name"]: item["passed"] for item in found["checks"]}


# Part 1


@pytest.mark.parametrize("family", SHAPES)
def test_every_familys_logits_are_transformers(models, family, tmp_path):
    report = check(models[family], tmp_path / "out")
    found = report["parts"]["logits"]
    assert found["status"] == "passed", found
    assert set(verdicts(found).values()) == {True} and len(found["checks"]) == 8
    figures = found["figures"]
    assert figures["float32"]["max"] < 1e-3 < figures["bfloat16_costs"]["max"]  # the yardstick measures something
    assert all(
        text["greedy_same"] == NUM_GREEDY or not text["greedy_parts"] for text in figures["float32"]["texts"].values()
    )
    assert set(figures["texts"]) == {"english", "korean", "code", "long"}
    if family == "exaone4":
        assert figures["texts"]["long"] == 16 + logits.PAST and figures["window"] == 16
    if family == "exaone":
        assert figures["texts"]["long"] == 64 + logits.PAST  # past the positions before scaling
        assert not (tmp_path / "out" / "logits" / "EXAONE-as-llama").exists()


def one_weight_changed(family, where, change):
    """The checkpoint's loader, but for one weight of our model."""
    load = checkpoint_folder.load_model

    def broken(*args, **kwargs):
        model = load(*args, **kwargs)
        weights = dict(model.named_parameters())
        with torch.no_grad():
            weights[where].copy_(change(weights[where].clone()))
        return model

    return broken


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("model.layers.1.self_attn.q_proj.weight", lambda weight: weight.flip(1)),
        ("model.layers.3.mlp.up_proj.weight", lambda weight: weight.flip(0)),
        ("model.norm.weight", lambda weight: weight + 0.05),
        ("model.layers.0.self_attn.k_norm.weight", lambda weight: torch.full_like(weight, float("nan"))),
    ],
)
def test_one_changed_weight_fails(models, where, change, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_folder, "load_model", one_weight_changed("exaone4", where, change))
    report = check(models["exaone4"], tmp_path / "out")
    found = report["parts"]["logits"]
    assert found["status"] == "failed" and not report["passed"]
    assert verdicts(found)["float32: largest difference"] is False
    assert verdicts(found)["float32: mean difference"] is False
    assert report["parts"]["math_500"]["status"] == "passed"  # and the others still run


def test_a_fault_past_the_window_alone_fails(models, tmp_path, monkeypatch):
    """A window wrong by one shows only where a text is longer than it."""
    load = checkpoint_folder.load_model

    def wider(*args, **kwargs):
        model = load(*args, **kwargs)
        config = model.config.model_copy(update={"window": 17})
        wrong = type(model)(config)
        wrong.load_state_dict(model.state_dict())
        return wrong.to(model.dtype).eval()

    monkeypatch.setattr(checkpoint_folder, "load_model", wider)
    found = check(models["exaone4"], tmp_path / "out")["parts"]["logits"]
    assert verdicts(found)["float32: largest difference"] is False
    assert all(text["max"] > 0.01 for text in found["figures"]["float32"]["texts"].values())  # each text sees it


def test_without_transformers_it_says_how_to_install_it(models, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    report = check(models["llama"], tmp_path / "out")
    found = report["parts"]["logits"]
    assert found["status"] == "error" and 'pip install "transformers' in found["why"] and not report["passed"]
    assert report["parts"]["math_500"]["status"] == "passed"
    monkeypatch.undo()
    again = check(models["llama"], tmp_path / "out")  # what could not be done is tried again
    assert again["parts"]["logits"]["status"] == "passed"


def test_an_old_transformers_is_named(models, tmp_path, monkeypatch):
    def refuses(*args, **kwargs):
        assert kwargs["trust_remote_code"] is False
        raise ValueError("model type `exaone4` is not recognized")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuses)
    found = check(models["exaone4"], tmp_path / "out")["parts"]["logits"]
    assert found["status"] == "error" and "is not recognized" in found["why"] and "pip install -U" in found["why"]


def test_one_model_at_a_time(models, tmp_path, monkeypatch):
    """A reader begins when the one before has been written down and let go."""
    log = []
    for name in ("_read_ours", "_read_transformers"):
        compute = getattr(reference, name)

        def watched(*args, name=name, compute=compute):
            log.append(name)
            found = compute(*args)
            log.append("read")
            return found

        monkeypatch.setattr(reference, name, watched)
    monkeypatch.setattr(reference, "free_memory", lambda: log.append("freed"))
    check(models["qwen3"], tmp_path / "out")
    assert log == [step for name in ["_read_transformers"] * 2 + ["_read_ours"] * 2 for step in (name, "read", "freed")]


def test_float32_that_does_not_fit_is_left_out_and_reported(models, tmp_path, monkeypatch):
    monkeypatch.setattr(logits, "_fits", lambda trial, dtype, texts: dtype == "bfloat16")
    found = check(models["llama"], tmp_path / "out")["parts"]["logits"]
    assert found["status"] != "error" and verdicts(found)["float32"] is None
    assert found["figures"]["bfloat16_costs"] is None and "float32" not in found["figures"]
    assert f"tolerated: {logits.BFLOAT16_MEAN}" in found["checks"][1]["detail"]  # there is no yardstick
    monkeypatch.setattr(logits, "_fits", lambda trial, dtype, texts: False)
    found = check(models["llama"], tmp_path / "other")["parts"]["logits"]
    assert found["status"] == "error" and "even in bfloat16" in found["why"]


def test_the_code_of_a_checkpoint_is_never_run(models, tmp_path):
    folder = save(tmp_path / "tiny", "llama")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert check(folder, tmp_path / "out")["parts"]["logits"]["status"] == "passed"
    assert not (tmp_path / "ran").exists()


# Part 2


@pytest.fixture
def logits_done(monkeypatch):
    """Part 1 is left to its own tests."""
    monkeypatch.setattr(logits, "compare_logits", lambda trial, settings: Found(()))


@pytest.mark.parametrize(
    ("value", "num_problems", "passed"),
    [(0.93, 500, True), (0.90, 500, True), (0.80, 500, False), (0.80, 50, None)],  # 0.90: by both uncertainties
)
@pytest.mark.usefixtures("logits_done")
def test_math_500_stands_beside_the_published_number(tmp_path, value, num_problems, passed):
    source = save(tmp_path / "EXAONE-Deep-2.4B", "exaone")
    suite = Suite(value, num_problems)
    report = check(source, tmp_path / "out", suite, num_problems=None if num_problems == 500 else num_problems)
    found = report["parts"]["math_500"]
    assert verdicts(found)["the published number"] is passed
    assert found["status"] == ("failed" if passed is False else "passed") and report["passed"] is (passed is not False)
    assert found["figures"]["published"]["percent"] == 92.3
    assert suite.calls[0][1]["suite"] == "math_500" and suite.calls[0][1]["num_samples"] == 8


@pytest.mark.usefixtures("logits_done")
def test_a_model_without_a_published_number_stands_beside_the_nearest(models, tmp_path):
    found = check(models["qwen2"], tmp_path / "out", Suite(0.891))["parts"]["math_500"]
    assert verdicts(found)["the published number"] is None and found["status"] == "passed"
    assert found["figures"]["published"] is None
    assert found["figures"]["beside"][0]["model"] == "DeepSeek-R1-Distill-Llama-8B"  # 89.1
    assert len(found["figures"]["beside"]) > 10


@pytest.mark.usefixtures("logits_done")
@pytest.mark.parametrize(("rate", "status"), [("error", "failed"), ("truncated", "failed"), ("no_answer", "passed")])
def test_replies_without_a_finding_fail(models, tmp_path, rate, status):
    rates = {rate: {"value": 0.2, "low": 0.1, "high": 0.3}}
    assert check(models["qwen2"], tmp_path / "out", Suite(rates=rates))["parts"]["math_500"]["status"] == status


def test_a_published_model_is_found_by_its_name_or_its_shape():
    config = PUBLISHED["EXAONE-Deep-2.4B"].config
    assert find_published("LGAI-EXAONE/EXAONE-Deep-2.4B", config).percent == 92.3
    assert find_published("mine", config) is None  # EXAONE 3.5 has the same shape
    assert find_published("mine", TINY) is None


@pytest.mark.usefixtures("logits_done")
def test_missing_rows_are_reported_and_tried_again(models, tmp_path):
    def no_rows(source, **given):
        raise DataError(f"{given['rows']['math_500']}: no such file: name one with --rows math_500=FILE")

    rows = {"math_500": "someones/rows.jsonl"}
    report = check(models["llama"], tmp_path / "out", no_rows, rows=rows)
    found = report["parts"]["math_500"]
    assert found["status"] == "error" and "no such file" in found["why"] and not report["passed"]
    assert check(models["llama"], tmp_path / "out", Suite(), rows=rows)["passed"]


# Part 3


def run_rl(source, out, num_steps=4, **changes):
    return check(source, out, num_rl_steps=num_steps, **changes)["parts"]["rl"]


@pytest.mark.usefixtures("logits_done")
def test_rl_runs_from_the_checkpoint(models, tmp_path):
    found = run_rl(models["exaone4"], tmp_path / "out")
    assert found["status"] == "passed", found
    figures = found["figures"]
    assert [step["step"] for step in figures["steps"]] == [1, 2, 3, 4]
    assert verdicts(found)["losses"] is True  # something was learned
    assert 0 < figures["after"]["max_gap"] < 1e-2 and figures["num_held_out"] == 6
    samples = [(tmp_path / "out" / "rl" / f"{name}.jsonl").read_text() for name in ("before", "after")]
    assert samples[0] != samples[1]  # the same draws from other weights: they moved
    run = RunFolder(tmp_path / "out" / "rl")
    [stage] = run.recipe().stages
    path = run.stage(0, stage.name)
    assert not (path / "checkpoints").exists() and not (path / "model").exists()
    assert [row["step"] for row in read_jsonl(path / "metrics.jsonl")] == [1, 2, 3, 4]
    held_out = {row["question"] for row in read_jsonl(tmp_path / "out" / "rl" / "before.jsonl")}
    trained = {row["question"] for file in (path / "rollouts").glob("*.jsonl") for row in read_jsonl(file)}
    assert len(held_out) == 6 and len(trained) == 8 and not held_out & trained
    assert all("\\boxed" in question for question in held_out | trained)


@pytest.mark.usefixtures("logits_done")
def test_a_gap_between_engine_and_trainer_fails(models, tmp_path, monkeypatch):
    from open_exaone.engine.engine import Engine

    stream = Engine.stream

    def shifted(self, *args, **options):
        for place, completion in stream(self, *args, **options):
            yield place, replace(completion, logprobs=tuple(value - 0.1 for value in completion.logprobs))

    monkeypatch.setattr(Engine, "stream", shifted)
    found = run_rl(models["exaone4"], tmp_path / "out")
    assert found["status"] == "failed" and verdicts(found)["engine and trainer, mean difference"] is False


@pytest.mark.usefixtures("logits_done")
def test_rewards_that_never_differ_leave_nothing_to_learn(models, tmp_path, monkeypatch):
    monkeypatch.setattr(rl, "PLAN", replace(PLAN, reward="correct"))
    found = run_rl(models["exaone4"], tmp_path / "out", num_steps=2)
    assert verdicts(found)["losses"] is None and "--rows gsm8k" in found["checks"][0]["detail"]
    assert found["status"] == "passed" and found["figures"]["change"]["value"] == 0


@pytest.mark.usefixtures("logits_done")
def test_rl_learns_from_rows_of_the_users(models, tmp_path):
    rows = tmp_path / "train.jsonl"
    lines = [{"question": f"What is {n} + {n}?", "answer": f"Twice.\n#### {2 * n}"} for n in range(20)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = run_rl(models["llama"], tmp_path / "out", rows={"gsm8k": str(rows)})
    assert found["status"] == "passed" and found["figures"]["problems"] == "gsm8k"
    rows.write_text(json.dumps(lines[0]) + "\n")
    found = run_rl(models["llama"], tmp_path / "other", rows={"gsm8k": str(rows)})
    assert found["status"] == "error" and "too few problems (1)" in found["why"]


class Kill(BaseException):
    """As sudden as SIGKILL."""


@pytest.mark.usefixtures("logits_done")
def test_a_killed_rl_ends_as_an_uncut_one(models, tmp_path):
    def killed_at(step):
        def on_event(event):
            if event.get("stage") == "rl" and event.get("step") == step:
                raise Kill

        return on_event

    for step in (1, 3):
        with pytest.raises(Kill):
            run_rl(models["exaone4"], tmp_path / "cut", on_event=killed_at(step))
    events = []
    cut = run_rl(models["exaone4"], tmp_path / "cut", on_event=events.append)
    whole = run_rl(models["exaone4"], tmp_path / "whole")
    seen = [(event["stage"], event["step"]) for event in events if "step" in event]
    assert [step for stage, step in seen if stage == "rl"] == [3, 4]  # from the state saved after two
    assert {stage for stage, _ in seen} == {"rl", "rl: after"}  # what was measured before is not measured again

    def timeless(value):
        if isinstance(value, dict):
            return {key: timeless(item) for key, item in value.items() if "second" not in key}
        return [timeless(item) for item in value] if isinstance(value, list) else value

    assert timeless(cut["figures"]) == timeless(whole["figures"]) and cut["checks"] == whole["checks"]


@pytest.mark.usefixtures("logits_done")
def test_what_cannot_fit_is_refused_before_anything_is_loaded(models, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000_000)
    monkeypatch.setattr(checkpoint_folder, "load_model", None)
    found = run_rl(models["exaone4"], tmp_path / "out")
    assert found["status"] == "error" and re.search(r"needs about .* GB.*--rl-steps 0", found["why"])


def test_what_training_needs_is_as_documented():
    """On one GPU of 80 GB: docs/verify-real.md."""
    needed = {
        name: sum(needed_bytes(published.config, 2, Plan()).values()) / 1e9 for name, published in PUBLISHED.items()
    }
    assert needed["EXAONE-4.0-1.2B"] < needed["EXAONE-Deep-2.4B"] < 80 < needed["EXAONE-Deep-7.8B"]
    text = (Path(__file__).parents[2] / "docs" / "verify-real.md").read_text(encoding="utf-8")
    for name in ("EXAONE-4.0-1.2B", "EXAONE-Deep-2.4B", "EXAONE-Deep-7.8B"):
        assert re.search(rf"{re.escape(name)} \|.*\| {needed[name]:.0f} GB", text), (name, needed[name])


# All parts


def test_a_finished_part_is_not_repeated(models, tmp_path, monkeypatch):
    def broken(source, **given):
        raise Kill

    with pytest.raises(Kill):
        check(models["qwen2"], tmp_path / "out", broken, num_rl_steps=2)
    assert (tmp_path / "out" / "logits.json").is_file() and not (tmp_path / "out" / "math_500.json").exists()
    monkeypatch.setattr(reference, "_read_ours", None)
    monkeypatch.setattr(reference, "_read_transformers", None)
    suite = Suite()
    first = check(models["qwen2"], tmp_path / "out", suite, num_rl_steps=2)
    assert first["passed"] and len(suite.calls) == 1
    monkeypatch.setattr(rl, "train_steps", None)
    second = check(models["qwen2"], tmp_path / "out", suite, num_rl_steps=2)
    assert second["parts"] == first["parts"] and len(suite.calls) == 1
    assert not check(models["qwen2"], tmp_path / "out", suite, num_rl_steps=3)["passed"]  # other settings: run anew


def test_a_reader_killed_midway_goes_on(models, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(reference, "_read_ours", lambda *args: (_ for _ in ()).throw(Kill))
        with pytest.raises(Kill):
            check(models["qwen2"], tmp_path / "out")
    monkeypatch.setattr(reference, "_read_transformers", None)  # these readings are there
    assert len(list((tmp_path / "out" / "logits").glob("transformers-*.safetensors"))) == 2
    assert check(models["qwen2"], tmp_path / "out")["passed"]
    assert "long.logprobs" in load_file(tmp_path / "out" / "logits" / "ours-float32.safetensors")


@pytest.mark.usefixtures("logits_done")
def test_a_part_that_breaks_keeps_no_other_from_running(models, tmp_path, caplog):
    def breaks(source, **given):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    report = check(models["llama"], tmp_path / "out", breaks, num_rl_steps=2)
    assert report["parts"]["math_500"]["status"] == "error" and not report["passed"]
    assert "memory was not enough" in report["parts"]["math_500"]["why"]
    assert report["parts"]["rl"]["status"] == "passed"
    assert "math_500: broke" in caplog.text


@pytest.mark.usefixtures("logits_done")
def test_a_folder_belongs_to_one_model(models, tmp_path):
    check(models["llama"], tmp_path / "out")
    with pytest.raises(RunFolderError, match="another model.*--out"):
        check(models["qwen3"], tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("…")
    with pytest.raises(RunFolderError, match="not empty.*--out"):
        check(models["qwen3"], tmp_path / "mine")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"num_samples": 0}, "--samples 0"), ({"num_problems": 0}, "--problems 0"), ({"num_rl_steps": -1}, "--rl-steps")],
)
def test_numbers_out_of_range_are_refused(models, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        check(models["llama"], tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("logits_done")
def test_the_report_names_no_place_of_the_users(tmp_path):
    home = tmp_path / "home" / "someone"
    source = save(home / "my models" / "EXAONE-Deep-2.4B", "exaone")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "_name_or_path": str(home / "ckpt")}))

    def fails(source, **given):
        raise DataError(f"{source}: cannot be read, see {given['out']} and {given['rows']['math_500']}")

    check(source, home / "out", fails, rows={"math_500": "work/someone/rows.jsonl"})
    for name in ("verify-real.json", "verify-real.md", "verify-real.html"):
        text = (home / "out" / name).read_text(encoding="utf-8")
        assert "someone" not in text and str(tmp_path) not in text and "EXAONE-Deep-2.4B" in text
    report = read_json(home / "out" / "verify-real.json")
    assert report["model"]["licence"].startswith("EXAONE AI Model License Agreement 1.1")
    assert len(report["model"]["sha256"]) == 64 and report["versions"]["torch"] and report["machine"]["device"] == "cpu"


@pytest.mark.usefixtures("logits_done")
def test_a_model_of_the_hub_keeps_its_name(tmp_path, monkeypatch):
    name = "LGAI-EXAONE/EXAONE-Deep-2.4B"
    folder = save(tmp_path / f"models--{name.replace('/', '--')}" / "snapshots" / "0123abc", "exaone")
    monkeypatch.setattr("open_exaone.checkpoint.hub.download", lambda source: folder)
    report = check(Path(name), tmp_path / "out", Suite(0.93))
    assert report["model"]["name"] == name and report["passed"]
    assert name in (tmp_path / "out" / "verify-real.md").read_text()
    assert report["parts"]["math_500"]["figures"]["published"]["percent"] == 92.3


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("/home/someone/m/x.json: line 3", "…/x.json: line 3"),
        ("open /home/some one/mo del/model.safetensors failed", "open …/model.safetensors failed"),
        ("see ~/x/y, ~someone/z; ../q/r", "see …/y, …/z; …/r"),
        ("at:/root/x", "at:…/x"),
        ("runs/someone/out: no", "…/out: no"),
        ("5/10 tokens/s of LGAI-EXAONE/EXAONE-Deep-2.4B", "5/10 tokens/s of LGAI-EXAONE/EXAONE-Deep-2.4B"),
        ("https://huggingface.co/a/b and </thought>", "https://huggingface.co/a/b and </thought>"),
    ],
)
def test_paths_lose_all_but_their_last_name(text, shared):
    assert shareable([{"why": text}], ["runs/someone/out", "rows"]) == [{"why": shared}]


def test_a_home_goes_with_its_name(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert shareable("/home/someone: full; /home/someone/m/x", ["/home/someone"]) == "…: full; …/m/x"


def test_a_name_that_is_a_path_is_cut():
    assert (
        plain_name("/home/someone/EXAONE-4.0-1.2B") == plain_name("C:\\someone\\EXAONE-4.0-1.2B") == "EXAONE-4.0-1.2B"
    )
    assert plain_name("LGAI-EXAONE/EXAONE-4.0-1.2B") == "LGAI-EXAONE/EXAONE-4.0-1.2B"
