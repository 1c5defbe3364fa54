"""`exaone train`: a recipe of one stage of every kind on files of one's own: its result, its resuming, its refusals."""

import json
import math
import tomllib
from datetime import datetime

import pytest
import torch

import open_exaone
from doubles import TINY, make_model, make_tokenizer
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.checkpoint.folder import load_weights, save_model
from open_exaone.cli.main import main
from open_exaone.pipeline.evaluate import Choices, evaluate
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.prepare import left_out
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe

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
        f'name = "{kind}"\nmodel = "{place}/base"\n{rest}\n'
        f'[data.rows]\nsources = [{{ path = "{place}/{kind}.jsonl" }}]\n'
        f'[[stages]]\nname = "it"\nkind = "{kind}"\ndata = "rows"\ncheckpoint_steps = 2\n{own}\n{OPTIMIZER}\n{stage}\n'
    )
    return load_recipe(path)


def train(recipe, out, on_event=lambda event: None, machine=FLOAT32):
    """The stage's entry of the report."""
    return run_recipe(recipe, out, on_event, machine)["stages"][0]


def weights_of(folder):
    return {name: weight.clone() for name, weight in load_weights(folder).items()}


@pytest.mark.parametrize("kind", ROWS)
def test_every_kind_trains_a_model_that_opens(kind, place):
    events = []
    outcome = train(config_of(place, kind), place / "out", events.append)
    [plan] = [event["plan"] for event in events if "plan" in event]
    assert outcome["train_steps"] == len([event for event in events if "step" in event]) >= 4
    assert abs(plan[0]["num_steps"] - outcome["train_steps"]) <= (kind == "pretrain")  # by tokens it is an estimate
    before, after = weights_of(place / "base"), weights_of(place / "out" / "01-it" / "model")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.isfinite(weight).all() for weight in after.values())
    open_exaone.load_tokenizer(place / "out" / "01-it" / "model").encode("1")
    losses = [json.loads(line)["loss"] for line in (place / "out" / "01-it" / "metrics.jsonl").open()]
    if kind in ("pretrain", "sft"):
        assert losses[-1] < losses[0]


class Cut(BaseException):
    pass


@pytest.mark.parametrize("kind", ROWS)
def test_a_run_that_was_cut_ends_in_the_same_weights(kind, place):
    config = config_of(place, kind)
    train(config, place / "whole")

    def cut(event):
        if event.get("step") == 3:
            raise Cut

    with pytest.raises(Cut):
        train(config, place / "cut", cut)
    train(config, place / "cut")
    whole, again = weights_of(place / "whole" / "01-it" / "model"), weights_of(place / "cut" / "01-it" / "model")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_dpo_with_lora_begins_at_its_reference_and_reads_it_when_resumed(place):
    def recipe(beta):
        return config_of(place, "preference", stage=f'loss = {{ name = "dpo", beta = {beta} }}\nlora = {{ rank = 4 }}')

    train(recipe(0.3), place / "whole")

    def cut(event):
        if event.get("step") == 3:
            raise Cut

    with pytest.raises(Cut):
        train(recipe(0.3), place / "cut", cut)
    file = place / "cut" / "01-it" / "reference.safetensors"
    written, begun = file.read_bytes(), file.stat().st_mtime_ns
    train(recipe(0.3), place / "cut")
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (written, begun)
    stages = [place / name / "01-it" for name in ("whole", "cut")]
    adapters = [(stage / "adapter" / "adapter_model.safetensors").read_bytes() for stage in stages]
    losses = [json.loads(line)["loss"] for line in (stages[1] / "metrics.jsonl").open()]
    assert adapters[0] == adapters[1] and losses[0] == pytest.approx(math.log(2), abs=1e-5) and losses[-1] < losses[0]
    with pytest.raises(RunFolderError, match=r"it differs in it\.loss\.beta"):
        train(recipe(0.5), place / "cut")


def test_lora_leaves_its_adapter_and_the_model_with_it_merged(place):
    train(config_of(place, "sft", stage="lora = { rank = 4, alpha = 8 }"), place / "out")
    open_exaone.convert(place / "base", place / "merged", adapter=place / "out" / "01-it" / "adapter")
    before, after, ours = (weights_of(f) for f in (place / "base", place / "merged", place / "out" / "01-it" / "model"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(".layers." in name and name.endswith("_proj.weight") for name in changed)
    assert all(torch.equal(after[name], ours[name]) for name in after)


def test_the_validation_loss_is_logged_and_keeps_the_best_state(place):
    rest = f'[data.held_out]\nsources = [{{ path = "{place}/sft.jsonl" }}]'
    keep = 'keep = { last = 1, best = "validation_loss" }'
    config = config_of(place, "sft", rest=rest, stage=f'{keep}\nvalidation = "held_out"\nvalidation_steps = 2')
    plain = config_of(place, "sft")
    train(config, place / "out")
    train(plain, place / "plain")
    rows, others = (
        [json.loads(line) for line in (place / f / "01-it" / "metrics.jsonl").open()] for f in ("out", "plain")
    )
    told = {row["step"]: row["validation_loss"] for row in rows if "validation_loss" in row}
    assert list(told) == [2, 4, 6] and told[6] < told[2]
    assert [row["loss"] for row in rows] == [row["loss"] for row in others]  # looking changes nothing
    assert weights_of(place / "out" / "01-it" / "best").keys() == weights_of(place / "out" / "01-it" / "model").keys()
    model = open_exaone.load_model(place / "out" / "01-it" / "model", dtype="float32").eval()
    expected, num_learned = 0.0, 0
    for row in ROWS["sft"]:
        ids, mask = make_tokenizer().render(row["messages"], thinking=False, with_mask=True)
        logprobs = torch.log_softmax(model(torch.tensor([ids]))[0], -1)
        learned = [place for place in range(1, len(ids)) if mask[place]]
        expected -= sum(float(logprobs.detach()[place - 1, ids[place]]) for place in learned)
        num_learned += len(learned)
    assert told[6] == pytest.approx(expected / num_learned, rel=1e-4)


@pytest.mark.parametrize("names_a_tokenizer", [True, False])
def test_random_weights_take_a_tokenizer_or_train_one_on_the_data(names_a_tokenizer, place):
    config_of(place, "pretrain")
    shape = "\n".join(f"{key} = {json.dumps(value)}" for key, value in TINY.model_dump(exclude_none=True).items())
    tokenizer = f'tokenizer = "{place}/base"' if names_a_tokenizer else ""
    text = (place / "pretrain.toml").read_text().replace(f'model = "{place}/base"', f"{tokenizer}\n[model]\n{shape}\n")
    (place / "shape.toml").write_text(text)
    train(load_recipe(place / "shape.toml"), place / "out")
    assert open_exaone.load_model(place / "out").config == TINY
    trained = open_exaone.load_tokenizer(place / "out")
    assert trained.vocab_size == TINY.vocab_size
    assert (trained.backend.to_str() == make_tokenizer().backend.to_str()) == names_a_tokenizer


@pytest.fixture
def day(place, monkeypatch):
    """A calendar, and a template that prints its date, as those of Llama 3 do."""
    turns = "{% for m in messages %}[|{{ m.role }}|]{{ m.content }}[|endofturn|]{% endfor %}"
    prompt = "{% if add_generation_prompt %}[|assistant|]{% endif %}"
    (place / "base" / "chat_template.jinja").write_text("{{ strftime_now('%d') }}" + turns + prompt)

    class Day(datetime):
        today = 1

        @classmethod
        def now(cls, tz=None):
            return datetime(2024, 5, cls.today, tzinfo=tz)

    for module in ("open_exaone.pipeline.folder", "open_exaone.text.tokenizer"):
        monkeypatch.setattr(f"{module}.datetime", Day)
    return Day


@pytest.mark.parametrize("kind", ["sft", "rl"])
def test_a_run_goes_on_on_another_day_with_the_date_that_it_began_with(kind, place, day):
    def cut(event):
        if event.get("step") == 3:
            raise Cut

    config = config_of(place, kind)
    train(config, place / "whole")
    with pytest.raises(Cut):
        train(config, place / "out", cut)
    day.today = 2
    train(config, place / "out")
    again, whole = (weights_of(place / name / "01-it" / "model") for name in ("out", "whole"))
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_an_evaluation_goes_on_on_another_day_with_the_date_that_it_began_with(place, day, monkeypatch):
    monkeypatch.setattr("open_exaone.evaluation.run.REPORT_EVERY_S", 0.0)
    rows = [{"id": str(a), "question": f"{a} + 1?", "answer": str(a + 1), "verifier": "exact"} for a in range(12)]
    (place / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    choices = Choices(suite=str(place / "own.jsonl"), num_samples=4, sampling={"max_new_tokens": 6})

    def measure(out, on_event=lambda event: None):
        evaluate(str(place / "base"), choices, out=place / out, machine=FLOAT32, on_event=on_event)
        rows = map(json.loads, (place / out / "samples.jsonl").open())
        return {(row["problem"], row["index"]): (row["key"], row["thought"], row["answer"]) for row in rows}

    def cut(event):
        if event.get("step", 0) >= 8:
            raise Cut

    whole = measure("whole")
    with pytest.raises(Cut):
        measure("out", cut)
    journal = place / "out" / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:20]))  # as where it was killed earlier
    day.today = 2
    assert measure("out") == whole
    assert measure("other") != whole  # the day does count


def test_what_is_left_out_is_reported_in_sentences():
    source = {
        "name": "a.jsonl",
        "rows": 1234,
        "dropped": {"too long": 2, "empty": 1},
        "dropped_parts": {"nothing learned": 3},
        "first_dropped": {"too long": "a.jsonl: line 1: long", "empty": "a.jsonl: line 7: text: is empty"},
        "truncated": 1,
        "split": 1000,
        "unread": {"score": 5, "url": 5},
    }
    assert list(left_out(source, 4096)) == [
        "2 of the 1,234 rows of a.jsonl are left out (longer than 4,096 tokens)",
        "1 of the 1,234 rows of a.jsonl is left out (empty); the first is a.jsonl: line 7: text: is empty",
        "3 parts of the 1,234 rows of a.jsonl are left out (nothing learned)",
        "1 of the 1,234 rows of a.jsonl is truncated to 4,096 tokens",
        "1,000 of the 1,234 rows of a.jsonl are split into pieces of at most 4,096 tokens",
        "these columns of a.jsonl are not read: score, url",
    ]


@pytest.mark.parametrize("lora", [False, True])
def test_a_trained_model_keeps_what_its_authors_stored(place, lora):
    """Wider norms, all templates, and how it is sampled from."""
    folder = place / "base"
    mixed = {n: w.to(torch.float32 if "norm" in n else torch.bfloat16) for n, w in make_model().named_parameters()}
    save_model(folder, TINY, mixed, make_tokenizer(), {"temperature": 0.3, "top_k": 20, "repetition_penalty": 1.05})
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("t")
    stage = "lora = { rank = 2 }" if lora else ""
    train(config_of(place, "sft", stage=stage), place / "out")
    result = place / "out" / "01-it" / "model"
    assert {name: weight.dtype for name, weight in weights_of(result).items()} == {n: w.dtype for n, w in mixed.items()}
    assert (result / "additional_chat_templates" / "tool_use.jinja").read_text() == "t"
    values = json.loads((result / "generation_config.json").read_text())
    assert values == json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text('{"do_sample": false, "max_new_tokens": 7}')
    train(config_of(place, "sft", stage=stage), place / "greedy")
    values = json.loads((place / "greedy" / "01-it" / "model" / "generation_config.json").read_text())
    assert values["do_sample"] is False and values["max_new_tokens"] == 7 and "temperature" not in values


def test_a_finished_run_is_not_run_again_and_other_settings_are_refused(place):
    config = config_of(place, "sft")
    first = train(config, place / "out")
    events = []
    assert train(config, place / "out", events.append) == first
    assert [event["message"] for event in events] == [
        f"{place}/out: is done already; choose another folder with --out to begin anew"
    ]
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(RunFolderError, match=r"another recipe \(sft; it differs in seed\)"):
        train(other, place / "out")


def test_what_decides_the_outcome_is_held_to_and_the_rest_may_change(place):
    def cut(event):
        if event.get("step") == 3:
            raise Cut

    config = config_of(place, "sft")
    with pytest.raises(Cut):
        train(config, place / "out", cut)
    begun = "begun in float32 on cpu, not in bfloat16 on cpu: give --dtype float32 --device cpu"
    with pytest.raises(RunFolderError, match=begun):
        train(config, place / "out", machine=Machine(device="cpu", dtype="bfloat16"))
    elsewhere = {"device": "cuda", "dtype": "float32"}
    (place / "out" / "machine.json").write_text(json.dumps(elsewhere))
    with pytest.raises(RunFolderError, match="begun in float32 on cuda, not in float32 on cpu: give .*--device cuda"):
        train(config, place / "out")
    (place / "out" / "machine.json").write_text(json.dumps({**elsewhere, "device": "cpu"}))
    other = {name: weight + 1e-3 for name, weight in make_model().named_parameters()}
    save_model(place / "base", TINY, other, make_tokenizer(), {})
    with pytest.raises(RunFolderError, match="model was"):
        train(config, place / "out")
    save_model(place / "base", TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    changed = config_of(place, "sft", stage="micro_batch_tokens = 30\nrecompute_activations = true")
    train(changed, place / "out")
    train(config, place / "whole")
    again, whole = weights_of(place / "out" / "01-it" / "model"), weights_of(place / "whole" / "01-it" / "model")
    for name in whole:
        torch.testing.assert_close(again[name], whole[name], rtol=2e-3, atol=2e-3)


def test_settings_may_change_before_anything_is_learned(place):
    config = config_of(place, "sft", stage="max_tokens = 2")
    with pytest.raises(DataError):
        train(config, place / "out")
    train(config_of(place, "sft"), place / "out")


def test_every_row_is_learned_as_often_as_asked(place):
    tokenizer = make_tokenizer()
    tokens = sum(len(tokenizer.render(row["messages"], thinking=False)) for row in ROWS["sft"])
    prompts = [tokenizer.render(row["messages"][:1], thinking=False, generation_prompt=True) for row in ROWS["sft"]]
    shared = sum(len(prompt) - 1 for prompt in prompts)  # where both epochs' copies of a row meet in a batch
    for batch, num_steps, computed in ((8, 6, 2 * tokens), (100, 1, 2 * tokens - shared)):  # 2 epochs of 24 rows
        rows = []
        stages = {**STAGES, "sft": f"num_epochs = 2\nbatch_documents = {batch}"}
        text = config_of(place, "sft") and (place / "sft.toml").read_text()
        (place / "sft.toml").write_text(text.replace(STAGES["sft"], stages["sft"]))
        train(load_recipe(place / "sft.toml"), place / f"out-{batch}", rows.append)
        steps = [row for row in rows if "step" in row]
        assert len(steps) == num_steps and steps[-1]["tokens"] == computed


def test_smoothing_and_z_loss_reach_the_loss(place):
    losses = []
    for number, stage in enumerate(("", "loss = { label_smoothing = 0.3 }", "loss = { z_loss = 0.1 }")):
        rows = []
        train(config_of(place, "sft", stage=stage), place / f"out{number}", rows.append)
        losses.append(next(row["loss"] for row in rows if "loss" in row))
    assert len(set(losses)) == 3


def test_a_fine_tune_names_muons_rate_itself(place):
    text = config_of(place, "sft") and (place / "sft.toml").read_text()
    (place / "sft.toml").write_text(text.replace(", matrix_learning_rate = 1e-2", ""))
    with pytest.raises(ConfigError, match="matrix_learning_rate: is missing"):
        load_recipe(place / "sft.toml")


def test_a_metric_to_keep_the_best_state_by_that_does_not_exist_ends_the_first_step(place):
    config = config_of(place, "sft", stage='keep = { best = "losss" }')
    with pytest.raises(
        ConfigError, match=r"it\.keep\.best = 'losss': no such metric; did you mean \"loss\"\? There are "
    ):
        train(config, place / "out")
    train(config_of(place, "sft", stage='keep = { best = "loss" }'), place / "out")


def test_a_licence_comes_along(place):
    (place / "base" / "LICENSE").write_text("mine")
    train(config_of(place, "sft"), place / "out")
    assert (place / "out" / "01-it" / "model" / "LICENSE").read_text() == "mine"


def test_a_training_from_python_takes_values_and_reports_steps(place):
    config_of(place, "sft")
    values, steps = tomllib.loads((place / "sft.toml").read_text()), []
    entry = open_exaone.run_training(values, place / "out", on_event=steps.append, device="cpu", dtype="float32")
    assert sum("loss" in step for step in steps) == 6 == entry["train_steps"]
    assert open_exaone.load_model(entry["result"]).config == TINY
    values["stages"].append({**values["stages"][0], "name": "again"})
    with pytest.raises(ConfigError, match=r"has 2 stages \(it, again\): run it with `exaone run`"):
        open_exaone.run_training(values, place / "two")


def test_data_that_changed_under_a_run_is_refused_by_name(place):
    config = config_of(place, "sft")

    def cut(event):
        if event.get("step") == 3:
            raise Cut

    with pytest.raises(Cut):
        train(config, place / "out", cut)
    with (place / "sft.jsonl").open("a") as file:
        file.write(json.dumps(ROWS["sft"][0]) + "\n")
    with pytest.raises(DataError, match=r"sft\.jsonl: was changed after"):
        train(config, place / "out")


def test_a_folder_that_holds_something_else_is_left_alone(place):
    (place / "out").mkdir()
    (place / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="is not empty and holds no run"):
        train(config_of(place, "sft"), place / "out")
    assert (place / "out" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("it.optimizer.learning_rate=0", "optimizer.learning_rate = 0"),
        ("it.optimizer.learning_rate=inf", "learning_rate = "),
        ("model='nowhere/to/be/found'", "nowhere/to/be/found"),
        ("it.lora.rank=0", "lora.rank = 0"),
        ("stage.x=1", "'stage' is neither a stage (it) nor one of"),
        ("data.rows.sources=[]", "data.rows.sources = []: should have at least 1 item\n"),
    ],
)
def test_wrong_settings_are_named(override, said, place, capsys):
    config_of(place, "sft")
    with pytest.raises(SystemExit) as exit_:
        main(["train", str(place / "sft.toml"), "--out", str(place / "out"), "--set", override])
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


def test_the_command_says_what_to_do_next(place, capsys):
    config_of(place, "sft")
    with pytest.raises(SystemExit) as exit_:
        main(["train", str(place / "sft.toml"), "--out", str(place / "out"), "--dtype", "float32"])
    assert exit_.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "6 steps" in said and f"exaone chat {place}/out" in said.replace("/ ", "/")


def test_dropout_is_refused_for_rl_and_taken_for_the_rest(place):
    dropout = "lora = { dropout = 0.1 }"
    config_of(place, "sft", stage=dropout)
    with pytest.raises(ConfigError, match=r"lora.dropout = 0.1: samples are drawn without dropout.*leave it out"):
        config_of(place, "rl", stage=dropout)
