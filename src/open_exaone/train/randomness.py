"""Every global random state, as it goes into a saved state and comes back."""

import random
from base64 import b64decode, b64encode
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_all(seed: int) -> None:
    """Sets every global random state: what a stage that begins draws from (dropout; a reward of the user's own)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def reseed(step: int, rank: int) -> None:
    """Before a step: a rank but the first draws (dropout) from a stream of its own, which follows from the step, so
    that nothing of it need be saved; the first goes on with its own."""
    if rank:
        torch.manual_seed(step * 100_003 + rank)


def random_state(device: torch.device) -> dict[str, Any]:
    """Every global random state, as JSON; of devices, that of the one that is trained on."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    python = random.getstate()
    return {
        "torch": _text(torch.get_rng_state()),
        "cuda": _text(torch.cuda.get_rng_state(device)) if device.type == "cuda" else None,
        "python": [python[0], list(python[1]), python[2]],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Puts `random_state` back; a GPU's only where the training goes on on one."""
    torch.set_rng_state(_tensor(state["torch"]))
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(_tensor(state["cuda"]), device)
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))


def _text(state: Tensor) -> str:
    return b64encode(state.cpu().numpy().tobytes()).decode()


def _tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray(b64decode(text)), dtype=torch.uint8)
