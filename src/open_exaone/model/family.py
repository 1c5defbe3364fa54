"""What sets the model families apart, as one table: norms, biases, RoPE, and their own names for things.

Everywhere else a weight bears the name that llama and exaone4 publish it under; `names` holds where a family's
own names differ, `{}` standing for the layer's number, and `keys` where its `config.json` spells a field otherwise.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

FamilyName = Literal["exaone", "exaone4", "llama", "qwen2", "qwen3"]


@dataclass(frozen=True, slots=True)
class Family:
    """One model type of Hugging Face's, as `config.json` names it."""

    architecture: str
    norm: Literal["pre", "reorder"] = "pre"  # where RMSNorm stands: on a sublayer's input, or on its output
    qk_norm: bool = False  # RMSNorm on each head's queries and keys
    qkv_bias: bool = False
    rope_on_global: bool = True  # whether global layers of a hybrid turn queries and keys
    norm_eps: float = 1e-6  # what transformers takes where config.json says nothing; so are the next two
    head_width: int | None = None  # None: width / num_heads
    tied_embeddings: bool = False
    keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


# EXAONE 3.0, 3.5 and Deep: Llama under other names. `c_fc_0` is the gate, the activated branch.
_EXAONE_KEYS = {
    "num_layers": "num_layers",
    "norm_eps": "layer_norm_epsilon",
    "activation": "activation_function",
}
_EXAONE_NAMES = {
    "model.embed_tokens.weight": "transformer.wte.weight",
    "model.layers.{}.input_layernorm.weight": "transformer.h.{}.ln_1.weight",
    "model.layers.{}.self_attn.q_proj.weight": "transformer.h.{}.attn.attention.q_proj.weight",
    "model.layers.{}.self_attn.k_proj.weight": "transformer.h.{}.attn.attention.k_proj.weight",
    "model.layers.{}.self_attn.v_proj.weight": "transformer.h.{}.attn.attention.v_proj.weight",
    "model.layers.{}.self_attn.o_proj.weight": "transformer.h.{}.attn.attention.out_proj.weight",
    "model.layers.{}.post_attention_layernorm.weight": "transformer.h.{}.ln_2.weight",
    "model.layers.{}.mlp.gate_proj.weight": "transformer.h.{}.mlp.c_fc_0.weight",
    "model.layers.{}.mlp.up_proj.weight": "transformer.h.{}.mlp.c_fc_1.weight",
    "model.layers.{}.mlp.down_proj.weight": "transformer.h.{}.mlp.c_proj.weight",
    "model.norm.weight": "transformer.ln_f.weight",
}

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "exaone": Family(
            "ExaoneForCausalLM", norm_eps=1e-5, tied_embeddings=True, keys=_EXAONE_KEYS, names=_EXAONE_NAMES
        ),
        "exaone4": Family("Exaone4ForCausalLM", norm="reorder", qk_norm=True, rope_on_global=False, norm_eps=1e-5),
        "llama": Family("LlamaForCausalLM"),
        "qwen2": Family("Qwen2ForCausalLM", qkv_bias=True),
        "qwen3": Family("Qwen3ForCausalLM", qk_norm=True, head_width=128),
    }
)


def published_name(family: str, name: str) -> str:
    """The name under which a family publishes a weight of ours.

    >>> published_name("exaone", "model.layers.7.mlp.gate_proj.weight")
    'transformer.h.7.mlp.c_fc_0.weight'
    """
    pattern = re.sub(r"\.\d+\.", ".{}.", name, count=1)
    number = re.search(r"\.(\d+)\.", name)
    published = FAMILIES[family].names.get(pattern, pattern)
    return published.format(number[1]) if number else published
