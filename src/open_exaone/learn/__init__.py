"""Floor 3: losses, advantages and optimizers: pure functions of tensors, named as in the field.

The names are loaded when first used: recipes read `learn.config`, and need no torch for it.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "advantage": ("agapo_advantages", "batch_normalised", "group_relative", "leave_one_out"),
    "cross_entropy": ("linear_cross_entropy",),
    "policy": ("agapo", "agapo_off_policy", "cispo", "dapo", "dr_grpo", "grpo", "gspo", "reinforce_pp", "rloo"),
    "preference": ("dpo", "grouper", "ipo", "kto", "orpo", "simper", "simpo"),
}
_HOMES = {name: f"open_exaone.learn.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'open_exaone.learn' has no attribute {name!r}")
