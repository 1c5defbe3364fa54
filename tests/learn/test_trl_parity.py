"""Losses and their gradients against TRL's own on the same tensors, as record_trl_losses.py has recorded them."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from open_exaone.learn.policy import POLICY_LOSSES, PolicyLoss, Sampled
from open_exaone.learn.preference import PREFERENCE_LOSSES, PreferenceLoss, Replies

RECORDED = json.loads(Path(__file__).with_name("trl_losses.json").read_text(encoding="utf-8"))
# By TRL's case: our loss, and what one step's denominator counts.
POLICY = {
    "dapo": ({"name": "grpo"}, "tokens"),
    "dr_grpo": ({"name": "grpo"}, "constant"),
    "bnpo": ({"name": "grpo"}, "tokens"),  # TRL's mean over the tokens of a micro-batch: here it is the whole step
}
PREFERENCE = {
    "dpo": {"name": "dpo", "beta": 0.3},
    "ipo": {"name": "ipo", "tau": 0.3},
}


def flat(rows):
    return torch.tensor([value for row in rows for value in row], dtype=torch.double)


def documents_of(rows):
    return torch.arange(len(rows)).repeat_interleave(torch.tensor([len(row) for row in rows]))


def check(loss, logprobs_M, case):
    loss.backward()
    assert float(loss.detach()) == pytest.approx(case["loss"], abs=1e-5)
    torch.testing.assert_close(logprobs_M.grad, flat(case["gradient"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", POLICY)
def test_policy_losses_are_trls(name):
    case = RECORDED["cases"][name]
    given, (settings, counts) = RECORDED["inputs"][case["inputs"]], POLICY[name]
    logprobs_M, documents_M = flat(given["logprobs"]).requires_grad_(), documents_of(given["logprobs"])
    num_sequences = len(given["advantages"])
    denominator = {
        "tokens": len(logprobs_M),
        "sequences": num_sequences,
        "constant": num_sequences * RECORDED["max_new_tokens"],
    }[counts]
    advantages_M = torch.tensor(given["advantages"], dtype=torch.double)[documents_M]
    sampled = Sampled(logprobs_M, flat(given["old"]), advantages_M, documents_M)
    parsed = TypeAdapter(PolicyLoss).validate_python(settings)
    check(POLICY_LOSSES[parsed.name](sampled, denominator, parsed), logprobs_M, case)


@pytest.mark.parametrize("name", PREFERENCE)
def test_preference_losses_are_trls(name):
    case = RECORDED["cases"][name]
    given = RECORDED["inputs"][case["inputs"]]
    rows, num_pairs = given["chosen"] + given["rejected"], len(given["chosen"])
    logprobs_M = flat(rows).requires_grad_()
    replies = Replies(
        torch.zeros(len(rows), dtype=torch.double).index_add(0, documents_of(rows), logprobs_M),
        torch.tensor([float(len(row)) for row in rows]),
        torch.tensor([1.0] * num_pairs + [-1.0] * num_pairs),
        torch.arange(num_pairs).repeat(2),
        torch.tensor(given["reference_chosen"] + given["reference_rejected"], dtype=torch.double),
    )
    settings = TypeAdapter(PreferenceLoss).validate_python(PREFERENCE[name])
    check(PREFERENCE_LOSSES[settings.name](replies, num_pairs, settings), logprobs_M, case)
