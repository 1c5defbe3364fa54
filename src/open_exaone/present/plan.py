"""A recipe's costs as a table, before anything is trained."""

from collections.abc import Sequence

from open_exaone.model.cost import StageCost
from open_exaone.present.formatting import NONE, number, size

TITLES = (
    *("stage", "steps", "trained", "sampled", "FLOPs", "6ND"),  # tokens that are trained and sampled
    *("weights", "optimizer", "activations", "reference", "KV cache", "memory"),
)
DROPPED_FIRST = ("reference", "KV cache", "activations", "optimizer", "weights", "6ND")  # where there is no room
LEGEND = (
    "trained and sampled: tokens; 6ND: 6 x parameters x trained tokens. These are estimates (docs/training.md, “What a "
    "recipe costs”), without the evaluation and without the memory of Python and torch themselves."
)
DEVICE_BYTES = 80_000_000_000  # of the device that a plan counts in: an H100's


def plan_rows(costs: Sequence[StageCost]) -> list[list[str]]:
    """A line for each stage, under `TITLES`."""
    rows = []
    for cost in costs:
        memory = cost.memory
        parts = (memory.weights, memory.optimizer, memory.activations, memory.reference, memory.cache, memory.total)
        cells = [cost.stage, "" if cost.num_steps is None else f"{cost.num_steps:,}"]
        cells += [number(tokens) if tokens else "" for tokens in (cost.train_tokens, cost.sampled_tokens)]
        cells += [f"{flops:.3g}".replace("e+", "e") if flops else "" for flops in (cost.flops, cost.dense_flops)]
        cells += [size(part) if part else "" for part in parts]
        rows.append([cell or NONE for cell in cells])
    return rows


def memory_sentence(costs: Sequence[StageCost], free: int | None) -> str:
    """What the fullest stage needs, and whether this machine or one large GPU has it.

    Args:
        free: memory of this machine's device, in bytes; None where it is not known, or there is no such device.
    """
    most, device = max(costs, key=lambda cost: cost.memory.total), size(DEVICE_BYTES)
    needs = f"{most.stage} needs the most memory, {size(most.memory.total)}: "
    if free is not None and most.memory.total <= free:
        return f"{needs}this machine has {size(free)} free."
    if free is not None:
        needs += f"more than the {size(free)} that are free here"
        needs += "; " if most.memory.total <= DEVICE_BYTES else ", and "
    if most.memory.total <= DEVICE_BYTES:
        return f"{needs}one GPU of {device} holds it."
    needs += f"more than one GPU of {device} has; what several hold: exaone plan RECIPE --gpus N"
    if most.kind == "filter" or most.has_adapters:
        return f"{needs}. A shorter max_tokens or max_new_tokens, or a smaller model, takes less"
    return f"{needs}. LoRA takes less: --set {most.stage}.lora.rank=16"
