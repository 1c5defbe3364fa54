"""config.json in every family's spelling: written and read back, defaults as transformers has them, mistakes named."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from doubles import SHAPES
from open_exaone.engine.memory import block_bytes, pool_sizes
from open_exaone.model.config import LayerKind, ModelConfig, RopeScaling
from open_exaone.model.family import FAMILIES, published_name
from open_exaone.model.hf import config_from_hf, config_to_hf
from open_exaone.model.registry import PUBLISHED
from open_exaone.model.transformer import LanguageModel

# FACTS of the published models: the sums of their shapes.
TOTALS = {
    "EXAONE-3.0-7.8B-Instruct": 7_818_448_896,
    "EXAONE-3.5-2.4B-Instruct": 2_405_327_360,
    "EXAONE-3.5-7.8B-Instruct": 7_818_448_896,
    "EXAONE-3.5-32B-Instruct": 32_003_200_000,
    "EXAONE-Deep-2.4B": 2_405_327_360,
    "EXAONE-Deep-7.8B": 7_818_448_896,
    "EXAONE-Deep-32B": 32_003_200_000,
    "EXAONE-4.0-1.2B": 1_279_391_488,
    "EXAONE-4.0-32B": 32_003_216_384,
}


@st.composite
def configs(draw):
    family = draw(st.sampled_from(sorted(FAMILIES)))
    num_kv_heads, head_width = draw(st.integers(1, 4)), 2 * draw(st.integers(1, 64))
    num_heads = num_kv_heads * draw(st.integers(1, 4))
    hybrid = family in ("exaone4", "qwen2", "qwen3") and draw(st.booleans())
    num_layers = draw(st.integers(1, 12))
    pattern = draw(st.text("LG", min_size=1, max_size=num_layers)) if hybrid else "G"
    return ModelConfig(
        family=family,
        vocab_size=draw(st.integers(1, 200_000)),
        width=num_heads * (head_width if family == "exaone" else draw(st.integers(1, 900))),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_width=head_width,
        ffn_width=draw(st.integers(1, 30_000)),
        max_positions=draw(st.integers(1, 10**6)),
        norm_eps=draw(st.sampled_from([1e-5, 1e-6])),
        pattern=pattern,
        window=draw(st.integers(1, 5000)) if "L" in pattern else None,
        rope_theta=draw(st.sampled_from([1e4, 5e5, 1e6])),
        rope_scaling=draw(st.none() | st.builds(RopeScaling, factor=st.sampled_from([2.0, 8.0, 16.0]))),
        tied_embeddings=draw(st.booleans()),
    )


@given(configs())
def test_what_is_written_is_read(config):
    again = config_from_hf(config_to_hf(config, dtype="bfloat16"))
    assert again.layer_kinds == config.layer_kinds and again.window == (config.window if config.is_hybrid else None)
    assert again.model_copy(update={"pattern": config.pattern, "window": config.window}) == config


@given(configs())
def test_transformers_reads_the_same(config):
    """The layer kinds and RoPE as transformers resolves them (it has no `exaone` of its own)."""
    if config.family == "exaone":
        config = config.model_copy(update={"family": "llama"})
    theirs = AutoConfig.for_model(**config_to_hf(config, dtype="bfloat16"))
    assert theirs.rope_parameters["rope_theta"] == config.rope_theta
    assert theirs.rope_parameters["rope_type"] == ("llama3" if config.rope_scaling else "default")
    assert theirs.tie_word_embeddings == config.tied_embeddings
    if config.is_hybrid:
        kinds = [LayerKind.LOCAL if name == "sliding_attention" else LayerKind.GLOBAL for name in theirs.layer_types]
        assert tuple(kinds) == config.layer_kinds and theirs.sliding_window == config.window


@pytest.mark.parametrize("family", ["exaone4", "llama", "qwen2", "qwen3"])
def test_what_is_not_said_is_as_in_transformers(family):
    said = {
        "model_type": family,
        "vocab_size": 64,
        "hidden_size": 64,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "max_position_embeddings": 64,
    }
    ours, theirs = config_from_hf(said), AutoConfig.for_model(**said)
    assert ours.norm_eps == theirs.rms_norm_eps
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]
    assert ours.tied_embeddings == theirs.tie_word_embeddings
    assert ours.head_width == (getattr(theirs, "head_dim", None) or 16)
    layer_types = getattr(theirs, "layer_types", None) or ["full_attention"] * 8
    assert [kind is LayerKind.LOCAL for kind in ours.layer_kinds] == [name[0] == "s" for name in layer_types]
    assert ours.window == (theirs.sliding_window if ours.is_hybrid else None)


def test_exaone_3_is_read_in_its_own_spelling():
    config = config_from_hf(
        {
            "model_type": "exaone",
            "architectures": ["ExaoneForCausalLM"],
            "auto_map": {"AutoConfig": "configuration_exaone.ExaoneConfig"},  # remote code: never run
            "activation_function": "silu",
            "attention_dropout": 0.0,
            "embed_dropout": 0.0,
            "hidden_size": 2560,
            "intermediate_size": 7168,
            "layer_norm_epsilon": 1e-05,
            "max_position_embeddings": 32768,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "num_layers": 30,
            "rope_scaling": {
                "factor": 8.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
            "rope_theta": 1000000,
            "tie_word_embeddings": True,
            "vocab_size": 102400,
        }
    )
    assert config == PUBLISHED["EXAONE-3.5-2.4B-Instruct"].config


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes_have_the_published_number_of_weights(name):
    config = PUBLISHED[name].config
    with torch.device("meta"):
        model = LanguageModel(config)
    assert sum(weight.numel() for weight in model.parameters()) == TOTALS[name] == config.num_parameters


def test_published_shapes_are_all_there():
    assert PUBLISHED.keys() == TOTALS.keys()


def bytes_taken(config, context):
    """Of the blocks that the engine gives one sequence, in bfloat16."""
    sizes = block_bytes(config, torch.bfloat16)
    return sum(
        num * size for num, size in zip(pool_sizes([context], config.window, sizes, 1 << 60), sizes, strict=True)
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_memory_of_keys_and_values_is_what_the_cache_takes(name):
    """A window has the blocks of one chunk of a prompt beside it."""
    config = PUBLISHED[name].config
    context = config.max_positions
    assert bytes_taken(config, context) == pytest.approx(config.kv_cache_bytes(context), rel=0.05)


def test_the_hybrid_keeps_under_a_third_of_the_keys_and_values():
    config = PUBLISHED["EXAONE-4.0-32B"].config
    full = config.model_copy(update={"pattern": "G", "window": None})
    assert bytes_taken(config, 131_072) <= 0.3 * bytes_taken(full, 131_072)


def test_names_of_exaone_3_are_the_published_ones():
    model = LanguageModel(SHAPES["llama"].model_copy(update={"family": "exaone", "tied_embeddings": False}))
    names = {published_name("exaone", name) for name, _ in model.named_parameters()}
    layer = ("ln_1", "ln_2", "mlp.c_fc_0", "mlp.c_fc_1", "mlp.c_proj")
    attention = tuple(f"attn.attention.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj"))
    assert names == {
        *("transformer.wte.weight", "transformer.ln_f.weight", "lm_head.weight"),
        *(f"transformer.h.{index}.{name}.weight" for index in range(3) for name in layer + attention),
    }


GOOD = config_to_hf(SHAPES["exaone4-hybrid"], dtype="float32")
LLAMA = config_to_hf(SHAPES["llama"], dtype="float32")
QWEN = {**LLAMA, "model_type": "qwen2"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "model_type: is missing; must be one of exaone, exaone4, llama, qwen2, qwen3"),
        ({**GOOD, "model_type": ["llama"]}, r"model_type = \['llama'\]: must be one of"),
        ({**GOOD, "model_type": "gpt2"}, "model_type = 'gpt2': must be one of"),
        ({**GOOD, "hidden_size": None}, "hidden_size: is missing"),
        ({**GOOD, "hidden_size": "48"}, "hidden_size = '48': must be a whole number from 1"),
        ({**GOOD, "num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000: must be at most 1024"),
        ({**GOOD, "num_attention_heads": 0}, "num_attention_heads = 0: must be a whole number from 1"),
        ({**GOOD, "num_key_value_heads": 3}, "num_key_value_heads = 3 must divide num_attention_heads = 4"),
        (
            {**GOOD, "head_dim": 10**30},
            "head_dim = 1000000000000000000000000000000: should be less than or equal to 1048576",
        ),
        ({**GOOD, "head_dim": 15}, "head_dim = 15 must be even"),
        ({**GOOD, "rms_norm_eps": float("nan")}, "rms_norm_eps = nan: should be a finite number"),
        ({**GOOD, "hidden_act": "gelu"}, "hidden_act = 'gelu': must be 'silu'"),
        ({**GOOD, "layer_types": ["full_attention"]}, "layer_types: has 1 entries for 5 layers"),
        ({**GOOD, "layer_types": ["chunked_attention"] * 5}, r"layer_types\[0\] = 'chunked_attention': must be one of"),
        ({**GOOD, "layer_types": [{}] * 5}, r"layer_types\[0\] = \{\}: must be one of"),
        ({**GOOD, "sliding_window": None}, "sliding_window = None: must be a number, as there are local layers"),
        ({**GOOD, "layer_types": None, "sliding_window_pattern": "LLX"}, "sliding_window_pattern = 'LLX': must be"),
        ({**GOOD, "layer_types": None, "sliding_window_pattern": -4}, "sliding_window_pattern = -4: must be"),
        ({**GOOD, "rope_parameters": {"rope_type": "yarn"}}, "rope_type = 'yarn': must be 'default' or 'llama3'"),
        ({**GOOD, "rope_parameters": [1]}, r"rope_parameters = \[1\]: must be an object"),
        ({**GOOD, "rope_parameters": {"full_attention": {}}}, "rope_parameters.full_attention: is not computed here"),
        ({**GOOD, "rope_parameters": None, "rope_theta": 1e-300}, "rope_theta = 1e-300: should be greater than or"),
        ({**QWEN, "use_sliding_window": "false"}, "use_sliding_window = 'false': must be true or false"),
        (
            {**LLAMA, "rope_scaling": {**LLAMA["rope_scaling"], "low_freq_factor": 4.0}, "rope_parameters": None},
            "low_freq_factor = 4.0 must be below rope_parameters.high_freq_factor = 4.0",
        ),
        ({**GOOD, "rope_theta": 5.0}, "rope_parameters.rope_theta = 1000000.0 contradicts 5.0 beside it"),
        (
            {**LLAMA, "rope_scaling": None, "rope_parameters": {"rope_type": "llama3"}},
            "rope_parameters.factor: is missing",
        ),
        (
            {**LLAMA, "rope_scaling": {**LLAMA["rope_scaling"], "factor": 0}, "rope_parameters": None},
            "factor = 0: should",
        ),
        ({**LLAMA, "attention_bias": True}, "attention_bias = True: only False can be computed here"),
        (
            {**LLAMA, "quantization_config": {"bits": 4}},
            r"quantization_config = \{'bits': 4\}: only None can be computed",
        ),
        ({**LLAMA, "rope_theta": "big", "rope_parameters": None}, "rope_theta = 'big': should be a valid number"),
    ],
)
def test_mistakes_are_named_by_the_key_of_the_file(values, message):
    with pytest.raises(ValueError, match=message):
        config_from_hf(values)
