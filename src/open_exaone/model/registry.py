"""The shapes that LG AI Research published, by model name, and those of other models that a shipped recipe begins from.

No weights: those come from a folder or the hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from open_exaone.model.config import ModelConfig, RopeScaling


@dataclass(frozen=True, slots=True)
class Published:
    """One published model: its shape, and how many tokens it was pretrained on."""

    hub_name: str
    config: ModelConfig
    training_tokens: int  # pretraining; EXAONE Deep's are those of the 3.5 model that it was trained from


def _shape(**changes: object) -> ModelConfig:
    """EXAONE 3.5 of 7.8B; all others differ from it in a few numbers (arXiv 2412.04862, table 1)."""
    shape: dict[str, object] = {
        "family": "exaone",
        "vocab_size": 102_400,
        "width": 4096,
        "num_layers": 32,
        "num_heads": 32,
        "num_kv_heads": 8,
        "head_width": 128,
        "ffn_width": 14_336,
        "max_positions": 32_768,
        "rope_theta": 1e6,
        "rope_scaling": RopeScaling(factor=8.0),
        "tied_embeddings": False,
    }
    return ModelConfig.model_validate(shape | changes)


_2_4B = _shape(width=2560, num_layers=30, head_width=80, ffn_width=7168, tied_embeddings=True)
_7_8B = _shape()
_32B = _shape(width=5120, num_layers=64, num_heads=40, ffn_width=27_392)
_4_SCALING = RopeScaling(factor=16.0)

PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        hub_name.removeprefix("LGAI-EXAONE/"): Published(hub_name, config, training_tokens)
        for hub_name, config, training_tokens in (
            (
                "LGAI-EXAONE/EXAONE-3.0-7.8B-Instruct",
                _shape(max_positions=4096, rope_theta=5e5, rope_scaling=None),
                8_000_000_000_000,
            ),
            ("LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct", _2_4B, 6_500_000_000_000),
            ("LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct", _7_8B, 9_000_000_000_000),
            ("LGAI-EXAONE/EXAONE-3.5-32B-Instruct", _32B, 6_500_000_000_000),
            ("LGAI-EXAONE/EXAONE-Deep-2.4B", _2_4B, 6_500_000_000_000),
            ("LGAI-EXAONE/EXAONE-Deep-7.8B", _7_8B, 9_000_000_000_000),
            ("LGAI-EXAONE/EXAONE-Deep-32B", _32B, 6_500_000_000_000),
            (
                "LGAI-EXAONE/EXAONE-4.0-1.2B",
                _shape(
                    family="exaone4",
                    width=2048,
                    num_layers=30,
                    head_width=64,
                    ffn_width=4096,
                    max_positions=65_536,
                    rope_scaling=_4_SCALING,
                    tied_embeddings=True,
                ),
                12_000_000_000_000,
            ),
            (
                "LGAI-EXAONE/EXAONE-4.0-32B",
                _32B.model_copy(
                    update={
                        "family": "exaone4",
                        "pattern": "LLLG",
                        "window": 4096,
                        "max_positions": 131_072,
                        "rope_scaling": _4_SCALING,
                    }
                ),
                14_000_000_000_000,
            ),
        )
    }
)


@dataclass(frozen=True, slots=True)
class Reported:
    """What a report prints of a model's training: EXAONE Deep's table 1, EXAONE 4.0's table 2."""

    model: str
    pretraining_flops: float
    fine_tuning_flops: float | None = None
    fine_tuned_from: str | None = None
    fine_tuning_tokens: float | None = None  # of one pass over the SFT data


_SFT_TOKENS = 12e9  # EXAONE Deep's, about
REPORTED: tuple[Reported, ...] = (
    Reported("EXAONE-Deep-32B", 1.25e24, 7.04e21, "EXAONE-3.5-32B-Instruct", _SFT_TOKENS),
    Reported("EXAONE-Deep-7.8B", 4.21e23, 1.71e21, "EXAONE-3.5-7.8B-Instruct", _SFT_TOKENS),
    Reported("EXAONE-Deep-2.4B", 9.36e22, 5.27e20, "EXAONE-3.5-2.4B-Instruct", _SFT_TOKENS),
    Reported("EXAONE-4.0-32B", 2.69e24),
    Reported("EXAONE-4.0-1.2B", 8.65e22),
)
FINE_TUNING_PASSES = 3  # inferred: no report says how many


# Other models that a shipped recipe begins from, by their names on the hub, so that it is planned before a download.
STARTS: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "HuggingFaceTB/SmolLM2-135M-Instruct": ModelConfig(
            family="llama",
            vocab_size=49_152,
            width=576,
            num_layers=30,
            num_heads=9,
            num_kv_heads=3,
            head_width=64,
            ffn_width=1536,
            max_positions=8192,
            rope_theta=1e5,
            tied_embeddings=True,
        )
    }
)


_BY_NAME = {**STARTS, **{published.hub_name: published.config for published in PUBLISHED.values()}}


def shape_by_name(hub_name: str) -> ModelConfig | None:
    """The shape of a model on the hub; None where it is not known without its files."""
    return _BY_NAME.get(hub_name)


def reported_of(hub_name: str) -> Reported | None:
    """What a report prints of a published model, or of the one that was trained from it; None if nothing is known."""
    name = hub_name.removeprefix("LGAI-EXAONE/")
    return next((one for one in REPORTED if name in (one.model, one.fine_tuned_from)), None)
