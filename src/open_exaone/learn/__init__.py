"""Floor 3: losses, advantages and optimizers: pure functions of tensors, named as in the field.

The names are loaded when first used: recipes read `learn.config`, and need no torch for it.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "dpo": "open_exaone.learn.preference",
    "group_relative": "open_exaone.learn.advantage",
    "grouper": "open_exaone.learn.preference",
    "grpo": "open_exaone.learn.policy",
    "ipo": "open_exaone.learn.preference",
    "kto": "open_exaone.learn.preference",
    "linear_cross_entropy": "open_exaone.learn.cross_entropy",
    "orpo": "open_exaone.learn.preference",
    "simper": "open_exaone.learn.preference",
    "simpo": "open_exaone.learn.preference",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'open_exaone.learn' has no attribute {name!r}")
