"""EXAONE 4.0's two preference stages, one behind the other: shortest correct replies, then a hybrid reward."""

import json
import tomllib
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest
import torch

from doubles import TINY, make_model, make_tokenizer
from mock_endpoint import mock_endpoint
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import read_json, read_jsonl, write_jsonl
from open_exaone.checkpoint.folder import load_weights, save_model
from open_exaone.data.store import Prepared
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.rewards import rubric
from open_exaone.rollout import judging

FLOAT32 = Machine(device="cpu", dtype="float32")
CLOSE, END = make_tokenizer().think_close_id, make_tokenizer().end_id
MINE = """
def check(sample):
    if len(sample["answer"]) % 7 == 6: raise ValueError("no verdict")
    return len(sample["answer"]) % 2 == 0

def score(sample): return float(len(sample["answer"]) % 3)
"""
STAGE = f"""
[[stages]]
kind = "preference"
name = "NAME"
data = "problems"
num_samples = 8
max_new_tokens = 24
logit_bias = {{ {CLOSE} = 6.0, {END} = 4.0 }}
batch_pairs = 4
checkpoint_steps = 1
optimizer = {{ kind = "adamw", learning_rate = 1e-4 }}
"""
RECIPE = f"""
name = "stages"
model = "PLACE/checkpoint"

[data.problems]
sources = [{{ path = "PLACE/problems.jsonl", verifier = "PLACE/mine.py:check" }}]

[data.french]
sources = [{{ path = "PLACE/french.jsonl" }}]

[data.pairs]
sources = [{{ path = "PLACE/pairs.jsonl" }}]
{STAGE.replace("NAME", "short")}
pairs = {{ rule = "shortest_correct", longer_share = 0.9, longer_by = 0.1 }}
pairs_per_problem = 2
{STAGE.replace("NAME", "hybrid")}
pairs = {{ rule = "reward" }}
reward = {{ "PLACE/mine.py:score" = 1.0, language = 0.5, concise_group = 0.25 }}
reuse = {{ stage = "short", share = 0.5 }}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    save_model(folder / "checkpoint", TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    problems = [{"question": f"How much is {n} + 1?", "answer": str(n + 1)} for n in range(12)]
    pairs = [{"prompt": f"{n} + 1?", "chosen": str(n + 1), "rejected": str(n)} for n in range(8)]
    french = [{"question": "1 + 1 ?", "answer": "2", "language": "fr"}]
    for name, rows in (("problems", problems), ("pairs", pairs), ("french", french)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.py").write_text(MINE)
    return folder


def recipe(place, *overrides):
    return load_recipe(tomllib.loads(RECIPE.replace("PLACE", str(place))), overrides)


def run(place, out, *overrides, on_event=None):
    messages = []
    run_recipe(recipe(place, *overrides), out, on_event or (lambda e: messages.append(e.get("message"))), FLOAT32)
    return messages


@pytest.fixture(scope="module")
def whole(place):
    return place / "whole", run(place, place / "whole")


def test_the_first_stage_prefers_the_shortest_correct_reply(whole):
    path, messages = whole[0] / "01-short", whole[1]
    rows, outcome = read_jsonl(path / "pairs.jsonl"), read_json(path / "sampling.json")
    assert 2 <= len(rows) == outcome["num_pairs"]
    assert outcome["rejected_because"] == Counter(row["rejected_because"] for row in rows)
    assert "longer" in outcome["rejected_because"] and len(outcome["rejected_because"]) > 1
    for side in ("chosen", "rejected"):
        assert outcome[f"mean_{side}_tokens"] == fmean(len(row[f"{side}_ids"]) for row in rows)
    for row in rows:
        is_longer = len(row["rejected_ids"]) >= 1.1 * len(row["chosen_ids"])
        assert row["rejected_because"] in ("wrong", "truncated", "unparsed") or is_longer
    chosen = {row["problem"]: row["chosen_ids"] for row in rows}
    assert all(row["chosen_ids"] == chosen[row["problem"]] for row in rows)
    assert outcome["left_out"]["problems without a pair"] == 12 - len(chosen)
    assert any(m and m.startswith(f"short: {len(rows)} pairs; chosen replies have ") for m in messages)


def test_the_second_stage_prefers_the_higher_reward_and_learns_pairs_of_the_first_again(whole, place):
    path, messages = whole[0] / "02-hybrid", whole[1]
    rows, outcome = read_jsonl(path / "pairs.jsonl"), read_json(path / "sampling.json")
    first = read_jsonl(whole[0] / "01-short" / "pairs.jsonl")
    own = [row for row in rows if "reused_from" not in row]
    again = rows[len(own) :]
    assert len(own) == outcome["num_pairs"] >= 2
    assert outcome["reused"] == {"stage": "short", "num_pairs": round(len(first) / 2), "of": len(first)}
    assert len(again) == round(len(first) / 2) and all({**row, "reused_from": "short"} in again for row in again)
    assert [{k: v for k, v in row.items() if k != "reused_from"} for row in again] == [
        row for row in first if {**row, "reused_from": "short"} in again
    ]
    weights = {f"{place}/mine.py:score": 1.0, "language": 0.5, "concise_group": 0.25}
    for row in own:
        assert row["chosen_reward"] > row["rejected_reward"] and row["rejected_because"] == "lower_reward"
        for side in ("chosen", "rejected"):
            terms = row[f"{side}_terms"]
            wanted = sum(weight * terms[name] for name, weight in weights.items())
            assert row[f"{side}_reward"] == pytest.approx(wanted)
    prepared = Prepared(path / "data")
    for row, (chosen, rejected) in zip(rows, prepared.units, strict=True):
        assert list(chosen.ids) == [*row["prompt_ids"], *row["chosen_ids"]]
        assert list(rejected.ids) == [*row["prompt_ids"], *row["rejected_ids"]]
        assert (chosen.advantage, rejected.advantage) == (1.0, -1.0)
    assert f"hybrid: learns {len(again)} of the {len(first)} pairs of short again" in messages


def test_the_example_has_both_stages():
    example = Path(__file__).parents[2] / "examples" / "preference_stages" / "exaone-4.0.toml"
    stages = load_recipe(tomllib.loads(example.read_text("utf-8"))).stages
    assert [stage.pairs.rule for stage in stages] == ["shortest_correct", "reward"]
    assert stages[1].reuse.stage == stages[0].name and stages[1].start is None


class Cut(BaseException):
    pass


@pytest.mark.parametrize(("stage", "step"), [("short: sample", None), ("hybrid: sample", None), ("hybrid", 1)])
def test_a_run_that_was_cut_ends_as_one_that_was_not(stage, step, place, whole, tmp_path):
    def cut(event):
        if event.get("stage") == stage and (step is None or event.get("step") == step):
            raise Cut

    with pytest.raises(Cut):
        run(place, tmp_path / "cut", on_event=cut)
    run(place, tmp_path / "cut")
    for name in ("01-short", "02-hybrid"):
        files = [folder / name / "pairs.jsonl" for folder in (whole[0], tmp_path / "cut")]
        assert files[0].read_bytes() == files[1].read_bytes()
        one, other = (dict(load_weights(file.parent / "model").items()) for file in files)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_pairs_that_are_gone_or_are_no_pairs_are_refused_before_anything_is_sampled(place, tmp_path):
    def cut(event):
        if event.get("stage") == "short" and event.get("step") == 1:
            raise Cut

    out = tmp_path / "out"
    with pytest.raises(Cut):
        run(place, out, on_event=cut)
    file = out / "01-short" / "pairs.jsonl"
    rows = read_jsonl(file)
    for broken in ({**rows[0], "chosen_ids": [TINY.vocab_size]}, {**rows[0], "rejected_ids": []}, []):
        write_jsonl(file, [rows[0], broken])
        with pytest.raises(DataError, match=r"hybrid\.reuse\.stage = 'short': .*pairs\.jsonl: line 2: is no pair"):
            run(place, out)
    file.unlink()
    with pytest.raises(DataError, match=r"hybrid\.reuse\.stage = 'short': .*pairs\.jsonl: no such file"):
        run(place, out)
    assert not (out / "02-hybrid" / "samples").exists()


def test_a_judge_model_s_grades_decide_the_pairs(place, tmp_path):
    with mock_endpoint(lambda question, _: str(len(question) % 11)) as endpoint:
        judge = f"judge={{ endpoint={{ base_url='{endpoint.url}', model='m' }} }}"
        run(place, tmp_path / "out", judge, "hybrid.reward={ preference=1.0, language=0.5 }")
    rows = [row for row in read_jsonl(tmp_path / "out" / "02-hybrid" / "pairs.jsonl") if "reused_from" not in row]
    assert rows and {row["mode"] for row in rows} == {"reasoning"}
    grades = [[row[f"{side}_terms"]["preference"] for side in ("chosen", "rejected")] for row in rows]
    assert any(chosen > rejected for chosen, rejected in grades)
    assert all(10 * grade == pytest.approx(round(10 * grade)) for pair in grades for grade in pair)


@pytest.mark.parametrize("is_broken", [False, True])
def test_grades_that_are_there_are_not_asked_for_again(is_broken, place, tmp_path, monkeypatch):
    """Where grading is interrupted; a broken file of grades is not read."""
    asked, stops_at = [], [None]

    def grade(endpoint, question, answer):
        asked.append((question, answer))
        if len(asked) == stops_at[0]:
            raise Cut
        return len(answer) % 11 / 10

    monkeypatch.setattr(rubric, "preference", grade)
    monkeypatch.setattr(judging.os, "cpu_count", lambda: 1)  # in turn
    judge = "judge={ endpoint={ base_url='http://127.0.0.1:1/v1', model='m' } }"
    overrides = (judge, "hybrid.reward={ preference=1.0, language=0.5, concise_group=0.25 }")
    run(place, tmp_path / "whole", *overrides)
    num_all, stops_at[0] = len(asked), 20
    asked.clear()
    with pytest.raises(Cut):
        run(place, tmp_path / "cut", *overrides)
    file = tmp_path / "cut" / "02-hybrid" / "samples" / "terms-reasoning.jsonl"
    assert sum("preference" in row["terms"] for row in read_jsonl(file)) == 19
    if is_broken:
        file.write_text(file.read_text() + "{")
    stops_at[0] = None
    asked.clear()
    run(place, tmp_path / "cut", *overrides)
    assert len(asked) == (num_all if is_broken else num_all - 19)
    files = [tmp_path / name / "02-hybrid" / "pairs.jsonl" for name in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("overrides", "error", "why"),
    [
        (
            ["hybrid.reuse.stage='shrt'"],
            ConfigError,
            "hybrid.reuse.stage = 'shrt': must be a preference .*did you mean",
        ),
        (["hybrid.reuse.stage='hybrid'"], ConfigError, "must be a preference stage before it.*There are short"),
        (["short.reuse={stage='short', share=0.5}"], ConfigError, "there is none before it"),
        (["hybrid.reuse.share=0.0"], ConfigError, "hybrid.reuse.share"),
        (
            ["short.loss={name='grouper'}", "short.pairs={rule='correct'}", "short.pairs_per_problem=1"],
            ConfigError,
            r"hybrid.reuse.stage = 'short': that stage learns from groups \(grouper\), and simper from pairs",
        ),
        (
            [
                "short.data='pairs'",
                "short.pairs={rule='correct'}",
                "short.pairs_per_problem=1",
                "short.max_new_tokens=1024",
                "short.logit_bias={}",
            ],
            ConfigError,
            "hybrid.reuse.stage = 'short': that stage samples no pairs, since data.pairs holds pairs already",
        ),
        (["short.data='pairs'", "short.logit_bias={}"], ConfigError, r"short\.(pairs|num_samples): nothing is sampled"),
        (["hybrid.pairs={rule='shortest_correct'}"], ConfigError, "reward: has no effect: simper learns from verdicts"),
        (["short.loss={name='grouper'}"], ConfigError, "pairs: has no effect: grouper keeps whole groups"),
        (["short.pairs={rule='shortest'}"], ConfigError, "short.pairs.rule = 'shortest': must be one of correct, sh"),
        (["short.pairs={longer_by=0.1}"], ConfigError, "short.pairs.*rule"),
        (["hybrid.reward='preference'"], ConfigError, "needs a model: give .*or reward 'answer_rules', which grades"),
        (
            ["hybrid.data='french'", "hybrid.reward='answer_rules'"],
            ConfigError,
            "reward: 'answer_rules' knows ko, en, es",
        ),
    ],
)
def test_what_does_not_fit_is_refused(overrides, error, why, place, tmp_path):
    with pytest.raises(error, match=why):
        run(place, tmp_path / "out", *overrides)
    assert not list(tmp_path.glob("out/*/samples"))
