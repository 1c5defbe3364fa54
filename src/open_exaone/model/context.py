"""A longer context for a trained model: its positions and RoPE's settings change, its weights stay."""

import math

from pydantic import Field

from open_exaone.base.config import Config
from open_exaone.model.config import MAX_POSITIONS, MAX_THETA, LayerKind, ModelConfig, RopeScaling


class ContextConfig(Config):
    """The context that a model gets before a stage trains it on longer texts."""

    max_positions: int = Field(gt=0, le=MAX_POSITIONS)
    """The longest context in tokens, prompt and reply together; longer than the model's."""
    rope_theta: float | None = Field(default=None, ge=1, le=MAX_THETA)
    """RoPE's base from now on; the model's if left out."""
    rope_scaling: RopeScaling | None = None
    """Llama 3 scaling from now on; the model's if left out."""

    def extended(self, shape: ModelConfig) -> ModelConfig:
        """The shape of a model with this context.

        Raises:
            ValueError: the context is no longer than the model's, or longer than RoPE's settings reach.
        """
        if self.max_positions <= shape.max_positions:
            raise ValueError(
                f"context.max_positions = {self.max_positions:,}: must be above the model's {shape.max_positions:,}"
            )
        longer = shape.model_copy(update=self.model_dump(exclude_none=True, exclude={"rope_scaling"}))
        if self.rope_scaling is not None:
            longer = longer.model_copy(update={"rope_scaling": self.rope_scaling})
        if (most := reach(longer)) < longer.max_positions:
            raise ValueError(f"context.max_positions = {self.max_positions:,}: {_beyond(longer, most)}")
        return longer


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
