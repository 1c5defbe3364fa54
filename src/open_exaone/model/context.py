"""A longer context for a trained model: its positions and RoPE's settings change, its weights stay."""

import math
from typing import Any

from pydantic import Field, field_serializer

from open_exaone.base.config import Config
from open_exaone.model.config import MAX_POSITIONS, MAX_THETA, LayerKind, ModelConfig, RopeScaling


class ContextConfig(Config):
    """The context that a model gets before a stage trains it on longer texts."""

    max_positions: int = Field(gt=0, le=MAX_POSITIONS)
    """The longest context in tokens, prompt and reply together; longer than the model's."""
    rope_theta: float | None = Field(default=None, ge=1, le=MAX_THETA)
    """RoPE's base from now on; the model's if left out."""
    rope_scaling: RopeScaling | None = None
    """Llama 3's RoPE scaling from this stage on; the model's own if left out."""

    def extended(self, shape: ModelConfig) -> ModelConfig:
        """The shape of a model with this context.

        Raises:
            ValueError: the context is no longer than the model's, or longer than RoPE's settings reach, or the scaling
                is for a longer context than the model's.
        """
        if self.max_positions <= shape.max_positions:
            raise ValueError(
                f"context.max_positions = {self.max_positions:,}: must be above the model's {shape.max_positions:,}"
            )
        theta, scaling = self.rope_theta or shape.rope_theta, self._scaling(shape)
        update = {"max_positions": self.max_positions, "rope_theta": theta, "rope_scaling": scaling}
        longer = shape.model_copy(update=update)
        if (most := reach(longer)) < longer.max_positions:
            raise ValueError(f"context.max_positions = {self.max_positions:,}: {_beyond(longer, most)}")
        return longer

    def _scaling(self, shape: ModelConfig) -> RopeScaling | None:
        """The model's scaling from now on; of one that names no original context, it is the model's."""
        scaling, own = self.rope_scaling, shape.rope_scaling
        if scaling is None:
            return own
        if "original_max_positions" not in scaling.model_fields_set:
            original = own.original_max_positions if own else shape.max_positions
            return scaling.model_copy(update={"original_max_positions": original})
        if scaling.original_max_positions > shape.max_positions:
            raise ValueError(
                f"context.rope_scaling.original_max_positions = {scaling.original_max_positions:,}: must be at most "
                f"the model's {shape.max_positions:,}: leave it out"
            )
        return scaling

    @field_serializer("rope_scaling")
    def _as_given(self, scaling: RopeScaling | None) -> dict[str, Any] | None:
        """A default stays out, as `original_max_positions` follows the model."""
        return None if scaling is None else scaling.model_dump(exclude_unset=True)


def reach(shape: ModelConfig) -> float:
    """The longest context in tokens that a model's RoPE tells positions apart in.

    With Llama 3 scaling, factor x original_max_positions, as it is meant for. Without, the wavelength of the slowest
    pair of channels, 2 pi theta^((H - 2) / H): positions farther apart than that look like nearer ones to every pair.
    Unlimited where layers that see the whole context have no RoPE, as EXAONE 4.0's global layers beside local ones.
    """
    if not any(kind is LayerKind.GLOBAL and shape.uses_rope(kind) for kind in shape.layer_kinds):
        return math.inf
    if shape.rope_scaling is not None:
        return shape.rope_scaling.factor * shape.rope_scaling.original_max_positions
    return 2 * math.pi * shape.rope_theta ** ((shape.head_width - 2) / shape.head_width)


def _beyond(shape: ModelConfig, most: float) -> str:
    if shape.rope_scaling is not None:
        scaling = shape.rope_scaling
        return (
            f"RoPE's scaling reaches {most:,.0f} positions (factor {scaling.factor:g} x original_max_positions "
            f"{scaling.original_max_positions:,}): raise context.rope_scaling.factor"
        )
    return f"RoPE with theta {shape.rope_theta:g} reaches {most:,.0f} positions: raise context.rope_theta"
