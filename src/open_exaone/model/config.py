"""The shape of a model: one frozen record for every family, read from and written to `config.json`."""

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from open_exaone.base.config import Config


class LayerKind(StrEnum):
    """What a layer's attention sees: the last `window` positions, or all."""

    LOCAL = "local"
    GLOBAL = "global"


class RopeScaling(Config):
    """Llama 3's rule for longer contexts: low frequencies are divided by `factor`, high ones kept."""

    factor: float = Field(gt=0)
    """How many times longer the context becomes."""
    low_freq_factor: float = Field(default=1.0, gt=0)
    """Wavelengths above original / low_freq_factor are divided by `factor`."""
    high_freq_factor: float = Field(default=4.0, gt=0)
    """Wavelengths below original / high_freq_factor are kept."""
    original_max_positions: int = Field(default=8192, gt=0)
    """The context in tokens before scaling."""


class ModelConfig(Config):
    """A decoder's shape.

    `norm = "reorder"` is EXAONE 4.0's QK-Reorder-Norm: RMSNorm per head on queries and keys, and on
    each sublayer's output before the residual add (arXiv 2507.11407). `norm = "pre"` is EXAONE
    3.x/Deep and Llama: RMSNorm on each sublayer's input.
    """

    vocab_size: int = Field(gt=0)
    """Number of token ids."""
    width: int = Field(gt=0)
    """D, the width of the residual stream."""
    num_layers: int = Field(gt=0)
    """Number of decoder layers."""
    num_heads: int = Field(gt=0)
    """N, the number of query heads."""
    num_kv_heads: int = Field(gt=0)
    """K, the number of key and value heads; divides `num_heads`."""
    head_width: int = Field(gt=0)
    """H, the width of one head; even, because RoPE turns pairs."""
    ffn_width: int = Field(gt=0)
    """F, the inner width of the SwiGLU feed-forward."""
    max_positions: int = Field(gt=0)
    """The longest context in tokens, prompt and reply together."""
    norm: Literal["reorder", "pre"] = "reorder"
    """Where RMSNorm stands."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the mean square inside RMSNorm."""
    pattern: str = Field(default="G", pattern="^[LG]+$")
    """Layer kinds, L local and G global, repeated over the layers: "LLLG" is EXAONE 4.0 32B's."""
    window: int | None = Field(default=None, gt=0)
    """W, how many positions a local layer sees, its own included; needed where the pattern has an L."""
    rope_theta: float = Field(default=1e6, gt=0)
    """RoPE's base."""
    rope_scaling: RopeScaling | None = None
    """Llama 3 scaling, or none."""
    tied_embeddings: bool = True
    """Whether the output head is the embedding matrix."""
    initializer_range: float = Field(default=0.02, gt=0)
    """Standard deviation of random embeddings."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads = {self.num_kv_heads} must divide num_heads = {self.num_heads}")
        if self.head_width % 2:
            raise ValueError(f"head_width = {self.head_width} must be even")
        if LayerKind.LOCAL in self.layer_kinds and self.window is None:
            raise ValueError(f"pattern = {self.pattern!r} has local layers: set window")
        return self

    @property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """One kind a layer: the pattern, expanded."""
        letters = (self.pattern * self.num_layers)[: self.num_layers]
        return tuple(LayerKind.LOCAL if letter == "L" else LayerKind.GLOBAL for letter in letters)

    def uses_rope(self, kind: LayerKind) -> bool:
        """RoPE stands on every layer, or on local layers only where there are local layers."""
        return kind is LayerKind.LOCAL or LayerKind.LOCAL not in self.layer_kinds

    @property
    def num_parameters(self) -> int:
        """How many weights the model has, tied ones counted once."""
        attention = self.width * self.head_width * (2 * self.num_heads + 2 * self.num_kv_heads)
        norms = 2 * self.width + (2 * self.head_width if self.norm == "reorder" else 0)
        layer = attention + 3 * self.width * self.ffn_width + norms
        embeddings = self.vocab_size * self.width * (1 if self.tied_embeddings else 2)
        return embeddings + self.num_layers * layer + self.width

    def flops_per_token(self, context: int) -> int:
        """Forward floating-point operations for one token that attends over `context` positions."""
        matrices = self.num_parameters + (0 if self.tied_embeddings else -self.vocab_size * self.width)
        seen = sum(
            min(context, self.window or context) if kind is LayerKind.LOCAL else context for kind in self.layer_kinds
        )
        return 2 * matrices + 4 * seen * self.num_heads * self.head_width

    def to_hf(self, *, bos_id: int, end_id: int, pad_id: int, dtype: str) -> dict[str, Any]:
        """The `config.json` that transformers, vLLM and llama.cpp read.

        Args:
            dtype: how the weights are stored, such as "float32".
        """
        hybrid = LayerKind.LOCAL in self.layer_kinds
        rope: dict[str, Any] = {"rope_type": "default"}
        if self.rope_scaling:
            rope = {
                "rope_type": "llama3",
                "factor": self.rope_scaling.factor,
                "low_freq_factor": self.rope_scaling.low_freq_factor,
                "high_freq_factor": self.rope_scaling.high_freq_factor,
                "original_max_position_embeddings": self.rope_scaling.original_max_positions,
            }
        values: dict[str, Any] = {
            "architectures": ["Exaone4ForCausalLM" if self.norm == "reorder" else "LlamaForCausalLM"],
            "model_type": "exaone4" if self.norm == "reorder" else "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.width,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_width,
            "intermediate_size": self.ffn_width,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_positions,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": rope if self.rope_scaling else None,
            "rope_parameters": {**rope, "rope_theta": self.rope_theta},
            "tie_word_embeddings": self.tied_embeddings,
            "attention_dropout": 0.0,
            "attention_bias": False,
            "initializer_range": self.initializer_range,
            "use_cache": True,
            "bos_token_id": bos_id,
            "eos_token_id": end_id,
            "pad_token_id": pad_id,
            "dtype": dtype,
            "torch_dtype": dtype,
        }
        if self.norm == "reorder":
            names = {LayerKind.LOCAL: "sliding_attention", LayerKind.GLOBAL: "full_attention"}
            values["layer_types"] = [names[kind] for kind in self.layer_kinds]
            values["sliding_window"] = self.window if hybrid else None
            values["sliding_window_pattern"] = self.pattern if hybrid else None
        return values

    @classmethod
    def from_hf(cls, values: dict[str, Any]) -> Self:
        """Reads a `config.json` of model type `exaone4` or `llama`, old spellings and new.

        Raises:
            ValueError: the model type is another, or a field contradicts another.
            KeyError: a field is missing.
        """
        model_type = values.get("model_type")
        if model_type not in ("exaone4", "llama"):
            raise ValueError(f"model_type = {model_type!r}: must be 'exaone4' or 'llama'")
        rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
        rope_type = rope.get("rope_type", rope.get("type", "default"))
        if rope_type not in ("default", "llama3"):
            raise ValueError(f"rope_type = {rope_type!r}: must be 'default' or 'llama3'")
        num_layers = values["num_hidden_layers"]
        pattern = _pattern(values, num_layers)
        return cls(
            vocab_size=values["vocab_size"],
            width=values["hidden_size"],
            num_layers=num_layers,
            num_heads=values["num_attention_heads"],
            num_kv_heads=values.get("num_key_value_heads") or values["num_attention_heads"],
            head_width=values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"],
            ffn_width=values["intermediate_size"],
            max_positions=values["max_position_embeddings"],
            norm="reorder" if model_type == "exaone4" else "pre",
            norm_eps=values["rms_norm_eps"],
            pattern=pattern,
            window=values.get("sliding_window") if "L" in pattern else None,
            rope_theta=rope.get("rope_theta") or values["rope_theta"],
            rope_scaling=RopeScaling(
                factor=rope["factor"],
                low_freq_factor=rope["low_freq_factor"],
                high_freq_factor=rope["high_freq_factor"],
                original_max_positions=rope["original_max_position_embeddings"],
            )
            if rope_type == "llama3"
            else None,
            tied_embeddings=values.get("tie_word_embeddings", False),
            initializer_range=values.get("initializer_range", 0.02),
        )


def _pattern(values: dict[str, Any], num_layers: int) -> str:
    """The layer kinds as letters, from `layer_types`, or a pattern as text, number or nothing."""
    layer_types = values.get("layer_types")
    if layer_types:
        if len(layer_types) != num_layers:
            raise ValueError(f"layer_types has {len(layer_types)} entries for {num_layers} layers")
        letters = {"sliding_attention": "L", "full_attention": "G"}
        unknown = sorted(set(layer_types) - set(letters))
        if unknown:
            raise ValueError(f"layer_types holds {unknown}: must be one of {sorted(letters)}")
        full = "".join(letters[layer_type] for layer_type in layer_types)
        period = next(n for n in range(1, num_layers + 1) if (full[:n] * num_layers)[:num_layers] == full)
        return full[:period]
    pattern = values.get("sliding_window_pattern")
    if values.get("sliding_window") is None or not pattern:
        return "G"
    return "L" * (pattern - 1) + "G" if isinstance(pattern, int) else str(pattern)
