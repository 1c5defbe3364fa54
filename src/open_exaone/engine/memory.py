"""How many blocks of keys and values memory holds."""

from collections.abc import Sequence
from pathlib import Path

import torch

from open_exaone.base.errors import PromptTooLongError
from open_exaone.engine.blocks import GLOBAL, LOCAL, Blocks, num_blocks
from open_exaone.engine.scheduler import CHUNK_TOKENS
from open_exaone.model.config import BLOCK, LayerKind, ModelConfig

_SHARE = 0.8  # of what is free; the rest is for activations and logits
_GIB = 1 << 30


def block_bytes(config: ModelConfig, dtype: torch.dtype) -> tuple[int, int]:
    """Memory of one block of all global layers, and of all local ones; 0 where there are none."""
    layer = 2 * config.num_kv_heads * BLOCK * config.head_width * dtype.itemsize
    num_local = config.layer_kinds.count(LayerKind.LOCAL)
    return (config.num_layers - num_local) * layer, num_local * layer


def pool_sizes(
    lengths: Sequence[int], window: int | None, bytes_of_blocks: Sequence[int], free_bytes: int
) -> tuple[int, int]:
    """How many blocks the global and the local layers get: what these sequences take together, as far as memory goes.

    Args:
        lengths: tokens of each sequence, the longest first.
        window: positions that a local layer sees.
        bytes_of_blocks: of each kind; 0 where there are no such layers.
        free_bytes: beside the model's weights.

    Raises:
        PromptTooLongError: memory does not hold the first sequence.
    """
    blocks = Blocks([int(size > 0) for size in bytes_of_blocks], window)
    taken, least = [0, 0], [0, 0]
    for length in lengths:
        for pool, num in zip(blocks.used, blocks.needed(length), strict=True):
            taken[pool.kind] += num + 1  # and where its group's prompt ends
            least[pool.kind] = least[pool.kind] or num
    if taken[LOCAL]:
        taken[LOCAL] += num_blocks(CHUNK_TOKENS)  # what is read at once, beside its window
    room = _SHARE * free_bytes
    if _bytes(least, bytes_of_blocks) > room:
        raise PromptTooLongError(
            f"the keys and values of {lengths[0]} tokens take {_bytes(least, bytes_of_blocks) / _GIB:.2f} GiB, and "
            f"{room / _GIB:.2f} GiB are free for them: shorten the prompt or lower max_new_tokens"
        )
    share = min(1.0, room / max(1, _bytes(taken, bytes_of_blocks)))
    sizes = [max(few, int(share * num)) for few, num in zip(least, taken, strict=True)]
    return sizes[GLOBAL], sizes[LOCAL]


def _bytes(nums: Sequence[int], sizes: Sequence[int]) -> int:
    return sum(num * size for num, size in zip(nums, sizes, strict=True))


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device, in bytes; of the machine's, what this process's group may have."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    return min(_free_of_machine(), _free_of_group())


def _free_of_machine(path: Path = Path("/proc/meminfo")) -> int:
    """What Linux says is available; elsewhere 4 GiB, which any machine that runs models has."""
    try:
        lines = dict(line.split(":", 1) for line in path.read_text(encoding="ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 4 << 30


def _free_of_group(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container's limit leaves; without one, no limit."""
    try:
        limit, used = (int((folder / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        stat = (folder / "memory.stat").read_text(encoding="ascii")
        cached = dict(line.split() for line in stat.splitlines())["inactive_file"]  # given up when asked for
    except (OSError, KeyError, ValueError):  # no such group, or its limit is "max"
        return 1 << 62
    return max(0, limit - used + int(cached))
