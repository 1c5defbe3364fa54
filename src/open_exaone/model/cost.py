"""What training and sampling cost on paper: floating-point operations and bytes, from a model's shape. No torch here.

Everything is an estimate from above: every prompt is read and every reply written, and no memory is shared out.
"""

from dataclasses import dataclass

from open_exaone.model.config import ModelConfig
from open_exaone.model.lora_config import LoraConfig, Projection

CHUNK_BYTES = 256 << 20  # of logits at once; see model.logprobs
FLOAT32 = 4
MASTER, MOMENT = 4, 4  # bytes of a weight's master and of one moment of its gradient; see learn.optimizer


@dataclass(frozen=True, slots=True)
class Training:
    """How weights are trained, as far as it decides what that costs; `learn.optimizer` has the table of bytes."""

    value_bytes: int = 2  # of a weight and an activation: 2 in bfloat16, 4 in float32
    uses_muon: bool = True  # for the matrices of the layers
    keeps_gradients: bool = False  # in the model's dtype, instead of adding them up in float32
    recomputes: bool = False  # activations, in the backward pass
    lora: LoraConfig | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a stage needs on one device, at least."""

    weights: int  # the model in the dtype that it computes in
    optimizer: int  # masters, gradients and moments
    activations: int = 0  # of one micro-batch, and the logits of a piece of it
    reference: int = 0  # the second model that a loss compares with
    cache: int = 0  # keys and values of one whole reply

    @property
    def state(self) -> int:
        """What stays from step to step: the part that several devices could share."""
        return self.weights + self.optimizer + self.reference

    @property
    def total(self) -> int:
        """At the fullest moment: nothing is trained while samples are drawn."""
        return self.state + max(self.activations, self.cache)


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage costs, evaluation left out. None: its number of rows or their length is not known."""

    stage: str
    kind: str
    num_steps: int | None
    train_tokens: float | None  # that go forward and backward
    sampled_tokens: float | None
    flops: float | None
    dense_flops: float | None  # 6 N D of what is trained, as reports count
    memory: Memory
    has_adapters: bool = False  # trains them instead of all weights, as LoRA does


def dense_flops(shape: ModelConfig, num_tokens: float) -> float:
    """6 N D, forward and backward, attention left out: how EXAONE's reports count (N with the embeddings)."""
    return 6.0 * shape.num_parameters * num_tokens


def forward_flops(shape: ModelConfig, num_tokens: float, context: float) -> float:
    """Args:
    context: how many positions a token sees, on average.
    """
    return num_tokens * float(shape.flops_per_token(round(context)))


def training_flops(shape: ModelConfig, num_tokens: float, context: float, training: Training) -> float:
    """Forward and backward, attention included; frozen weights need no gradient, and recomputing is a second forward
    pass through the layers."""
    head = 2.0 * num_tokens * shape.vocab_size * shape.width
    forward = forward_flops(shape, num_tokens, context)
    passes = 3 if training.lora is None else 2
    return passes * forward + (forward - head if training.recomputes else 0.0)


def sampling_flops(
    shape: ModelConfig, num_groups: float, group_size: int, prompt_tokens: float, reply_tokens: float
) -> float:
    """Each prompt is read once, and its group of replies written token by token."""
    read = forward_flops(shape, num_groups * prompt_tokens, prompt_tokens / 2)
    return read + forward_flops(shape, num_groups * group_size * reply_tokens, prompt_tokens + reply_tokens / 2)


def num_matrix_parameters(shape: ModelConfig) -> int:
    """The weights of the layers' matrices: those that Muon moves."""
    attention = shape.width * shape.head_width * (2 * shape.num_heads + 2 * shape.num_kv_heads)
    return shape.num_layers * (attention + 3 * shape.width * shape.ffn_width)


def num_adapter_parameters(shape: ModelConfig, lora: LoraConfig) -> int:
    """The weights of LoRA's factors."""
    width, queries, keys = shape.width, shape.num_heads * shape.head_width, shape.num_kv_heads * shape.head_width
    sizes: dict[Projection, int] = {
        "q_proj": width + queries,
        "k_proj": width + keys,
        "v_proj": width + keys,
        "o_proj": queries + width,
        "gate_proj": width + shape.ffn_width,
        "up_proj": width + shape.ffn_width,
        "down_proj": shape.ffn_width + width,
    }
    return shape.num_layers * lora.rank * sum(sizes[name] for name in lora.projections)


def weight_bytes(shape: ModelConfig, training: Training) -> tuple[int, int]:
    """Of the model's weights, and of what the optimizer keeps beside them: 12 to 20 bytes a weight together.

    A step is taken to have several micro-batches: the next one's gradient stands beside the sum.
    """
    frozen = 0 if training.lora is None else shape.num_parameters
    trained = shape.num_parameters if training.lora is None else num_adapter_parameters(shape, training.lora)
    by_muon = num_matrix_parameters(shape) if training.uses_muon and training.lora is None else 0
    gradient = training.value_bytes + (0 if training.keeps_gradients else FLOAT32)
    moments = MOMENT * (by_muon + 2 * (trained - by_muon))
    return training.value_bytes * (frozen + trained), (MASTER + gradient) * trained + moments


def activation_bytes(shape: ModelConfig, num_tokens: int, training: Training) -> int:
    """What a forward pass keeps for the backward pass, and the logits of one piece of the head.

    Of each layer and token, in values: four of the residual's width (the input, the two norms', and what attention or
    the feed-forward added), queries, keys, values and attention's result, queries and keys once more where they are
    normed, and three of the feed-forward's. Recomputing keeps each layer's input, and all of one layer.
    """
    heads = (2 + shape.qk_norm) * (shape.num_heads + shape.num_kv_heads) * shape.head_width
    layer = 4 * shape.width + heads + 3 * shape.ffn_width
    values = shape.num_layers * (shape.width if training.recomputes else layer) + 2 * shape.width
    values += layer if training.recomputes else 0
    # a piece in its dtype, its logarithms and probabilities in float32; and the head's gradient, added up
    logits = min(CHUNK_BYTES, num_tokens * shape.vocab_size * training.value_bytes)
    head = FLOAT32 * shape.vocab_size * shape.width if training.lora is None else 0
    return num_tokens * values * training.value_bytes + logits * (1 + 2 * FLOAT32 // training.value_bytes) + head


def num_devices(memory: Memory, device_bytes: int) -> int | None:
    """How many devices of that size hold it, where weights and optimizer are shared out and activations are not; None
    where one micro-batch, or one reply's keys and values, does not fit at all."""
    room = device_bytes - max(memory.activations, memory.cache)
    return None if room <= 0 else max(1, -(-memory.state // room))
