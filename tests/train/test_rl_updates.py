"""Online RL beyond one update of fresh samples: several updates, refill, references, and another sampler's tokens."""

import itertools
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from doubles import make_model, make_tokenizer
from open_exaone.base.errors import RunFolderError
from open_exaone.base.files import read_jsonl
from open_exaone.base.interrupt import Interrupted
from open_exaone.data.batch import join, singles
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.learn.policy import POLICY_LOSSES
from open_exaone.model.lora import add_lora, merge_lora
from open_exaone.model.lora_config import LoraConfig
from open_exaone.train.forward import document_logprobs
from open_exaone.train.loop import train
from open_exaone.train.policy_reference import Reference
from tiny_stages import OPTIMIZER, Watched, copy_of, online_rl, same, some_documents, start

SEVERAL = {"num_steps": 2, "num_iterations": 2, "num_minibatches": 2, "batch_prompts": 2, "group_size": 3}
KL = {"name": "grpo", "kl": {"beta": 0.5, "estimator": "k2"}}


def by_ids(rollout):
    return sum(rollout.generation.ids) % 97 / 97


def rarely(rollout):
    """Most groups have rewards that are all equal."""
    return float(rollout.generation.ids[0] % 5 == 0)


class Trial:
    """One sitting of a stage, killed or interrupted at an update, or killed at a request for samples."""

    def __init__(
        self,
        folder,
        reward=by_ids,
        kill_update=None,
        stop_update=None,
        kill_stream=None,
        reference=None,
        lora=False,
        **fields,
    ):
        folder.mkdir(exist_ok=True)
        self.folder, self.model = folder, make_model()
        if lora:
            add_lora(self.model, LoraConfig(rank=4), seed=0)
        masters = None if lora else dict(self.model.named_parameters())
        self.optimizer = MasterOptimizer(self.model, masters, OPTIMIZER)
        self.objective = online_rl(self.model, folder, **{"max_new_tokens": 3, **fields})
        if reference:
            found = Reference(self.objective.config, self.model, folder, None if lora else reference)
            self.objective = replace(self.objective, reference=found)
        self.rows, self.asked, self.killed = [], [], False
        loss = self.objective.loss

        def before(requests):
            if kill_stream == len(self.asked):
                raise KeyboardInterrupt
            self.asked.append((requests[0].sampling.seed - self.objective.seed, len(requests)))

        def killed_loss(*args):
            if kill_update == self.model.version:
                raise KeyboardInterrupt
            if stop_update == self.model.version:
                raise Interrupted
            return loss(*args)

        object.__setattr__(self.objective, "provider", Watched(self.objective.provider, before))
        object.__setattr__(self.objective, "_reward", reward)
        object.__setattr__(self.objective, "loss", killed_loss)
        try:
            train(self.model, self.optimizer, self.objective, folder, self.rows.append)
        except (KeyboardInterrupt, Interrupted):
            self.killed = True

    @property
    def weights(self):
        return copy_of(self.optimizer)

    @property
    def files(self):
        return {path.name: path.read_bytes() for path in sorted((self.folder / "rollouts").iterdir())}


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return Trial(tmp_path_factory.mktemp("several"), **SEVERAL)


def test_ratios_are_1_at_the_first_update_and_not_later_and_a_step_is_sampled_once(several):
    assert [step for step, _ in several.asked] == [0, 1]
    ratios = [row["max_ratio"] for row in several.rows]
    assert len(ratios) == 8
    assert all(abs(ratio - 1) < 1e-5 for ratio in ratios[::4])
    assert all(abs(ratio - 1) > 1e-4 for place, ratio in enumerate(ratios) if place % 4)
    assert any(row["clip_share"] > 0 for row in several.rows)
    assert ["reward_mean" in row for row in several.rows] == [True, False, False, False] * 2


@pytest.mark.parametrize("update", [1, 4, 7])
def test_a_run_killed_at_any_update_ends_in_the_same_weights_and_files(update, several, tmp_path):
    before = Trial(tmp_path / "cut", kill_update=update, **SEVERAL)
    after = Trial(tmp_path / "cut", **SEVERAL)
    assert before.killed and before.asked + after.asked == several.asked
    assert same(after.weights, several.weights) and after.files == several.files


def test_broken_old_probabilities_are_reported_and_computed_anew(several, tmp_path, caplog):
    Trial(tmp_path / "cut", kill_update=6, **SEVERAL)
    path = tmp_path / "cut" / "rollouts" / "step-000002.old.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    after = Trial(tmp_path / "cut", **SEVERAL)
    assert (
        len([record for record in caplog.records if "step-000002.old.safetensors: is incomplete" in record.message])
        == 1
    )
    assert len(after.rows) == 2 and abs(after.rows[0]["max_ratio"] - 1) < 1e-5
    assert not same(after.weights, several.weights)


def test_each_pass_goes_once_over_all_groups_and_each_update_gets_some_that_teach(tmp_path):
    objective = online_rl(make_model(), tmp_path, num_iterations=2, num_minibatches=3, batch_prompts=5)
    for step in range(2):
        places = [objective._minibatch([False, True, False, True, True], step, update) for update in range(6)]
        assert all(len({1, 3, 4} & set(part)) == 1 for part in places)
        assert all(sorted(itertools.chain(*each)) == list(range(5)) for each in (places[:3], places[3:]))
        assert places[:3] != places[3:]


def test_a_reply_without_a_token_is_a_baseline_and_no_document(tmp_path):
    """vLLM gives one where its context has no room; a batch with it would lose all of its log-probabilities."""
    objective = online_rl(make_model(), tmp_path, batch_prompts=2, max_new_tokens=2)
    collected = objective.collector.collect(0, {})
    first, *others = collected.groups[0].rollouts
    empty = replace(first, generation=replace(first.generation, ids=(), logprobs=()))
    groups = [replace(collected.groups[0], rollouts=(empty, *others)), collected.groups[1]]
    object.__setattr__(objective.collector, "collect", lambda *args, **again: replace(collected, groups=groups))
    object.__setattr__(objective, "_reward", lambda rollout: float(rollout is not empty))
    data = objective.step_data(0)
    assert data.denominator == len(data.documents) == 3
    assert join(data.units).sampler_logprobs_M is not None


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("name", list(POLICY_LOSSES))
def test_equal_rewards_move_no_weight_with_any_loss(name, kind, tmp_path):
    """But for AGAPO's all-wrong constant, which moves them by design."""
    config = OPTIMIZER.model_copy(update={"kind": kind, "weight_decay": 0.1})
    losses = (
        [{"name": name}]
        if name != "agapo"
        else [{"name": name, "kl": {"beta": 0.0}, "all_wrong_advantage": x} for x in (0, -0.1)]
    )
    for moves, loss in enumerate(losses):
        model, optimizer = start(config)
        fields = {"optimizer": config, "loss": loss, "num_steps": 1, "batch_prompts": 2, "max_new_tokens": 2}
        objective, before = online_rl(model, tmp_path / str(moves), **fields), copy_of(optimizer)
        object.__setattr__(objective, "_reward", lambda rollout: 0.3)
        (tmp_path / str(moves)).mkdir()
        train(model, optimizer, objective, tmp_path / str(moves), lambda row: None)
        assert same(optimizer.masters, before) == (not moves)


def test_all_wrong_groups_without_a_signal_are_in_the_denominator(tmp_path):
    """Equation 2 as printed keeps them; a step of nothing else has no documents."""
    loss = {"name": "agapo", "kl": {"beta": 0.0}, "all_wrong_advantage": 0}
    objective = online_rl(make_model(), tmp_path, loss=loss, batch_prompts=3, max_new_tokens=2)
    [first, *_] = objective.collector.collect(0, {}).groups[1].rollouts
    object.__setattr__(objective, "_reward", lambda rollout: float(rollout.generation.ids == first.generation.ids))
    data = objective.step_data(0)
    assert data.denominator == len(data.documents) == 12
    assert sum(document.advantage != 0 for document in data.documents) == 4


REFILL = {"num_steps": 2, "batch_prompts": 2, "max_prompts": 5, "group_size": 2, "reward": rarely}


@pytest.fixture(scope="module")
def refilled(tmp_path_factory):
    return Trial(tmp_path_factory.mktemp("refilled"), **REFILL)


def test_refill_asks_until_enough_groups_teach_or_the_cost_is_reached(refilled):
    first = 0
    for step, row in enumerate(refilled.rows):
        rows = read_jsonl(refilled.folder / "rollouts" / f"step-{step + 1:06d}.jsonl")
        groups = [rows[place : place + 2] for place in range(0, len(rows), 2)]
        useful = [len({a["ids"][0] % 5 == 0, b["ids"][0] % 5 == 0}) == 2 for a, b in groups]
        assert sum(useful) == 2 or len(groups) == 5
        assert sum(useful) <= 2 and row["asked_prompts"] == len(groups)
        problems = [refilled.objective.problems[place] for place in refilled.objective.places(first, len(groups))]
        assert [a["problem"] for a, _ in groups] == [problem.id for problem in problems]
        first += len(groups)
    assert first > 4  # some step has asked for more


def test_the_weights_are_handed_over_once_a_step_whatever_the_number_of_rounds(tmp_path):
    objective, versions = online_rl(make_model(), tmp_path, batch_prompts=2, max_prompts=6, max_new_tokens=2), []
    objective.provider.update_weights = lambda weights, version: versions.append(version)
    object.__setattr__(objective, "_reward", lambda rollout: 0.0)
    assert len(objective.step_data(0).memory["keys"]) == 3 and versions == [0]


def test_refill_killed_at_any_round_gives_the_same_weights_and_files(refilled, tmp_path):
    assert len(refilled.asked) > 3
    for stream in range(1, len(refilled.asked)):
        folder = tmp_path / str(stream)
        before = Trial(folder, kill_stream=stream, **REFILL)
        after = Trial(folder, **REFILL)
        assert before.killed and before.asked + after.asked == refilled.asked
        assert same(after.weights, refilled.weights) and after.files == refilled.files


def test_a_pool_of_one_prompt_is_asked_again_and_that_is_reported(tmp_path):
    model, optimizer = start()
    objective = online_rl(model, tmp_path, num_steps=2, batch_prompts=2, max_prompts=4, max_new_tokens=2)
    objective = replace(objective, problems=objective.problems[:1], thinks_N=[True], places=lambda start, n: [0] * n)
    rows = []
    progress = train(model, optimizer, objective, tmp_path, rows.append)
    asked = sum(row["asked_prompts"] for row in rows)
    assert objective.notes(progress.memory) == [f"{asked} prompts were drawn from 1 problems: each {asked:.1f} times"]
    assert objective.notes({"next_prompt": 1}) == []
    assert len(rows) == 2 and rows[0]["pool_epoch"] == rows[0]["asked_prompts"] - 1
    ids = [tuple(row["ids"]) for row in read_jsonl(tmp_path / "rollouts" / "step-000001.jsonl")]
    assert len(set(ids)) > len(ids) // 2  # the same prompt again has samples of its own


def opened():
    return make_model(seed=7)


def test_the_divergence_is_measured_from_the_second_model_or_from_the_model_without_adapters(tmp_path):
    for name, trial in {
        "second": Trial(tmp_path / "second", loss=KL, num_steps=1, reference=opened),
        "lora": Trial(tmp_path / "lora", loss=KL, num_steps=2, reference=opened, lora=True),
    }.items():
        kls = [row["kl"] for row in trial.rows]
        assert (kls[0] > 0.05) == (name == "second")
        assert name == "second" or (abs(kls[0]) < 1e-6 and kls[1] > 1e-5)


def reply_logprobs(model, row):
    """By the model's plain forward pass, without anything that training shares."""
    turns = [{"role": "user", "content": row["question"]}]
    prompt = make_tokenizer().render(turns, thinking=row["mode"] == "reasoning", generation_prompt=True)
    logprobs_TV = torch.log_softmax(model(torch.tensor([[*prompt, *row["ids"]]]))[0].double(), -1)
    return logprobs_TV[len(prompt) - 1 : -1].gather(1, torch.tensor(row["ids"])[:, None])[:, 0]


@pytest.mark.parametrize("loss", [KL, {"name": "agapo", "kl": {"beta": 0.5, "estimator": "sequence"}}])
def test_with_adapters_the_divergence_is_that_from_a_base_model_of_its_own(loss, tmp_path):
    fields = {"loss": loss, "num_steps": 3, "reference": opened, "lora": True}
    rows = Trial(tmp_path / "whole", **fields).rows
    assert abs(rows[0]["kl"]) < 1e-6
    for update in (1, 2):
        cut = Trial(tmp_path / f"cut-{update}", kill_update=update, **fields)  # the policy as it sampled this update
        merge_lora(cut.model)
        path, base, values = cut.folder / "rollouts" / f"step-{update + 1:06d}.jsonl", make_model(), []
        with torch.no_grad():
            for row in read_jsonl(path):
                r_T = reply_logprobs(cut.model, row) - reply_logprobs(base, row)
                values += (torch.exp(-r_T) - 1 + r_T).tolist()
        assert rows[update]["kl"] == pytest.approx(sum(values) / len(values), rel=1e-3) and rows[update]["kl"] > 1e-5


REFRESH = {
    "loss": KL,
    "num_steps": 6,
    "batch_prompts": 1,
    "reference_refresh_steps": 2,
    "checkpoint_steps": 3,
    "reference": opened,
}


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory):
    return Trial(tmp_path_factory.mktemp("refreshed"), **REFRESH)


def test_a_refreshed_reference_is_the_policy_as_it_is(refreshed):
    kls = [row["kl"] for row in refreshed.rows]
    assert all(abs(kl) < 1e-5 for kl in kls[2::2]) and all(kl > 1e-4 for kl in kls[3::2]) and kls[0] > 0.05


@pytest.mark.parametrize("update", [2, 3, 5])
def test_a_run_killed_around_a_refresh_goes_on_with_the_same_reference(update, refreshed, tmp_path):
    """States are behind steps 3 and 6: the reference of step 2 is needed when that of step 4 has been written."""
    Trial(tmp_path / "cut", kill_update=update, **REFRESH)
    assert same(Trial(tmp_path / "cut", **REFRESH).weights, refreshed.weights)


def test_no_more_references_stay_than_saved_states_need(tmp_path):
    fields = {**REFRESH, "num_steps": 9, "reference_refresh_steps": 1}
    Trial(tmp_path, kill_update=8, **fields)
    names = sorted(int(path.stem[5:]) for path in (tmp_path / "reference").iterdir())
    assert names == [3, 6, 8]
    assert not Trial(tmp_path, **fields).killed  # from step 6, which later files do not hinder


def test_a_state_that_an_interruption_saved_keeps_its_reference(tmp_path):
    fields = {**REFRESH, "num_steps": 8, "checkpoint_steps": 100}
    assert Trial(tmp_path, stop_update=3, **fields).killed  # the only state, whose reference is that of step 2
    assert Trial(tmp_path, kill_update=6, **fields).killed
    assert [row["step"] for row in Trial(tmp_path, **fields).rows] == [4, 5, 6, 7, 8]


def test_a_step_without_anything_to_learn_refreshes_the_reference_too(tmp_path):
    seen = []

    def reward(rollout):
        seen.append(rollout)
        return 0.0 if rollout.generation.policy_version == 2 else by_ids(rollout)

    trial = Trial(tmp_path, reward=reward, **REFRESH)
    assert len(trial.rows) == 6 and trial.rows[2]["empty_steps"] == 1


@pytest.mark.parametrize("damage", ["flip", "gone"])
def test_a_damaged_reference_is_a_clear_error(damage, tmp_path):
    Trial(tmp_path, kill_update=5, **REFRESH)
    path = tmp_path / "reference" / "step-000002.safetensors"
    content = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    message = "step-000002.safetensors: .*put it back, or train the stage anew in another folder"
    with pytest.raises(RunFolderError, match=message):
        Trial(tmp_path, **REFRESH)


@pytest.mark.parametrize("temperature", [0.7, 1.6])
def test_trainer_and_engine_agree_on_probabilities_at_the_temperature(temperature, tmp_path):
    objective = online_rl(make_model(), tmp_path, temperature=temperature)
    object.__setattr__(objective, "_reward", by_ids)
    data = objective.step_data(0)
    _, metrics = objective.loss(objective.model, join(data.units), data.denominator)
    assert metrics["max_logprob_gap"] < 1e-4


class Remote:
    """A provider that is not this package's engine."""

    identity, gives_ids = {"engine": "vllm"}, True


SHIFT = 1.5  # documents' sampler log-probabilities lie so far below the model's


@pytest.mark.parametrize(
    ("correction", "is_remote", "weight"),
    [
        (None, False, 1.0),
        (None, True, 2.0),
        ({"kind": "truncate", "max_ratio": 3.0}, True, 3.0),
        ({"kind": "truncate", "max_ratio": 3.0}, False, 3.0),
        ({"kind": "truncate", "max_ratio": 50.0}, True, 2.718281828**SHIFT),
        ({"kind": "mask", "max_ratio": 3.0}, True, 0.0),
        ({"kind": "mask", "max_ratio": 50.0}, True, 2.718281828**SHIFT),
        ({"kind": "off"}, True, 1.0),
    ],
)
def test_tokens_of_another_sampler_are_weighted(correction, is_remote, weight):
    model = make_model()
    loss = {"name": "grpo"} if correction is None else {"name": "grpo", "correction": correction}
    plain = online_rl(model, None)
    documents = some_documents(4)
    found = document_logprobs(model, documents, 4096)
    shifted = [replace(d, sampler_logprobs=(x - SHIFT).tolist()) for d, x in zip(documents, found, strict=True)]
    batch = join(singles(shifted))
    objective = online_rl(model, None, loss=loss)
    objective = replace(objective, provider=Remote()) if is_remote else objective
    gradients = []
    for each in (plain, objective):
        model.zero_grad()
        value, metrics = each.loss(model, batch, 4.0)
        value.backward()
        gradients.append(model.lm_head.weight.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0] * weight, rtol=1e-3, atol=1e-6)
    is_off = correction == {"kind": "off"} or (correction is None and not is_remote)
    assert ("sampler_ratio_mean" in metrics) == (not is_off)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"loss": {"name": "agapo"}, "num_iterations": 2},
            "'agapo' is correct for on-policy samples only.*2 updates.*off_pol",
        ),
        ({"loss": KL | {"kl": {"beta": 1, "estimator": "sequence"}}, "num_minibatches": 2}, "kl.estimator = .sequence"),
        ({"reference": "sft"}, "reference has no effect without loss.kl"),
        ({"reference_refresh_steps": 3}, "reference_refresh_steps has no effect without loss.kl"),
        ({"max_prompts": 4}, "max_prompts = 4: must be above batch_prompts = 4"),
        ({"num_minibatches": 5}, "num_minibatches = 5: must be at most batch_prompts = 4"),
    ],
)
def test_stages_without_sense_are_refused(fields, message):
    stage = online_rl(make_model(), None).config
    with pytest.raises(ValidationError, match=message):
        type(stage)(**{**stage.model_dump(), **fields})
