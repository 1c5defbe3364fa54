"""The decoder: EXAONE 4.0's reordered norms or the pre-norm of EXAONE 3.x, Llama and Qwen, by its config."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from open_exaone import kernels
from open_exaone.model.attention import Attention, Sees, visible
from open_exaone.model.cache import Cache, LayerCache, keep_updates_eager
from open_exaone.model.config import LayerKind, ModelConfig
from open_exaone.model.linear import Embedding, Linear
from open_exaone.model.norm import RMSNorm, add_norm
from open_exaone.model.packed import Packed, PackedPart
from open_exaone.model.rope import turns

Result = TypeVar("Result")


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.width, config.ffn_width, bias=False)
        self.up_proj = Linear(config.width, config.ffn_width, bias=False)
        self.down_proj = Linear(config.ffn_width, config.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down_proj(kernels.swiglu(self.gate_proj(x_BTD), self.up_proj(x_BTD)))


class ReorderBlock(nn.Module):
    """EXAONE 4.0's layer: the norm stands on each sublayer's output, before the residual add."""

    def __init__(self, config: ModelConfig, kind: LayerKind) -> None:
        super().__init__()
        self.self_attn = Attention(config, kind)
        self.mlp = FeedForward(config)
        self.post_attention_layernorm = RMSNorm(config.width, eps=config.norm_eps)
        self.post_feedforward_layernorm = RMSNorm(config.width, eps=config.norm_eps)

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor],
        sees: Sees,
        cache: LayerCache | None,
    ) -> Tensor:
        attended_BTD = self.self_attn(x_BTD, rope, sees, cache)
        h_BTD = add_norm(x_BTD, attended_BTD, self.post_attention_layernorm)
        return add_norm(h_BTD, self.mlp(h_BTD), self.post_feedforward_layernorm)


class PreNormBlock(nn.Module):
    """EXAONE 3.x's, Llama's and Qwen's layer: the norm stands on each sublayer's input."""

    def __init__(self, config: ModelConfig, kind: LayerKind) -> None:
        super().__init__()
        self.self_attn = Attention(config, kind)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.width, eps=config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.width, eps=config.norm_eps)

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor],
        sees: Sees,
        cache: LayerCache | None,
    ) -> Tensor:
        h_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rope, sees, cache)
        return h_BTD + self.mlp(self.post_attention_layernorm(h_BTD))


class Decoder(nn.Module):
    """Token embeddings, layers, final norm; weight names as in the published `exaone4` checkpoints."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        block = ReorderBlock if config.norm == "reorder" else PreNormBlock
        self.config = config
        # Given its weight, it draws none: on the meta device that would load a compiler, which takes a second or two.
        empty = torch.empty(config.vocab_size, config.width)
        self.embed_tokens = Embedding(config.vocab_size, config.width, _weight=empty)
        self.layers = nn.ModuleList(block(config, kind) for kind in config.layer_kinds)
        self.norm = RMSNorm(config.width, eps=config.norm_eps)
        self.recomputes = False  # a layer's activations in the backward pass, instead of keeping them

    def forward(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
        packed: Packed | PackedPart | None = None,
    ) -> Tensor:
        x_BTD = self.embed_tokens(ids_BT)
        if packed is not None:
            positions_BT = packed.positions_T[None]
        rope = self._rope(ids_BT, positions_BT)
        if cache is not None:
            assert positions_BT is not None
            cache.begin(positions_BT)
        sees = {} if cache else self._sees(ids_BT, positions_BT, documents_BT, packed)
        for index, (layer, kind) in enumerate(zip(self.layers, self.config.layer_kinds, strict=True)):
            given = (x_BTD, rope, sees.get(kind), cache.layers[index] if cache else None)
            if self.recomputes and torch.is_grad_enabled():
                x_BTD = checkpoint(layer, *given, use_reentrant=False)
            else:
                x_BTD = layer(*given)
        return self.norm(x_BTD)

    def _rope(self, ids_BT: Tensor, positions_BT: Tensor | None) -> tuple[Tensor, Tensor]:
        """cos_BTH and sin_BTH."""
        if positions_BT is None:
            positions_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device).expand(ids_BT.shape)
        return turns(self.config, positions_BT)

    def _sees(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None,
        documents_BT: Tensor | None,
        packed: Packed | PackedPart | None,
    ) -> dict[LayerKind, Sees]:
        """What each layer kind sees; None for plain causal attention over the whole row."""
        window, kinds = self.config.window, set(self.config.layer_kinds)
        B, T = ids_BT.shape
        if packed is None and positions_BT is None and ids_BT.device.type == "cpu":
            packed = Packed.rows(B, T, ids_BT.device)
        if packed is not None:
            return {kind: packed.sees(kind, window) for kind in kinds}
        if positions_BT is None:
            if not self.config.is_hybrid or (window is not None and T <= window):
                return {}
            row = torch.arange(T, device=ids_BT.device)[None]
            return {LayerKind.LOCAL: visible(LayerKind.LOCAL, window, row)}
        return {kind: visible(kind, window, positions_BT, documents_BT) for kind in kinds}


class LanguageModel(nn.Module):
    """The decoder and its output head: token ids to logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.sharing: Any = None  # where ranks keep a part each: the `threads.Workers` that go through it in step
        self.version = 0  # of the weights: training counts it up, and every completion carries it
        self.model = Decoder(config)
        self.lm_head = Linear(config.width, config.vocab_size, bias=False)
        self.tie_weights()

    def compile_layers(self) -> None:
        """Compiles the layers for training on a GPU, one after the other, with torch.compile."""
        keep_updates_eager()
        for layer in self.model.layers:
            layer.compile()

    def tie_weights(self) -> None:
        """Makes the output head the embedding matrix where the config says so; `to_empty` unties them."""
        if self.config.tied_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Computes the next token's logits at every position.

        Args:
            ids_BT: token ids.
            positions_BT: each token's place in its document; -1 marks padding. Without it a row is one
                document from position 0, and padding may only stand at its end.
            documents_BT: which document each token belongs to, where a row holds several.
            cache: what was read before; needs `positions_BT`.

        Returns:
            logits_BTV, float32.
        """
        return self.head(self.model(ids_BT, positions_BT, documents_BT, cache))

    def within(self, act: Callable[[], Result]) -> Result:
        """Does what computes with its weights: where ranks keep a part each, they are gathered for it."""
        return act()

    def head(self, x_BTD: Tensor) -> Tensor:
        """Hidden states to logits, float32."""
        return self.lm_head(x_BTD).float()

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.embed_tokens.weight.dtype

    def reset_parameters(self, seed: int) -> None:
        """Draws every weight anew, for training from scratch: see `initial_weights`."""
        weights = dict(self.named_parameters())
        with torch.no_grad():
            for name, values in self.initial_weights(seed):
                weights[name].copy_(values)

    def initial_weights(self, seed: int) -> Iterator[tuple[str, Tensor]]:
        """Every weight as training from scratch begins, by name, in float32; the same on any device.

        Matrices keep the size of what they are given (deviation 1 / √fan-in), embeddings have deviation
        `initializer_range`. A reordered norm writes its sublayer's output into the residual stream at the norm's
        own size; at 1 it would drown an embedding of 0.02 to 0.1, and the model would be slow to learn which token
        it reads. So these norms begin at `initializer_range` too, all others at 1.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                is_embedding = "embed_tokens" in name or "lm_head" in name
                deviation = self.config.initializer_range if is_embedding else weight.shape[1] ** -0.5
                yield name, torch.randn(weight.shape, generator=generator) * deviation
            elif name.endswith(".bias"):
                yield name, torch.zeros(weight.shape)
            else:
                writes_residual = self.config.norm == "reorder" and ".post_" in name
                yield name, torch.full(weight.shape, self.config.initializer_range if writes_residual else 1.0)
