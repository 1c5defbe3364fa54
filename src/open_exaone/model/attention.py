"""Grouped-query attention, with RMSNorm on queries and keys where the family has it."""

import functools
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_exaone import kernels
from open_exaone.kernels.reference import SHORT, attend_short
from open_exaone.model.cache import LayerCache
from open_exaone.model.config import LayerKind, ModelConfig
from open_exaone.model.exchange import gathered
from open_exaone.model.linear import Linear
from open_exaone.model.norm import RMSNorm
from open_exaone.model.packed import Packed, Spread
from open_exaone.model.rope import norm_rotate, rotate

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


# What a layer's queries see where nothing is cached: a mask_B1TS, segments packed in a row, flex_attention's mask of
# them, either of these for the keys of several ranks, or None: plain causal rows.
Sees: TypeAlias = "Tensor | Packed | BlockMask | Spread | None"


class Attention(nn.Module):
    """One layer's attention; weight names as published."""

    def __init__(self, config: ModelConfig, kind: LayerKind) -> None:
        super().__init__()
        self.heads_NKH = (config.num_heads, config.num_kv_heads, config.head_width)  # of this rank, where split
        self.kind = kind
        self.window = config.window if kind is LayerKind.LOCAL else None
        self.uses_rope = config.uses_rope(kind)
        self.q_proj = Linear(config.width, config.num_heads * config.head_width, bias=config.qkv_bias)
        self.k_proj = Linear(config.width, config.num_kv_heads * config.head_width, bias=config.qkv_bias)
        self.v_proj = Linear(config.width, config.num_kv_heads * config.head_width, bias=config.qkv_bias)
        self.o_proj = Linear(config.num_heads * config.head_width, config.width, bias=False)
        self.q_norm, self.k_norm = (
            RMSNorm(config.head_width, eps=config.norm_eps) if config.qk_norm else nn.Identity() for _ in range(2)
        )

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor],
        sees: Sees,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Attends.

        Args:
            rope: cos_BTH and sin_BTH of the tokens' positions.
            sees: what each query sees when nothing is cached.
            cache: stores keys and values, and then supplies the mask itself.
        """
        N, K, H = self.heads_NKH
        B, T, _ = x_BTD.shape
        q_BTNH = self._turned(self.q_proj(x_BTD).view(B, T, N, H), self.q_norm, rope)
        k_BTKH = self._turned(self.k_proj(x_BTD).view(B, T, K, H), self.k_norm, rope)
        v_BTKH = self.v_proj(x_BTD).view(B, T, K, H)
        if cache is None:
            out_BTNH = attend_uncached(q_BTNH, k_BTKH, v_BTKH, sees, self.window)
        else:
            out_BTNH = attend(q_BTNH, *cache.update(k_BTKH, v_BTKH))
        return self.o_proj(out_BTNH.reshape(B, T, N * H))

    def _turned(self, x_BTNH: Tensor, norm: nn.Module, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Queries or keys, normed head by head and turned by their positions, where the layer does either."""
        if self.uses_rope and isinstance(norm, RMSNorm):
            return norm_rotate(x_BTNH, norm, *rope)
        return rotate(norm(x_BTNH), *rope) if self.uses_rope else norm(x_BTNH)


def attend_uncached(q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor, sees: Sees, window: int | None) -> Tensor:
    """Attention among the tokens at hand. Returns out_BTNH."""
    if isinstance(sees, Spread):
        k_BSKH, v_BSKH = (gathered(heads, sees.mesh, 1) for heads in (k_BTKH, v_BTKH))
        return attend_uncached(q_BTNH, k_BSKH, v_BSKH, sees.mask, window)
    if isinstance(sees, Packed):
        q_TNH, k_TKH, v_TKH = (heads.flatten(0, 1) for heads in (q_BTNH, k_BTKH, v_BTKH))
        return kernels.attention(q_TNH, k_TKH, v_TKH, sees.starts_E, window, sees.prefix_J).view(q_BTNH.shape)
    if sees is None or isinstance(sees, Tensor):
        return attend(q_BTNH, k_BTKH.transpose(1, 2), v_BTKH.transpose(1, 2), sees)
    return attend_blocks(q_BTNH, k_BTKH, v_BTKH, sees)


def attend_blocks(q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor, mask: "BlockMask") -> Tensor:
    """Packed segments on a GPU: only the blocks in which a segment meets itself or its prefix are computed."""
    heads_first = (heads.transpose(1, 2) for heads in (q_BTNH, k_BTKH, v_BTKH))
    out_BNTH = compiled_flex_attention()(*heads_first, block_mask=mask, enable_gqa=True)
    return out_BNTH.transpose(1, 2)


@functools.cache
def compiled_flex_attention() -> Any:
    """As it comes, flex_attention makes all scores; compiled, it is one kernel."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def attend(q_BTNH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, mask_B1TS: Tensor | None) -> Tensor:
    """softmax(q kᵀ / √H) v with grouped heads; causal without a mask. Returns out_BTNH."""
    B, T, N, H = q_BTNH.shape
    K = k_BKSH.shape[1]
    if T == 1 and mask_B1TS is not None:  # a group's heads become queries: no key is read twice
        q_BKGH = q_BTNH.view(B, K, N // K, H)
        out_BKGH = F.scaled_dot_product_attention(q_BKGH, k_BKSH, v_BKSH, attn_mask=mask_B1TS)
        return out_BKGH.reshape(B, 1, N, H)
    if q_BTNH.device.type == "cpu" and k_BKSH.shape[2] <= SHORT:
        return attend_short(q_BTNH, k_BKSH, v_BKSH, mask_B1TS)
    out_BNTH = F.scaled_dot_product_attention(
        q_BTNH.transpose(1, 2),
        k_BKSH,
        v_BKSH,
        attn_mask=mask_B1TS,
        is_causal=mask_B1TS is None,
        enable_gqa=N != K,
    )
    return out_BNTH.transpose(1, 2)


def visible(kind: LayerKind, window: int | None, positions_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
    """mask_B1TS for tokens that attend to each other: same document, not later, within a local window.

    Padding, position -1, is seen by nobody and sees everything (seeing nothing would give NaN).
    """
    distance_BTS = positions_BT[:, :, None] - positions_BT[:, None, :]
    mask_BTS = (distance_BTS >= 0) & (positions_BT[:, None, :] >= 0)
    if kind is LayerKind.LOCAL:
        assert window is not None
        mask_BTS &= distance_BTS < window
    if documents_BT is not None:
        mask_BTS &= documents_BT[:, :, None] == documents_BT[:, None, :]
    return (mask_BTS | (positions_BT < 0)[..., None])[:, None]
