"""Records what TRL's own losses give on small ragged tensors, for test_trl_parity.py.

    python tests/learn/record_trl_losses.py     # where TRL is installed: pip install trl peft

The trainers are bare objects with the attributes that their loss methods read. What they take from a model's forward
pass, a token's log-probability, is given to them; their masks, ratios, clips and means are theirs. Padding holds
numbers that would be noticed. Inputs have four decimals, so that JSON holds them exactly; all is float64.
"""

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import trl
from torch import Tensor
from trl import DPOTrainer, GRPOTrainer, KTOTrainer, RLOOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

TARGET = Path(__file__).with_name("trl_losses.json")
Rows = list[list[float]]
COMPLETIONS = (7, 1, 4, 9, 3, 6)  # tokens
ADVANTAGES = [1.2, -0.7, -0.5, 0.4, -1.3, 0.9]
CHOSEN, REJECTED = (5, 2, 8, 3), (4, 7, 1, 6)
EVEN = (4, 4, 4, 4)  # chosen replies of one length: their mean over tokens is that over replies
MAX_NEW_TOKENS = 12


def drawn(lengths: tuple[int, ...], seed: int, around: Rows | None = None, spread: float = 0.3) -> Rows:
    """Log-probabilities of -3 to 0, or near others."""
    draw = torch.Generator().manual_seed(seed)
    rows: Rows = []
    for row, length in enumerate(lengths):
        if around:
            values = torch.tensor(around[row]) + spread * torch.randn(length, generator=draw)
        else:
            values = -0.05 - 3 * torch.rand(length, generator=draw)
        rows.append([round(value, 4) for value in values.tolist()])
    return rows


def padded(rows: Rows, filler: float) -> tuple[Tensor, Tensor]:
    """values_BT and mask_BT."""
    values = torch.full((len(rows), max(map(len, rows))), filler, dtype=torch.float64)
    mask = torch.zeros(values.shape, dtype=torch.long)
    for number, row in enumerate(rows):
        values[number, : len(row)] = torch.tensor(row, dtype=torch.float64)
        mask[number, : len(row)] = 1
    return values, mask


def bare(kind: type, **attributes: Any) -> Any:
    """A trainer without a model, and alone: what is gathered from all processes is its own."""
    trainer = kind.__new__(kind)
    same = lambda values, **_: values  # noqa: E731
    trainer.accelerator = SimpleNamespace(
        device=torch.device("cpu"), num_processes=1, gather=same, gather_for_metrics=same, reduce=same
    )
    trainer.model = SimpleNamespace(training=True)
    trainer._metrics = {"train": defaultdict(list)}
    trainer.aux_loss_enabled = False
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    for name, value in attributes.items():
        setattr(trainer, name, value)
    return trainer


def result(loss: Tensor, values_BT: Tensor, rows: Rows) -> dict[str, Any]:
    loss.backward()
    assert values_BT.grad is not None
    gradient = [values_BT.grad[number, : len(row)].tolist() for number, row in enumerate(rows)]
    assert all(not values_BT.grad[number, len(row) :].any() for number, row in enumerate(rows)), "padding has moved"
    return {"loss": loss.item(), "gradient": [[float(f"{value:.10g}") for value in row] for row in gradient]}


def grpo(given: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """GRPOTrainer._compute_loss.

    Args:
        settings: GRPOConfig's; `vllm_importance_sampling_mode` weighs tokens by old / sampler probabilities, capped or
            masked beyond `vllm_importance_sampling_clip_min` and `_max`. That ratio is made where TRL samples, so its
            lines of `_generate_and_score_completions` are repeated here.
    """
    logprobs_BT, mask_BT = padded(given["logprobs"], -7.0)
    old_BT, reference_BT, sampler_BT = (padded(given[name], -1.0)[0] for name in ("old", "reference", "sampler"))
    logprobs_BT.requires_grad_()
    mode = settings.get("vllm_importance_sampling_mode")
    least, most = (settings.get(f"vllm_importance_sampling_clip_{end}") for end in ("min", "max"))
    trainer = bare(
        GRPOTrainer,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs_BT, torch.ones_like(logprobs_BT), None),
        args=SimpleNamespace(
            use_bias_correction_kl=settings.get("use_bias_correction_kl", False),
            delta=settings.get("delta"),
            steps_per_generation=1,
            sapo_temperature_pos=1.0,
            sapo_temperature_neg=1.05,
        ),
        loss_type=settings["loss_type"],
        importance_sampling_level=settings.get("importance_sampling_level", "token"),
        epsilon_low=settings.get("epsilon", 0.2),
        epsilon_high=settings.get("epsilon_high", 0.28),
        beta=settings.get("beta", 0.0),
        use_vllm=mode is not None,
        vllm_importance_sampling_correction=True,
        max_completion_length=MAX_NEW_TOKENS,
        current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        _entropy_bonus_enabled=False,
    )
    difference = (old_BT - sampler_BT) * mask_BT
    ratio = (difference.sum(1, keepdim=True) if mode and mode.startswith("sequence") else difference).exp()
    if mode and mode.endswith("truncate"):
        ratio = ratio.clamp(min=least, max=most)
    elif mode:
        ratio = ratio.masked_fill((ratio < least) | (ratio > most), 0.0)
    prompts = torch.zeros(len(mask_BT), 2, dtype=torch.long)
    inputs = {
        "prompt_ids": prompts,
        "prompt_mask": prompts,
        "completion_ids": mask_BT,
        "completion_mask": mask_BT,
        "advantages": torch.tensor(given["advantages"], dtype=torch.float64),
        "old_per_token_logps": old_BT,
        "ref_per_token_logps": reference_BT,
        "num_items_in_batch": mask_BT.sum(),
        "importance_sampling_ratio": ratio,
    }
    return result(trainer._compute_loss(None, inputs), logprobs_BT, given["logprobs"])


def rloo(given: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """RLOOTrainer._compute_loss."""
    logprobs_BT, mask_BT = padded(given["logprobs"], -7.0)
    old_BT, _ = padded(given["logprobs"] if settings["on_policy"] else given["old"], -1.0)
    logprobs_BT.requires_grad_()
    trainer = bare(
        RLOOTrainer,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs_BT, torch.ones_like(logprobs_BT), None),
        epsilon_low=settings.get("epsilon", 0.2),
        epsilon_high=settings.get("epsilon_high", 0.28),
    )
    prompts = torch.zeros(len(mask_BT), 2, dtype=torch.long)
    inputs = {
        "prompt_ids": prompts,
        "prompt_mask": prompts,
        "completion_ids": mask_BT,
        "completion_mask": mask_BT,
        "advantages": torch.tensor(given["advantages"], dtype=torch.float64),
        "old_logps": (old_BT * mask_BT).sum(1),
    }
    return result(trainer._compute_loss(None, inputs), logprobs_BT, given["logprobs"])


def forward(logprobs_BT: Tensor, mask_BT: Tensor) -> dict[str, Any]:
    """A model whose forward pass gives these log-probabilities behind a prompt of one token, and its inputs."""
    outputs = SimpleNamespace(
        log_probs=logprobs_BT * mask_BT,  # 0 where a label is -100, as TRL's own head has it
        entropy=torch.ones_like(logprobs_BT),
        mean_logits=torch.zeros_like(logprobs_BT),
        is_top1=torch.zeros(logprobs_BT.shape, dtype=torch.bool),
    )
    completion_mask = torch.nn.functional.pad(mask_BT, (1, 0))
    ids = torch.zeros_like(completion_mask)
    inputs = {"input_ids": ids, "attention_mask": ids + 1, "completion_mask": completion_mask}
    return {"model": lambda **_: outputs, "inputs": inputs}


def dpo(given: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """DPOTrainer._compute_loss on chosen and rejected replies."""
    rows = given["chosen"] + given["rejected"]
    logprobs_BT, mask_BT = padded(rows, -7.0)
    logprobs_BT.requires_grad_()
    trainer = bare(
        DPOTrainer,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[settings["loss_type"]],
        loss_weights=[1.0],
        beta=settings["beta"],
        use_weighting=False,
    )
    made = forward(logprobs_BT, mask_BT)
    references = {
        f"ref_{side}_logps": torch.tensor(given[f"reference_{side}"], dtype=torch.float64)
        for side in ("chosen", "rejected")
    }
    loss = trainer._compute_loss(made["model"], made["inputs"] | references, False)
    return result(loss, logprobs_BT, rows)


def kto(given: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """KTOTrainer._compute_loss: the chosen replies are desirable, the rejected undesirable.

    Args:
        settings: KTOConfig's, and `kl`: how much the mismatched replies' log-ratios are on average.
    """
    rows = given["chosen"] + given["rejected"]
    logprobs_BT, mask_BT = padded(rows, -7.0)
    logprobs_BT.requires_grad_()
    zeros = torch.zeros(len(rows), dtype=torch.float64)
    trainer = bare(
        KTOTrainer,
        _compute_kl_logps=lambda *_: zeros + settings["kl"],
        precompute_ref_logps=True,
        calculate_KL=True,
        loss_type="kto",
        beta=settings["beta"],
        desirable_weight=settings["desirable_weight"],
        undesirable_weight=settings["undesirable_weight"],
    )
    made = forward(logprobs_BT, mask_BT)
    references = given["reference_chosen"] + given["reference_rejected"]
    more = {
        "label": torch.tensor([True] * len(given["chosen"]) + [False] * len(given["rejected"])),
        "ref_logps": torch.tensor(references, dtype=torch.float64),
        "ref_KL_logps": zeros,
    }
    return result(trainer._compute_loss(made["model"], made["inputs"] | more, False), logprobs_BT, rows)


def without_reference(kind: type, given: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """`get_batch_loss_metrics` of CPOTrainer (SimPO is a setting of it) or ORPOTrainer, from means over tokens.

    ORPO's likelihood term is the mean over the chosen replies' tokens; TRL adds those of the prompt, of which there are
    none here.
    """
    rows = given["chosen"] + given["rejected"]
    logprobs_BT, mask_BT = padded(rows, -7.0)
    logprobs_BT.requires_grad_()
    means_B = (logprobs_BT * mask_BT).sum(1) / mask_BT.sum(1)
    half = len(given["chosen"])
    likelihood = -(logprobs_BT * mask_BT)[:half].sum() / mask_BT[:half].sum()
    nothing = torch.zeros(1)
    made = (means_B[:half], means_B[half:], nothing, nothing, likelihood)
    trainer = bare(kind, concatenated_forward=lambda *_: made, alpha=0.0, label_smoothing=0.0, **settings)
    loss, _ = trainer.get_batch_loss_metrics(None, {})
    return result(loss, logprobs_BT, rows)


def pairs(chosen: tuple[int, ...], seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {"chosen": drawn(chosen, seed), "rejected": drawn(REJECTED, seed + 1)}
    for side, more in (("chosen", 2), ("rejected", 3)):
        near = drawn(tuple(map(len, found[side])), seed + more, found[side])
        found[f"reference_{side}"] = [round(sum(row), 4) for row in near]
    return found


def main() -> None:
    logprobs = drawn(COMPLETIONS, 1)
    old = drawn(COMPLETIONS, 2, logprobs)
    given = {
        "completions": {
            "logprobs": logprobs,
            "old": old,
            "reference": drawn(COMPLETIONS, 3, logprobs, 0.5),
            "sampler": drawn(COMPLETIONS, 4, old, 0.15),
            "advantages": ADVANTAGES,
        },
        "pairs": pairs(CHOSEN, 5),
        "pairs_of_even_length": pairs(EVEN, 9),
    }
    completions, ragged, even = given.values()
    sequence = {"importance_sampling_level": "sequence", "epsilon": 0.05, "epsilon_high": 0.08}
    wanted: dict[str, tuple[str, dict[str, Any]]] = {}
    for loss_type in ("grpo", "dr_grpo", "dapo", "bnpo"):
        wanted[loss_type] = ("grpo", {"loss_type": loss_type})
        wanted[f"{loss_type}_kl"] = ("grpo", {"loss_type": loss_type, "beta": 0.04})
    wanted |= {
        "grpo_kl_corrected": ("grpo", {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": True}),
        "grpo_delta": ("grpo", {"loss_type": "grpo", "delta": 1.4}),
        "gspo": ("grpo", {"loss_type": "grpo", **sequence}),
        "gspo_kl": ("grpo", {"loss_type": "grpo", "beta": 0.04, **sequence}),
        "cispo": ("grpo", {"loss_type": "cispo", "epsilon_high": 1.28}),
        "cispo_kl": ("grpo", {"loss_type": "cispo", "epsilon_high": 1.28, "beta": 0.04}),
        "sapo": ("grpo", {"loss_type": "sapo"}),
        "rloo": ("rloo", {"on_policy": False}),
        "rloo_on_policy": ("rloo", {"on_policy": True}),
        "dpo": ("dpo", {"loss_type": "sigmoid", "beta": 0.3}),
        "ipo": ("dpo", {"loss_type": "ipo", "beta": 0.3}),
        "kto": ("kto", {"beta": 0.3, "desirable_weight": 1.0, "undesirable_weight": 1.2, "kl": 0.4}),
        "kto_negative_kl": ("kto", {"beta": 0.3, "desirable_weight": 1.0, "undesirable_weight": 1.2, "kl": -0.4}),
        "simpo": ("simpo", {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.5, "cpo_alpha": 0.0}),
        "orpo": ("orpo", {"beta": 0.1}),
    }
    for mode in ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"):
        caps = {"vllm_importance_sampling_mode": mode, "vllm_importance_sampling_clip_max": 1.1}
        caps |= {"vllm_importance_sampling_clip_min": 1 / 1.1} if mode.endswith("mask") else {}
        wanted[f"dapo_{mode}"] = ("grpo", {"loss_type": "dapo", **caps})
    cases = {}
    for name, (kind, settings) in wanted.items():
        if kind in ("grpo", "rloo"):
            found, inputs = {"grpo": grpo, "rloo": rloo}[kind](completions, **settings), "completions"
        elif kind in ("dpo", "kto"):
            found, inputs = {"dpo": dpo, "kto": kto}[kind](ragged, **settings), "pairs"
        elif kind == "simpo":
            found, inputs = without_reference(CPOTrainer, ragged, **settings), "pairs"
        else:
            found, inputs = without_reference(ORPOTrainer, even, **settings), "pairs_of_even_length"
        cases[name] = {"settings": settings, "inputs": inputs, **found}
    table = {"trl": trl.__version__, "max_new_tokens": MAX_NEW_TOKENS, "inputs": given, "cases": cases}
    lines = json.dumps(table, separators=(",", ":")).replace('},"', '},\n"')
    TARGET.write_text(lines + "\n", encoding="utf-8")
    print(f"{TARGET}: TRL {trl.__version__}, {len(cases)} cases, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
