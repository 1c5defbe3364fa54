"""What LoRA adds to a model. No torch here, so that recipes parse quickly."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from open_exaone.base.config import Config, word_or_list

Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Targets = Annotated[
    Annotated[Literal["all-linear"], Tag("<word>")]
    | Annotated[tuple[Projection, ...], Field(min_length=1), Tag("<list>")],
    Discriminator(word_or_list),
]
ATTENTION: tuple[Projection, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL_LINEAR: tuple[Projection, ...] = (*ATTENTION, "gate_proj", "up_proj", "down_proj")

MAX_ALPHA = 1_000_000  # beyond it an adapter's output is nothing but overflow


class LoraConfig(Config):
    """Low-rank adapters beside the frozen matrices of the layers (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int = Field(default=16, gt=0, le=4096)
    """How many directions each adapter has."""
    alpha: float = Field(default=32.0, gt=0, le=MAX_ALPHA)
    """An adapter's output is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """The share of an adapter's inputs that are dropped in training; must be 0 for RL."""
    targets: Targets = "all-linear"
    """Which matrices of each layer get one, by the names that EXAONE 4.0 and Llama publish them under."""
    use_rslora: bool = False
    """Multiplies by alpha / √rank instead, which keeps high ranks learning (Kalajdzievski 2023, arXiv 2312.03732)."""

    @property
    def scale(self) -> float:
        """What an adapter's output is multiplied by."""
        return float(self.alpha / (self.rank**0.5 if self.use_rslora else self.rank))

    @property
    def projections(self) -> tuple[Projection, ...]:
        """The matrices' names."""
        return ALL_LINEAR if self.targets == "all-linear" else self.targets
