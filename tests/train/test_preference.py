"""The preference stage: units of every size, KTO's mismatched replies and z0, and what each step logs."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from doubles import TINY, make_model, random_ids
from open_exaone.base.errors import DataError, OpenExaoneError
from open_exaone.base.files import read_jsonl, write_jsonl
from open_exaone.data.batch import join, pack
from open_exaone.data.document import Document
from open_exaone.model.lora import add_lora, lora_weights
from open_exaone.model.lora_config import LoraConfig
from open_exaone.train.config import PreferenceStage
from open_exaone.train.loop import train
from open_exaone.train.preference import mismatched, open_preference
from tiny_stages import OPTIMIZER, preference, shuffled, start

STAGE = {"name": "p", "data": "p", "kind": "preference", "optimizer": OPTIMIZER}


def unit_of(number, *advantages, prompt=None):
    """Replies of different lengths to one prompt."""
    asked = random_ids(3 + number % 4, seed=number).tolist() if prompt is None else prompt
    replies = [random_ids(2 + (3 * number + place) % 5, seed=100 + 10 * number + place) for place in range(9)]
    return tuple(
        Document([*asked, *reply.tolist()], [False] * len(asked) + [True] * len(reply), advantage)
        for reply, advantage in zip(replies, advantages, strict=False)
    )


UNITS = {
    "pairs": [unit_of(n, 1.0, -1.0) for n in range(10)],
    "singles": [unit_of(n, 1.0 if n % 3 else -1.0) for n in range(10)],
    "groups": [unit_of(n, 1.0, -0.25, -0.25, -0.5) if n % 2 else unit_of(n, 0.5, 0.5, -1.0) for n in range(10)],
}
LOSSES = [
    ("simper", "pairs"),
    ("dpo", "pairs"),
    ("ipo", "pairs"),
    ("simpo", "pairs"),
    ("orpo", "pairs"),
    ("kto", "pairs"),
    ("kto", "singles"),
    ("grouper", "groups"),
    ("grouper", "pairs"),
]


def opened(loss, units, folder, model=None, **changes):
    fields = {"loss": {"name": loss}, "batch_pairs": 4, **STAGE, **changes}
    stage = PreferenceStage(**fields)
    model = model or make_model(TINY.model_copy(update={"initializer_range": 0.02}))
    steps = shuffled(len(units), stage.batch_pairs, 5)
    return open_preference(stage, UNITS[units] if isinstance(units, str) else units, steps, model, folder), model


@pytest.mark.parametrize(("loss", "units"), LOSSES)
def test_a_step_is_the_sum_of_its_micro_batches_and_of_any_order(loss, units, tmp_path):
    """Loss, gradient and metrics, in float32."""
    stage = PreferenceStage(**STAGE, loss={"name": loss}, batch_pairs=4)
    model = make_model(TINY.model_copy(update={"initializer_range": 0.02}))
    objective = open_preference(stage, UNITS[units], [list(range(10))], model, tmp_path)
    if loss == "kto":  # somewhere else than at its reference, where every ratio is 0
        with torch.no_grad():
            model.lm_head.weight.mul_(1.5)
    data, results = objective.step_data(0), []
    for batches in ([join(data.units)], list(pack(data.units, 30)), [join([unit]) for unit in data.units[::-1]]):
        total, metrics = 0.0, {}
        model.zero_grad()
        for batch in batches:
            value, found = objective.loss(model, batch, data.denominator)
            value.backward()
            total += float(value.detach())
            metrics = {name: metrics.get(name, 0.0) + number for name, number in found.items()}
        results.append((total, metrics, model.lm_head.weight.grad.clone()))
    for total, metrics, gradient in results[1:]:
        assert total == pytest.approx(results[0][0], rel=1e-4)
        assert metrics == pytest.approx(results[0][1], rel=1e-3, abs=1e-6)
        torch.testing.assert_close(gradient, results[0][2], rtol=1e-3, atol=1e-5)


def reply_logprobs(model, unit):
    """Each reply's log-probabilities, token by token, one document at a time."""
    found = []
    for document in unit:
        logprobs = torch.log_softmax(model(torch.tensor([list(document.ids)]))[0], -1).detach()
        found.append([float(logprobs[t - 1, i]) for t, i in enumerate(document.ids) if document.loss_mask[t]])
    return found


@pytest.mark.parametrize(("loss", "scale"), [("simper", None), ("simpo", None), ("dpo", 0.1), ("ipo", 0.1)])
def test_what_a_step_logs_of_pairs(loss, scale, tmp_path):
    objective, model = opened(loss, "pairs", tmp_path)
    reference = {place: reply_logprobs(model, unit) for place, unit in enumerate(UNITS["pairs"])}
    with torch.no_grad():
        model.lm_head.weight.mul_(2.0)
    data = objective.step_data(1)
    _, metrics = objective.loss(model, join(data.units), data.denominator)
    values, sums, means = [], [], []
    for place in objective.steps[1]:
        now, row = reply_logprobs(model, UNITS["pairs"][place]), []
        for tokens, before in zip(now, reference[place], strict=True):
            ratio = sum(tokens) - sum(before)
            ratio = ratio / len(tokens) if loss == "ipo" else ratio
            row.append(np.mean(tokens) if scale is None else scale * ratio)
        values.append(row)
        sums.append([sum(tokens) for tokens in now])
        means.append([math.exp(np.mean(tokens)) for tokens in now])
    margins = [chosen - rejected for chosen, rejected in values]
    wanted = {
        "reward_margin": np.mean(margins),
        "accuracy": np.mean([margin > 0 for margin in margins]),
        "chosen_logprob": np.mean([one for one, _ in sums]),
        "rejected_logprob": np.mean([one for _, one in sums]),
        "chosen_probability": np.mean([one for one, _ in means]),
        "rejected_probability": np.mean([one for _, one in means]),
    }
    assert {name: metrics[name] for name in wanted} == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert metrics.keys() == wanted.keys() | {"entropy"}


def test_a_step_of_one_side_logs_that_side_alone(tmp_path):
    units = [unit_of(n, 1.0) for n in range(10)]
    objective, model = opened("kto", units, tmp_path)
    data = objective.step_data(0)
    _, metrics = objective.loss(model, join(data.units), data.denominator)
    assert metrics.keys() == {"entropy", "chosen_probability", "chosen_logprob"} and data.metrics.keys() == {"kl"}


def test_groups_log_the_likelihood_of_both_signs(tmp_path):
    objective, model = opened("grouper", "groups", tmp_path)
    data = objective.step_data(0)
    _, metrics = objective.loss(model, join(data.units), data.denominator)
    assert data.denominator == len(data.units) == 4 and "accuracy" not in metrics
    flat = [
        (reply.advantage, np.mean(tokens))
        for unit in data.units
        for reply, tokens in zip(unit, reply_logprobs(model, unit), strict=True)
    ]
    for side, sign in (("chosen", 1), ("rejected", -1)):
        wanted = np.mean([math.exp(mean) for advantage, mean in flat if advantage * sign > 0])
        assert metrics[f"{side}_probability"] == pytest.approx(wanted, rel=1e-4)


def test_a_mismatched_reply_stands_behind_the_next_other_prompt():
    shared = [7, 8, 9]
    units = [unit_of(0, 1.0, prompt=shared), unit_of(1, -1.0, prompt=shared), unit_of(2, 1.0, -1.0), unit_of(3, 1.0)]
    prompts = [shared, shared, *(list(unit[0].ids[: unit[0].loss_mask.index(True)]) for unit in units[2:])]
    found = mismatched(units, 100)
    for place, behind in enumerate([2, 2, 3, 0]):
        assert [reply.advantage for reply in found[place]] == [reply.advantage for reply in units[place]]
        for made, own in zip(found[place], units[place], strict=True):
            reply = own.ids[own.loss_mask.index(True) :]
            assert list(made.ids) == [*prompts[behind], *reply] and prompts[behind] != prompts[place]
            assert list(made.loss_mask) == [False] * len(prompts[behind]) + [True] * len(reply)
    tight = mismatched(units, len(units[3][0].ids) - len(prompts[3]) + 2)[3][0]  # the beginning of a prompt is cut
    assert list(tight.ids) == [8, 9, *units[3][0].ids[len(prompts[3]) :]]


@pytest.mark.parametrize("number", [1, 3])
def test_one_prompt_alone_cannot_be_mismatched(number, tmp_path):
    with pytest.raises(DataError, match="all examples have the same prompt: give it rows with at least two prompts"):
        opened("kto", [unit_of(n, 1.0, prompt=[1, 2]) for n in range(number)], tmp_path)


@pytest.mark.parametrize("units", ["singles", "pairs"])
@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_z0_is_the_mean_over_the_step_however_it_is_split(units, scale, tmp_path):
    others = mismatched(UNITS[units], 1000)
    found = []
    for number, micro_batch_tokens in enumerate((4096, 30, 1)):
        objective, model = opened("kto", units, tmp_path / str(number), micro_batch_tokens=micro_batch_tokens)
        before = [sum(map(sum, reply_logprobs(model, others[place]))) for place in objective.steps[2]]
        with torch.no_grad():
            model.lm_head.weight.mul_(scale)
        now = [sum(map(sum, reply_logprobs(model, others[place]))) for place in objective.steps[2]]
        model.train()
        data = objective.step_data(2)
        wanted = (sum(now) - sum(before)) / len(data.documents)
        assert data.metrics["kl"] == objective.step.kl == pytest.approx(max(0.0, wanted), rel=1e-3, abs=1e-5)
        assert model.training and all(weight.grad is None for weight in model.parameters())
        assert data.denominator == len(data.documents)
        found.append((data.metrics["kl"], wanted))
    assert [kl for kl, _ in found] == pytest.approx([found[0][0]] * 3, rel=1e-4)


def test_z0_is_positive_in_one_case_and_cut_at_zero_in_another(tmp_path):
    values = []
    for number, scale in enumerate((0.5, 1.5)):
        objective, model = opened("kto", "singles", tmp_path / str(number))
        with torch.no_grad():
            model.lm_head.weight.mul_(scale)
        values.append(objective.step_data(2).metrics["kl"])
    assert min(values) == 0.0 < max(values)


def test_with_lora_kto_begins_at_its_reference_and_z0_feels_the_adapter(tmp_path):
    """At the start r = z0 = 0, and the loss is 1/2 a reply; dropout plays no part in z0."""
    model = make_model(TINY.model_copy(update={"initializer_range": 0.02}))
    add_lora(model, LoraConfig(rank=4, dropout=0.5), seed=0)
    objective, _ = opened("kto", "pairs", tmp_path, model)
    model.train()
    data = objective.step_data(0)
    assert data.metrics["kl"] == pytest.approx(0.0, abs=1e-4)
    value, _ = objective.loss(model.eval(), join(data.units), data.denominator)
    assert float(value.detach()) == pytest.approx(0.5, abs=1e-4)
    for weight in lora_weights(model).values():
        torch.nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(1))
    model.train()
    changed = [objective._kl([objective.mismatched[place] for place in range(10)]) for _ in range(2)]
    others = [reply for unit in objective.mismatched for reply in unit]
    now = [sum(reply_logprobs(model.eval(), [reply])[0]) for reply in others]
    wanted = np.mean([value - reply.reference_logprob for value, reply in zip(now, others, strict=True)])
    assert changed[0] == changed[1] == pytest.approx(max(0.0, wanted), rel=1e-3)


@pytest.mark.parametrize(("loss", "units"), LOSSES)
def test_a_stage_learns_what_its_loss_asks_for(loss, units, tmp_path):
    model, optimizer = start()
    objective, _ = opened(loss, units, tmp_path, model)
    steps = [list(range(10))] * 12
    train(model, optimizer, replace(objective, steps=steps), tmp_path, lambda row: None)
    rows = read_jsonl(tmp_path / "metrics.jsonl")
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["reward_margin"] > rows[0]["reward_margin"]


def test_log_probabilities_that_are_not_finite_stop_a_stage_with_its_weights_as_they_were(tmp_path):
    model, optimizer = start()
    objective, _ = opened("kto", "pairs", tmp_path, model, logging={"max_skipped_steps": 2})
    bad = tuple(replace(reply, reference_logprob=math.nan) for reply in objective.mismatched[0])
    objective = replace(objective, mismatched=[bad] * 10)
    before = {name: weight.clone() for name, weight in optimizer.masters.items()}
    with pytest.raises(OpenExaoneError, match="the gradient was not finite"):
        train(model, optimizer, objective, tmp_path, lambda row: None)
    assert all(torch.equal(before[name], weight) for name, weight in optimizer.masters.items())


@pytest.mark.parametrize(
    ("chosen", "rejected", "falls"),
    [([0.4, 0.9, 0.3], [0.3, 0.1, 0.2], True), ([0.4, 0.5], [0.3, 0.2], False), ([0.4, 0.3], [0.2, 0.3], False)],
)
def test_that_both_sides_fell_is_noted(chosen, rejected, falls, tmp_path):
    rows = [
        {"step": step, "chosen_probability": one, "rejected_probability": other}
        for step, (one, other) in enumerate(zip(chosen, rejected, strict=True), start=1)
    ]
    write_jsonl(tmp_path / "metrics.jsonl", [*rows, {"step": 9, "loss": None}])
    notes = preference().notes(tmp_path)
    wanted = "from step 1 to step 3 the likelihood of both sides fell .*: chosen 0.4 → 0.3, rejected 0.3 → 0.2"
    assert bool(notes) == falls and (not falls or re.match(wanted, notes[0]))
