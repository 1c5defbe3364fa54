"""Losses and their gradients against TRL's own on the same tensors, as record_trl_losses.py has recorded them."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from open_exaone.learn.policy import POLICY_LOSSES, PolicyLoss
from open_exaone.learn.policy_parts import Sampled
from open_exaone.learn.preference import PREFERENCE_LOSSES, PreferenceLoss, Replies

RECORDED = json.loads(Path(__file__).with_name("trl_losses.json").read_text(encoding="utf-8"))
WIDE = {"clip_high": 0.28}  # the recorded cases' upper clip
NEAR = {"clip_low": 0.05, "clip_high": 0.08}
KL = {"kl": {"beta": 0.04, "estimator": "k3"}}
# By TRL's case, our loss. TRL divides by what one micro-batch or the generation batch holds; here a step is one
# micro-batch, and `settings.denominator` counts the same.
POLICY = {
    "grpo": {"name": "grpo", **WIDE},
    "grpo_kl": {"name": "grpo", **WIDE, **KL},
    "dr_grpo": {"name": "dr_grpo", **WIDE},
    "dr_grpo_kl": {"name": "dr_grpo", **WIDE, **KL},
    "dapo": {"name": "dapo"},
    "dapo_kl": {"name": "dapo", **KL},
    "bnpo": {"name": "grpo", "aggregate": "tokens", **WIDE},
    "bnpo_kl": {"name": "grpo", "aggregate": "tokens", **WIDE, **KL},
    "gspo": {"name": "gspo", **NEAR},
    "gspo_kl": {"name": "gspo", **NEAR, **KL},
    "cispo": {"name": "cispo", "max_ratio": 1.28},
    "cispo_kl": {"name": "cispo", "max_ratio": 1.28, **KL},
    "rloo": {"name": "rloo", **WIDE},
    "rloo_on_policy": {"name": "rloo", **WIDE},
    "dapo_token_truncate": {"name": "dapo", "correction": {"kind": "truncate", "max_ratio": 1.1}},
    "dapo_token_mask": {"name": "dapo", "correction": {"kind": "mask", "max_ratio": 1.1}},
}
PREFERENCE = {
    "dpo": {"name": "dpo", "beta": 0.3},
    "ipo": {"name": "ipo", "tau": 0.3},
    "simpo": {"name": "simpo", "beta": 2.0, "gamma": 0.5},
    "orpo": {"name": "orpo", "odds_weight": 0.1},
    "kto": {"name": "kto", "beta": 0.3, "lambda_undesirable": 1.2},
    "kto_negative_kl": {"name": "kto", "beta": 0.3, "lambda_undesirable": 1.2},
}
# Recorded, and not ours: a third clip, a KL times the ratio, a soft clip, weights of whole completions.
WITHOUT_COUNTERPART = {"grpo_delta", "grpo_kl_corrected", "sapo", "dapo_sequence_truncate", "dapo_sequence_mask"}


def flat(rows):
    return torch.tensor([value for row in rows for value in row], dtype=torch.double)


def documents_of(rows):
    return torch.arange(len(rows)).repeat_interleave(torch.tensor([len(row) for row in rows]))


def check(loss, logprobs_M, case):
    loss.backward()
    assert float(loss.detach()) == pytest.approx(case["loss"], abs=1e-5)
    torch.testing.assert_close(logprobs_M.grad, flat(case["gradient"]), rtol=0, atol=1e-5)


def test_every_recorded_case_is_compared_or_named():
    assert {*POLICY, *PREFERENCE, *WITHOUT_COUNTERPART} == RECORDED["cases"].keys()


@pytest.mark.parametrize("name", POLICY)
def test_policy_losses_are_trls(name):
    case = RECORDED["cases"][name]
    given = RECORDED["inputs"][case["inputs"]]
    settings = TypeAdapter(PolicyLoss).validate_python(POLICY[name])
    logprobs_M, documents_M = flat(given["logprobs"]).requires_grad_(), documents_of(given["logprobs"])
    sampled = Sampled(
        logprobs_M,
        logprobs_M.detach() if case["settings"].get("on_policy") else flat(given["old"]),
        torch.tensor(given["advantages"], dtype=torch.double)[documents_M],
        documents_M,
        flat(given["reference"]),
        flat(given["sampler"]),
    )
    denominator = settings.denominator(len(logprobs_M), len(given["advantages"]), RECORDED["max_new_tokens"])
    check(POLICY_LOSSES[settings.name](sampled, denominator, settings), logprobs_M, case)


@pytest.mark.parametrize("name", PREFERENCE)
def test_preference_losses_are_trls(name):
    case = RECORDED["cases"][name]
    given = RECORDED["inputs"][case["inputs"]]
    rows, num_pairs = given["chosen"] + given["rejected"], len(given["chosen"])
    settings = TypeAdapter(PreferenceLoss).validate_python(PREFERENCE[name])
    mismatched = {"kl": max(0.0, case["settings"]["kl"])} if "kl" in case["settings"] else {}  # KTO's z0
    logprobs_M = flat(rows).requires_grad_()
    replies = Replies(
        torch.zeros(len(rows), dtype=torch.double).index_add(0, documents_of(rows), logprobs_M),
        torch.tensor([float(len(row)) for row in rows]),
        torch.tensor([1.0] * num_pairs + [-1.0] * num_pairs),
        torch.arange(num_pairs).repeat(2),
        torch.tensor(given["reference_chosen"] + given["reference_rejected"], dtype=torch.double),
        **mismatched,
    )
    denominator = len(rows) if mismatched else num_pairs
    check(PREFERENCE_LOSSES[settings.name](replies, denominator, settings), logprobs_M, case)
