"""The shape of a model: one frozen record for every family."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from open_exaone.base.config import Config
from open_exaone.model.family import FAMILIES, FamilyName


class LayerKind(StrEnum):
    """What a layer's attention sees: the last `window` positions, or all."""

    LOCAL = "local"
    GLOBAL = "global"


BLOCK = 16  # positions whose keys and values lie together in a cache, as in kernels/decode/attention.h

# The most that is believed of a config: what a hostile file describes must not take a machine's memory.
MAX_LAYERS, MAX_HEADS, MAX_WIDTH, MAX_VOCAB, MAX_POSITIONS = 2**10, 2**12, 2**20, 2**24, 2**31
MAX_THETA = 1e12  # of RoPE's base; published ones reach 1e8


class RopeScaling(Config):
    """Llama 3's rule for longer contexts: low frequencies are divided by `factor`, high ones kept."""

    factor: float = Field(gt=0, le=1e6)
    """How many times longer the context becomes."""
    low_freq_factor: float = Field(default=1.0, gt=0, le=1e6)
    """Wavelengths above original / low_freq_factor are divided by `factor`."""
    high_freq_factor: float = Field(default=4.0, gt=0, le=1e6)
    """Wavelengths below original / high_freq_factor are kept."""
    original_max_positions: int = Field(default=8192, gt=0, le=MAX_POSITIONS)
    """The context in tokens before scaling."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                f"low_freq_factor = {self.low_freq_factor} must be below high_freq_factor = {self.high_freq_factor}"
            )
        return self


class ModelConfig(Config):
    """A decoder's shape.

    Family "exaone4" has EXAONE 4.0's QK-Reorder-Norm: RMSNorm per head on queries and keys, and on each sublayer's
    output before the residual add (arXiv 2507.11407). All others norm each sublayer's input; "exaone" is EXAONE
    3.0, 3.5 and Deep. `open_exaone.model.family` distinguishes them.
    """

    vocab_size: int = Field(gt=0, le=MAX_VOCAB)
    """Number of token ids."""
    width: int = Field(gt=0, le=MAX_WIDTH)
    """D, the width of the residual stream."""
    num_layers: int = Field(gt=0, le=MAX_LAYERS)
    """Number of decoder layers."""
    num_heads: int = Field(gt=0, le=MAX_HEADS)
    """N, the number of query heads."""
    num_kv_heads: int = Field(gt=0, le=MAX_HEADS)
    """K, the number of key and value heads; divides `num_heads`."""
    head_width: int = Field(gt=0, le=MAX_WIDTH)
    """H, the width of one head; even, because RoPE turns pairs."""
    ffn_width: int = Field(gt=0, le=MAX_WIDTH)
    """F, the inner width of the SwiGLU feed-forward."""
    max_positions: int = Field(gt=0, le=MAX_POSITIONS)
    """The longest context in tokens, prompt and reply together."""
    family: FamilyName = "exaone4"
    """Whose layers these are: "exaone4", "exaone", "llama", "qwen2" or "qwen3"."""
    norm_eps: float = Field(default=1e-5, gt=0, le=1)
    """Added to the mean square inside RMSNorm."""
    pattern: str = Field(default="G", pattern="^[LG]+$")
    """Layer kinds, L local and G global, repeated over the layers: "LLLG" is EXAONE 4.0 32B's."""
    window: int | None = Field(default=None, gt=0, le=MAX_POSITIONS)
    """W, how many positions a local layer sees, its own included; needed where the pattern has an L."""
    rope_theta: float = Field(default=1e6, ge=1, le=MAX_THETA)
    """RoPE's base."""
    rope_scaling: RopeScaling | None = None
    """Llama 3 scaling, or none."""
    tied_embeddings: bool = True
    """Whether the output head is the embedding matrix."""
    initializer_range: float = Field(default=0.02, gt=0, le=10)
    """Standard deviation of random embeddings."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads = {self.num_kv_heads} must divide num_heads = {self.num_heads}")
        if self.head_width % 2:
            raise ValueError(f"head_width = {self.head_width} must be even")
        if self.is_hybrid and self.window is None:
            raise ValueError(f"pattern = {self.pattern!r} has local layers: set window")
        return self

    @property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """One kind a layer: the pattern, expanded."""
        letters = (self.pattern * self.num_layers)[: self.num_layers]
        return tuple(LayerKind.LOCAL if letter == "L" else LayerKind.GLOBAL for letter in letters)

    def uses_rope(self, kind: LayerKind) -> bool:
        """RoPE stands on every layer; EXAONE 4.0, where it has local layers, leaves it out of the global ones."""
        return kind is LayerKind.LOCAL or FAMILIES[self.family].rope_on_global or not self.is_hybrid

    @property
    def is_hybrid(self) -> bool:
        """Whether any layer is local."""
        return LayerKind.LOCAL in self.layer_kinds

    @property
    def norm(self) -> Literal["pre", "reorder"]:
        """Where RMSNorm stands: on each sublayer's input or, before the residual add, on its output."""
        return FAMILIES[self.family].norm

    @property
    def qk_norm(self) -> bool:
        """Whether each head's queries and keys are normed, before RoPE."""
        return FAMILIES[self.family].qk_norm

    @property
    def qkv_bias(self) -> bool:
        """Whether the projections to queries, keys and values have a bias."""
        return FAMILIES[self.family].qkv_bias

    @property
    def num_parameters(self) -> int:
        """How many weights the model has, tied ones counted once."""
        attention = self.width * self.head_width * (2 * self.num_heads + 2 * self.num_kv_heads)
        biases = self.head_width * (self.num_heads + 2 * self.num_kv_heads) if self.qkv_bias else 0
        norms = 2 * self.width + (2 * self.head_width if self.qk_norm else 0)
        layer = attention + biases + 3 * self.width * self.ffn_width + norms
        embeddings = self.vocab_size * self.width * (1 if self.tied_embeddings else 2)
        return embeddings + self.num_layers * layer + self.width

    def kv_cache_bytes(self, context: int, *, bytes_per_value: int = 2) -> int:
        """Memory of one sequence's keys and values: a local layer keeps its window, a global one the whole context."""
        kept = sum(self._num_seen(kind, context) for kind in self.layer_kinds)
        return 2 * kept * self.num_kv_heads * self.head_width * bytes_per_value

    def _num_seen(self, kind: LayerKind, context: int) -> int:
        """How many positions a layer sees of `context`, and so keeps."""
        return min(context, self.window) if kind is LayerKind.LOCAL and self.window else context

    def flops_per_token(self, context: int) -> int:
        """Forward floating-point operations for one token that attends over `context` positions."""
        matrices = self.num_parameters + (0 if self.tied_embeddings else -self.vocab_size * self.width)
        seen = sum(self._num_seen(kind, context) for kind in self.layer_kinds)
        return 2 * matrices + 4 * seen * self.num_heads * self.head_width
