"""`exaone train`: every kind of stage on files of one's own, its result, its resuming, what it refuses."""

import json
import math
import tomllib

import pytest
import torch

import open_exaone
from doubles import TINY, make_model, make_tokenizer
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.checkpoint.folder import load_weights, save_model
from open_exaone.cli.main import main
from open_exaone.pipeline import training
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.train_config import load_train_config

ROWS = {
    "pretrain": [{"text": f"{a} + {b} = {a + b}"} for a in range(6) for b in range(4)],
    "sft": [
        {"messages": [{"role": "user", "content": f"{a} + 1?"}, {"role": "assistant", "content": str(a + 1)}]}
        for a in range(24)
    ],
    "preference": [{"prompt": f"{a} + 1?", "chosen": str(a + 1), "rejected": "77"} for a in range(12)],
    "rl": [{"problem": f"{a} + 1?", "answer": str(a + 1)} for a in range(12)],
}
STAGES = {
    "pretrain": "num_epochs = 2\nbatch_tokens = 60",
    "sft": "num_epochs = 2\nbatch_documents = 8",
    "preference": "num_epochs = 2\nbatch_pairs = 4",
    "rl": "num_steps = 4\nbatch_prompts = 3\ngroup_size = 4\nmax_new_tokens = 6\nreward = 'PLACE/mine.py:score'",
}
OPTIMIZER = "optimizer = { learning_rate = 1e-2, matrix_learning_rate = 1e-2 }"
FLOAT32 = Machine(device="cpu", dtype="float32")


@pytest.fixture
def place(tmp_path):
    save_model(tmp_path / "base", TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    for kind, rows in ROWS.items():
        (tmp_path / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.py").write_text("def score(sample): return float(len(sample['thought']) % 3)")
    return tmp_path


def config_of(place, kind, *, rest="", stage=""):
    path, own = place / f"{kind}.toml", STAGES[kind].replace("PLACE", str(place))
    path.write_text(
        f'name = "{kind}"\nmodel = "{place}/base"\n{rest}\n[data]\nsources = [{{ path = "{place}/{kind}.jsonl" }}]\n'
        f'[stage]\nkind = "{kind}"\ncheckpoint_steps = 2\n{own}\n{OPTIMIZER}\n{stage}\n'
    )
    return load_train_config(path)


def weights_of(folder):
    return {name: weight.clone() for name, weight in load_weights(folder).items()}


@pytest.mark.parametrize("kind", ROWS)
def test_every_kind_trains_a_model_that_opens(kind, place):
    events = []
    outcome = training.run_training(config_of(place, kind), place / "out", events.append, FLOAT32)
    assert outcome["train_steps"] == len([event for event in events if "step" in event]) >= 4
    before, after = weights_of(place / "base"), weights_of(place / "out" / "model")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.isfinite(weight).all() for weight in after.values())
    open_exaone.load_tokenizer(place / "out" / "model").encode("1")
    losses = [json.loads(line)["loss"] for line in (place / "out" / "metrics.jsonl").open()]
    if kind in ("pretrain", "sft"):
        assert losses[-1] < losses[0]


class Cut(BaseException):
    pass


@pytest.mark.parametrize("kind", ROWS)
def test_a_run_that_was_cut_ends_in_the_same_weights(kind, place):
    config = config_of(place, kind)
    training.run_training(config, place / "whole", lambda event: None, FLOAT32)

    def cut(event):
        if event.get("step") == 3:
            raise Cut

    with pytest.raises(Cut):
        training.run_training(config, place / "cut", cut, FLOAT32)
    training.run_training(config, place / "cut", lambda event: None, FLOAT32)
    whole, again = weights_of(place / "whole" / "model"), weights_of(place / "cut" / "model")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_dpo_with_lora_begins_at_its_reference_and_reads_it_when_resumed(place):
    config = config_of(place, "preference", stage='loss = { name = "dpo", beta = 0.3 }\n[lora]\nrank = 4')
    training.run_training(config, place / "whole", lambda event: None, FLOAT32)

    def cut(event):
        if event.get("step") == 3:
            raise Cut

    with pytest.raises(Cut):
        training.run_training(config, place / "cut", cut, FLOAT32)
    file = place / "cut" / "reference.safetensors"
    written, begun = file.read_bytes(), file.stat().st_mtime_ns
    training.run_training(config, place / "cut", lambda event: None, FLOAT32)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (written, begun)
    adapters = [(place / run / "adapter" / "adapter_model.safetensors").read_bytes() for run in ("whole", "cut")]
    losses = [json.loads(line)["loss"] for line in (place / "cut" / "metrics.jsonl").open()]
    assert adapters[0] == adapters[1] and losses[0] == pytest.approx(math.log(2), abs=1e-5) and losses[-1] < losses[0]
    other = config_of(place, "preference", stage='loss = { name = "dpo", beta = 0.5 }\n[lora]\nrank = 4')
    with pytest.raises(RunFolderError, match=r"other settings \(stage.loss.beta\)"):
        training.run_training(other, place / "cut", lambda event: None, FLOAT32)


def test_lora_trains_adapters_that_merge_into_the_model(place):
    config = config_of(place, "sft", stage="[lora]\nrank = 4\nalpha = 8")
    outcome = training.run_training(config, place / "out", lambda event: None, FLOAT32)
    assert outcome["result"].endswith("adapter") and not (place / "out" / "model").exists()
    open_exaone.convert(place / "base", place / "merged", adapter=place / "out" / "adapter")
    before, after = weights_of(place / "base"), weights_of(place / "merged")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(".layers." in name and name.endswith("_proj.weight") for name in changed)


def test_validation_is_told_and_keeps_the_best_state(place):
    rest = f'validation_steps = 2\n[validation]\nsources = [{{ path = "{place}/sft.jsonl" }}]'
    config = config_of(place, "sft", rest=rest, stage='keep = { last = 1, best = "validation_loss" }')
    plain = config_of(place, "sft")
    training.run_training(config, place / "out", lambda event: None, FLOAT32)
    training.run_training(plain, place / "plain", lambda event: None, FLOAT32)
    rows, others = ([json.loads(line) for line in (place / f / "metrics.jsonl").open()] for f in ("out", "plain"))
    told = {row["step"]: row["validation_loss"] for row in rows if "validation_loss" in row}
    assert list(told) == [2, 4, 6] and told[6] < told[2]
    assert [row["loss"] for row in rows] == [row["loss"] for row in others]  # looking changes nothing
    assert weights_of(place / "out" / "best").keys() == weights_of(place / "out" / "model").keys()
    model = open_exaone.load_model(place / "out" / "model", dtype="float32").eval()
    expected, num_learned = 0.0, 0
    for row in ROWS["sft"]:
        ids, mask = make_tokenizer().render(row["messages"], thinking=False, with_mask=True)
        logprobs = torch.log_softmax(model(torch.tensor([ids]))[0], -1)
        learned = [place for place in range(1, len(ids)) if mask[place]]
        expected -= sum(float(logprobs[place - 1, ids[place]]) for place in learned)
        num_learned += len(learned)
    assert told[6] == pytest.approx(expected / num_learned, rel=1e-4)


@pytest.mark.parametrize("names_a_tokenizer", [True, False])
def test_random_weights_take_a_tokenizer_or_train_one_on_the_data(names_a_tokenizer, place):
    config_of(place, "pretrain")
    shape = "\n".join(f"{key} = {json.dumps(value)}" for key, value in TINY.model_dump(exclude_none=True).items())
    tokenizer = f'tokenizer = "{place}/base"' if names_a_tokenizer else ""
    text = (place / "pretrain.toml").read_text().replace(f'model = "{place}/base"', tokenizer)
    (place / "shape.toml").write_text(f"{text}\n[shape]\n{shape}\n")
    config = load_train_config(place / "shape.toml")
    outcome = training.run_training(config, place / "out", lambda event: None, FLOAT32)
    assert open_exaone.load_model(outcome["result"]).config == TINY
    trained = open_exaone.load_tokenizer(outcome["result"])
    assert trained.vocab_size == TINY.vocab_size
    assert (trained.backend.to_str() == make_tokenizer().backend.to_str()) == names_a_tokenizer


def test_a_finished_run_is_not_run_again_and_other_settings_are_refused(place):
    config = config_of(place, "sft")
    first = training.run_training(config, place / "out", lambda event: None, FLOAT32)
    events = []
    assert training.run_training(config, place / "out", events.append, FLOAT32) == first
    assert [event["message"] for event in events] == [
        f"{place}/out: is trained already; remove the folder, or give --out, to train anew"
    ]
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(RunFolderError, match=r"trained with other settings \(seed\)"):
        training.run_training(other, place / "out", lambda event: None, FLOAT32)


def test_what_decides_the_outcome_is_held_to_and_the_rest_may_change(place):
    def cut(event):
        if event.get("step") == 3:
            raise Cut

    config = config_of(place, "sft")
    with pytest.raises(Cut):
        training.run_training(config, place / "out", cut, FLOAT32)
    begun = "begun in float32 on cpu, not in bfloat16 on cpu: give --dtype float32 --device cpu"
    with pytest.raises(RunFolderError, match=begun):
        training.run_training(config, place / "out", lambda event: None, Machine(device="cpu", dtype="bfloat16"))
    elsewhere = {"device": "cuda", "dtype": "float32"}
    (place / "out" / "machine.json").write_text(json.dumps(elsewhere))
    with pytest.raises(RunFolderError, match="begun in float32 on cuda, not in float32 on cpu: give .*--device cuda"):
        training.run_training(config, place / "out", lambda event: None, FLOAT32)
    (place / "out" / "machine.json").write_text(json.dumps({**elsewhere, "device": "cpu"}))
    other = {name: weight + 1e-3 for name, weight in make_model().named_parameters()}
    save_model(place / "base", TINY, other, make_tokenizer(), {})
    with pytest.raises(RunFolderError, match="model was"):
        training.run_training(config, place / "out", lambda event: None, FLOAT32)
    save_model(place / "base", TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    changed = config_of(place, "sft", stage="micro_batch_tokens = 30\nrecompute_activations = true")
    training.run_training(changed, place / "out", lambda event: None, FLOAT32)
    training.run_training(config, place / "whole", lambda event: None, FLOAT32)
    again, whole = weights_of(place / "out" / "model"), weights_of(place / "whole" / "model")
    for name in whole:
        torch.testing.assert_close(again[name], whole[name], rtol=2e-3, atol=2e-3)


def test_settings_may_change_before_anything_is_learned(place):
    config = config_of(place, "sft", rest="max_tokens = 2")
    with pytest.raises(DataError):
        training.run_training(config, place / "out", lambda event: None, FLOAT32)
    training.run_training(config_of(place, "sft"), place / "out", lambda event: None, FLOAT32)


def test_every_row_is_learned_as_often_as_asked(place):
    config = config_of(place, "sft").model_copy(deep=True)
    for batch, num_steps in ((7, 7), (100, 1)):  # 2 epochs of 24 rows
        stage = config.stage.model_copy(update={"batch_documents": batch})
        rows = []
        out = place / f"out-{batch}"
        training.run_training(config.model_copy(update={"stage": stage}), out, rows.append, FLOAT32)
        tokens = [len(make_tokenizer().render(row["messages"], thinking=False)) for row in ROWS["sft"]]
        steps = [row for row in rows if "step" in row]
        assert len(steps) == num_steps and steps[-1]["tokens"] == 2 * sum(tokens)


def test_smoothing_and_z_loss_reach_the_loss(place):
    losses = []
    for number, stage in enumerate(("", "loss = { label_smoothing = 0.3 }", "loss = { z_loss = 0.1 }")):
        rows = []
        training.run_training(config_of(place, "sft", stage=stage), place / f"out{number}", rows.append, FLOAT32)
        losses.append(next(row["loss"] for row in rows if "loss" in row))
    assert len(set(losses)) == 3


def test_a_fine_tune_names_muons_rate_itself(place):
    text = config_of(place, "sft") and (place / "sft.toml").read_text()
    (place / "sft.toml").write_text(text.replace(", matrix_learning_rate = 1e-2", ""))
    with pytest.raises(ConfigError, match="matrix_learning_rate: is missing"):
        load_train_config(place / "sft.toml")


def test_a_licence_comes_along(place):
    (place / "base" / "LICENSE").write_text("mine")
    training.run_training(config_of(place, "sft"), place / "out", lambda event: None, FLOAT32)
    assert (place / "out" / "model" / "LICENSE").read_text() == "mine"


def test_a_training_from_python_takes_values_and_tells_steps(place):
    config_of(place, "sft")
    values, steps = tomllib.loads((place / "sft.toml").read_text()), []
    open_exaone.run_training(values, place / "out", on_event=steps.append, device="cpu", dtype="float32")
    assert sum("loss" in step for step in steps) == 6
    (place / "lora" / "adapter").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"LoRA: merge it"):
        open_exaone.load_model(place / "lora")


def test_data_that_changed_under_a_run_is_refused_by_name(place):
    config = config_of(place, "sft")

    def cut(event):
        if event.get("step") == 3:
            raise Cut

    with pytest.raises(Cut):
        training.run_training(config, place / "out", cut, FLOAT32)
    with (place / "sft.jsonl").open("a") as file:
        file.write(json.dumps(ROWS["sft"][0]) + "\n")
    with pytest.raises(DataError, match=r"sft\.jsonl: has changed since"):
        training.run_training(config, place / "out", lambda event: None, FLOAT32)


def test_a_folder_that_holds_something_else_is_left_alone(place):
    (place / "out").mkdir()
    (place / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="is not empty and holds no training"):
        training.run_training(config_of(place, "sft"), place / "out", lambda event: None, FLOAT32)
    assert (place / "out" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stage.optimizer.learning_rate=0", "stage.optimizer.learning_rate = 0"),
        ("stage.optimizer.learning_rate=inf", "learning_rate = "),
        ("stage.kind='base'", "a recipe's"),
        ("model='nowhere/to/be/found'", "nowhere/to/be/found"),
        ("lora.rank=0", "lora.rank = 0"),
        ("stages.x=1", "'stages' is none of"),
        ("data.sources=[]", "data.sources"),
    ],
)
def test_wrong_settings_are_named(override, said, place, capsys):
    config_of(place, "sft")
    with pytest.raises(SystemExit) as exit_:
        main(["train", str(place / "sft.toml"), "--out", str(place / "out"), "--set", override])
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


def test_neither_a_model_nor_a_shape_is_refused(place):
    text = config_of(place, "sft") and (place / "sft.toml").read_text()
    (place / "none.toml").write_text(text.replace(f'model = "{place}/base"', ""))
    with pytest.raises(ConfigError, match=r"either model.*or \[shape\]"):
        load_train_config(place / "none.toml")


def test_the_command_tells_what_to_do_next(place, capsys):
    config_of(place, "sft")
    with pytest.raises(SystemExit) as exit_:
        main(["train", str(place / "sft.toml"), "--out", str(place / "out"), "--dtype", "float32"])
    assert exit_.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "6 steps" in said and f"exaone chat {place}/out" in said.replace("/ ", "/")


def test_dropout_is_refused_for_rl_and_taken_for_the_rest(place):
    dropout = "[lora]\ndropout = 0.1"
    config_of(place, "sft", stage=dropout)
    with pytest.raises(ConfigError, match=r"lora.dropout = 0.1: samples are drawn without dropout.*leave it out"):
        config_of(place, "rl", stage=dropout)
