"""What the parity tests and their negative controls share: random small checkpoints, and the measures of parity."""

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Exaone4Config,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

import open_exaone
from doubles import random_ids
from model.reference import exaone3_logits, exaone4_logits
from open_exaone.model.cache import Cache
from open_exaone.model.config import ModelConfig
from open_exaone.model.transformer import LanguageModel

TOLERANCE = 1e-4
"""The largest relative error of logits, and the widest top-two gap at which greedy texts may part."""

VOCAB = 300
SEED = 1  # the greedy texts of these weights fall into no loop, and a test sees to it
# An epsilon that is not small, so that a wrong one shows; no id ends a text.
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 0.02,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
SCALED = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def scaled(factor: float, theta: float) -> dict[str, dict[str, Any]]:
    """llama3 scaling from 64 tokens on: every text of these tests goes beyond."""
    rope = {**SCALED, "factor": factor, "rope_theta": theta, "original_max_position_embeddings": 64}
    return {"rope_parameters": rope}


def layers(letters: str) -> dict[str, Any]:
    """Layer kinds one by one: L local, G global."""
    names = {"L": "sliding_attention", "G": "full_attention"}
    return {"num_hidden_layers": len(letters), "layer_types": [names[letter] for letter in letters]}


def exaone4(**fields: Any) -> Exaone4Config:
    return Exaone4Config(**{**COMMON, "head_dim": 64, "sliding_window": None, **fields})


def llama(**fields: Any) -> LlamaConfig:
    return LlamaConfig(**{**COMMON, **fields})


def qwen2(**fields: Any) -> Qwen2Config:
    return Qwen2Config(**{**COMMON, **fields})


def qwen3(**fields: Any) -> Qwen3Config:
    return Qwen3Config(**{**COMMON, **fields})


TIED = {"tie_word_embeddings": True}
MHA = {"num_key_value_heads": 4}
CASES: dict[str, PreTrainedConfig | dict[str, Any]] = {
    "exaone4-LLLG": exaone4(**layers("LLLGLLLG"), sliding_window=12, hidden_size=96, **scaled(16.0, 1e6)),
    "exaone4-LG": exaone4(**layers("LGLG"), sliding_window=7, head_dim=80, **TIED),
    "exaone4-LLG-ends-local": exaone4(**layers("LLGLL"), sliding_window=33, head_dim=128, **TIED, **scaled(8.0, 1e4)),
    "exaone4-irregular": exaone4(**layers("GLLGL"), sliding_window=5, **MHA),
    "exaone4-global": exaone4(**layers("GGG"), **TIED, **scaled(16.0, 1e6)),
    "exaone4-global-wide": exaone4(**layers("GGG"), head_dim=128, num_attention_heads=3, num_key_value_heads=1),
    "llama": llama(hidden_size=256, **MHA),
    "llama-scaled": llama(hidden_size=160, num_attention_heads=2, num_key_value_heads=1, **TIED, **scaled(8.0, 1e6)),
    "llama-wide": llama(head_dim=128, **scaled(8.0, 5e5)),
    "qwen2": qwen2(hidden_size=256, **TIED),
    "qwen2-window": qwen2(
        hidden_size=160, num_attention_heads=2, use_sliding_window=True, sliding_window=16, max_window_layers=1
    ),
    "qwen3": qwen3(head_dim=128, hidden_size=96, **TIED),
    "qwen3-window": qwen3(**layers("LGL"), head_dim=64, use_sliding_window=True, sliding_window=9),
    "exaone-2.4B": {
        "hidden_size": 160,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
    },
    "exaone-7.8B": {"hidden_size": 256, "num_attention_heads": 2},
    "exaone-3.0": {"hidden_size": 256, "rope_theta": 500_000.0, "rope_scaling": None},
}
EXAONE3: dict[str, Any] = {
    "architectures": ["ExaoneForCausalLM"],
    "model_type": "exaone",
    "auto_map": {"AutoConfig": "configuration_exaone.ExaoneConfig"},
    "activation_function": "silu",
    "attention_dropout": 0.0,
    "embed_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 361,
    "pad_token_id": 0,
    "initializer_range": 0.02,
    "intermediate_size": 192,
    "layer_norm_epsilon": 0.02,
    "max_position_embeddings": 1024,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_layers": 3,
    "rope_theta": 1e6,
    "rope_scaling": {**SCALED, "factor": 8.0, "original_max_position_embeddings": 64},
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": VOCAB,
}
LLAMA_NAMES = {
    "transformer.wte": "model.embed_tokens",
    "transformer.h.": "model.layers.",
    "transformer.ln_f": "model.norm",
    "attn.attention.out_proj": "self_attn.o_proj",
    "attn.attention.": "self_attn.",
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "c_fc_0": "gate_proj",
    "c_fc_1": "up_proj",
    "c_proj": "down_proj",
}


class Pair(NamedTuple):
    """One checkpoint, opened twice."""

    ours: LanguageModel
    reference: Any  # transformers' model
    folder: Path


@functools.cache
def open_pair(case: str, root: Path) -> Pair:
    """Writes the case's random checkpoint to `root`, and opens it by ours and by transformers."""
    folder, config = root / f"random-{case}", CASES[case]
    if isinstance(config, dict):
        write_exaone3(folder, config)
        reference = llama_twin(folder)
    else:
        reference = random_model(config)
        reference.save_pretrained(folder)
    return Pair(open_exaone.load_model(folder, dtype="float32"), reference, folder)


@torch.no_grad()
def random_model(config: PreTrainedConfig) -> Any:
    """transformers' model with weights that make attention choose, and no norm's or bias's channel like another."""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(SEED)
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            weight.normal_(0.0, 2 * config.hidden_size**-0.5, generator=generator)
        elif name.endswith("bias"):
            weight.normal_(0.0, 0.5, generator=generator)
        else:
            low, high = (1.0, 3.0) if name.endswith(("q_norm.weight", "k_norm.weight")) else (0.5, 2.0)
            weight.uniform_(low, high, generator=generator)
    return model


def write_exaone3(folder: Path, changes: dict[str, Any]) -> None:
    """A random checkpoint in EXAONE 3.x's own spelling and names."""
    config = EXAONE3 | changes
    D, F = config["hidden_size"], config["intermediate_size"]
    kv_width = config["num_key_value_heads"] * D // config["num_attention_heads"]
    shapes: dict[str, tuple[int, ...]] = {"transformer.wte": (VOCAB, D), "transformer.ln_f": (D,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head"] = (VOCAB, D)
    for layer in range(config["num_layers"]):
        prefix = f"transformer.h.{layer}."
        attention, mlp = prefix + "attn.attention.", prefix + "mlp."
        shapes |= {prefix + "ln_1": (D,), prefix + "ln_2": (D,)}
        shapes |= {attention + "q_proj": (D, D), attention + "out_proj": (D, D)}
        shapes |= {attention + "k_proj": (kv_width, D), attention + "v_proj": (kv_width, D)}
        shapes |= {mlp + "c_fc_0": (F, D), mlp + "c_fc_1": (F, D), mlp + "c_proj": (D, F)}
    rng, weights = np.random.default_rng(SEED), {}
    for name, shape in shapes.items():
        drawn = rng.uniform(0.5, 2.0, shape) if len(shape) == 1 else rng.normal(0.0, 2 * D**-0.5, shape)
        weights[f"{name}.weight"] = drawn.astype(np.float32)
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def llama_twin(folder: Path) -> Any:
    """The `exaone` checkpoint as transformers' Llama: weights and config renamed by hand."""
    config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    rope = config["rope_scaling"] or {"rope_type": "default"}
    twin = LlamaForCausalLM(
        llama(
            hidden_size=config["hidden_size"],
            num_hidden_layers=config["num_layers"],
            num_attention_heads=config["num_attention_heads"],
            num_key_value_heads=config["num_key_value_heads"],
            intermediate_size=config["intermediate_size"],
            rms_norm_eps=config["layer_norm_epsilon"],
            tie_word_embeddings=config["tie_word_embeddings"],
            rope_parameters={**rope, "rope_theta": config["rope_theta"]},
        )
    )
    renamed = {}
    for name, weight in weights.items():
        for theirs, llamas in LLAMA_NAMES.items():
            name = name.replace(theirs, llamas)
        renamed[name] = torch.from_numpy(weight)
    missing, unexpected = twin.load_state_dict(renamed, strict=False)
    assert not unexpected and missing == (["lm_head.weight"] if config["tie_word_embeddings"] else [])
    return twin.eval()


def relative_error(found: Tensor, reference: Tensor) -> float:
    """Largest |found - reference| over the largest |reference|."""
    assert found.shape == reference.shape and bool(torch.isfinite(found).all())
    return float((found - reference).abs().max() / reference.abs().max())


@torch.no_grad()
def logits_error(ours: LanguageModel, reference: Any, rows: int = 2, length: int = 90) -> float:
    """The relative error of all logits of random texts, `rows` of `length` tokens."""
    return relative_error(ours(random_ids(rows, length, vocab_size=VOCAB)), _reference_logits(reference, rows, length))


@functools.cache
def _reference_logits(reference: Any, rows: int, length: int) -> Tensor:
    return reference(random_ids(rows, length, vocab_size=VOCAB), use_cache=False).logits


@torch.no_grad()
def numpy_error(model: Callable[[Tensor], Tensor], folder: Path) -> float:
    """The relative error of all logits of one random text to the NumPy reference, which opens `folder` itself."""
    config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    compute = exaone4_logits if config["model_type"] == "exaone4" else exaone3_logits
    ids_T = random_ids(200, seed=7, vocab_size=VOCAB)
    expected_TV = torch.from_numpy(compute(config, weights, ids_T.tolist()))
    return relative_error(model(ids_T[None])[0].double(), expected_TV)


NUM_GREEDY = 160
PROMPTS = tuple(random_ids(length, seed=length, vocab_size=VOCAB) for length in (5, 23, 41))


def pad(texts: Sequence[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Texts as rows ids_BT, padded at one side, and positions_BT, -1 at padding."""
    width = max(map(len, texts))
    ids_BT, positions_BT = torch.zeros(len(texts), width, dtype=torch.long), torch.full((len(texts), width), -1)
    for row, ids in enumerate(texts):
        place = slice(width - len(ids), width) if side == "left" else slice(len(ids))
        ids_BT[row, place], positions_BT[row, place] = ids, torch.arange(len(ids))
    return ids_BT, positions_BT


@torch.no_grad()
def padded_error(ours: Callable[[Tensor, Tensor], Tensor], reference: Any, side: str) -> float:
    """The relative error of ragged texts in one batch, to the reference on the same batch and on each text alone."""
    texts = [*PROMPTS, random_ids(90, vocab_size=VOCAB)]
    ids_BT, positions_BT = pad(texts, side)
    kept_BT = positions_BT >= 0
    padding = {"attention_mask": kept_BT.long(), "position_ids": positions_BT.clamp(min=0)}
    found_XV = ours(ids_BT, positions_BT)[kept_BT]
    batched_XV = reference(ids_BT, **padding, use_cache=False).logits[kept_BT]
    return max(relative_error(found_XV, batched_XV), relative_error(found_XV, _alone(texts, reference)))


@torch.no_grad()
def packed_error(ours: Callable[[Tensor, Tensor, Tensor], Tensor], reference: Any) -> float:
    """The relative error of texts packed in one row, to the reference on the same row and on each text alone."""
    texts = [*PROMPTS, random_ids(1, seed=1, vocab_size=VOCAB), random_ids(70, vocab_size=VOCAB)]
    ids_1T, positions_1T = torch.cat(texts)[None], torch.cat([torch.arange(len(ids)) for ids in texts])[None]
    documents_1T = torch.cat([torch.full((len(ids),), index) for index, ids in enumerate(texts)])[None]
    found_TV = ours(ids_1T, positions_1T, documents_1T)[0]
    packed_TV = reference(ids_1T, position_ids=positions_1T, use_cache=False).logits[0]
    return max(relative_error(found_TV, packed_TV), relative_error(found_TV, _alone(texts, reference)))


def _alone(texts: Sequence[Tensor], reference: Any) -> Tensor:
    return torch.cat([reference(ids[None], use_cache=False).logits[0] for ids in texts])


class Greedy(NamedTuple):
    """The reference's greedy texts of PROMPTS."""

    ids_BT: Tensor
    logits_BTV: Tensor


@functools.cache
def reference_greedy(reference: Any) -> Greedy:
    """NUM_GREEDY tokens of each text."""
    ids_BT, positions_BT = pad(PROMPTS, "left")
    found = reference.generate(
        ids_BT,
        attention_mask=(positions_BT >= 0).long(),
        do_sample=False,
        max_new_tokens=NUM_GREEDY,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return Greedy(found.sequences[:, ids_BT.shape[1] :], torch.stack(found.logits, dim=1))


@torch.no_grad()
def our_greedy(
    model: LanguageModel, num_tokens: int, *, side: str = "left", config: ModelConfig | None = None
) -> Tensor:
    """Our greedy texts of PROMPTS, each token read once: ids_BT.

    Args:
        side: where the prompts are padded.
        config: by which the cache is built, if not by the model's own.
    """
    ids_BT, positions_BT = pad(PROMPTS, side)
    slots = ids_BT.shape[1] + num_tokens
    cache = Cache.of_rows(config or model.config, rows=len(PROMPTS), slots=slots, dtype=torch.float32)
    new: list[Tensor] = []
    for _ in range(num_tokens):
        last_B1 = positions_BT.argmax(dim=1, keepdim=True)
        new.append(model(ids_BT, positions_BT, cache=cache).argmax(-1).gather(1, last_B1))
        ids_BT, positions_BT = new[-1], positions_BT.gather(1, last_B1) + 1
    return torch.cat(new, dim=1)


def parting_gap(ids_BT: Iterable[Tensor], reference: Greedy) -> float:
    """The widest gap between the reference's best two logits where a text first parts from its; 0 if none does."""
    gaps = [0.0]
    for ids, expected, logits_TV in zip(ids_BT, reference.ids_BT, reference.logits_BTV, strict=True):
        parted = (ids != expected[: len(ids)]).nonzero()
        if len(parted):
            first, second = logits_TV[parted[0, 0]].topk(2).values.tolist()
            gaps.append(first - second)
    return max(gaps)
