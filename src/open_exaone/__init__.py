"""Open-EXAONE: an open, independent implementation of EXAONE Deep and EXAONE 4.0, from weights to reasoning.

Names are loaded when first used, so that `import open_exaone` is quick and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from open_exaone.api.compute import (
        Engine,
        Sampling,
        convert,
        evaluate,
        load_model,
        load_tokenizer,
        run_recipe,
        run_training,
    )
    from open_exaone.api.judging import JudgeSettings, judge, run_program

__all__ = [
    "Engine",
    "JudgeSettings",
    "Sampling",
    "convert",
    "evaluate",
    "judge",
    "load_model",
    "load_tokenizer",
    "run_program",
    "run_recipe",
    "run_training",
]
_WITHOUT_TORCH = ("JudgeSettings", "judge", "run_program")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("open-exaone")
    if name in __all__:
        return getattr(
            import_module("open_exaone.api.judging" if name in _WITHOUT_TORCH else "open_exaone.api.compute"),
            name,
        )
    raise AttributeError(f"module 'open_exaone' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
