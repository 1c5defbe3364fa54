"""Rotary position embedding with Llama 3 scaling; angles in float32."""

import math

import torch
from torch import Tensor

from open_exaone.model.config import ModelConfig, RopeScaling


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


def turns(config: ModelConfig, positions_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the positions' angles, each _BT1H; the angles themselves are float32."""
    angles_BTH = positions_BT[..., None] * inverse_frequencies(config, positions_BT.device)
    angles_BT1H = torch.cat((angles_BTH, angles_BTH), dim=-1)[:, :, None]
    return angles_BT1H.cos().to(dtype), angles_BT1H.sin().to(dtype)


def rotate(x_BTNH: Tensor, cos_BT1H: Tensor, sin_BT1H: Tensor) -> Tensor:
    """Turns each pair (channel i, channel i + H/2) by its position's angle (rotate-half, NeoX style)."""
    first, second = x_BTNH.chunk(2, dim=-1)
    return x_BTNH * cos_BT1H + torch.cat((-second, first), dim=-1) * sin_BT1H
