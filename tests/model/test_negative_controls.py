"""Each known slip, made on purpose: the parity checks see every one, by a hundred times their tolerance."""

import functools

import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

import open_exaone
from model.parity import (
    CASES,
    TOLERANCE,
    llama_twin,
    logits_error,
    numpy_error,
    open_pair,
    our_greedy,
    packed_error,
    padded_error,
    parting_gap,
    reference_greedy,
    write_exaone3,
)
from open_exaone.model import attention, rope
from open_exaone.model.config import LayerKind
from open_exaone.model.transformer import LanguageModel, PreNormBlock, ReorderBlock

SEEN = 100 * TOLERANCE
HYBRIDS = ("exaone4-LLLG", "exaone4-LG", "exaone4-LLG-ends-local", "exaone4-irregular")
GLOBALS = ("exaone4-global", "exaone4-global-wide")
WINDOWED = (*HYBRIDS, "qwen2-window", "qwen3-window")
EXAONE3 = ("exaone-2.4B", "exaone-7.8B", "exaone-3.0")
PRE_NORM = (*EXAONE3, "llama", "qwen2", "qwen3")
QK_NORM = ("exaone4-LLLG", "exaone4-global", "qwen3")
SCALED = ("exaone4-LLLG", "exaone4-global", "llama-scaled", "llama-wide", "exaone-2.4B", "exaone-7.8B")
GROUPED = (
    "exaone4-LLLG",
    "llama-wide",
    "qwen2",
    "qwen3",
    "exaone-3.0",
)  # fewer key heads than query heads, but not one


def rebuilt(model, **changes):
    """The same weights under a changed config."""
    other = LanguageModel(model.config.model_copy(update=changes))
    other.load_state_dict(model.state_dict())
    return other


def config(**changes):
    return lambda model, patch: rebuilt(model, **changes)


def window(change):
    return lambda model, patch: rebuilt(model, window=model.config.window + change)


def scaling(**changes):
    return lambda model, patch: rebuilt(model, rope_scaling=model.config.rope_scaling.model_copy(update=changes))


def on_attention(slip):
    """A slip that changes every layer's attention in place."""

    def apply(model, patch):
        for layer in model.model.layers:
            slip(layer.self_attn)
        return model

    return apply


def block(forward):
    """A slip in the layer's forward; `before` and `after` are its two norms, the attention's and the feed-forward's."""

    def apply(model, patch):
        for kind, names in (
            (ReorderBlock, ("post_attention_layernorm", "post_feedforward_layernorm")),
            (PreNormBlock, ("input_layernorm", "post_attention_layernorm")),
        ):
            patch.setattr(
                kind,
                "forward",
                lambda self, x, *context, names=names: forward(
                    x,
                    lambda y: self.self_attn(y, *context),
                    self.mlp,
                    *(getattr(self, name) for name in names),
                ),
            )
        return model

    return apply


def rope_where(uses_rope):
    return on_attention(lambda self: setattr(self, "uses_rope", uses_rope(self.kind)))


def norm_on_input(x, attend, mlp, first, second):
    h = x + attend(first(x))
    return h + mlp(second(h))


def norm_on_output(x, attend, mlp, first, second):
    h = x + first(attend(x))
    return h + second(mlp(h))


def norm_after_add(x, attend, mlp, first, second):
    h = first(x + attend(x))
    return second(h + mlp(h))


def norms_exchanged_before(x, attend, mlp, first, second):
    return norm_on_input(x, attend, mlp, second, first)


def norms_exchanged_after(x, attend, mlp, first, second):
    return norm_on_output(x, attend, mlp, second, first)


def residual_from_the_normed(x, attend, mlp, first, second):
    n = first(x)
    h = n + attend(n)
    n = second(h)
    return n + mlp(n)


def feed_forward_swapped(model, patch):
    for layer in model.model.layers:
        layer.mlp.gate_proj, layer.mlp.up_proj = layer.mlp.up_proj, layer.mlp.gate_proj
    return model


def without_qk_norm(self):
    self.q_norm = self.k_norm = nn.Identity()


def qk_norm_exchanged(self):
    self.q_norm, self.k_norm = self.k_norm, self.q_norm


class OverAllHeads(nn.Module):
    """OLMo 2's way: one mean square for all heads of a token."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x_BTNH):
        return x_BTNH / (x_BTNH.square().mean((-1, -2), keepdim=True) + self.norm.eps).sqrt() * self.norm.weight


def qk_norm_over_all_heads(self):
    self.q_norm, self.k_norm = OverAllHeads(self.q_norm), OverAllHeads(self.k_norm)


class AfterRope(nn.Module):
    """Undoes the turn that attention makes next, so that the norm is taken of what is turned: R R⁻¹ norm(R x)."""

    def __init__(self, norm, config):
        super().__init__()
        self.norm, self.config = norm, config

    def forward(self, x_BTNH):
        cos, sin = rope.turns(self.config, torch.arange(x_BTNH.shape[1]).expand(x_BTNH.shape[:2]))
        return rope.rotate(self.norm(rope.rotate(x_BTNH, cos, sin)), cos, -sin)


def qk_norm_after_rope(model, patch):
    for layer in model.model.layers:
        self = layer.self_attn
        if self.uses_rope:
            self.q_norm, self.k_norm = AfterRope(self.q_norm, model.config), AfterRope(self.k_norm, model.config)
    return model


def neighbouring_pairs(model, patch):
    """GPT-J's RoPE: channels 2i and 2i + 1 instead of i and i + H/2."""

    def apart(x):
        return None if x is None else torch.cat((x[..., ::2], x[..., 1::2]), -1)

    rotate = rope._rotate
    patch.setattr(rope, "_rotate", lambda x, weight, *turn: rotate(apart(x), apart(weight), *turn))
    return model


def scaling_without_a_band(model, patch):
    """llama3's rule without what lies between its two wavelengths: kept or divided, nothing else."""

    def hard(frequencies, scaling):
        long = 2 * torch.pi / frequencies > scaling.original_max_positions / scaling.low_freq_factor
        return torch.where(long, frequencies / scaling.factor, frequencies)

    patch.setattr(rope, "_scaled", hard)
    return model


def groups_interleaved(model, patch):
    """Query head n reads key head n mod K instead of n // (N / K)."""
    N, K = model.config.num_heads, model.config.num_kv_heads
    order = torch.arange(N).view(N // K, K).T.flatten()
    attend = attention.attend_uncached
    patch.setattr(attention, "attend_uncached", lambda q, *rest: attend(q[:, :, order], *rest)[:, :, order.argsort()])
    return model


def scores_by_model_width(model, patch):
    """Scores divided by √(D / N), where the heads are of another width."""
    c, attend = model.config, attention.attend_uncached
    ratio = (c.head_width / (c.width / c.num_heads)) ** 0.5
    patch.setattr(attention, "attend_uncached", lambda q, *rest: attend(q * ratio, *rest))
    return model


def without_bias(name):
    return on_attention(lambda self: nn.init.zeros_(getattr(self, name).bias))


def head_tied(model, patch):
    model.lm_head.weight = model.model.embed_tokens.weight
    return model


SLIPS = {
    "RoPE on a hybrid's global layers": (HYBRIDS, rope_where(lambda kind: True)),
    "RoPE on global layers only": (HYBRIDS, rope_where(lambda kind: kind is LayerKind.GLOBAL)),
    "no RoPE on qwen's global layers": (WINDOWED[-2:], rope_where(lambda kind: kind is LayerKind.LOCAL)),
    "no RoPE at all": (tuple(CASES), rope_where(lambda kind: False)),
    "RoPE on neighbouring channels": (("exaone4-LG", *GLOBALS, *PRE_NORM), neighbouring_pairs),
    "another theta": (("exaone4-LG", *GLOBALS, *PRE_NORM), config(rope_theta=20_000.0)),
    "no llama3 scaling": (SCALED, config(rope_scaling=None)),
    "llama3 scaling by another factor": (SCALED, scaling(factor=2.0)),
    "llama3 scaling from another length": (SCALED, scaling(original_max_positions=32)),
    "llama3 scaling without its band": (SCALED, scaling_without_a_band),
    "pre-norm for exaone4": ((*HYBRIDS, *GLOBALS), block(norm_on_input)),
    "norm after the add for exaone4": ((*HYBRIDS, *GLOBALS), block(norm_after_add)),
    "norms exchanged in exaone4": ((*HYBRIDS, *GLOBALS), block(norms_exchanged_after)),
    "norm on the output for pre-norm": (PRE_NORM, block(norm_on_output)),
    "norm after the add for pre-norm": (PRE_NORM, block(norm_after_add)),
    "norms exchanged in pre-norm": (PRE_NORM, block(norms_exchanged_before)),
    "residual from the normed input": (PRE_NORM, block(residual_from_the_normed)),
    "another epsilon": ((*HYBRIDS, *GLOBALS, *PRE_NORM), config(norm_eps=1e-5)),
    "c_fc_0 and c_fc_1 swapped": ((*EXAONE3, "llama", "exaone4-global"), feed_forward_swapped),
    "window one too narrow": (WINDOWED, window(-1)),
    "window one too wide": (WINDOWED, window(+1)),
    "last layer forced global": (("exaone4-LLG-ends-local",), config(pattern="LLGLG")),
    "pattern begun with its global layer": (("exaone4-LLLG",), config(pattern="GLLL")),
    "no local layers": (WINDOWED, config(pattern="G")),
    "no qk-norm": (QK_NORM, on_attention(without_qk_norm)),
    "q_norm and k_norm exchanged": (QK_NORM, on_attention(qk_norm_exchanged)),
    "qk-norm over all heads at once": (QK_NORM, on_attention(qk_norm_over_all_heads)),
    "qk-norm after RoPE": (QK_NORM, qk_norm_after_rope),
    "no bias on queries": (("qwen2",), without_bias("q_proj")),
    "no bias on keys": (("qwen2",), without_bias("k_proj")),
    "no bias on values": (("qwen2",), without_bias("v_proj")),
    "groups of heads interleaved": (GROUPED, groups_interleaved),
    "scores divided by the model's width": (
        ("exaone4-LLLG", "exaone4-LG", "llama-wide", "qwen3"),
        scores_by_model_width,
    ),
    "head tied where it is its own": (("exaone4-LLLG", "llama", "qwen3-window", "exaone-7.8B"), head_tied),
}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, (cases, _) in SLIPS.items() for case in cases])
def test_parity_of_logits_sees(name, case, root, monkeypatch):
    pair = open_pair(case, root)
    ours = SLIPS[name][1](open_exaone.load_model(pair.folder, dtype="float32"), monkeypatch)
    assert logits_error(ours, pair.reference) > SEEN
    if name in ("c_fc_0 and c_fc_1 swapped", "no llama3 scaling") and case in EXAONE3:
        assert numpy_error(ours, pair.folder) > SEEN


@pytest.mark.parametrize("case", ["exaone4-LLLG", "llama", "qwen2", "exaone-2.4B"])
@pytest.mark.parametrize("kind", ["rebuilt", "block"])
def test_the_means_of_slipping_slip_nothing_themselves(case, kind, root, monkeypatch):
    pair = open_pair(case, root)
    right = norm_on_output if case.startswith("exaone4") else norm_on_input
    slip = config() if kind == "rebuilt" else block(right)
    ours = slip(open_exaone.load_model(pair.folder, dtype="float32"), monkeypatch)
    assert logits_error(ours, pair.reference) < TOLERANCE


def test_a_checkpoint_with_c_fc_0_and_c_fc_1_exchanged_is_seen(root, tmp_path):
    """The names in the file, not our modules: against NumPy and against the Llama twin."""
    pair = open_pair("exaone-2.4B", root)
    write_exaone3(tmp_path / "swapped", CASES["exaone-2.4B"])
    other = {"c_fc_0": "c_fc_1", "c_fc_1": "c_fc_0"}
    weights = load_file(tmp_path / "swapped" / "model.safetensors")
    swapped = {
        functools.reduce(lambda n, part: n.replace(part, other[part]) if part in name else n, other, name): weight
        for name, weight in weights.items()
    }
    save_file(swapped, tmp_path / "swapped" / "model.safetensors")
    ours = open_exaone.load_model(tmp_path / "swapped", dtype="float32")
    assert logits_error(ours, pair.reference) > SEEN and numpy_error(ours, pair.folder) > SEEN
    assert logits_error(ours, llama_twin(tmp_path / "swapped")) < TOLERANCE
    assert numpy_error(ours, tmp_path / "swapped") < TOLERANCE


@pytest.mark.parametrize("change", [-1, +1])
@pytest.mark.parametrize("case", WINDOWED)
def test_parity_of_greedy_texts_sees_a_cache_whose_window_is_off_by_one(case, change, root):
    pair = open_pair(case, root)
    expected = reference_greedy(pair.reference)  # which ours are by the right window: test_parity.py
    off = pair.ours.config.model_copy(update={"window": pair.ours.config.window + change})
    assert parting_gap(our_greedy(pair.ours, 60, config=off), expected) > SEEN


@pytest.mark.parametrize("case", ["exaone4-LLLG", "exaone4-global", "llama-scaled", "qwen2-window", "exaone-2.4B"])
def test_parity_of_packed_documents_sees_a_leak(case, root):
    pair = open_pair(case, root)
    assert packed_error(lambda ids, positions, documents: pair.ours(ids, positions), pair.reference) > SEEN
    assert packed_error(lambda ids, positions, documents: pair.ours(ids), pair.reference) > SEEN


@pytest.mark.parametrize("case", ["exaone4-LLLG", "exaone4-global", "llama-scaled", "qwen2-window", "exaone-2.4B"])
def test_parity_of_left_padding_sees_padding_that_is_read(case, root):
    pair = open_pair(case, root)
    assert padded_error(lambda ids, positions: pair.ours(ids), pair.reference, "left") > SEEN
