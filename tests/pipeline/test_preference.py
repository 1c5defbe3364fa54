"""Preference stages through a whole run: groups of a model's own samples, labelled rows, and what is refused."""

import json
import shutil
import tomllib
from collections import Counter

import numpy as np
import pytest
import torch

from doubles import TINY, make_model, make_tokenizer
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.checkpoint.folder import load_weights, save_model
from open_exaone.data.store import Prepared
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe

FLOAT32 = Machine(device="cpu", dtype="float32")
CLOSE, END = make_tokenizer().think_close_id, make_tokenizer().end_id
MINE = """
def check(sample):
    if len(sample["answer"]) % 5 == 1: raise ValueError("no verdict")
    return len(sample["answer"]) % 2 == 0

def score(sample): return float(len(sample["answer"]) % 3)
"""
RECIPE = """
name = "preference"
model = "PLACE/checkpoint"

[data.problems]
sources = [{ path = "PLACE/problems.jsonl", verifier = "PLACE/mine.py:check" }]

[data.labels]
sources = [{ path = "PLACE/labels.jsonl" }]

[data.pairs]
sources = [{ path = "PLACE/pairs.jsonl" }]

[[stages]]
kind = "preference"
name = "prefer"
data = "DATA"
loss = LOSS
batch_pairs = 4
checkpoint_steps = 1
optimizer = { kind = "adamw", learning_rate = 1e-3 }
"""
SAMPLED = f"""
num_samples = 6
max_new_tokens = 20
mode = "non_reasoning"
logit_bias = {{ {END} = 3.0 }}
"""
GROUPS = f'{SAMPLED}\nreward = {{ "PLACE/mine.py:score" = 0.5, correct = 0.25 }}\nrubric = {{ wrong = -1.0 }}'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preference")
    save_model(folder / "checkpoint", TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    rows = {
        "problems": [{"question": f"How much is {n} + 1?", "answer": str(n + 1)} for n in range(8)],
        "labels": [{"prompt": f"{n} + 1?", "completion": str(n + n % 2), "label": n % 2 == 1} for n in range(12)],
        "pairs": [{"prompt": f"{n} + 1?", "chosen": str(n + 1), "rejected": str(n)} for n in range(12)],
        "alike": [{"prompt": "1 + 1?", "completion": str(n), "label": n == 2} for n in range(3)],
        "same": [{"prompt": "1 + 1?", "chosen": "2", "rejected": "2"}],
    }
    for name, of_one in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of_one))
    (folder / "mine.py").write_text(MINE)
    return folder


def recipe(place, loss, data, stage="", *overrides):
    text = (RECIPE + stage).replace("PLACE", str(place)).replace("LOSS", loss).replace("DATA", data)
    return load_recipe(tomllib.loads(text), overrides)


def run(place, out, *args):
    messages = []
    run_recipe(recipe(place, *args), place / out, lambda event: messages.append(event.get("message")), FLOAT32)
    return place / out / "01-prefer", messages


def test_grouper_keeps_whole_groups_with_rewards(place):
    path, messages = run(place, "groups", '{ name = "grouper" }', "problems", GROUPS)
    rows, outcome = read_jsonl(path / "groups.jsonl"), read_json(path / "sampling.json")
    assert 2 <= len(rows) == outcome["num_groups"] and not (path / "samples").exists()
    left_out = Counter()
    for row in rows:
        replies = row["replies"]
        assert all(reply["verdict"] != "error" for reply in replies)
        left_out["samples that are empty or whose reward is not known"] += 6 - len(replies)
        for reply in replies:
            score = reply["terms"][f"{place}/mine.py:score"]
            grade = {"correct": 1.0, "wrong": -1.0}.get(reply["verdict"], 0.0)
            assert reply["reward"] == pytest.approx(0.5 * score + 0.25 * grade)
        rewards = np.array([reply["reward"] for reply in replies])
        centred = rewards - rewards.mean()
        assert [reply["advantage"] for reply in replies] == pytest.approx(centred / np.abs(centred).max())
    assert sum(left_out.values()) > 0  # some verdicts are errors
    assert outcome["left_out"].keys() <= left_out.keys() | {"groups whose rewards are all equal"}
    assert len(rows) + outcome["left_out"].get("groups whose rewards are all equal", 0) == 8
    assert any(message and message.startswith("prefer: left out: ") for message in messages)
    prepared = Prepared(path / "data")
    for row, unit in zip(rows, prepared.units, strict=True):
        assert [list(reply.ids) for reply in unit] == [[*row["prompt_ids"], *reply["ids"]] for reply in row["replies"]]
        assert [reply.advantage for reply in unit] == pytest.approx([reply["advantage"] for reply in row["replies"]])
        assert [int(np.sum(reply.loss_mask)) for reply in unit] == [len(reply["ids"]) for reply in row["replies"]]
    assert "rejected_probability" in read_jsonl(path / "metrics.jsonl")[0]


class Cut(BaseException):
    pass


@pytest.mark.parametrize(("loss", "data"), [("kto", "labels"), ("kto", "pairs"), ("grouper", "problems")])
def test_a_stage_that_was_cut_ends_as_one_that_was_not(loss, data, place):
    args = (f'{{ name = "{loss}" }}', data, GROUPS if data == "problems" else "", "prefer.num_epochs=3.0")
    whole, _ = run(place, f"whole-{loss}-{data}", *args)
    out = place / f"cut-{loss}-{data}"

    def cut(event):
        if event.get("step") == 2:
            raise Cut

    with pytest.raises(Cut):
        run_recipe(recipe(place, *args), out, cut, FLOAT32)
    if data == "problems":  # what was sampled is not thrown away
        begun = shutil.copytree(out, place / "begun")
        shutil.rmtree(begun / "01-prefer" / "checkpoints", ignore_errors=True)
        with pytest.raises(RunFolderError, match=r"another recipe .*differs in prefer\.num_samples"):
            RunFolder(begun).claim(recipe(place, *args, "prefer.num_samples=5"))
    run_recipe(recipe(place, *args), out, lambda event: None, FLOAT32)
    one, other = (dict(load_weights(path / "model").items()) for path in (whole, out / "01-prefer"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    logged = [[row.get("kl") for row in read_jsonl(path / "metrics.jsonl")] for path in (whole, out / "01-prefer")]
    assert logged[0] == logged[1]


@pytest.mark.parametrize(
    ("loss", "data", "stage", "error", "why"),
    [
        *(
            (loss, "labels", "", ConfigError, rf"prefer.loss.name = '{loss}': learns from pairs.*12 of the 12 examples")
            for loss in ("simper", "dpo", "ipo", "simpo", "orpo", "grouper")
        ),
        ("simper", "problems", 'reward = "format"', ConfigError, "reward: has no effect: simper learns from verdicts"),
        ("kto", "pairs", "rubric = { wrong = -1.0 }", ConfigError, "rubric: has no effect: kto learns from verdicts"),
        (
            "grouper",
            "problems",
            "pairs_per_problem = 2",
            ConfigError,
            "pairs_per_problem: has no effect: grouper",
        ),
        ("grouper", "pairs", 'reward = "format"', ConfigError, "prefer.reward: nothing is sampled"),
        ("grouper", "problems", 'reward = "formt"', ConfigError, "unknown"),
        ("grouper", "problems", 'reward = "preference"', ConfigError, r"needs a model: give \[judge.endpoint\]"),
        ("grouper", "problems", 'reward = "PLACE/none.py:score"', ConfigError, "none.py"),
        ("grouper", "problems", f'{SAMPLED}\nreward = "format"', DataError, "no problem had samples of different rew"),
        ("kto", "alike", "", DataError, "all examples have the same prompt: give it rows with at least two prompts"),
        ("simper", "same", "", DataError, r"none of its rows can be used \(same replies: 1\)"),
    ],
)
def test_what_does_not_fit_is_refused(loss, data, stage, error, why, place, tmp_path):
    source = f"data.{data}.sources=[{{path='{place}/{data}.jsonl'}}]"
    with pytest.raises(error, match=why):
        run(place, tmp_path / "out", f'{{ name = "{loss}" }}', data, stage, source)
    assert not list(tmp_path.glob("out/*/metrics.jsonl"))
