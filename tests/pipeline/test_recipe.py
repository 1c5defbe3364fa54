"""A recipe on a checkpoint and rows of one's own: what it trains from what, how it resumes, what it refuses."""

import itertools
import json
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import open_exaone
from doubles import TINY, make_model, make_tokenizer
from open_exaone.base.config import parse_override
from open_exaone.base.errors import CheckpointError, ConfigError, DataError, OpenExaoneError, RunFolderError
from open_exaone.base.files import read_json, read_jsonl, write_json
from open_exaone.base.machine import has_fast_cpu_bfloat16
from open_exaone.checkpoint.folder import load_weights, save_model
from open_exaone.cli.flags import MachineFlags
from open_exaone.cli.main import main
from open_exaone.cli.run import run_and_show
from open_exaone.pipeline import engine
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import Machine, find_model
from open_exaone.pipeline.prepare import evaluation_tasks
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.pipeline.start import open_run
from open_exaone.rollout.config import VllmEngine
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.rollout.providers.vllm import VllmProvider
from open_exaone.train.parallel.world import ALONE

DRAWN = "{ families = 'worked', num_problems = 1 }"
FLOAT32 = Machine(device="cpu", dtype="float32")
RECIPE = """
name = "mine"
model = "PLACE/checkpoint"

[data.chat]
sources = [{ path = "PLACE/sft.jsonl" }]
[data.pairs]
sources = [{ path = "PLACE/pairs.jsonl" }]
[data.prompts]
sources = [{ path = "PLACE/prompts.jsonl" }]
[data.test]
sources = [{ path = "PLACE/test.jsonl" }]

[evaluation]
data = "test"
limit = 4
num_samples = 1
max_new_tokens = 8

[[stages]]
kind = "sft"
name = "sft"
data = "chat"
num_epochs = 1.0
batch_documents = 8
checkpoint_steps = 1
optimizer = { kind = "adamw", learning_rate = 1e-4 }

[[stages]]
kind = "preference"
name = "prefer"
data = "pairs"
num_epochs = 1.0
batch_pairs = 4
checkpoint_steps = 2
loss = { name = "simper" }
optimizer = { kind = "adamw", learning_rate = 1e-5 }

[[stages]]
kind = "rl"
name = "rl"
data = "prompts"
reward = "PLACE/my_rewards.py:score"
loss = { name = "grpo" }
num_steps = 3
batch_prompts = 3
group_size = 4
max_new_tokens = 6
checkpoint_steps = 1
optimizer = { kind = "adamw", learning_rate = 1e-6 }
"""
STAGES = ("01-sft", "02-prefer", "03-rl")


def question(number: int) -> str:
    return f"How much is {number} + 1?"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def place(tmp_path):
    save_model(tmp_path / "checkpoint", TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    turns = ({"role": "user"}, {"role": "assistant"})
    chats = [[turns[0] | {"content": question(n)}, turns[1] | {"content": f"{n + 1}"}] for n in range(24)]
    write(tmp_path / "sft.jsonl", [{"messages": messages} for messages in chats])
    pairs = [{"prompt": question(n), "chosen": f"{n + 1}", "rejected": "7"} for n in range(100, 112)]
    write(tmp_path / "pairs.jsonl", pairs)
    write(tmp_path / "prompts.jsonl", [{"question": question(n), "answer": str(n + 1)} for n in range(200, 212)])
    write(tmp_path / "test.jsonl", [{"question": question(n), "answer": str(n + 1)} for n in range(300, 312)])
    (tmp_path / "my_rewards.py").write_text("def score(sample): return float(len(sample['thought']) % 3)")
    return tmp_path


def recipe(place, *overrides, text=RECIPE):
    return load_recipe(tomllib.loads(text.replace("PLACE", str(place))), overrides)


def run(place, name, *overrides, on_event=lambda event: None, text=RECIPE):
    run_recipe(recipe(place, *overrides, text=text), place / name, on_event, FLOAT32)
    return place / name


def weights(folder):
    return {name: weight.clone() for name, weight in load_weights(folder).items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class Cut(BaseException):
    pass


def cut_at_first_step(event):
    if event.get("step") == 1:
        raise Cut


def test_every_stage_changes_the_weights_and_a_run_that_was_cut_anywhere_ends_in_the_same(place):
    events = []
    whole = run(place, "whole", on_event=events.append)
    models = [weights(place / "checkpoint"), *(weights(whole / stage / "model") for stage in STAGES)]
    assert not any(same(before, after) for before, after in itertools.pairwise(models))
    report = read_json(whole / "report.json")
    assert [stage["start"] for stage in report["stages"]] == [None, "sft", "prefer"]
    assert all(stage["num_problems"] == 4 for stage in report["stages"]) and (whole / "report.html").is_file()
    modes = {stage["name"]: stage["mode"] for stage in report["stages"]}  # the rows have no thoughts; rl samples some
    assert modes == {"sft": "non_reasoning", "prefer": "non_reasoning", "rl": "reasoning"}
    assert [find_model(whole, name)[1] for name in modes] == [False, False, True]
    assert [row["stage"] for row in events[-1:]] == ["rl"] and "measured" in events[-1]
    for number in range(2, len(events), 5):
        rest = itertools.count()

        def cut(event, number=number, rest=rest):
            if next(rest) == number:
                raise Cut

        try:
            run(place, "cut", on_event=cut)
        except Cut:
            continue
        break  # it is done
    run(place, "cut")
    assert all(same(weights(place / "cut" / stage / "model"), weights(whole / stage / "model")) for stage in STAGES)


def test_a_resumed_stage_says_where_it_continues(place):
    def cut(event):
        if event.get("stage") == "rl" and event.get("step") == 3:
            raise Cut

    with pytest.raises(Cut):
        run(place, "out", on_event=cut)
    events = []
    (place / "out" / "03-rl" / "checkpoints" / "step-000002" / "master.safetensors").write_bytes(b"broken")
    run(place, "out", on_event=events.append)
    assert [event for event in events if "resumed_at" in event] == [{"stage": "rl", "resumed_at": 1, "num_steps": 3}]


def test_a_stage_may_start_from_an_earlier_one_or_from_the_recipe_s_model(place):
    out = run(place, "out", "prefer.start='model'", "rl.start='sft'", "rl.lora={rank=4}", "evaluation.limit=1")
    entries = read_json(out / "report.json")["stages"]
    assert [entry["start"] for entry in entries] == [None, None, "sft"]
    base, sft = weights(place / "checkpoint"), weights(out / "01-sft" / "model")
    open_exaone.convert(out / "01-sft" / "model", place / "merged", adapter=out / "03-rl" / "adapter")
    assert same(weights(place / "merged"), weights(out / "03-rl" / "model")) and not same(sft, base)
    alone = run(place, "alone", f"model='{out}/01-sft'", text=RECIPE.replace('name = "sft"', 'name = "more"'))
    assert not same(weights(alone / "01-more" / "model"), sft)  # another run begins from a finished stage


def test_pairs_of_its_own_samples_are_sampled_once_and_resumed_at_the_sample(place):
    """The verifier takes every other reply, so that there is something to prefer."""
    (place / "judge.py").write_text(
        "def judge(sample): return sum(map(ord, sample['answer'])) % 2 == 0\n"
        f"def problems(): return [{{'question': 'Is it {{}}?'.format(n), 'answer': '1', 'verifier': {str(place)!r} + "
        "'/judge.py:judge'} for n in range(16)]\n"
    )
    source = f"{{ problems='{place}/judge.py:problems', num_problems=8, share=0.5 }}"
    own = (
        f"data.own.sources=[{source}, {source}]",
        "data.own.reasoning_ratio=1.5",
        "prefer.data='own'",
        "prefer.num_samples=4",
        "prefer.max_new_tokens=5",
        "evaluation.limit=1",
    )
    own = (*own, "sft.optimizer.learning_rate=1e-2", "sft.num_epochs=12", "prefer.mode='non_reasoning'")
    whole = run(place, "whole", *own)
    samples: list[int] = []

    def cut(event):
        if event.get("stage") == "prefer: sample":
            folder = place / "cut" / "02-prefer" / "samples"
            samples.append(sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl")))
            raise Cut

    with pytest.raises(Cut):
        run(place, "cut", *own, on_event=cut)
    assert samples[0] > 0
    stage, before = place / "cut" / "02-prefer", place / "cut" / "01-sft" / "model" / "model.safetensors"
    told = stage / "samples" / "evaluation.json"
    write_json(told, read_json(told) | {"seconds": 1000.0})

    journal, messages = stage / "samples" / "journal.jsonl", []
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:20]))  # as an earlier kill leaves it

    def cut_behind_it(event):
        messages.append(event.get("message", ""))
        if event.get("stage") == "prefer" and event.get("step") == 1:
            raise Cut

    with pytest.raises(Cut):
        run(place, "cut", *own, on_event=cut_behind_it)
    assert read_json(stage / "sampling.json")["sample_seconds"] > 1000 and not (stage / "samples").exists()
    content = before.read_bytes()
    before.write_bytes((place / "checkpoint" / "model.safetensors").read_bytes())
    with pytest.raises(
        RunFolderError, match=r"02-prefer/data: its samples were drawn and judged with other settings \(model\)"
    ):
        run(place, "cut", *own)
    before.write_bytes(content)
    (stage / "samples").mkdir()  # as a kill may leave it
    run(place, "cut", *own)
    assert not (stage / "samples").exists()
    assert any(m.startswith("prefer: sample: continuing at sample ") and m.endswith(" of 64") for m in messages)
    assert read_jsonl(whole / "02-prefer" / "pairs.jsonl") == read_jsonl(place / "cut" / "02-prefer" / "pairs.jsonl")
    assert same(weights(whole / "03-rl" / "model"), weights(place / "cut" / "03-rl" / "model"))


def test_a_suite_keeps_its_own_sampling_when_the_resolved_recipe_is_read_again(place):
    """Such as one of greedy replies under another seed; what the recipe does set counts."""
    task = f"benchmark = '{place}/test.jsonl'\nk = 1\ntemperature = 0.0\ntop_p = 1.0\nseed = 7\nmax_new_tokens = 8\n"
    (place / "suite.toml").write_text(f"name = 'own'\nwhat = 'Mine.'\n[[tasks]]\n{task}")
    text = RECIPE.replace('data = "test"\n', f'suite = "{place}/suite.toml"\n', 1)
    for override, wanted in ((), (0.0, 1.0, 7)), (("evaluation.top_p=0.5", "evaluation.seed=3"), (0.0, 0.5, 3)):
        once = recipe(place, *override, text=text)
        again = load_recipe(tomllib.loads(once.to_toml()))
        assert again == once
        for one in (once, again):
            opened = open_run(one, RunFolder(place / "out"), FLOAT32, lambda event: None)
            [task] = evaluation_tasks(opened, one.stages[0])
            assert (task.sampling.temperature, task.sampling.top_p, task.sampling.seed) == wanted


def test_validation_data_is_read_and_compared_before_the_first_stage(place):
    rows = [*read_jsonl(place / "sft.jsonl")[3:4], {"messages": []}]
    write(place / "held.jsonl", rows)
    held = f"data.held={{ sources=[{{ path='{place}/held.jsonl' }}], bad_rows='drop' }}"
    messages = []

    def cut(event):
        messages.append(event.get("message", ""))
        if "plan" in event:
            raise Cut

    with pytest.raises(Cut):
        run(place, "out", held, "sft.validation='held'", on_event=cut)
    for start in (
        "data.held: 1 of the 2 rows of held.jsonl is left out (empty); the first is ",
        "note: 1 prompt is in the data of sft and of sft.va",
    ):
        assert any(message.startswith(start) for message in messages), messages


def test_a_begun_run_keeps_the_tokenizer_that_it_trained(place):
    """Even where the data that it was trained on has changed, and only a measurement is left."""
    shape = "\n".join(f"{key} = {json.dumps(value)}" for key, value in TINY.model_dump(exclude_none=True).items())
    [_, sft, *_] = RECIPE.split("[[stages]]")
    text = RECIPE.split("[[stages]]")[0].replace('model = "PLACE/checkpoint"', f"[model]\n{shape}") + "[[stages]]" + sft

    def cut(event):
        if event.get("stage") == "sft: measure":
            raise Cut

    with pytest.raises(Cut):
        run(place, "out", on_event=cut, text=text)
    before = (place / "out" / "tokenizer" / "tokenizer.json").read_bytes()
    rows = (place / "sft.jsonl").read_text()
    (place / "sft.jsonl").write_text(rows.replace("How much is", "Whatever could it be that makes"))
    run(place, "out", text=text)
    assert (place / "out" / "tokenizer" / "tokenizer.json").read_bytes() == before


def test_bad_rows_of_the_evaluation_are_dropped_where_the_recipe_asks_and_rows_behind_the_limit_are_not_read(place):
    good = read_jsonl(place / "test.jsonl")
    write(place / "test.jsonl", [good[0], {"question": "Why?"}, *good[1:4], {"question": "And why?"}])
    messages = []
    opened = open_run(
        recipe(place, "data.test.bad_rows='drop'"), RunFolder(place / "out"), FLOAT32, lambda e: messages.append(str(e))
    )
    assert [problem.question for problem in opened.evaluation_problems["test"]] == [
        question(n) for n in range(300, 304)
    ]
    assert any("data.test: 1 row left out; the first: " in message for message in messages)
    assert opened.evaluation_problems is opened.evaluation_problems
    with pytest.raises(DataError, match=r"data\.test: .*test\.jsonl: line 2: .*answer"):
        open_run(recipe(place), RunFolder(place / "refused"), FLOAT32, lambda event: None)


def test_pairs_need_no_room_for_samples(place):
    """A model of a short context, whose stage would sample at most 1,024 tokens if it sampled."""
    shape = json.dumps(TINY.model_dump(exclude_none=True)).replace(": ", " = ")
    text = RECIPE.replace('model = "PLACE/checkpoint"', f"model = {shape}")
    assert recipe(place, text=text).shape == TINY


def test_what_an_engine_notes_stands_in_the_output_and_in_the_report(place, monkeypatch):
    monkeypatch.setattr(LocalProvider, "notes", ("3 requests were <retried>",))
    messages = []
    out = run(
        place, "out", "rl.num_steps=1", "evaluation.limit=1", on_event=lambda e: messages.append(e.get("message"))
    )
    assert messages.count("note: 3 requests were <retried>") == 4  # of three measurements, and of rl
    assert [stage["notes"] for stage in read_json(out / "report.json")["stages"]] == [["3 requests were <retried>"]] * 3
    assert "3 requests were &lt;retried&gt;" in (out / "report.html").read_text()


@pytest.mark.parametrize("least", [1, 24], ids=["of a measurement", "of preference pairs"])
def test_a_sample_without_a_reply_stops_the_run_until_it_is_there(least, place, monkeypatch):
    own = ("prefer.data='prompts'", "prefer.num_samples=2", "prefer.max_new_tokens=5", "evaluation.limit=1")
    stream, lost = LocalProvider.stream, []

    def lossy(provider, requests):
        lost.extend(requests[:1] if len(requests) >= least else ())
        yield from ((place, found) for place, found in stream(provider, requests) if requests[place] not in lost)

    with monkeypatch.context() as patch:
        patch.setattr(LocalProvider, "stream", lossy)
        patch.setattr(LocalProvider, "failure", "its logits are NaN")
        for _ in range(2):  # it is asked for again, in vain
            with pytest.raises(
                DataError, match=r"1 of \d+ samples \(.* #0\) have no reply: its logits are NaN: the same"
            ):
                run(place, "out", *own)
    with pytest.raises((Cut, DataError), match=r"^$|no problem had both"):
        run(
            place,
            "out",
            *own,
            on_event=lambda event: cut_at_first_step(event) if event.get("stage") == "prefer" else None,
        )
    assert (place / "out" / "01-sft" / "eval" / "report.json").is_file()


def test_vllm_is_opened_once_a_run(monkeypatch):
    """As it takes minutes to start; what it samples from is still named for each stage."""
    vllm, opened = object.__new__(VllmProvider), []
    vllm._name = "vllm"
    monkeypatch.setattr(engine, "open_provider", lambda config, policy: opened.append(policy.folder) or vllm)
    one = SimpleNamespace(
        recipe=SimpleNamespace(engine=VllmEngine(kind="vllm")), engines=[], tokenizer=None, shape=TINY, world=ALONE
    )
    named = [engine._open(one, "stage", None, Path(folder), folder).identity for folder in ("a", "b")]
    assert opened == [Path("a")] and [identity["weights"] for identity in named] == ["a", "b"]


def test_shared_prompts_are_counted_named_and_refused_where_the_recipe_asks(place):
    rows = read_jsonl(place / "prompts.jsonl")
    write(place / "prompts.jsonl", [*rows, {"question": f" {question(3).upper()}", "answer": "4"}])
    write(place / "test.jsonl", [{"question": question(201), "answer": "202"}, *read_jsonl(place / "test.jsonl")])
    messages = []
    run(place, "out", on_event=lambda event: messages.append(event.get("message", "")))
    wanted = (
        "note: 1 prompt is in the data of sft and of rl (such as sft.jsonl, row 4 and prompts.jsonl, row 13)",
        "note: 1 prompt is in the data of rl and of evaluation (such as prompts.jsonl, row 2 and problem",
    )
    assert all(any(message.startswith(start) for message in messages) for start in wanted), messages
    assert [row["between"] for row in read_json(place / "out" / "report.json")["shared_prompts"]] == [
        ["sft", "rl"],
        ["rl", "evaluation"],
    ]
    with pytest.raises(DataError, match=r"1 prompt is in the data of sft and of rl .*disjoint = true"):
        run(place, "refused", "disjoint=true")
    assert not (place / "refused" / "01-sft" / "metrics.jsonl").exists()


def test_a_resolved_recipe_leaves_a_suite_its_own_sampling(place):
    text = RECIPE.replace('data = "test"\nlimit = 4', 'suite = "math_500"')
    resolved = load_recipe(tomllib.loads(recipe(place, text=text).to_toml()))
    assert resolved.evaluation.sampling == {"num_samples": 1, "max_new_tokens": 8}


SUITE = """
name = "both"
what = "Two sets of problems."
defaults = { k = 1, temperature = 0.6, top_p = 0.95, max_new_tokens = 8 }
tasks = [{ benchmark = "PLACE/test.jsonl" }, { benchmark = "PLACE/other.jsonl", name = "others" }]
"""


def test_every_benchmark_of_a_suite_is_reported_and_held_against_the_prompts_of_training(place, capsys):
    text = RECIPE[: RECIPE.index('[[stages]]\nkind = "preference"')]
    text = text.replace('data = "test"\nlimit = 4', 'suite = "PLACE/suite.toml"')
    (place / "suite.toml").write_text(SUITE.replace("PLACE", str(place)))
    write(place / "other.jsonl", [{"question": question(n), "answer": str(n + 1)} for n in range(400, 403)])
    run_and_show(recipe(place, text=text), place / "out", MachineFlags(device="cpu", dtype="float32"))
    printed, report = " ".join(capsys.readouterr().out.split()), read_json(place / "out" / "report.json")
    assert "sft: test: pass@1 " in printed and "on 12 problems x 1 sample" in printed
    assert "sft: others: pass@1 " in printed and "on 3 problems x 1 sample" in printed
    assert [part["measured_on"] for part in report["stages"][0]["tasks"]] == ["test", "others"]
    card = (place / "out" / "card.md").read_text()
    assert re.search(r"\| sft \| test \| .* \| 12 \|", card) and re.search(r"\| sft \| others \| .* \| 3 \|", card)
    with pytest.raises(SystemExit, match="0"):
        main(["eval", str(place / "out")])
    is_same = "is the same as the run's own measurement" in " ".join(capsys.readouterr().out.split())
    assert is_same or has_fast_cpu_bfloat16()  # which "auto" then takes

    write(place / "other.jsonl", [{"question": question(7), "answer": "8"}])
    with pytest.raises(DataError, match="1 prompt is in the data of sft and of evaluation .*disjoint = true"):
        run(place, "refused", "disjoint=true", text=text)


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("rl.data='nowhere'", "rl.data = 'nowhere': no such data"),
        ("rl.start='elsewhere'", "rl.start = 'elsewhere': no such stage; before it stand sft, prefer, model"),
        ("sft.start='rl'", "sft.start = 'rl': that stage comes later: list it before 'sft'"),
        ("prefer.start='prefer'", "prefer.start: a circle of starts: prefer → prefer"),
        ("prefer.name='sft'", "two are named 'sft'"),
        ("prefer.name='data'", "'data' is a key of the recipe"),
        (
            "engine={kind='endpoint', url='http://localhost:1/v1'}",
            "engine.kind = 'endpoint': a chat endpoint cannot sample",
        ),
        ("data.chat.sources=[{path='a'}, {path='a', skip=3}]", "sources: a is listed twice; list it once"),
        (f"data.chat.sources=[{', '.join([DRAWN] * 101)}]", "data: has 101 generated sources: must be at most 100"),
        ("evaluation.suite='math_500'", 'give either data, such as data = "test", or suite'),
        ("rl.lora.dropout=0.1", "rl.lora.dropout = 0.1: samples are drawn without dropout"),
        ("sft.lora.targets=['q']", "sft.lora.targets.0 = 'q': must be one of q_proj"),
        ("sft.lora.targets='all'", "sft.lora.targets = 'all': must be one of all-linear"),
        (
            "data.chat.sources=[{families=5, num_problems=1}]",
            "data.chat.sources.0.families = 5: should be a valid array",
        ),
        (
            "evaluation.shown='chat'",
            "evaluation.shown = 'chat': must be one of evaluation.data (test)",
        ),
        ("stage={}", "docs/training.md, “From older files”"),
        ("sft.optimizer.kind='muon'", "sft.optimizer.matrix_learning_rate: is missing"),
    ],
)
def test_what_the_parts_of_a_recipe_do_not_agree_on_is_named(place, override, why):
    values = tomllib.loads(RECIPE.replace("PLACE", str(place)))
    overrides = [override]
    if override.startswith("stage="):
        values["stage"], overrides = parse_override(override)[1], []
    with pytest.raises(ConfigError) as caught:
        load_recipe(values, overrides)
    assert why in str(caught.value)


def test_a_circle_of_two_starts_is_named(place):
    with pytest.raises(ConfigError, match="sft.start: a circle of starts: sft → rl → sft"):
        recipe(place, "sft.start='rl'", "rl.start='sft'")


@pytest.mark.parametrize(
    ("override", "error", "why"),
    [
        (
            "rl.data='pairs'",
            DataError,
            "rl.data = 'pairs': .*pairs.jsonl: its rows have the format pairs; rl trains on problems",
        ),
        ("prefer.data='chat'", DataError, "its rows have the format messages; preference trains on pairs"),
        ("sft.data='test'", DataError, "test.jsonl: none of its rows can be used .*no worked reply: 12"),
        ("chat_format='template'", CheckpointError, "has no chat template"),
        ("data.prompts.reasoning_ratio=1.5", DataError, "reasoning_ratio = 1.5: there is no example in mode"),
        ("prefer.num_samples=4", ConfigError, "prefer.num_samples: nothing is sampled, since data.pairs holds pairs"),
        ("data.test.sources.0.verifier='maths'", ConfigError, "data.test: .*test.jsonl: .*'maths'"),
        ("rl.data='unanswered'", DataError, "unanswered.jsonl.*answer"),
    ],
)
def test_data_and_models_that_do_not_fit_are_refused_before_anything_is_trained(place, override, error, why):
    (place / "checkpoint" / "chat_template.jinja").unlink()
    write(place / "unanswered.jsonl", [{"question": "Why?"}])
    unanswered = f"data.unanswered.sources=[{{ path='{place}/unanswered.jsonl', format='problems' }}]"
    with pytest.raises(error, match=why):
        run(place, "out", override, unanswered)
    assert not list((place / "out").glob("*/metrics.jsonl"))
    run(
        place, "out", "rl.num_steps=1", "evaluation.limit=1"
    )  # nothing was learned: the fixed recipe may have the folder


def test_once_something_is_learned_another_recipe_is_refused(place):
    def cut(event):
        if event.get("step") == 2:
            raise Cut

    with pytest.raises(Cut):
        run(place, "out", on_event=cut)
    with pytest.raises(RunFolderError, match=r"another recipe \(mine; it differs in rl\.num_steps\)"):
        run(place, "out", "rl.num_steps=9")
    run(place, "out", "sft.micro_batch_tokens=64")


def test_a_second_process_changes_nothing_before_it_is_refused(place):
    with pytest.raises(Cut):
        run(place, "out", on_event=cut_at_first_step)
    folder = RunFolder(place / "out")
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file() and path.name != ".lock"}
    with folder.locked(), pytest.raises(RunFolderError, match="another process"):
        run(place, "out", "sft.optimizer.learning_rate=0.5")
    assert before == {path: path.read_bytes() for path in before}


def test_changed_evaluation_data_and_a_missing_engine_are_found_before_a_stage_goes_on(place):
    with pytest.raises(Cut):
        run(place, "out", on_event=cut_at_first_step)
    rows = (place / "test.jsonl").read_text()
    (place / "test.jsonl").write_text(rows.replace("How much", "Say how much"))
    with pytest.raises(
        DataError, match="evaluation.data = test: the problems that every stage is measured on have changed"
    ):
        run(place, "out")
    (place / "test.jsonl").write_text(rows)
    with pytest.raises(ConfigError, match="vLLM is not installed"):
        run(place, "other", "engine={kind='vllm'}")
    with pytest.raises(ConfigError, match=r"engine\.weights = 'int8': .* and rl trains the model that it samples from"):
        run(place, "other", "engine={kind='local', weights='int8'}")
    server = "engine={kind='vllm_server', url='http://127.0.0.1:1/v1', max_attempts=1%s}"
    for weights_folder, wanted in (
        ("", "engine.weights_folder: is missing"),
        (place / "nowhere", "no folder can be"),
        (place, "127.0.0.1:1"),
    ):
        own = f", weights_folder='{weights_folder}'" if weights_folder else ""
        with pytest.raises(OpenExaoneError, match=wanted):
            run(place, "other", server % own)
    assert not list(place.glob("weights-*"))
    (place / "out" / "prepared.json").write_text("{}")  # it is made again
    run(place, "out")
    card = (place / "out" / "card.md").read_text()
    assert "by Open-EXAONE from checkpoint." in card and "random" not in card
