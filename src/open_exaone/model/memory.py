"""Bytes that training and sampling take on one device, from a model's shape and the mesh of devices. No torch here.

On one device these are what this package's trainer and engine hold. Where weights are sharded (FSDP2), each device
keeps its share of all of that: bfloat16 weights, float32 masters, gradients and moments. A layer's weights are gathered
in bfloat16 before it computes, and its gradients are reduced in float32.
"""

from dataclasses import astuple, dataclass, fields
from typing import NamedTuple

from open_exaone.model.config import ModelConfig
from open_exaone.model.lora_config import LoraConfig, Projection
from open_exaone.model.mesh import ALONE, Mesh

CHUNK_BYTES = 256 << 20  # of logits at once; see model.logprobs
FLOAT32 = 4
MASTER, MOMENT = 4, 4  # bytes of a weight's master and of one moment of its gradient; see learn.optimizer
HUGE_PAGE = 2 << 20  # as kernels/decode/matrix.h asks for
GATHERED_LAYERS = 2  # whose weights are whole at once: the one that computes, and the next, which is prefetched


@dataclass(frozen=True, slots=True)
class Training:
    """How weights are trained, as far as it decides what that costs; `learn.optimizer` has the table of bytes."""

    value_bytes: int = 2  # of a weight and an activation: 2 in bfloat16, 4 in float32
    uses_muon: bool = True  # for the matrices of the layers
    keeps_gradients: bool = False  # in the model's dtype, instead of adding them up in float32
    recomputes: bool = False  # activations, in the backward pass
    lora: LoraConfig | None = None
    is_native: bool = False  # on a CPU with this package's kernels
    reduce_bytes: int = FLOAT32  # of a gradient as it is reduced over devices that share the weights
    reshards: bool = True  # frees a layer's gathered weights behind its forward pass


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a stage needs on one device, at least."""

    weights: int  # the model in the dtype that it computes in; of what is sharded, a share, and what is gathered
    masters: int = 0  # what the optimizer moves
    gradients: int = 0  # added up over micro-batches
    moments: int = 0  # of the gradient: the optimizer's state
    activations: int = 0  # of one micro-batch at its fullest moment: logits, and its own gradients, too
    reference: int = 0  # the second model that a loss compares with, whole on each device
    sampler: int = 0  # the sampler's own copy of the weights
    cache: int = 0  # keys and values of one whole reply, or of as many as are sampled at once

    @property
    def optimizer(self) -> int:
        """Masters, gradients and moments."""
        return self.masters + self.gradients + self.moments

    @property
    def state(self) -> int:
        """What stays from step to step: the part that several devices could share."""
        return self.weights + self.optimizer + self.reference + self.sampler

    @property
    def total(self) -> int:
        """At the fullest moment: nothing is trained while samples are drawn."""
        return self.state + max(self.activations, self.cache)

    def parts(self) -> dict[str, int]:
        """By name, those that are not 0."""
        values = zip((part.name for part in fields(self)), astuple(self), strict=True)
        return {name: value for name, value in values if value}


class WeightBytes(NamedTuple):
    """Of the model's weights, and of what the optimizer keeps beside them: 12 to 18 bytes a weight together."""

    weights: int
    masters: int
    gradients: int
    moments: int


@dataclass(frozen=True, slots=True)
class Held:
    """What a stage holds at once, whatever it runs on."""

    training: Training | None  # None: it trains nothing
    value_bytes: int  # of a weight
    micro_batch_tokens: int  # of one forward and backward pass, on the devices that compute it together
    longest: int = 0  # tokens of the longest prompt and its longest reply; 0 where nothing is sampled
    has_reference: bool = False
    is_native: bool = False  # the CPU's own engine samples, from a copy of its own


def num_matrix_parameters(shape: ModelConfig) -> int:
    """The weights of the layers' matrices: those that Muon moves."""
    attention = shape.width * shape.head_width * (2 * shape.num_heads + 2 * shape.num_kv_heads)
    return shape.num_layers * (attention + 3 * shape.width * shape.ffn_width)


def num_embedding_parameters(shape: ModelConfig) -> int:
    """The weights of the embeddings and the output head, counted once where they are tied."""
    return shape.vocab_size * shape.width * (1 if shape.tied_embeddings else 2)


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


def local_parameters(shape: ModelConfig, mesh: Mesh) -> int:
    """The weights of one device's part of every matrix; norms and biases are on all."""
    matrices = num_matrix_parameters(shape) + num_embedding_parameters(shape)
    return _share(matrices, mesh.tensor) + shape.num_parameters - matrices


def _share(number: int, parts: int) -> int:
    return -(-number // parts)


def weight_bytes(shape: ModelConfig, training: Training, mesh: Mesh = ALONE) -> WeightBytes:
    """On one device of the mesh.

    A step is taken to have several micro-batches: their gradients' sum stays while the next one is computed.
    """
    lora, local = training.lora, local_parameters(shape, mesh)
    trained = local if lora is None else _share(num_adapter_parameters(shape, lora), mesh.tensor)
    by_muon = _share(num_matrix_parameters(shape), mesh.tensor) if training.uses_muon and lora is None else 0
    frozen, shares = 0 if lora is None else local, mesh.num_shares
    gradient = training.value_bytes if training.keeps_gradients else FLOAT32
    weights = training.value_bytes * _share(frozen + trained, shares)
    if shares > 1:
        weights += _gathered(shape, training, mesh)
    moments = MOMENT * (by_muon + 2 * (trained - by_muon))
    return WeightBytes(
        weights, MASTER * _share(trained, shares), gradient * _share(trained, shares), _share(moments, shares)
    )


def _gathered(shape: ModelConfig, training: Training, mesh: Mesh) -> int:
    """Weights that are whole at once: two layers, and the embeddings and the head, which stay so; or all layers."""
    embeddings = _share(num_embedding_parameters(shape), mesh.tensor)
    number = min(GATHERED_LAYERS, shape.num_layers) if training.reshards else shape.num_layers
    layers = number * _layer_parameters(shape, mesh)
    return training.value_bytes * (embeddings + layers)


def _layer_parameters(shape: ModelConfig, mesh: Mesh) -> int:
    return _share(num_matrix_parameters(shape), shape.num_layers * mesh.tensor)


def activation_bytes(shape: ModelConfig, num_tokens: int, training: Training, mesh: Mesh = ALONE) -> int:
    """The most that a forward and a backward pass take on one device beside weights and the gradients' sum.

    The fullest moment is where the backward pass begins, with what the forward pass kept (see `kept_bytes`), a piece of
    the logits and the head's gradient; or where it ends, in the first layer, with all gradients of this micro-batch. A
    processor of this package's kernels makes the loss's gradient in the place of the logits; elsewhere their logarithms
    and probabilities in float32 stand beside them. The allocator of a GPU gives the memory of the freed logits to the
    layers' backward passes; a CPU's heap was measured not to, so both are counted there.

    Args:
        num_tokens: of the micro-batch, on all devices that share its sequences.
    """
    values, here = training.value_bytes, _share(num_tokens, mesh.context)
    columns = _share(shape.vocab_size, mesh.tensor)
    logits = min(CHUNK_BYTES, here * columns * values)
    logits += logits if training.is_native else 2 * FLOAT32 // values * logits
    head = 0
    if training.lora is None:
        is_in_pieces = here * columns * values > CHUNK_BYTES
        head = (FLOAT32 + values if is_in_pieces else values) * columns * shape.width
    layer, kept = _in_a_layer(shape, here, training, mesh), kept_bytes(shape, num_tokens, training, mesh)
    ends = _own_gradients(shape, training, mesh) + layer
    if training.is_native:
        return logits + max(kept + head + layer, ends)
    return max(kept + max(logits + head, layer), ends)


def _in_a_layer(shape: ModelConfig, num_tokens: int, training: Training, mesh: Mesh) -> int:
    """What the backward pass through one layer makes: gradients, and the layer's own activations where recomputed."""
    widest = 2 * shape.width + 3 * _share(shape.ffn_width, mesh.tensor)
    layer = _layer_values(shape, mesh) if training.recomputes else 0
    return num_tokens * (widest + layer) * training.value_bytes


def _own_gradients(shape: ModelConfig, training: Training, mesh: Mesh) -> int:
    """Of one micro-batch, before they are added up: of all weights; of a gathered layer, and as they are reduced."""
    if training.lora is not None:
        return training.value_bytes * _share(num_adapter_parameters(shape, training.lora), mesh.tensor)
    columns = _share(shape.vocab_size, mesh.tensor) * shape.width
    own = training.value_bytes * _share(local_parameters(shape, mesh), mesh.num_shares)
    own += FLOAT32 * _share(columns, mesh.num_shares)  # the embedding's, taken to float32 to be added
    if training.keeps_gradients:
        own = 0
    if mesh.num_shares == 1:
        return own
    embeddings = _share(num_embedding_parameters(shape), mesh.tensor)
    return own + (training.value_bytes + training.reduce_bytes) * (embeddings + _layer_parameters(shape, mesh))


def kept_bytes(shape: ModelConfig, num_tokens: int, training: Training, mesh: Mesh = ALONE) -> int:
    """What the forward pass keeps for the backward pass on one device.

    Of each layer and token, in values: four of the residual's width (the input, the two norms', and what attention or
    the feed-forward added), queries, keys, values and attention's result, queries and keys once more where they are
    normed, and three of the feed-forward's. Recomputing keeps each layer's input alone. Tensor parallelism splits
    heads and the feed-forward, not the residual. Where a sequence is split, one layer has the whole one's keys and
    values.
    """
    here = _share(num_tokens, mesh.context)
    layer = shape.width if training.recomputes else _layer_values(shape, mesh)
    values = here * (shape.num_layers * layer + 2 * shape.width)
    if mesh.context > 1:
        values += 2 * num_tokens * _share(shape.num_kv_heads, mesh.tensor) * shape.head_width
    return values * training.value_bytes


def _layer_values(shape: ModelConfig, mesh: Mesh) -> int:
    heads = (2 + shape.qk_norm) * (shape.num_heads + shape.num_kv_heads) * shape.head_width
    return 4 * shape.width + _share(heads, mesh.tensor) + 3 * _share(shape.ffn_width, mesh.tensor)


def copy_bytes(shape: ModelConfig, value_bytes: int, tensor: int = 1) -> int:
    """Of the weights that a sampler of GPUs holds, on one of the devices that share a matrix."""
    return value_bytes * local_parameters(shape, Mesh(tensor=tensor))


def packed_bytes(shape: ModelConfig, value_bytes: int) -> int:
    """Of the copy that the CPU's engine samples from: four matrices a layer and the head, each in pages of its own.

    The embedding is read where the model has it, and a tied head is packed besides.
    """
    queries, keys = shape.num_heads * shape.head_width, shape.num_kv_heads * shape.head_width
    widths = (queries + 2 * keys, queries, 2 * shape.ffn_width, shape.ffn_width)
    layer = sum(_paged(shape.width * width * value_bytes) for width in widths)
    return shape.num_layers * layer + _paged(shape.vocab_size * shape.width * value_bytes)


def _paged(num_bytes: int) -> int:
    return -(-num_bytes // HUGE_PAGE) * HUGE_PAGE


def cache_bytes(shape: ModelConfig, num_tokens: int, value_bytes: int, tensor: int = 1) -> int:
    """Keys and values of one sequence on one of the devices that share its heads."""
    return _share(shape.kv_cache_bytes(num_tokens, bytes_per_value=value_bytes), tensor)


def memory_of(shape: ModelConfig, held: Held, mesh: Mesh = ALONE, *, sampler_tensor: int | None = None) -> Memory:
    """What a stage takes on one device of the mesh, with the keys and values of one whole reply.

    Args:
        sampler_tensor: over how many devices a colocated sampler splits each matrix of its own copy of the weights;
            None where it has no copy: it reads the trainer's, or runs on other devices.
    """
    local = held.value_bytes * local_parameters(shape, mesh)
    copy = cache = 0
    if held.longest and (mesh.is_whole or sampler_tensor is not None):
        cache = cache_bytes(shape, held.longest, held.value_bytes, sampler_tensor or 1)
    training = held.training
    if sampler_tensor is not None:
        copy = copy_bytes(shape, held.value_bytes, sampler_tensor)
        copy = packed_bytes(shape, held.value_bytes) if held.is_native else copy
    if training is None:
        return Memory(0 if copy and not held.is_native else local, sampler=copy, cache=cache)
    return Memory(
        *weight_bytes(shape, training, mesh),
        activation_bytes(shape, held.micro_batch_tokens, training, mesh),
        held.value_bytes * shape.num_parameters if held.has_reference else 0,
        copy,
        cache,
    )
