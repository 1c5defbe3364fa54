"""Rotary position embedding with Llama 3 scaling; angles in float32."""

import math

import torch
from torch import Tensor

from open_exaone import kernels
from open_exaone.model.config import ModelConfig, RopeScaling
from open_exaone.model.norm import RMSNorm
from open_exaone.model.sharding import local


def inverse_frequencies(config: ModelConfig, device: torch.device | str = "cpu") -> Tensor:
    """Radians a position for each pair of a head's channels: [H/2], float32."""
    exponents = torch.arange(0, config.head_width, 2, dtype=torch.float32, device=device) / config.head_width
    frequencies = 1.0 / config.rope_theta**exponents
    return _scaled(frequencies, config.rope_scaling) if config.rope_scaling else frequencies


def _scaled(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    wavelengths = 2 * math.pi / frequencies
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    smooth = ((scaling.original_max_positions / wavelengths - low) / (high - low)).clamp(0.0, 1.0)
    return frequencies * ((1 - smooth) / scaling.factor + smooth)


def turns(config: ModelConfig, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the positions' angles, each _BTH, float32."""
    angles_BTH = positions_BT[..., None] * inverse_frequencies(config, positions_BT.device)
    angles_BTH = torch.cat((angles_BTH, angles_BTH), dim=-1)
    return angles_BTH.cos(), angles_BTH.sin()


def rotate(x_BTNH: Tensor, cos_BTH: Tensor, sin_BTH: Tensor) -> Tensor:
    """Turns each pair (channel i, channel i + H/2) by its position's angle (rotate-half, NeoX style)."""
    return _rotate(x_BTNH, None, 0.0, cos_BTH, sin_BTH)


def norm_rotate(x_BTNH: Tensor, norm: RMSNorm, cos_BTH: Tensor, sin_BTH: Tensor) -> Tensor:
    """The same of normed heads."""
    return _rotate(x_BTNH, local(norm.weight), norm.eps, cos_BTH, sin_BTH)


def _rotate(x_BTNH: Tensor, weight_H: Tensor | None, eps: float, cos_BTH: Tensor, sin_BTH: Tensor) -> Tensor:
    flat_XNH, cos_XH, sin_XH = (tensor.flatten(0, 1) for tensor in (x_BTNH, cos_BTH, sin_BTH))
    return kernels.norm_rope(flat_XNH, weight_H, eps, cos_XH, sin_XH).view(x_BTNH.shape)
