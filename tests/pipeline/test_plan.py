"""A recipe is planned without its files, and a run without them names each and what it must hold."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.model.config import ModelConfig
from open_exaone.model.cost import StageCost, dense_flops
from open_exaone.model.registry import PUBLISHED
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.files_needed import missing_files
from open_exaone.pipeline.plan import BFLOAT16, Numbers, Rows, plan_recipe, plan_stage, shape_of
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.present.formatting import size
from open_exaone.present.plan import memory_sentence, plan_rows
from tiny_recipe import RECIPE

SHAPE = PUBLISHED["EXAONE-4.0-1.2B"].config
OPTIMIZER = {"kind": "adamw", "learning_rate": 1e-5}


def recipe_of(stage: dict[str, Any], data: dict[str, Any] | None = None) -> Recipe:
    rows = {"sources": [{"path": "rows.jsonl"}], "expected": {"num_rows": 100, "num_tokens": 10_000}}
    stages = [{"name": "one", "data": "rows", "optimizer": OPTIMIZER, **stage}]
    model = "LGAI-EXAONE/EXAONE-4.0-1.2B"
    return load_recipe({"name": "x", "model": model, "data": {"rows": data or rows}, "stages": stages})


def planned(stage: dict[str, Any], data: dict[str, Any] | None = None, on: Numbers = BFLOAT16) -> StageCost:
    return plan_recipe(recipe_of(stage, data), SHAPE, on)[0]


SFT = {"kind": "sft", "num_epochs": 2}
RL = {"kind": "rl", "num_steps": 10, "batch_prompts": 4, "group_size": 8, "max_new_tokens": 1000}
PROBLEMS = {
    "sources": [{"path": "rows.jsonl", "format": "problems"}],
    "expected": {"num_rows": 100, "num_tokens": 10_000},
}


def test_tokens_and_steps_follow_from_what_is_expected() -> None:
    cost = planned(SFT | {"batch_documents": 16})
    assert (cost.train_tokens, cost.sampled_tokens, cost.num_steps) == (
        20_000,
        0,
        13,
    )  # the last one takes what is left
    assert cost.dense_flops == dense_flops(SHAPE, 20_000)
    assert planned(SFT | {"batch_tokens": 4_000}).num_steps == 5
    assert planned({"kind": "preference", "batch_pairs": 32}).num_steps == 4


def test_a_run_plans_by_the_rows_that_it_has_read() -> None:
    recipe = recipe_of(SFT | {"batch_documents": 16})
    cost = plan_stage(recipe, SHAPE, recipe.stages[0], Rows(40, 30.0, False))
    assert (cost.train_tokens, cost.sampled_tokens, cost.num_steps) == (2_400, 0, 5)
    preference = recipe_of({"kind": "preference", "batch_pairs": 8, "num_samples": 4, "max_new_tokens": 40})
    pairs, problems = (
        plan_stage(preference, SHAPE, preference.stages[0], Rows(40, 30.0, are_problems))
        for are_problems in (False, True)
    )
    assert (pairs.train_tokens, pairs.sampled_tokens, pairs.num_steps) == (1_200, 0, 5)
    assert (problems.train_tokens, problems.sampled_tokens) == (40 * (30 + 2 * 10), 40 * 4 * 10)


def test_rl_counts_samples_the_reference_and_further_updates() -> None:
    plain = planned(RL)
    assert plain.sampled_tokens == 10 * 4 * 8 * 250 and plain.train_tokens == 10 * 4 * (100 + 8 * 250)
    forward = plain.train_tokens * SHAPE.flops_per_token(225)
    with_kl = planned(RL | {"loss": {"name": "grpo", "kl": {"beta": 0.1, "estimator": "k2"}}})
    assert with_kl.flops - plain.flops == pytest.approx(forward)
    assert plain.memory.reference == 0 and with_kl.memory.reference == 2 * SHAPE.num_parameters
    twice = planned(RL | {"num_iterations": 2})
    assert twice.flops - plain.flops == pytest.approx(4 * forward) and twice.num_steps == 20
    adapters = planned(RL | {"lora": {}, "loss": {"name": "grpo", "kl": {"beta": 0.1, "estimator": "k2"}}})
    assert adapters.memory.reference == 0  # the model with its adapters off
    assert planned(RL | {"max_prompts": 8}).sampled_tokens == 2 * plain.sampled_tokens
    assert plain.memory.cache == SHAPE.kv_cache_bytes(SHAPE.max_positions)
    assert planned(RL | {"max_tokens": 500}).memory.cache == SHAPE.kv_cache_bytes(1500)


def test_sampled_pairs_and_filters_count_every_sample() -> None:
    stage = {"kind": "preference", "num_samples": 4, "max_new_tokens": 400}
    pairs = planned(stage, PROBLEMS)
    assert pairs.sampled_tokens == 100 * 4 * 100 and pairs.train_tokens == 100 * (100 + 2 * 100)
    groups = planned(stage | {"loss": {"name": "grouper"}}, PROBLEMS)
    assert groups.train_tokens == 100 * (100 + 4 * 100)
    unnamed = PROBLEMS | {"sources": [{"path": "rows.jsonl"}]}
    assert planned(stage, unnamed).train_tokens == pairs.train_tokens  # pairs in rows refuse num_samples
    dpo = planned(stage | {"loss": {"name": "dpo"}}, PROBLEMS)
    assert dpo.flops - pairs.flops == pytest.approx(pairs.train_tokens * SHAPE.flops_per_token(150))


def test_pairs_that_are_learned_again_are_counted() -> None:
    stage = {"kind": "preference", "data": "rows", "max_new_tokens": 400, "batch_pairs": 10, "optimizer": OPTIMIZER}
    again = {**stage, "name": "two", "reuse": {"stage": "one", "share": 0.25}}
    values = {"name": "x", "model": "LGAI-EXAONE/EXAONE-4.0-1.2B", "data": {"rows": PROBLEMS}}
    recipe = load_recipe({**values, "stages": [{**stage, "name": "one", "pairs_per_problem": 2}, again]})
    _, cost = plan_recipe(recipe, SHAPE)
    assert cost.num_steps == 15 and cost.train_tokens == (100 + 50) * (100 + 2 * 100)


def test_a_longer_micro_batch_or_float32_takes_more_memory_and_recomputing_less() -> None:
    limit = {"max_tokens": 1000}
    plain = planned(SFT | limit | {"micro_batch_tokens": 2000}).memory
    assert planned(SFT | limit | {"micro_batch_tokens": 4000}).memory.activations > 1.5 * plain.activations
    assert planned(SFT | {"micro_batch_tokens": 2000}).memory.activations > 10 * plain.activations  # one long example
    pair = planned({"kind": "preference", "micro_batch_tokens": 2000, "max_tokens": 2000}).memory
    assert pair.activations == planned(SFT | limit | {"micro_batch_tokens": 4000}).memory.activations  # is not split
    wide = planned(SFT | limit | {"micro_batch_tokens": 2000}, on=Numbers(4)).memory
    assert wide.weights == 2 * plain.weights
    less = planned(SFT | limit | {"micro_batch_tokens": 2000, "recompute_activations": True})
    gradients = 2 * SHAPE.num_parameters + 4 * SHAPE.vocab_size * SHAPE.width  # where the backward pass ends
    heads = (2 + SHAPE.qk_norm) * (SHAPE.num_heads + SHAPE.num_kv_heads) * SHAPE.head_width
    layer = 2 * 2000 * (6 * SHAPE.width + heads + 6 * SHAPE.ffn_width)  # the first one, made again
    assert less.memory.activations == gradients + layer < 0.6 * plain.activations
    assert less.flops > planned(SFT | limit).flops


def test_what_is_not_known_is_left_open() -> None:
    cost = planned(SFT, {"sources": [{"path": "rows.jsonl"}]})
    assert cost.num_steps is None and cost.flops is None and cost.memory.total > 0
    assert plan_rows([cost])[0][1:6] == ["–"] * 5
    limited = planned(SFT | {"max_tokens": 300}, {"sources": [{"path": "rows.jsonl", "limit": 7}]})
    assert limited.train_tokens == 2 * 7 * 300  # as long as fits


def test_the_sentence_says_whether_one_device_holds_it() -> None:
    cost = planned(SFT | {"max_tokens": 1000})
    assert memory_sentence([cost], cost.memory.total).endswith(f": this machine has {size(cost.memory.total)} free.")
    assert memory_sentence([cost], 10**9).endswith(
        "more than the 1.0 GB that are free here; one GPU of 80.0 GB holds it."
    )
    assert memory_sentence([cost], None).endswith(": one GPU of 80.0 GB holds it.")
    large = replace(cost, memory=replace(cost.memory, moments=200 * 10**9))
    sentence = memory_sentence([cost, large], 10**9)
    assert (
        "more than the 1.0 GB that are free here, and more than one GPU of 80.0 GB has; what several hold" in sentence
    )
    assert "exaone plan RECIPE --gpus N" in sentence and sentence.endswith("LoRA takes less: --set one.lora.rank=16")
    assert "LoRA" not in memory_sentence([replace(large, has_adapters=True)], 10**9)


def test_the_shape_is_known_without_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {
        "name": "x",
        "data": {"rows": PROBLEMS},
        "stages": [{"name": "s", "data": "rows", "optimizer": OPTIMIZER} | SFT],
    }
    at = load_recipe({**values, "model": "LGAI-EXAONE/EXAONE-4.0-1.2B@main"})
    assert shape_of(at) == SHAPE
    with pytest.raises(ConfigError, match="model = 'owner/unknown': is not here, and its shape is not known"):
        shape_of(load_recipe({**values, "model": "owner/unknown"}))
    assert shape_of(load_recipe({**values, "model": "pebble-0.9m"})).num_parameters == 886_144
    with pytest.raises(ConfigError, match="runs/mine: there is no such folder"):
        shape_of(load_recipe({**values, "model": "runs/mine"}))
    own = {"vocab_size": 64, "width": 32, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_width": 16}
    recipe = load_recipe({**values, "model": {**own, "ffn_width": 64, "max_positions": 64}})
    assert isinstance(shape_of(recipe), ModelConfig)


def test_a_run_without_its_files_names_them_and_their_rows_before_a_download(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("open_exaone.pipeline.start.resolve_model", lambda path: pytest.fail("was downloaded"))
    recipe = load_recipe("exaone-deep-2.4b")
    with pytest.raises(DataError) as caught:
        run_recipe(recipe, tmp_path / "run", lambda event: None)
    text = str(caught.value)
    assert "data.sft: data/sft.jsonl: no such file. sft reads conversations" in text and "reasoning_content" in text
    assert 'data.preference: data/preference.jsonl: no such file. prefer reads pairs, such as {"prompt"' in text
    assert 'data.rl: data/rl.jsonl: no such file. rl reads problems, such as {"question"' in text
    assert "--set data.NAME.sources.0.path=FILE" in text
    (tmp_path / "data").mkdir()
    for name in ("sft", "preference", "rl"):
        (tmp_path / "data" / f"{name}.jsonl").write_text("{}\n")
    assert missing_files(recipe) == []


def test_data_that_reuses_other_data_is_not_refused(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    problems = [
        {"question": f"What is {n} + 1?", "solution": f"It is {n + 1}.", "answer": str(n + 1)} for n in range(8)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in problems))
    text = RECIPE.partition("[data]")[0].replace('name = "tiny"', 'name = "twice"')
    data = f"""
[data.first]
sources = [{{ path = "{rows}" }}]
[data.again]
sources = [{{ path = "{rows}", limit = 4 }}]
"""
    stages = """
[[stages]]
kind = "base"
name = "one"
data = "first"
num_epochs = 1
optimizer = { learning_rate = 1e-3 }
[[stages]]
kind = "base"
name = "two"
data = "again"
num_epochs = 1
optimizer = { learning_rate = 1e-3 }
"""
    (tmp_path / "recipe.toml").write_text(text + data + stages)
    with pytest.raises(DataError, match="4 prompts are in the data of one and of two"):
        run_recipe(load_recipe(tmp_path / "recipe.toml"), tmp_path / "refused", lambda event: None)
    recipe = load_recipe(tmp_path / "recipe.toml", ['data.again.reuses="first"'])
    report = run_recipe(recipe, tmp_path / "run", lambda event: None)
    assert len(report["stages"]) == 2 and report["reuses"] == {"again": "first"}
    expected = ['data.again.reuses="first"', "data.first.expected={num_rows=8,num_tokens=99}"]
    run_recipe(load_recipe(tmp_path / "recipe.toml", expected), tmp_path / "run", lambda event: None)  # the same run
    with pytest.raises(ConfigError, match="data.again.reuses = 'frist': no such data; did you mean \"first\""):
        load_recipe(tmp_path / "recipe.toml", ['data.again.reuses="frist"'])
