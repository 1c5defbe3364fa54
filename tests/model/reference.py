"""EXAONE 3.x and 4.0 in NumPy, float64, from their equations (FACTS 1.2): slow, plain, and sharing no code with ours.

Both read a checkpoint's own `config.json` (as a dict) and its own weight names, and give one text's logits_TV.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = Mapping[str, Array]


def exaone3_logits(config: Mapping[str, Any], weights: Weights, ids: Sequence[int]) -> Array:
    """EXAONE 3.0, 3.5 and Deep: h = x + Attn(RMS(x)), y = h + FFN(RMS(h)); RoPE in every layer."""
    eps, num_heads = config["layer_norm_epsilon"], config["num_attention_heads"]
    head_width = config["hidden_size"] // num_heads
    angles_Th = _angles(len(ids), head_width, config["rope_theta"], config["rope_scaling"])
    x_TD = weights["transformer.wte.weight"].astype(np.float64)[list(ids)]
    for layer in range(config["num_layers"]):
        w = _layer(weights, f"transformer.h.{layer}.")
        n_TD = _rms(x_TD, w["ln_1.weight"], eps)
        q, k, v = (_heads(n_TD @ w[f"attn.attention.{name}_proj.weight"].T, head_width) for name in "qkv")
        a_TD = _attend(_turn(q, angles_Th), _turn(k, angles_Th), v, len(ids)) @ w["attn.attention.out_proj.weight"].T
        h_TD = x_TD + a_TD
        n_TD = _rms(h_TD, w["ln_2.weight"], eps)
        active_TF = _silu(n_TD @ w["mlp.c_fc_0.weight"].T)
        x_TD = h_TD + (active_TF * (n_TD @ w["mlp.c_fc_1.weight"].T)) @ w["mlp.c_proj.weight"].T
    head = "transformer.wte.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return _rms(x_TD, weights["transformer.ln_f.weight"], eps) @ weights[head].astype(np.float64).T


def exaone4_logits(config: Mapping[str, Any], weights: Weights, ids: Sequence[int]) -> Array:
    """EXAONE 4.0: h = x + RMS(Attn(x)), y = h + RMS(FFN(h)), RMS on each head's q and k before RoPE.

    A hybrid turns q and k in its local layers only; a model without local layers turns them in all.
    """
    eps, head_width, kinds = config["rms_norm_eps"], config["head_dim"], config["layer_types"]
    rope = config["rope_parameters"]
    scaling = rope if rope["rope_type"] == "llama3" else None
    angles_Th = _angles(len(ids), head_width, rope["rope_theta"], scaling)
    x_TD = weights["model.embed_tokens.weight"].astype(np.float64)[list(ids)]
    for layer, kind in enumerate(kinds):
        w = _layer(weights, f"model.layers.{layer}.")
        q, k, v = (_heads(x_TD @ w[f"self_attn.{name}_proj.weight"].T, head_width) for name in "qkv")
        q, k = _rms(q, w["self_attn.q_norm.weight"], eps), _rms(k, w["self_attn.k_norm.weight"], eps)
        is_local = kind == "sliding_attention"
        if is_local or "sliding_attention" not in kinds:
            q, k = _turn(q, angles_Th), _turn(k, angles_Th)
        a_TD = _attend(q, k, v, config["sliding_window"] if is_local else len(ids)) @ w["self_attn.o_proj.weight"].T
        h_TD = x_TD + _rms(a_TD, w["post_attention_layernorm.weight"], eps)
        active_TF = _silu(h_TD @ w["mlp.gate_proj.weight"].T)
        m_TD = (active_TF * (h_TD @ w["mlp.up_proj.weight"].T)) @ w["mlp.down_proj.weight"].T
        x_TD = h_TD + _rms(m_TD, w["post_feedforward_layernorm.weight"], eps)
    head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return _rms(x_TD, weights["model.norm.weight"], eps) @ weights[head].astype(np.float64).T


def _layer(weights: Weights, prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): w.astype(np.float64) for name, w in weights.items() if name.startswith(prefix)}


def _heads(x_TX: Array, head_width: int) -> Array:
    return x_TX.reshape(len(x_TX), -1, head_width)


def _rms(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps) * weight


def _silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def _angles(length: int, head_width: int, theta: float, scaling: Mapping[str, float] | None) -> Array:
    """Position times frequency, in radians, for each pair of channels; llama3's rule on the frequencies."""
    f = theta ** (-2.0 * np.arange(head_width // 2) / head_width)
    if scaling is not None:
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        context, factor = scaling["original_max_position_embeddings"], scaling["factor"]
        wavelength = 2 * np.pi / f
        s = (context / wavelength - low) / (high - low)
        between = f * ((1 - s) / factor + s)
        f = np.select([wavelength < context / high, wavelength > context / low], [f, f / factor], between)
    return np.arange(length)[:, None] * f


def _turn(x_TNH: Array, angles_Th: Array) -> Array:
    """RoPE: channels i and i + H/2 are a complex number, turned by its angle."""
    half = x_TNH.shape[-1] // 2
    z_TNh = (x_TNH[..., :half] + 1j * x_TNH[..., half:]) * np.exp(1j * angles_Th)[:, None]
    return np.concatenate((z_TNh.real, z_TNh.imag), axis=-1)


def _attend(q_TNH: Array, k_TKH: Array, v_TKH: Array, window: int) -> Array:
    """softmax(q kᵀ / √H) v over the last `window` positions, self included; neighbouring queries share a key head."""
    T, N, H = q_TNH.shape
    distance_TT = np.arange(T)[:, None] - np.arange(T)[None]
    hidden_TT = (distance_TT < 0) | (distance_TT >= window)
    outputs = []
    for n in range(N):
        k_TH, v_TH = (x[:, n * x.shape[1] // N] for x in (k_TKH, v_TKH))
        scores_TT = np.where(hidden_TT, -np.inf, q_TNH[:, n] @ k_TH.T / np.sqrt(H))
        p_TT = np.exp(scores_TT - scores_TT.max(axis=-1, keepdims=True))
        outputs.append(p_TT / p_TT.sum(axis=-1, keepdims=True) @ v_TH)
    return np.concatenate(outputs, axis=-1)
