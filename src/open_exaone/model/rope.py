"""Rotary position embedding with Llama 3 scaling; angles in float32."""

import math

import torch
from torch import Tensor

from open_exaone.model.config import ModelConfig, RopeScaling


def inverse_frequencies(config: ModelConfig) -> Tensor:
    """Radians a position for each pair of a head's channels: [H/2], float32."""
    exponents = torch.arange(0, config.head_width, 2, dtype=torch.float32) / config.head_width
    frequencies = 1.0 / config.rope_theta**exponents
    return _scaled(frequencies, config.rope_scaling) if config.rope_scaling else frequencies


def _scaled(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    wavelengths = 2 * math.pi / frequencies
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    smooth = ((scaling.original_max_positions / wavelengths - low) / (high - low)).clamp(0.0, 1.0)
    return frequencies * ((1 - smooth) / scaling.factor + smooth)


def rope_table(config: ModelConfig) -> Tensor:
    """Cosines and sines of every position: [positions, 2, H], float32."""
    angles = torch.outer(torch.arange(config.max_positions, dtype=torch.float32), inverse_frequencies(config))
    angles = torch.cat((angles, angles), dim=-1)
    return torch.stack((angles.cos(), angles.sin()), dim=1)


def rotate(x_BTNH: Tensor, cos_BT1H: Tensor, sin_BT1H: Tensor) -> Tensor:
    """Turns each pair (channel i, channel i + H/2) by its position's angle (rotate-half, NeoX style)."""
    first, second = x_BTNH.chunk(2, dim=-1)
    return x_BTNH * cos_BT1H + torch.cat((-second, first), dim=-1) * sin_BT1H
