"""How long a stage takes on a mesh of GPUs, on paper: arithmetic at a stated MFU, memory bandwidth, communication."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from open_exaone.model.cost import StageCost
from open_exaone.model.gpus import Gpu
from open_exaone.model.memory import FLOAT32, Training, cache_bytes, local_parameters
from open_exaone.model.mesh import Mesh


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What no data sheet says; docs/scale.md has the reasons."""

    mfu: float = 0.4  # of the peak FLOP/s, in forward and backward passes and in reading prompts
    bandwidth_share: float = 0.6  # of the peak memory bandwidth, in writing replies
    memory_share: float = 0.9  # of a GPU's memory that a plan may fill: its sums are right to a tenth
    node_gpus: int = 8  # GPUs of one machine, joined by its links
    network_bandwidth: float = 50e9  # bytes a second of each GPU to other machines: a 400 Gb/s port


@dataclass(frozen=True, slots=True)
class Sampler:
    """The GPUs that sample, in groups that hold one model each."""

    num_gpus: int
    tensor: int  # GPUs of a group
    most_at_once: int  # replies whose keys and values fit in a group's memory, each as long as may be

    @property
    def num_groups(self) -> int:
        return self.num_gpus // self.tensor


def stage_seconds(
    cost: StageCost, mesh: Mesh, sampler: Sampler | None, gpu: Gpu, assumed: Assumptions
) -> dict[str, float]:
    """Seconds of a stage by part: `prefill` and `decode` (sampling), `forward` (log-probabilities of the reference and
    before the first update), `training`, `communication` that the arithmetic does not hide.

    Parts follow one another: RL samples from the weights of its last update.
    """
    work, seconds = cost.work, dict[str, float]()
    assert work is not None
    speed = gpu.flops * assumed.mfu
    if work.sampled is not None and sampler is not None:
        seconds["prefill"] = work.prefill / (speed * sampler.num_gpus)
        seconds["decode"] = decode_seconds(cost, sampler, gpu, assumed)
    if cost.held.training is None or cost.train_tokens is None or not cost.num_steps:
        return seconds
    idle = _idle_factor(work.batch_sequences, mesh)
    seconds["forward"] = work.forward * idle / (speed * mesh.num_devices)
    seconds["training"] = work.training * idle / (speed * mesh.num_devices)
    seconds["communication"] = _exposed(cost, cost.held.training, mesh, gpu, assumed, seconds["training"])
    return {part: value for part, value in seconds.items() if value}


def _idle_factor(batch_sequences: float, mesh: Mesh) -> float:
    """How much longer a step takes as some devices have fewer sequences than others, or none."""
    if not batch_sequences:
        return 1.0
    return max(1.0, ceil(batch_sequences / mesh.num_batches) * mesh.num_batches / batch_sequences)


def decode_seconds(cost: StageCost, sampler: Sampler, gpu: Gpu, assumed: Assumptions) -> float:
    """Each step reads all weights, and the keys and values of the replies at hand; a round waits for its longest reply.

    Arithmetic is the bound where so many replies are written at once that it takes longer than reading.
    """
    assert cost.work is not None and cost.work.sampled is not None
    sampled = cost.work.sampled
    bytes_a_value, tensor = cost.held.value_bytes, sampler.tensor
    replies = ceil(sampled.num_replies / sampler.num_groups)
    tokens = replies * sampled.reply_tokens
    at_once = max(1, min(replies, sampler.most_at_once))
    num_steps = max(float(sampled.longest_reply), tokens / at_once)
    context = round(sampled.prompt_tokens + sampled.reply_tokens / 2)
    weights = bytes_a_value * local_parameters(cost.shape, Mesh(tensor=tensor))
    read = num_steps * weights + tokens * cache_bytes(cost.shape, context, bytes_a_value, tensor)
    reading = read / (gpu.memory_bandwidth * assumed.bandwidth_share)
    flops = cost.work.decode / sampled.num_rounds / (sampler.num_groups * tensor)
    return sampled.num_rounds * max(reading, flops / (gpu.flops * assumed.mfu))


def _exposed(
    cost: StageCost, training: Training, mesh: Mesh, gpu: Gpu, assumed: Assumptions, training_s: float
) -> float:
    """Seconds of communication that are not hidden behind arithmetic.

    Gathering weights and reducing gradients overlap with it; what a layer waits for, the sums over tensor and the keys
    and values of other devices' parts of a sequence, does not.
    """
    assert cost.train_tokens is not None and cost.num_steps
    shape, values = cost.shape, training.value_bytes
    a_step = cost.train_tokens / cost.num_steps * _idle_factor(cost.work.batch_sequences if cost.work else 0, mesh)
    here = a_step / mesh.num_batches / mesh.context  # tokens of one device in a step
    passes = 3 if training.recomputes else 2
    sent = {
        "tensor": 2 * passes * shape.num_layers * _ring(mesh.tensor, 2) * here * shape.width * values,
        "context": passes
        * shape.num_layers
        * (mesh.context - 1)
        * (2 * here * shape.num_kv_heads * shape.head_width * values / mesh.tensor),
    }
    local = local_parameters(shape, mesh)
    trained = 0 if training.lora is not None else local
    num_micro = max(1, ceil(a_step / mesh.num_batches / max(1, cost.held.micro_batch_tokens)))
    gathered = (2 if training.reshards else 1) * values * local
    reduced = training.reduce_bytes if mesh.num_shares > 1 else FLOAT32  # whole copies are added up in float32
    sent["shard"] = num_micro * _ring(mesh.num_shares, 1) * (gathered + reduced * trained)
    sent["data"] = _ring(mesh.data, 2) * reduced * trained / mesh.num_shares
    seconds = {axis: size / bandwidth for (axis, size), bandwidth in _paired(sent, mesh, gpu, assumed)}
    hidden = max(0.0, cost.num_steps * (seconds["shard"] + seconds["data"]) - training_s)
    return cost.num_steps * (seconds["tensor"] + seconds["context"]) + hidden


def _ring(number: int, passes: int) -> float:
    """The share of a tensor that each of so many devices sends to gather or reduce it; twice that for both."""
    return passes * (number - 1) / number


def _paired(
    sent: Mapping[str, float], mesh: Mesh, gpu: Gpu, assumed: Assumptions
) -> list[tuple[tuple[str, float], float]]:
    """Each axis's bytes, with the bandwidth that it has: inside one machine, or between machines."""
    reach = {
        "tensor": mesh.tensor,
        "context": mesh.tensor * mesh.context,
        "shard": mesh.tensor * mesh.context * mesh.shard,
        "data": mesh.num_devices,
    }
    return [
        (item, gpu.link_bandwidth if reach[item[0]] <= assumed.node_gpus else assumed.network_bandwidth)
        for item in sent.items()
    ]
