"""Reference log-probabilities: whose they are, how they are kept, and what a stage learns from them."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from doubles import make_model
from open_exaone.base.files import read_jsonl
from open_exaone.model.lora import add_lora, lora_weights
from open_exaone.model.lora_config import LoraConfig
from open_exaone.train import reference
from open_exaone.train.loop import train
from open_exaone.train.reference import FILE, with_reference
from tiny_stages import copy_of, preference, same, start

DPO = {"name": "dpo"}


def logprobs_of(pairs):
    return [reply.reference_logprob for pair in pairs for reply in pair]


def made(folder, model=None, pairs=None, **changes):
    objective = preference(loss=DPO, **changes)
    return with_reference(pairs or objective.units, model or make_model(), folder, objective.config)


@pytest.mark.parametrize(("micro_batch_tokens", "at_once"), [(4096, 512), (40, 512), (40, 5), (1, 1)])
def test_they_are_each_replys_own_in_the_pairs_order(micro_batch_tokens, at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "UNITS_AT_ONCE", at_once)
    model, pairs = make_model().requires_grad_(False), preference().units
    found, wanted = made(tmp_path, model, micro_batch_tokens=micro_batch_tokens), []
    for document in (reply for pair in pairs for reply in pair):
        logprobs = torch.log_softmax(model(torch.tensor([document.ids]))[0], -1)
        wanted.append(sum(float(logprobs[t - 1, i]) for t, i in enumerate(document.ids) if document.loss_mask[t]))
    assert logprobs_of(found) == pytest.approx(wanted, rel=1e-4)
    assert [tuple(replace(reply, reference_logprob=None) for reply in pair) for pair in found] == pairs
    assert model.training == make_model().training


def test_a_loss_without_a_reference_gets_its_pairs_as_they_are(tmp_path):
    objective = preference()
    assert with_reference(objective.units, make_model(), tmp_path, objective.config) is objective.units
    assert not list(tmp_path.iterdir())


def test_with_lora_they_are_the_base_models_to_the_bit(tmp_path):
    model = make_model()
    add_lora(model, LoraConfig(rank=4, dropout=0.5), seed=0)
    for weight in lora_weights(model).values():
        torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(1))
    model.train()
    ids = torch.tensor([[1, 2, 3]])
    before = model.eval()(ids)
    assert logprobs_of(made(tmp_path / "lora", model)) == logprobs_of(made(tmp_path / "base"))
    assert torch.equal(model(ids), before) and not torch.equal(before, make_model()(ids))  # adapters are on again


def test_a_resumed_stage_reads_them(tmp_path, monkeypatch):
    wanted = logprobs_of(made(tmp_path))
    monkeypatch.setattr(reference, "unit_logprobs", None)
    assert logprobs_of(made(tmp_path)) == wanted
    assert logprobs_of(made(tmp_path, micro_batch_tokens=7)) == wanted  # which may change between two sittings


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "shape", "name", "weights", "pairs"])
def test_a_file_that_is_not_whole_or_not_this_stages_is_made_anew(damage, tmp_path, caplog):
    wanted, path = logprobs_of(made(tmp_path)), tmp_path / FILE
    whole, model, pairs = path.read_bytes(), None, None
    match damage:
        case "cut":
            path.write_bytes(whole[:-3])
        case "flip":
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        case "empty":
            path.write_bytes(b"")
        case "shape":
            save_file({"logprobs": load_file(path)["logprobs"][:3]}, path)
        case "name":
            save_file({"other": torch.zeros(3)}, path)
        case "weights":
            model = make_model()
            with torch.no_grad():
                model.lm_head.weight.mul_(1.5)
        case "pairs":
            pairs = [pair[::-1] for pair in preference().units]
    found = logprobs_of(made(tmp_path, model, pairs))
    assert "are computed again" in caplog.text
    if model is pairs is None:
        assert found == wanted and path.read_bytes() == whole
    else:
        assert found != wanted
    assert sorted(tmp_path.iterdir()) == [path]


class Cut(BaseException):
    pass


def test_a_cut_stage_ends_in_the_same_weights_and_begins_without_a_preference(tmp_path):
    def run(folder, on_step=lambda row: None):
        model, optimizer = start()
        objective = preference(loss=DPO)
        pairs = with_reference(objective.units, model, folder, objective.config)
        train(model, optimizer, replace(objective, units=pairs), folder, on_step)
        return copy_of(optimizer)

    def cut(row):
        if row["step"] == 5:
            raise Cut

    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    wanted = run(tmp_path / "whole")
    losses = [row["loss"] for row in read_jsonl(tmp_path / "whole" / "metrics.jsonl")]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5) and losses[-1] < losses[0] - 0.01
    with pytest.raises(Cut):
        run(tmp_path / "cut", cut)
    file = tmp_path / "cut" / FILE
    file.write_bytes(file.read_bytes()[:-1])  # and lost: it is made of the first weights again, not of the last
    assert same(run(tmp_path / "cut"), wanted)
