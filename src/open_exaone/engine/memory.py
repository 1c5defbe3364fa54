"""How many samples may decode together before memory runs out."""

from pathlib import Path

import torch

from open_exaone.model.config import ModelConfig

MAX_SLOTS = 128  # more gain little: by then a step's time grows with its rows
_SHARE = 0.8  # of what is free; the rest is for what the estimate leaves out
_LOGITS = 8  # copies of a row's logits that drawing takes, float32
_SHORT = 512  # tokens; up to here attention may hold all scores of a prompt at once


def slots_that_fit(
    config: ModelConfig, *, longest_prompt: int, max_length: int, bytes_per_value: int, free_bytes: int
) -> int:
    """How many samples fit into memory together: at least 1, at most 128.

    A sample takes its keys and values, its logits, and while its prompt is read, the prompt's keys, values and
    activations, as though all prompts were read at once.

    Args:
        longest_prompt: in tokens.
        max_length: the most tokens that a prompt and its reply have together.
        bytes_per_value: of keys, values and activations.
        free_bytes: beside the model's weights.
    """
    scores = 3 * config.num_heads * min(longest_prompt, _SHORT) ** 2
    activations = longest_prompt * (4 * config.ffn_width + 8 * config.width) + scores
    cache = sum(
        config.kv_cache_bytes(length + 1, bytes_per_value=bytes_per_value) for length in (max_length, longest_prompt)
    )
    needed = cache + activations * bytes_per_value + _LOGITS * 4 * config.vocab_size
    return max(1, min(MAX_SLOTS, int(_SHARE * free_bytes / needed)))


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
