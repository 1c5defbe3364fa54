"""How weights move, and what every loss's settings have. No torch here."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from open_exaone.base.config import Config

# Rewards are equal where they lie no farther apart than this share of their size: four steps of float32, so that sums
# of weighted terms are covered, which differ by their rounding alone.
REWARD_ROUNDING = 2.0**-21


class OptimizerConfig(Config):
    """How weights move."""

    kind: Literal["muon", "adamw"] = "muon"
    """"muon": Muon for the matrices of the layers, AdamW for all else (embeddings, norms, LoRA's factors); "adamw":
    AdamW for all."""
    learning_rate: float = Field(gt=0, lt=10)
    """The peak rate of AdamW's weights."""
    matrix_learning_rate: float = Field(default=0.02, gt=0, lt=10)
    """The peak rate of Muon's matrices; "adamw" has no use for it."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Decoupled decay of matrices and embeddings; norms and biases have none."""
    embedding_weight_decay: float | None = Field(default=None, ge=0, le=1)
    """Another decay for the embedding and the output head; `weight_decay` if left out."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's memory of the gradient."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """AdamW's memory of the squared gradient."""
    max_gradient_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this total norm; None leaves them as they are."""
    gradient_dtype: Literal["float32", "bfloat16"] = "float32"
    """"float32": micro-batches are added up in float32, beside the model; "bfloat16": in the model's own gradients: it
    takes 2 to 4 bytes a weight less and rounds each sum (in a model that computes in float32 nothing is rounded)."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """The share of the steps in which the rate rises to its peak."""
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "linear"
    """How the rate falls after the warm-up: at once ("cosine", "linear"), only in the last steps ("wsd"), never."""
    decay: float = Field(default=0.2, gt=0, le=1)
    """The share of the steps, the last ones, in which "wsd" (warm-up, stable, decay) falls, in a straight line."""
    final: float = Field(default=0.05, ge=0, le=1)
    """The last step's rate as a share of the peak."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup = {self.warmup} and decay = {self.decay} are more than all steps together: lower one of them"
            )
        return self


class LossConfig(Config):
    """What every loss's settings have. Those of a loss stand beside its function."""

    name: str
    """Chooses the loss."""
    needs_reference: ClassVar[bool] = False  # whether it compares with the stage's starting model

    @model_serializer(mode="wrap")
    def _with_name(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The name is written even where defaults are left out: it tells one loss's defaults from another's."""
        return {"name": self.name, **serialize(self)}
