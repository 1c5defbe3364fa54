"""RL in recipes: references, several updates, refill; cut anywhere, the run ends in the same weights."""

import json
import tomllib

import pytest
import torch

from doubles import TINY, make_model, make_tokenizer
from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_jsonl
from open_exaone.checkpoint.folder import load_weights, save_model
from open_exaone.pipeline.contents import STAGE
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe

RECIPE = """
name = "mine"
model = "PLACE/checkpoint"
data.chat.sources = [{ path = "PLACE/chat.jsonl" }]
data.prompts.sources = [{ path = "PLACE/prompts.jsonl" }]

[[stages]]
kind = "sft"
name = "sft"
data = "chat"
num_epochs = 1.0
batch_documents = 8
optimizer = { kind = "adamw", learning_rate = 1e-3 }

[[stages]]
kind = "rl"
name = "rl"
data = "prompts"
reward = "PLACE/my_rewards.py:score"
num_steps = 3
batch_prompts = 3
group_size = 4
max_new_tokens = 6
checkpoint_steps = 1
optimizer = { kind = "adamw", learning_rate = 1e-3 }
"""
AGAPO = "rl.loss={name='agapo', kl={beta=0.05, estimator='sequence'}}"
K2 = "rl.loss={name='grpo', kl={beta=0.05, estimator='k2'}}"
SETTINGS = {
    "agapo from the recipe's model, then from itself": (AGAPO, "rl.reference='model'", "rl.reference_refresh_steps=2"),
    "several updates of adapters with refill": (
        *(K2, "rl.lora={rank=4}", "rl.num_steps=2", "rl.num_iterations=2", "rl.num_minibatches=2", "rl.max_prompts=6"),
        "rl.keep={best='reward_mean', best_is='highest'}",
    ),
}


@pytest.fixture
def place(tmp_path):
    save_model(tmp_path / "checkpoint", TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    asked = [(f"How much is {n} + 1?", str(n + 1)) for n in range(24)]
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in asked]
    write(tmp_path / "chat.jsonl", [{"messages": messages} for messages in turns])
    write(tmp_path / "prompts.jsonl", [{"question": question + "?", "answer": answer} for question, answer in asked])
    (tmp_path / "my_rewards.py").write_text("def score(sample): return float(len(sample['thought']) % 2)")
    return tmp_path


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def recipe(place, *changes):
    return load_recipe(tomllib.loads(RECIPE.replace("PLACE", str(place))), changes)


def run(place, name, *changes, on_event=lambda event: None):
    run_recipe(recipe(place, *changes), place / name, on_event, Machine(device="cpu", dtype="float32"))
    return {name: weight.clone() for name, weight in load_weights(place / name / "02-rl" / "model").items()}


def metrics(folder):
    """The rows of the stage, without what differs between two sittings."""
    timed = ("seconds", "per_second", "mfu", "bytes", "_left")
    rows = read_jsonl(folder / "02-rl" / "metrics.jsonl")
    return [{name: value for name, value in row.items() if not any(part in name for part in timed)} for row in rows]


class Cut(BaseException):
    pass


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_a_stage_that_is_cut_at_any_step_ends_in_the_same_weights(place, changes):
    wanted = run(place, "whole", *changes)
    rows = read_jsonl(place / "whole" / "02-rl" / "metrics.jsonl")
    assert all(row["kl"] >= 0 for row in rows if "loss" in row) and max(row.get("kl", 0) for row in rows) > 1e-4
    for number in range(2, len(rows) + 1):

        def cut(event, number=number):
            if event.get("stage") == "rl" and event.get("step") == number:
                raise Cut  # the state behind the step before is the last one

        with pytest.raises(Cut):
            run(place, "cut", *changes, on_event=cut)
    found = run(place, "cut", *changes)
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())
    before = load_weights(place / "whole" / "01-sft" / "model")
    assert not all(torch.equal(before[name], weight) for name, weight in wanted.items())
    assert metrics(place / "cut") == metrics(place / "whole")


def test_a_reference_that_is_renewed_is_the_policy_as_it_then_is(place):
    run(place, "out", *SETTINGS["agapo from the recipe's model, then from itself"])
    first, second, third = (row["kl"] for row in read_jsonl(place / "out" / "02-rl" / "metrics.jsonl"))
    assert first > 1e-4 and second > 1e-4 and third < 1e-9  # the third is sampled by its own reference
    assert {path.name for path in (place / "out" / "02-rl").iterdir()} <= STAGE


def test_a_reference_is_a_stage_before_or_the_recipe_s_model(place):
    for wrong in ("rl", "stf"):
        with pytest.raises(ConfigError, match=r"rl.reference = .*must be a stage before it.*There are sft, model"):
            recipe(place, AGAPO, f"rl.reference='{wrong}'")
    with pytest.raises(ConfigError, match="reference has no effect without loss.kl"):
        recipe(place, "rl.reference='sft'")


def test_vllm_which_reports_probabilities_at_temperature_1_is_refused_at_another_one(place):
    recipe(place, "engine={kind='vllm'}")
    with pytest.raises(ConfigError, match=r"rl.temperature = 0.7: vLLM reports log-probabilities at temperature 1"):
        recipe(place, "engine={kind='vllm'}", "rl.temperature=0.7")
