"""A recipe whose problems are asked in both modes, as EXAONE 4.0's hybrid training asks them: RL and sampled pairs."""

import json
import tomllib
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from doubles import TINY, make_model, make_tokenizer
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.checkpoint.folder import load_weights, save_model
from open_exaone.cli.main import main
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.document import Document
from open_exaone.data.measure import example_lengths
from open_exaone.data.prepare import prepare_units
from open_exaone.data.store import Prepared
from open_exaone.pipeline import vocabulary
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.prepare import mixture_of
from open_exaone.pipeline.problems import read_problems
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.rollout.providers.local import LocalProvider

FLOAT32 = Machine(device="cpu", dtype="float32")
CLOSE, END = make_tokenizer().think_close_id, make_tokenizer().end_id
RECIPE = f"""
name = "modes"
model = "PLACE/checkpoint"

[data.problems]
sources = [
  {{ path = "PLACE/hard.jsonl", mode = "reasoning", verifier = "PLACE/mine.py:check" }},
  {{ path = "PLACE/hard.jsonl", mode = "non_reasoning", verifier = "PLACE/mine.py:check" }},
  {{ path = "PLACE/easy.jsonl", verifier = "PLACE/mine.py:check" }},
]

[evaluation]
data = "problems"
limit = 3
num_samples = 1
max_new_tokens = 8

[[stages]]
kind = "preference"
name = "prefer"
data = "problems"
num_samples = 4
max_new_tokens = 20
logit_bias = {{ {CLOSE} = 5.0, {END} = 5.0 }}
num_epochs = 2.0
batch_pairs = 4
checkpoint_steps = 1
optimizer = {{ kind = "adamw", learning_rate = 1e-4 }}

[[stages]]
kind = "rl"
name = "rl"
data = "problems"
mode = "non_reasoning"
reward = "PLACE/mine.py:score"
num_steps = 3
batch_prompts = 7
group_size = 3
max_new_tokens = 6
checkpoint_steps = 1
optimizer = {{ kind = "adamw", learning_rate = 1e-4 }}
"""
MINE = """
def check(sample): return len(sample["answer"]) % 2 == 0
def score(sample): return float(len(sample["thought"] + sample["answer"]) % 3)
"""
MODES = ("reasoning", "non_reasoning")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modes")
    save_model(folder / "checkpoint", TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    for name, first in (("hard", 0), ("easy", 20)):
        rows = [{"question": f"How much is {n} + 1?", "answer": str(n + 1)} for n in range(first, first + 6)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.py").write_text(MINE)
    return folder


def recipe(place, *overrides, text=RECIPE):
    return load_recipe(tomllib.loads(text.replace("PLACE", str(place))), overrides)


@pytest.fixture(scope="module")
def whole(place):
    """A finished run, and what was asked while it ran."""
    asked, stream = [], LocalProvider.stream

    def watched(provider, requests):
        asked.append(list(requests))
        yield from stream(provider, requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalProvider, "stream", watched)
        run_recipe(recipe(place), place / "whole", lambda event: None, FLOAT32)
    return place / "whole", asked


def modes_of(rows):
    """A row's source, which begins the problem's id, and the mode that it was asked in."""
    return {(row["problem"].partition("/")[0], row["mode"]) for row in rows}


def test_each_source_is_rendered_and_sampled_in_its_mode_else_in_the_stage_s(whole):
    run, asked = whole
    requests = [request for call in asked for request in call if request.sampling.temperature == 1.0]
    assert {request.thinking for request in requests} == {True, False}
    for one in requests:
        wanted = make_tokenizer().render(one.messages, thinking=one.thinking, generation_prompt=True)
        assert list(one.prompt_ids) == wanted
    rollouts = [row for file in sorted((run / "02-rl" / "rollouts").iterdir()) for row in read_jsonl(file)]
    assert modes_of(rollouts) == {("0", "reasoning"), ("1", "non_reasoning"), ("2", "non_reasoning")}
    pairs = read_jsonl(run / "01-prefer" / "pairs.jsonl")
    assert modes_of(pairs) == {("0", "reasoning"), ("1", "non_reasoning"), ("2", "reasoning")}
    for row in rollouts:
        assert (row["thought"] == "") or row["mode"] == "reasoning"  # this model opens none by itself
    assert any(row["verdict"] == "correct" for row in rollouts if row["mode"] == "non_reasoning")


def test_the_log_has_each_mode_by_itself(whole):
    run, _ = whole
    for row in read_jsonl(run / "02-rl" / "metrics.jsonl"):
        rollouts = read_jsonl(run / "02-rl" / "rollouts" / f"step-{row['step']:06d}.jsonl")
        for mode in MODES:
            some = [rollout for rollout in rollouts if rollout["mode"] == mode]
            wanted = {
                f"reward_mean_{mode}": fmean(rollout["reward"] for rollout in some),
                f"correct_share_{mode}": fmean(rollout["verdict"] == "correct" for rollout in some),
                f"mean_reply_tokens_{mode}": fmean(rollout["num_tokens"] for rollout in some),
                f"truncated_share_{mode}": fmean(rollout["stop"] == "length" for rollout in some),
            }
            assert {name: row[name] for name in wanted} == pytest.approx(wanted)
    sampled = read_json(run / "01-prefer" / "sampling.json")
    assert [sampled["modes"][mode]["num_problems"] for mode in MODES] == [12, 6]
    assert sum(sampled["modes"][mode]["num_pairs"] for mode in MODES) == sampled["num_pairs"]
    page = (run / "report.html").read_text()
    assert "mean reward, reasoning" in page and "mean reward, non-reasoning" in page
    stages = read_json(run / "report.json")["stages"]
    assert [stage["mode"] for stage in stages] == ["reasoning", "non_reasoning"]  # as most of its problems are asked


def test_pairs_are_learned_in_the_mode_in_which_they_were_sampled(whole):
    run, _ = whole
    rows, prepared = read_jsonl(run / "01-prefer" / "pairs.jsonl"), Prepared(run / "01-prefer" / "data")
    assert {group.mode: group.examples for group in prepared.groups} == {
        mode: sum(row["mode"] == mode for row in rows) for mode in MODES
    }
    assert prepared.thinks_N.tolist() == [row["mode"] == "reasoning" for row in rows]
    for row, (chosen, rejected) in zip(rows, prepared.units, strict=True):
        asked = [{"role": "user", "content": row["question"]}]
        prompt = make_tokenizer().render(asked, thinking=row["mode"] == "reasoning", generation_prompt=True)
        assert row["prompt_ids"] == prompt
        assert np.array_equal(chosen.ids, [*prompt, *row["chosen_ids"]])
        assert np.array_equal(rejected.ids, [*prompt, *row["rejected_ids"]])


class Cut(BaseException):
    pass


@pytest.mark.parametrize(("stage", "step"), [("sampling", 30), ("prefer", 1), ("rl", 2)])
def test_a_run_that_was_cut_ends_as_one_that_was_not(stage, step, place, whole, monkeypatch):
    out, stream = place / f"cut-{stage}", LocalProvider.stream

    def cut(event):
        if event.get("stage") == stage and event.get("step") == step:
            raise Cut

    def cut_stream(provider, requests):
        for number, found in enumerate(stream(provider, requests)):
            if stage == "sampling" and number == step:
                raise Cut
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(LocalProvider, "stream", cut_stream)
        with pytest.raises(Cut):
            run_recipe(recipe(place), out, cut, FLOAT32)
    messages = []
    run_recipe(recipe(place), out, lambda event: messages.append(event.get("message")), FLOAT32)
    counted = read_json(out / "01-prefer" / "sampling.json")["modes"]["non_reasoning"]["num_pairs"]
    assert (stage == "sampling") == (f"prefer: non_reasoning: 6 problems gave {counted} pairs" in messages)
    names = ["01-prefer/pairs.jsonl", *(f"02-rl/rollouts/step-{n:06d}.jsonl" for n in (1, 2, 3))]
    assert all((out / name).read_bytes() == (whole[0] / name).read_bytes() for name in names)
    one, other = (dict(load_weights(run / "02-rl" / "model").items()) for run in (out, whole[0]))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_is_measured_in_the_mode_in_which_most_problems_are_asked(place):
    few = f"data.problems.sources=[{{path='{place}/easy.jsonl', limit=2}}, "
    few += f"{{path='{place}/hard.jsonl', mode='non_reasoning'}}]"
    begin, end = RECIPE.index("[[stages]]"), RECIPE.index('[[stages]]\nkind = "rl"')
    text, messages = RECIPE[:begin] + RECIPE[end:], []
    overrides = (few, "rl.mode='reasoning'", "rl.num_steps=1")
    run_recipe(
        recipe(place, *overrides, text=text),
        place / "most",
        lambda event: messages.append(event.get("message")),
        FLOAT32,
    )
    assert read_json(place / "most" / "report.json")["stages"][0]["mode"] == "non_reasoning"
    why = "rl: most rows of data.problems are asked without a thought, so its model is measured in non-reasoning mode"
    assert why in messages


def test_one_file_stands_once_in_each_mode(place):
    twice = "data.problems.sources=[{path='PLACE/hard.jsonl', mode='M'}, {path='PLACE/hard.jsonl', mode='reasoning'}]"
    twice = twice.replace("PLACE", str(place))
    with pytest.raises(ConfigError, match="hard.jsonl is listed twice"):
        recipe(place, twice.replace("'M'", "'reasoning'"))
    with pytest.raises(ConfigError, match="two of the sources hold it"):  # as "auto" is the stage's mode
        run_recipe(recipe(place, twice.replace("'M'", "'auto'")), place / "twice", lambda event: None, FLOAT32)


def test_problems_of_a_file_in_both_modes_are_measured_once(place, tmp_path):
    found = read_problems(recipe(place).data["problems"], "problems")
    assert [problem.question for problem in found] == [f"How much is {n} + 1?" for n in (*range(6), *range(20, 26))]
    assert len({problem.id for problem in found}) == 12
    parts = tuple(
        SourceConfig(path=str(place / "hard.jsonl"), mode=mode, skip=skip, limit=4)
        for mode, skip in (("reasoning", 0), ("non_reasoning", 2))
    )
    found = read_problems(DataConfig(sources=parts), "problems")
    assert [problem.answer for problem in found] == ["1", "2", "3", "4", "5", "6"]
    row = {"question": "Q?"}
    (tmp_path / "bad.jsonl").write_text(json.dumps(row) + "\n")
    bad = tuple(SourceConfig(path=str(tmp_path / "bad.jsonl"), format="problems", mode=mode) for mode in MODES)
    dropped = []
    assert read_problems(DataConfig(sources=bad, bad_rows="drop"), "bad", on_drop=dropped.append) == []
    assert len(dropped) == 1


def test_rows_without_a_thought_count_where_they_are_asked_in_reasoning_mode(place):
    source = SourceConfig(path=str(place / "hard.jsonl"), mode="reasoning")
    assert [each.mode for each in example_lengths(source, make_tokenizer(), asked=True)] == ["reasoning"] * 6
    assert not list(example_lengths(source, make_tokenizer()))
    assert list(vocabulary._texts(source, 10**6)) == [f"How much is {n} + 1?\n\n{n + 1}" for n in range(6)]


def test_a_ratio_of_modes_that_pairs_of_one_mode_cannot_have_is_reported(place, tmp_path):
    one = recipe(place, "data.problems.reasoning_ratio=1.5")
    messages = []
    data = one.data["problems"]
    run = SimpleNamespace(recipe=one, data_of=lambda stage: data, message=messages.append, seed=lambda stage: 0)
    unit = [Document([1, 2, 3], [False, True, True], 1.0), Document([1, 2, 4], [False, True, True], -1.0)]
    for modes, number in ((MODES, 0), (MODES[:1], 1)):
        pairs = [(mode, "Q", unit) for mode in modes]
        mixture_of(run, one.stages[0], prepare_units(pairs, tmp_path / str(number), name="own", settings={}))
        assert len(messages) == number
    why = "prefer: all samples are of reasoning mode, so data.problems.reasoning_ratio = 1.5 has no effect"
    assert messages == [why]


LEARNED = """
[[stages]]
kind = "sft"
name = "sft"
data = "problems"
num_epochs = 1
optimizer = { kind = "adamw", learning_rate = 1e-4 }
"""


@pytest.mark.parametrize("learned", [False, True])
def test_data_check_agrees_that_a_problem_needs_no_thought_to_be_asked(learned, place, capsys):
    text = RECIPE[: RECIPE.index("[[stages]]")] + LEARNED if learned else RECIPE
    (place / "mine.toml").write_text(text.replace("PLACE", str(place)))
    with pytest.raises(SystemExit) as ended:
        main(["data", "check", str(place / "mine.toml")])
    assert ended.value.code == int(learned)
    printed = capsys.readouterr().out
    assert ("6 bad: no thought" in printed) == learned
    if not learned:
        modes = ["in reasoning mode", "in non-reasoning mode", "in the mode of their stage"]
        assert [line.split(maxsplit=1)[1] for line in printed.splitlines() if " mode" in line] == modes
    if learned:
        with pytest.raises(DataError, match="has no thought, and its source is in reasoning mode"):
            run_recipe(recipe(place, text=text), place / "learned", lambda event: None, FLOAT32)
