"""How weights move. No torch here."""

import math
from typing import Literal

from pydantic import Field

from open_exaone.base.config import Config


class OptimizerConfig(Config):
    """How weights move."""

    kind: Literal["muon", "adamw"] = "muon"
    """"muon": Muon for the matrices of the layers, AdamW for embeddings and norms; "adamw": AdamW for all."""
    learning_rate: float = Field(gt=0, lt=10)
    """The peak rate of AdamW's weights."""
    matrix_learning_rate: float = Field(default=0.02, gt=0, lt=10)
    """The peak rate of Muon's matrices; "adamw" has no use for it."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Decoupled decay of matrices and embeddings."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's memory of the gradient."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """AdamW's memory of the squared gradient."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this total norm."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """The share of the steps in which the rate rises from zero."""
    schedule: Literal["cosine", "linear", "constant"] = "linear"
    """How the rate falls after the warm-up."""
    final: float = Field(default=0.05, ge=0, le=1)
    """The last step's rate as a share of the peak."""


def rate_at(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """The learning rate of step `step` (from 0) as a share of the peak."""
    warmup_steps = config.warmup * num_steps
    if step < warmup_steps:
        return (step + 1) / (math.ceil(warmup_steps) + 1)
    done = (step - warmup_steps) / max(1.0, num_steps - warmup_steps)
    match config.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - (1 - config.final) * done
        case "cosine":
            return config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * done))
