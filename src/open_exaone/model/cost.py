"""What training and sampling cost on paper: floating-point operations, from a model's shape. No torch here.

Everything is an estimate from above: every prompt is read and every reply written. Bytes: model/memory.py.
"""

from dataclasses import dataclass
from typing import NamedTuple

from open_exaone.model.config import LayerKind, ModelConfig
from open_exaone.model.lora_config import Projection
from open_exaone.model.memory import Held, Memory, Training, num_adapter_parameters


@dataclass(frozen=True, slots=True)
class Sampled:
    """Replies that a stage samples."""

    num_rounds: int  # times that it samples, each with weights of its own
    num_replies: int  # of a round
    prompt_tokens: float  # of a prompt, on average
    reply_tokens: float  # of a reply, on average
    longest_reply: int

    @property
    def num_tokens(self) -> float:
        return self.num_rounds * self.num_replies * self.reply_tokens


class Work(NamedTuple):
    """What a stage computes, whatever it runs on: floating-point operations by part, and its samples."""

    training: float = 0.0  # forward and backward
    forward: float = 0.0  # of the reference, and of log-probabilities before the first update
    prefill: float = 0.0  # reading prompts to sample
    decode: float = 0.0  # writing replies
    sampled: Sampled | None = None
    batch_sequences: float = 0.0  # of an optimizer step

    @property
    def flops(self) -> float:
        return self.training + self.forward + self.prefill + self.decode


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage costs, evaluation left out. None: its number of rows or their length is not known."""

    stage: str
    kind: str
    num_steps: int | None
    train_tokens: float | None  # that go forward and backward
    work: Work | None
    dense_flops: float | None  # 6 N D of what is trained, as reports count
    shape: ModelConfig
    held: Held
    memory: Memory  # on one device
    has_adapters: bool = False  # trains them instead of all weights, as LoRA does

    @property
    def flops(self) -> float | None:
        return None if self.work is None else self.work.flops

    @property
    def sampled_tokens(self) -> float | None:
        if self.work is None:
            return None
        return self.work.sampled.num_tokens if self.work.sampled else 0.0


def dense_flops(shape: ModelConfig, num_tokens: float) -> float:
    """6 N D, forward and backward, attention left out: how EXAONE's reports count (N with the embeddings)."""
    return 6.0 * shape.num_parameters * num_tokens


def dense_tokens(shape: ModelConfig, flops: float) -> float:
    """The tokens that so many operations are worth, as reports count."""
    return flops / (6.0 * shape.num_parameters)


def forward_flops(shape: ModelConfig, num_tokens: float, context: float) -> float:
    """Args:
    context: how many positions a token sees, on average.
    """
    return num_tokens * float(shape.flops_per_token(round(context)))


def training_flops(shape: ModelConfig, num_tokens: float, context: float, training: Training) -> float:
    """Forward and backward, attention included; recomputing is a second forward pass through the layers, as far as the
    backward pass needs it: the last product of a pre-norm layer is not made again.

    With LoRA, frozen matrices need no gradient of their own, and in the first layer what stands before an adapter needs
    none at all; attention and the adapters need both.
    """
    head = 2.0 * num_tokens * shape.vocab_size * shape.width
    forward = forward_flops(shape, num_tokens, context)
    again = forward - head if training.recomputes else 0.0
    if training.lora is None:
        if training.recomputes and shape.norm == "pre":
            again -= 2.0 * num_tokens * shape.num_layers * shape.width * shape.ffn_width
        return 3 * forward + again
    matrices = forward_flops(shape, num_tokens, 0)
    first = num_tokens * _needs_none(shape, context, set(training.lora.projections))
    adapters = 2.0 * num_tokens * num_adapter_parameters(shape, training.lora)
    return 3 * (forward - matrices + adapters) + 2 * matrices - first + again + (adapters if training.recomputes else 0)


def _needs_none(shape: ModelConfig, context: float, adapted: set[Projection]) -> float:
    """Backward FLOPs of a token that the first layer spares where only these matrices have adapters."""
    width, queries, keys = shape.width, shape.num_heads * shape.head_width, shape.num_kv_heads * shape.head_width
    seen = min(round(context), shape.window or round(context)) if shape.layer_kinds[0] is LayerKind.LOCAL else context
    product = 2.0 * seen * queries  # of scores with values, or of queries with keys
    has_q, has_k, has_v = ("q_proj" in adapted, "k_proj" in adapted, "v_proj" in adapted)
    spared = 2.0 * width * (queries + 2 * keys) + product * (3 - has_q - has_k - has_v + (not (has_q or has_k)))
    if has_q or has_k or has_v:
        return spared
    spared += 2.0 * width * queries
    if "o_proj" in adapted:
        return spared
    spared += 4.0 * width * shape.ffn_width
    return spared if {"gate_proj", "up_proj"} & adapted else spared + 2.0 * width * shape.ffn_width


def sampling_work(shape: ModelConfig, num_groups: float, group_size: int, prompt: float, reply: float) -> Work:
    """Each prompt is read once, and its group of replies written token by token.

    Args:
        prompt, reply: tokens, on average.
    """
    read = forward_flops(shape, num_groups * prompt, prompt / 2)
    return Work(prefill=read, decode=forward_flops(shape, num_groups * group_size * reply, prompt + reply / 2))


def sampling_flops(
    shape: ModelConfig, num_groups: float, group_size: int, prompt_tokens: float, reply_tokens: float
) -> float:
    """Of `sampling_work`, together."""
    return sampling_work(shape, num_groups, group_size, prompt_tokens, reply_tokens).flops
