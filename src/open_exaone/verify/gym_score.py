"""Asking reasoning-gym's scorers. This runs in a worker process: nothing here is imported where replies are judged."""

import importlib
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

from open_exaone.verify.expression import RefusedError, evaluate


def preload() -> None:
    """Imports every scorer once for all workers, and takes `eval` and `exec` from them.

    Raises:
        RuntimeError: a scorer does not say what it should: better no verdict than a wrong one.
    """
    importlib.import_module("reasoning_gym")
    parser = importlib.import_module("sympy.parsing.sympy_parser")
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "reasoning_gym":
            vars(module).update(eval=evaluate, exec=_refuse)
    vars(parser).update(eval=evaluate)
    if score("countdown", "1+2", {"answer": "", "metadata": {"numbers": [1, 2], "target": 3}}) != (1.0, ""):
        raise RuntimeError("reasoning-gym does not find that 1 + 2 is 3: part of it cannot be loaded")


def score(name: str, answer: str, entry: dict[str, Any]) -> tuple[float, str]:
    """What the scorer of a data set gives an answer.

    Args:
        entry: the item, as the data set made it.

    Returns:
        0 to 1; and what it raised, "" for nothing: it scores the item's own answer, so that answer is at fault: 0.

    Raises:
        Exception: whatever the scorer raises on the item's own answer.
    """
    scorer = _scorer(name)
    try:
        return float(scorer(answer, entry)), ""
    except Exception as error:
        float(scorer(entry["answer"], entry))
        return 0.0, type(error).__name__


@cache
def _scorer(name: str) -> Callable[[str, object], Any]:
    from reasoning_gym import get_score_answer_fn

    scorer: Callable[[str, object], Any] = get_score_answer_fn(name)
    return scorer


def _refuse(*_: object) -> NoReturn:
    raise RefusedError("code is not executed")
