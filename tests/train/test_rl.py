"""Online RL: what teaches and what does not; rollouts on disk are not sampled and judged again."""

import functools
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from doubles import make_model, make_tokenizer, request
from mock_endpoint import endpoint
from open_exaone.base.errors import ConfigError, PromptTooLongError
from open_exaone.base.files import read_jsonl, write_jsonl
from open_exaone.base.records import (
    Generation,
    Missing,
    Outage,
    Problem,
    Reply,
    Rollout,
    RolloutGroup,
    Sampling,
    StopReason,
    Verdict,
    VerdictStatus,
)
from open_exaone.data.batch import join, singles
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.lora import add_lora
from open_exaone.model.lora_config import LoraConfig
from open_exaone.rollout.providers.context import note
from open_exaone.train.buffer import read_rollouts, write_rollouts
from open_exaone.train.collect import Collected
from open_exaone.train.forward import learned_logprobs
from open_exaone.train.loop import train
from open_exaone.train.rollout_metrics import rollout_metrics
from tiny_stages import OPTIMIZER, Watched, copy_of, online_rl, same, some_documents, start

REWARD = f"{Path(__file__).with_name('thought_length.py')}:score"
SAMPLED_STEPS = list(range(8))


def run(folder, killed_at=None, dtype=torch.bfloat16, **changes):
    """Trains; SIGKILL is played by an exception just behind the rollouts of step `killed_at`.

    Returns:
        the weights, and the steps that were sampled.
    """
    folder.mkdir(exist_ok=True)
    model, optimizer = start(dtype=dtype)
    objective, sampled = online_rl(model, folder, reward=REWARD, **changes), []
    advantages = objective._advantages

    def count(requests):
        sampled.append(requests[0].sampling.seed - objective.seed)

    def killed(groups):
        if model.version == killed_at:
            raise KeyboardInterrupt
        return advantages(groups)

    object.__setattr__(objective, "provider", Watched(objective.provider, count))
    object.__setattr__(objective, "_advantages", killed)
    try:
        train(model, optimizer, objective, folder, lambda row: None)
    except KeyboardInterrupt:
        assert killed_at is not None
    return optimizer.masters, sampled


@pytest.fixture(scope="module")
def run_whole(tmp_path_factory):
    """Trains without a cut, once for each type: the folder, the weights, and the steps that were sampled."""

    @functools.cache
    def whole(dtype=torch.bfloat16):
        folder = tmp_path_factory.mktemp("whole")
        return folder, *run(folder, dtype=dtype)

    return whole


@pytest.mark.parametrize("killed_at", [0, 2, 5])
def test_a_step_that_was_sampled_is_learned_from_and_not_sampled_again(killed_at, tmp_path, run_whole):
    whole, wanted, sampled = run_whole()
    assert sampled == SAMPLED_STEPS
    _, before = run(tmp_path / "cut", killed_at)
    masters, after = run(tmp_path / "cut")
    assert before + after == SAMPLED_STEPS
    assert same(masters, wanted)
    names = [sorted((folder / "rollouts").iterdir()) for folder in (whole, tmp_path / "cut")]
    assert [path.read_text() for path in names[0]] == [path.read_text() for path in names[1]]


def test_what_is_read_back_and_not_what_would_be_sampled_is_learned_from(tmp_path, run_whole):
    """Rewards that only the file knows change the weights, when they are sealed as the run's own."""
    from open_exaone.train import buffer

    _, wanted, _ = run_whole()
    keys = []
    real = buffer._seal
    buffer._seal = lambda row, key: (keys.append(key), real(row, key))[1]
    try:
        run(tmp_path / "cut", 0)
    finally:
        buffer._seal = real
    path = tmp_path / "cut" / "rollouts" / "step-000001.jsonl"
    rows = read_jsonl(path)
    for number, row in enumerate(rows):
        del row["sha256"]
        row["reward"] = number / 7
        row["sha256"] = real(row, keys[0])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    masters, sampled = run(tmp_path / "cut")
    assert sampled == SAMPLED_STEPS[1:] and not same(masters, wanted)


@pytest.mark.parametrize("damage", ["flip", "cut", "line", "seal", "other"])
def test_a_broken_file_is_sampled_again(damage, tmp_path, run_whole):
    _, wanted, _ = run_whole(torch.float32)
    run(tmp_path / "cut", 1, dtype=torch.float32)
    path = tmp_path / "cut" / "rollouts" / "step-000002.jsonl"
    text = path.read_bytes()
    match damage:
        case "flip":
            place = text.index(b'"ids": [') + 9
            path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        case "cut":
            path.write_bytes(text[:-40])
        case "line":
            path.write_bytes(text[: text.rindex(b"\n", 0, -1) + 1])
        case "seal":
            path.write_text("".join(json.dumps({"a": row}) + "\n" for row in read_jsonl(path)))
        case "other":
            os.replace(path.with_name("step-000001.jsonl"), path)
    masters, sampled = run(tmp_path / "cut", dtype=torch.float32)
    assert sampled == SAMPLED_STEPS[0 if damage == "other" else 1 :]
    assert same(masters, wanted)


def test_rollouts_of_other_weights_or_of_another_question_are_not_taken(tmp_path):
    run(tmp_path / "run", 0)
    _, sampled = run(tmp_path / "run", 0, group_size=3)
    assert sampled == [0]
    run(tmp_path / "run", 0)
    _, sampled = run(tmp_path / "run", 0)
    assert sampled == []
    _, sampled = run(tmp_path / "run", 0, dtype=torch.float32)
    assert sampled == [0]


def test_rollouts_of_another_mode_are_not_taken_even_where_the_prompt_is_the_same(tmp_path):
    objective = online_rl(start()[0], tmp_path, reward=REWARD)
    keys = {
        objective.collector._key([], [replace(request("Q", Sampling(8)), thinking=thinking)], 0)
        for thinking in (False, True)
    }
    assert len(keys) == 2


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("value", [0.3, 0.1, 0.7, -0.3, 1 / 3, 1.0, 0.0, -9.99, 1e-7, 7.7])
def test_rewards_that_are_all_equal_move_no_weight(value, kind, tmp_path):
    config = OPTIMIZER.model_copy(update={"kind": kind, "weight_decay": 0.1})
    model, optimizer = start(config)
    before, rows = copy_of(optimizer), []
    rubric = dict.fromkeys(("correct", "wrong", "unparsed", "truncated", "timeout"), value)
    reward = {"correct": 0.7, "format": 1e-9}
    fields = {"optimizer": config, "rubric": rubric, "reward": reward, "num_steps": 2, "group_size": 8}
    fields |= {"batch_prompts": 2, "max_new_tokens": 2}
    train(model, optimizer, online_rl(model, tmp_path, **fields), tmp_path, rows.append)
    assert same(optimizer.masters, before)
    names = ("equal_reward_groups", "masked_groups", "empty_steps")
    assert [[row[name] for name in names] for row in rows] == [[2, 0, 1], [2, 0, 2]]


def test_the_step_is_the_policy_gradient_whatever_the_engine_rounds():
    """One update a batch: ratios are 1, so that no gap to the engine's log-probabilities clips anything."""
    model, batch = (
        make_model(),
        join(singles(some_documents(8))),
    )  # engine's log-probabilities of -2, far from the model's
    objective = online_rl(model, None, loss={"name": "grpo", "aggregate": "tokens"})
    loss, metrics = objective.loss(model, batch, 10.0)
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    logprobs_M, _, documents_M = learned_logprobs(model, batch)
    (-(torch.from_numpy(batch.advantages_D)[documents_M] * logprobs_M).sum() / 10.0).backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name], weight.grad)
    assert metrics["max_logprob_gap"] == float((logprobs_M.detach() + 2.0).abs().max()) > 1.0


def test_the_gauge_shows_dropout(tmp_path):
    """It is refused for RL, as samples are drawn without it."""
    gaps = []
    for dropout in (0.0, 0.2):
        model = make_model()
        add_lora(model, LoraConfig(rank=4, dropout=dropout), seed=0)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(1))
        objective = online_rl(model.eval(), tmp_path / str(dropout), reward=REWARD, batch_prompts=2)
        data = objective.step_data(0)
        model.train()
        gaps.append(objective.loss(model, join(data.units), data.denominator)[1]["max_logprob_gap"])
    assert gaps[0] < 1e-3 and gaps[1] > 0.05


S = VerdictStatus
PROBLEM = Problem("p", "t", "en", "?", "4", "exact")


def group(*statuses, rewards=None):
    rollouts = []
    for index, status in enumerate(statuses):
        reward = None if status is S.ERROR else float(status is S.CORRECT) if rewards is None else rewards[index]
        generation = Generation(Reply("", ""), StopReason.END, 3, 2, 0, (5, 6), (-1.0, -3.0), 0)
        terms = {"correct": Missing("It failed.") if reward is None else reward}
        rollouts.append(Rollout(generation, Verdict(status, None, "."), reward, terms))
    return RolloutGroup(PROBLEM, (1, 2, 3), True, tuple(rollouts))


def collecting(objective, groups):
    """Has every step collect these."""
    collected = Collected(list(groups), 0, ("",), 0.0)
    object.__setattr__(objective, "collector", SimpleNamespace(collect=lambda *_, **__: collected))


def test_what_failed_is_masked_and_what_the_reply_caused_is_rewarded():
    objective = online_rl(make_model(), None)
    groups = [
        group(S.CORRECT, S.WRONG, S.TIMEOUT, S.ERROR),
        group(S.CORRECT, S.ERROR, S.ERROR, S.ERROR),
        group(S.WRONG, S.UNPARSED, S.ERROR, S.WRONG),
        group(S.ERROR, S.ERROR, S.ERROR, S.ERROR),
    ]
    collecting(objective, groups)
    data = objective.step_data(0)
    std = (2 / 9) ** 0.5 + 1e-4
    assert [document.advantage for document in data.documents] == pytest.approx([2 / 3 / std, *[-1 / 3 / std] * 2])
    assert data.denominator == 3 and data.num_averaged == 6 and data.why_empty == ""
    wanted = {"masked_rollouts": 9, "missing_correct": 9, "masked_groups": 2, "equal_reward_groups": 1}
    wanted |= {"all_correct_groups": 1, "all_wrong_groups": 1, "error_share": 9 / 16, "entropy": 2.0}
    wanted |= {"reward_mean": 2 / 7, "reward_correct": 2 / 7}
    assert {name: data.metrics[name] for name in wanted} == pytest.approx(wanted)
    assert "constant_score/t" in data.metrics  # the stage's families have columns of their own


def test_the_loss_says_whether_advantages_are_divided_by_the_standard_deviation():
    objective = online_rl(make_model(), None, loss={"name": "grpo", "divide_by_std": False})
    collecting(objective, [group(S.CORRECT, S.WRONG, S.WRONG, S.WRONG)])
    assert [document.advantage for document in objective.step_data(0).documents] == [0.75, -0.25, -0.25, -0.25]


@pytest.mark.parametrize("masks", [False, True])
def test_truncated_replies_are_left_out_where_the_stage_masks_them(masks):
    whole = group(S.CORRECT, S.WRONG, S.CORRECT, S.TRUNCATED)
    *rest, last = whole.rollouts
    cut = replace(last, generation=replace(last.generation, stop=StopReason.LENGTH))
    objective = online_rl(make_model(), None, mask_truncated=masks, loss={"name": "rloo"})
    collecting(objective, [replace(whole, rollouts=(*rest, cut))])
    data = objective.step_data(0)
    wanted = [0.5, -1.0, 0.5] if masks else [2 / 3, -2 / 3, 2 / 3, -2 / 3]
    assert [document.advantage for document in data.documents] == pytest.approx(wanted)
    assert data.denominator == len(wanted) and data.metrics.get("truncated_masked") == (1 if masks else None)


def test_a_step_whose_advantages_are_all_0_is_empty():
    """AGAPO keeps all-wrong groups; as equation 2 is printed, their advantages are 0."""
    objective = online_rl(make_model(), None, loss={"name": "agapo", "all_wrong_advantage": 0.0, "kl": {"beta": 0.0}})
    collecting(objective, [group(S.WRONG, S.WRONG)])
    data = objective.step_data(0)
    assert not data.documents and data.metrics["useful_groups"] == 1


def test_a_step_in_which_all_is_masked_names_the_cause():
    objective = online_rl(make_model(), None)
    collecting(objective, [group(S.ERROR, S.ERROR)] * 2)
    data = objective.step_data(0)
    assert not data.documents and data.metrics["masked_rollouts"] == 4
    assert data.why_empty == "4 of 4 samples could not be rewarded (see rollouts/); the first: It failed."
    metrics = rollout_metrics([group(S.ERROR, S.ERROR)], [False])
    assert str(metrics["reward_mean"]) == "nan"


def test_terms_come_back_from_a_file_as_they_were_and_open_ones_open(tmp_path):
    """But for why they are open: that was then."""
    terms = {"correct": 0.1 + 0.2, "format": Missing("down"), "preference": Missing("It is down.", Outage.REFUSED)}
    sampled = group(S.CORRECT, S.WRONG)
    groups = [replace(sampled, rollouts=tuple(replace(r, terms=terms) for r in sampled.rollouts))]
    write_rollouts(tmp_path / "a.jsonl", [(groups, "key")])
    requests = [request([1, 2, 3], Sampling(9), index) for index in range(2)]
    [found] = read_rollouts(tmp_path / "a.jsonl", [PROBLEM], requests, make_tokenizer(), "key")
    assert found.thinking is requests[0].thinking is False
    wanted = {**terms, "preference": Missing("Not judged yet.", Outage.DOWN)}
    assert [rollout.terms for rollout in found.rollouts] == [wanted] * 2
    assert [rollout.verdict for rollout in found.rollouts] == [rollout.verdict for rollout in sampled.rollouts]


@pytest.mark.parametrize("thinking", [False, True])
def test_replies_come_back_split_in_the_mode_in_which_they_were_asked(tmp_path, thinking):
    """A text without tags is an unfinished thought where the prompt has opened one."""
    tokenizer = make_tokenizer()
    learned = tuple(tokenizer.encode("4+1=5"))
    sampled = group(S.CORRECT)
    [rollout] = sampled.rollouts
    written = replace(rollout, generation=replace(rollout.generation, ids=learned))
    write_rollouts(tmp_path / "a.jsonl", [([replace(sampled, rollouts=(written,))], "key")])
    requests = [replace(request([1, 2, 3], Sampling(9)), thinking=thinking)]
    [found] = read_rollouts(tmp_path / "a.jsonl", [PROBLEM], requests, tokenizer, "key")
    reply = found.rollouts[0].generation.reply
    assert (reply.thought, reply.answer) == (("4+1=5", "") if thinking else ("", "4+1=5"))
    assert found.thinking is thinking


def test_both_rates_are_logged(tmp_path):
    rows = []
    model, optimizer = start()
    train(model, optimizer, online_rl(model, tmp_path, num_steps=2), tmp_path, rows.append)
    assert all(row["learning_rate"] == row["matrix_learning_rate"] > 0 for row in rows)  # their peaks are equal here
    (tmp_path / "adamw").mkdir()
    config = OPTIMIZER.model_copy(update={"kind": "adamw"})
    model, optimizer = start(config)
    objective = online_rl(model, tmp_path / "adamw", num_steps=1, optimizer=config)
    train(model, optimizer, objective, tmp_path / "adamw", rows.append)
    assert "matrix_learning_rate" not in rows[-1]


def test_an_endpoint_that_gives_only_text_is_refused_before_anything_is_trained(tmp_path):
    model = make_model()
    text_only = endpoint("http://127.0.0.1:9/v1", "m")
    with pytest.raises(ConfigError, match="127.0.0.1:9.*: online RL learns from token ids and log-prob.*choose"):
        replace(online_rl(model, tmp_path), provider=text_only)


def test_the_provider_gets_the_weights_of_each_step_before_it_samples(tmp_path):
    """With LoRA they are the merged ones, by the names of a plain model."""
    model = make_model()
    plain = [name for name, _ in model.named_parameters()]
    add_lora(model, LoraConfig(rank=4), seed=0)
    optimizer = MasterOptimizer(model, None, OPTIMIZER)
    objective, calls = online_rl(model, tmp_path, reward=REWARD, num_steps=3, batch_prompts=2), []
    provider = Watched(objective.provider, lambda requests: calls.append("sample"))
    provider.update_weights = lambda weights, version: calls.append((version, {n: w.clone() for n, w in weights}))
    train(model, optimizer, replace(objective, provider=provider), tmp_path, lambda row: None)
    assert [call if isinstance(call, str) else call[0] for call in calls] == [0, "sample", 1, "sample", 2, "sample"]
    given = [call[1] for call in calls if not isinstance(call, str)]
    assert all(list(weights) == plain for weights in given)
    assert same(given[0], dict(make_model().named_parameters()))
    assert not same(given[0], given[1]) and not same(given[1], given[2])


def test_a_prompt_without_room_for_a_whole_reply_is_refused(tmp_path):
    model = make_model()
    with pytest.raises(PromptTooLongError, match="max_new_tokens = 120 that exceeds the model's context of 128"):
        online_rl(model, tmp_path, max_new_tokens=120).step_data(0)


def test_the_context_is_noted_only_if_it_cut_replies(tmp_path):
    objective = online_rl(make_model(), tmp_path, num_steps=1, batch_prompts=2)
    objective.step_data(0)
    path = tmp_path / "rollouts" / "step-000001.jsonl"
    rows = [row | {"stop": "length", "num_tokens": 6} for row in read_jsonl(path)]  # max_new_tokens
    object.__setattr__(objective, "provider", SimpleNamespace(notes=("another", note(100))))
    write_jsonl(path, rows)
    assert objective.notes({}) == ["another"]
    write_jsonl(path, [*rows[1:], rows[0] | {"num_tokens": 5}])
    assert objective.notes({}) == ["another", f"{note(100)} (1 of 8 replies)"]
