"""Open-EXAONE: an open, independent implementation of EXAONE Deep and EXAONE 4.0, from weights to reasoning.

Names are loaded when first used, so that `import open_exaone` is quick and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from open_exaone.api import Engine, Sampling, evaluate, judge, load_model, load_tokenizer, run_story

_HOMES = {
    "Engine": "open_exaone.api",
    "Sampling": "open_exaone.api",
    "evaluate": "open_exaone.api",
    "judge": "open_exaone.api",
    "load_model": "open_exaone.api",
    "load_tokenizer": "open_exaone.api",
    "run_story": "open_exaone.api",
}

__all__ = ["Engine", "Sampling", "evaluate", "judge", "load_model", "load_tokenizer", "run_story"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("open-exaone")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'open_exaone' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
